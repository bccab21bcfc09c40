"""Synchronous SGD: a step is the mean of one gradient of every replica of every node, all on the same parameters.

It is serial SGD on a batch as large as all of theirs together, and so wants a rate that goes with it. The baseline of
Chen et al. 2016; "hardsync" of Zhang et al. 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.exchange.gradient import Gradient
from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.schemes.base import Choices, Scheme

__all__ = ["Ssgd"]


@dataclass(frozen=True, kw_only=True)
class Ssgd(Scheme):
    """Nodes may come, go and die: each step is made by those that are there."""

    paper: ClassVar[str] = "Chen et al. 2016"
    summary: ClassVar[str] = "synchronous: a step is the mean of everybody's gradient"

    def choices(self) -> Choices:
        return Choices(Gradient(), gate=Barrier())
