"""Staleness-aware asynchronous SGD: a gradient that is τ updates late is applied with the rate α/τ.

Zhang, Gupta, Lian, Liu, IJCAI 2016; ``correction/inverse_staleness.py``. Theirs is n-softsync, where the server
averages c = ⌊λ/n⌋ gradients for an update; this is c = 1, their λ-softsync, for which a fixed rate failed and α/τ did
not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.correction.inverse_staleness import InverseStaleness
from hogpour.algos.exchange.gradient import Gradient
from hogpour.algos.schemes.base import Choices, Scheme

__all__ = ["StalenessAware"]


@dataclass(frozen=True, kw_only=True)
class StalenessAware(Scheme):
    """Asynchronous SGD with the rate divided by the staleness of each push; with none it is plain SGD, bit for bit."""

    paper: ClassVar[str] = "Zhang et al. 2016"
    summary: ClassVar[str] = "asynchronous SGD, the rate divided by the staleness of each gradient"

    def choices(self) -> Choices:
        return Choices(Gradient(), InverseStaleness())
