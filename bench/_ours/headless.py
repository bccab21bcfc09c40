"""Replicas without a head: Hogwild! as its paper has it, where every core writes the features that all examples have.

Nobody but this bench wants that, so no job can say it. It is a ``Gate``, which a replica makes when it reads its job,
before it maps a head.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench._ours.gate import Gate
from hogpour.machine import sweeping

__all__ = ["Headless"]


@dataclass(frozen=True, slots=True)
class Headless(Gate):
    """A gate; in a process that has made one, no feature is frequent enough for a head."""

    def __post_init__(self) -> None:
        Gate.__post_init__(self)
        sweeping._HOT = 0
