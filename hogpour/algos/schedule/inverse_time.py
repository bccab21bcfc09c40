"""InverseTime: scale = 1 / (1 + decay · epoch), the classical 1/k rate of Robbins and Monro (1951)."""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.algos.optim.base import check_range
from hogpour.algos.schedule.base import Schedule

__all__ = ["InverseTime"]


@dataclass(frozen=True, slots=True)
class InverseTime(Schedule):
    """The rate falls as one over time, smoothly within epochs too."""

    decay: float = 1.0
    """How fast: the rate has halved after 1 / decay epochs. 0 or more."""

    def __post_init__(self) -> None:
        check_range(self, decay=(0, 1e9))

    def scale(self, epoch: float, epochs: int) -> float:
        return 1.0 / (1.0 + self.decay * epoch)
