"""The command line, the only reader of arguments.

A command is a file: ``add_arguments(parser)`` says what it takes, ``run(options)`` does it and returns the exit code:
0, 1 (failed), 2 (bad use or bad input, one line on standard error). Heavy modules are imported inside ``run``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hogpour.cli import compare, doctor, node, predict, simulate, status, sweep
from hogpour.core import host
from hogpour.core.errors import HogpourError

__all__ = ["main"]

_COMMANDS = {
    "node": (node, "train a job on this machine"),
    "status": (status, "what a cluster is doing"),
    "sim": (simulate, "train a job on a cluster in virtual time"),
    "sweep": (sweep, "look for a seed with which a cluster breaks a promise"),
    "compare": (compare, "train one job under several schemes, one row each"),
    "predict": (predict, "predictions of a saved model"),
    "doctor": (doctor, "check this machine and say what to do"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    host.set_one_thread()
    host.set_kernel_cache()
    try:
        code: int = _COMMANDS[options.command][0].run(options)
        return code
    except HogpourError as error:
        print(f"hogpour: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:  # of a command without an event loop; a node hears signals itself
        print("hogpour: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:  # every other file is behind an error of ours: this is standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f"hogpour: standard output: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hogpour",
        description="Train one model with every core of every machine.",
        epilog="example: python -m hogpour node        (trains on the embedded digits, needs no file)",
    )
    commands, raw = parser.add_subparsers(dest="command", metavar="COMMAND"), argparse.RawDescriptionHelpFormatter
    for name, (command, text) in _COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=text, formatter_class=raw))
    return parser
