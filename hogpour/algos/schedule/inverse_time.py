"""InverseTime: scale = 1 / (1 + decay · epoch), the classical 1/k rate of Robbins and Monro (1951)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hogpour.algos.schedule.base import Schedule
from hogpour.core.limits import Range

__all__ = ["InverseTime"]


@dataclass(frozen=True, slots=True)
class InverseTime(Schedule):
    """The rate falls as one over time, smoothly within epochs too."""

    decay: Annotated[float, Range(0, 1e9)] = 1.0
    """How fast: the rate has halved after 1 / decay epochs."""

    def scale(self, epoch: float, epochs: int) -> float:
        return 1.0 / (1.0 + self.decay * epoch)
