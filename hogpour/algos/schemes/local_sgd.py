"""Local SGD: replicas take several steps of their own, and all go on from the mean of how far these led.

Stich, "Local SGD Converges Fast and Communicates Little", ICLR 2019: models are averaged every H steps. The rounds and
our decisions are in ``exchange/local.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hogpour.algos.exchange.local import Local
from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.algos.schemes.base import Choices, Scheme
from hogpour.core.limits import Count

__all__ = ["LocalSgd"]


@dataclass(frozen=True, kw_only=True)
class LocalSgd(Scheme):
    """SGD in rounds. With ``steps = 1`` and one replica it is plain SGD at the inner rate, bit for bit."""

    paper: ClassVar[str] = "Stich 2019"
    summary: ClassVar[str] = "rounds of local SGD, whose displacements are averaged"

    optimiser: Optimiser = field(default_factory=lambda: Sgd(lr=1.0), metadata={"kind": "optimiser"})
    """The outer rule, by which servers apply displacements; SGD at rate 1 adds them."""
    steps: Count = 4
    """Steps of a replica in a round; H in the paper."""
    inner: Optimiser = field(default_factory=lambda: Sgd(lr=0.1), metadata={"kind": "optimiser"})
    """The rule that replicas step by."""

    def choices(self) -> Choices:
        return Choices(Local(self.steps, self.inner), gate=Barrier())
