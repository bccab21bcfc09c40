"""DynSGD: accrued gradients, applied with the rate α/(τ+1).

Jiang, Cui, Zhang, Yu, "Heterogeneity-aware Distributed Parameter Servers", SIGMOD 2017. Workers of theirs push every
few local steps, as Downpour's do; ``exchange/accrue.py`` and ``correction/inverse_staleness.py`` have the two halves.
With n_fetch = 1, one node with one replica has no staleness and is plain SGD, bit for bit; above, its own pushes since
its fetch count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.correction.inverse_staleness import InverseStaleness
from hogpour.algos.exchange.accrue import Accrue
from hogpour.algos.schemes.base import Choices, Scheme
from hogpour.core.limits import Count

__all__ = ["DynSgd"]


@dataclass(frozen=True, kw_only=True)
class DynSgd(Scheme):
    """Downpour with the rate divided by one more than the staleness."""

    paper: ClassVar[str] = "Jiang et al. 2017"
    summary: ClassVar[str] = "Downpour, the rate divided by the staleness of each push plus 1"

    n_push: Count = 1
    """Steps of a replica between two pushes."""
    n_fetch: Count = 1
    """Steps of a replica between two fetches."""

    def choices(self) -> Choices:
        return Choices(Accrue(self.n_push, self.n_fetch), InverseStaleness(offset=1))
