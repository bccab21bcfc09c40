"""A command that sends signals to itself, when it comes to named places for the first time: no test waits for a moment."""

from __future__ import annotations

__all__ = ["SENDS"]

SENDS = b"""
import importlib, os, signal, sys
def plan(module, path, numbers):
    owner, (*way, name) = importlib.import_module(module), path.split(".")
    for part in way:
        owner = getattr(owner, part)
    there, left = getattr(owner, name), [getattr(signal, one) for one in numbers.split(",")]
    def sends(*arguments, **more):
        setattr(owner, name, there)
        while left:  # once, though somebody may have kept this function
            os.kill(os.getpid(), left.pop(0))
        return there(*arguments, **more)
    setattr(owner, name, sends)
for place in sys.argv[1].split(";"):
    plan(*place.split())
from hogpour.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
"""A program. Its first argument has places, ``module function signals``, with semicolons between them; the others are
the command's."""
