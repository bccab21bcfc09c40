"""Synchronous SGD with backup workers: of N + b replicas the first N make the step, the others are dropped.

Chen, Pan, Monga, Bengio, Jozefowicz, "Revisiting Distributed Synchronous SGD", 2016: of 100 workers 96 and 4 backups
trained fastest. ``gate/barrier.py`` has the rule, and our decisions where the paper is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.exchange.gradient import Gradient
from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.schemes.base import Choices, Scheme
from hogpour.core.limits import Natural

__all__ = ["BackupSync"]


@dataclass(frozen=True, kw_only=True)
class BackupSync(Scheme):
    """No step waits for the slowest ``backups`` replicas, nor for so many dead ones."""

    paper: ClassVar[str] = "Chen et al. 2016"
    summary: ClassVar[str] = "synchronous, without waiting for the slowest few, whose gradients are dropped"

    backups: Natural = 1
    """Replicas of the cluster that no step waits for. Of N + b they drop up to b gradients of each step, and
    their examples with them: the paper's 4 of 100 are few."""

    def choices(self) -> Choices:
        return Choices(Gradient(), gate=Barrier(self.backups))
