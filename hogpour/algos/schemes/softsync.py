"""n-softsync: the server updates after ⌊λ/n⌋ gradients of any of the λ replicas, each weighted by α/τ.

Zhang, Gupta, Lian, Liu, "Staleness-aware Async-SGD for Distributed Deep Learning", 2016, equations 2 to 4: with τ
about n on average, 1-softsync is nearly synchronous and λ-softsync is asynchronous SGD (``staleness_aware``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.correction.inverse_staleness import InverseStaleness
from hogpour.algos.correction.plain import Plain
from hogpour.algos.exchange.gradient import Gradient
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.schemes.base import Choices, Scheme
from hogpour.core.limits import Count

__all__ = ["Softsync"]


@dataclass(frozen=True, kw_only=True)
class Softsync(Scheme):
    """Nobody waits for anybody, and steps are as large as one likes."""

    paper: ClassVar[str] = "Zhang et al. 2016"
    summary: ClassVar[str] = "a step is the mean of the first ⌊λ/n⌋ gradients, each at α / τ"

    n: Count = 1
    """λ/n gradients make a step."""
    staleness_aware: bool = True
    """Whether a gradient that is τ steps late counts with 1/τ; without, all count alike."""

    def choices(self) -> Choices:
        return Choices(Gradient(), InverseStaleness() if self.staleness_aware else Plain(), Quorum(self.n))
