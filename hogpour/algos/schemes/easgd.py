"""EASGD: nodes explore on their own, elastically tied to a centre, which is the model.

Zhang, Choromanska, LeCun, NIPS 2015, Algorithm 1; ``exchange/elastic.py``. In the paper β = p·α = 0.9 for p workers, so
α = 0.9 / p: the default is of 4 nodes. One node is stable for 0 ≤ α ≤ (4 - 2η) / (4 - η), where η is the rate times
the curvature, and more than one at least there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.exchange.elastic import Elastic
from hogpour.algos.schemes.base import Choices, Scheme
from hogpour.core.limits import Count, Fraction

__all__ = ["Easgd"]


@dataclass(frozen=True, kw_only=True)
class Easgd(Scheme):
    """Elastic averaging SGD; the optimiser is that of the local steps."""

    paper: ClassVar[str] = "Zhang et al. 2015"
    summary: ClassVar[str] = "nodes train on their own, each and the centre pulled together now and then"

    alpha: Fraction = 0.225
    """How much of the way to the centre a pull goes: 0.9 / p for p nodes, to be set by hand; it is not adapted when
    nodes come and go."""
    tau: Count = 10
    """Steps of a replica between two pulls; 10 in the paper's comparisons, 1 to 64 in others."""

    def choices(self) -> Choices:
        return Choices(Elastic(self.alpha, self.tau))
