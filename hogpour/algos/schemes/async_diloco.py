"""Asynchronous DiLoCo: each round's displacement is applied when it comes, and nobody waits for others.

Liu et al., "Asynchronous Local-SGD Training for Language Modeling", 2024: the outer momentum is delayed
(``optim/delayed_nesterov.py``), and slower nodes take proportionally fewer steps in a round, DyLU, so that
displacements are of about one age. Set ``every`` of the optimiser to the number of replicas in the cluster: nobody
adapts it when nodes come and go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hogpour.algos.exchange.local import Local
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.delayed_nesterov import DelayedNesterov
from hogpour.algos.schemes.base import Choices
from hogpour.algos.schemes.diloco import DiLoCo

__all__ = ["AsyncDiLoCo"]


@dataclass(frozen=True, kw_only=True)
class AsyncDiLoCo(DiLoCo):
    """DiLoCo without a gate."""

    paper: ClassVar[str] = "Liu et al. 2024"
    summary: ClassVar[str] = "rounds as long as a node is fast, momentum delayed over several of them"

    optimiser: Optimiser = field(
        default_factory=lambda: DelayedNesterov(lr=0.7, momentum=0.9, every=4), metadata={"kind": "optimiser"}
    )
    """The outer rule, by which servers apply displacements."""
    proportional: bool = True
    """Dynamic local updates: a node takes ``steps`` times its speed, as a fraction of the fastest one's, in a round."""

    def choices(self) -> Choices:
        return Choices(Local(self.steps, self.inner, self.proportional))
