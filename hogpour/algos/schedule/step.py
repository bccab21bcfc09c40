"""Step: scale = factor ^ floor(epoch / every), the staircase of the image papers."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Annotated

from hogpour.algos.schedule.base import Schedule
from hogpour.core.limits import Range

__all__ = ["Step"]


@dataclass(frozen=True, slots=True)
class Step(Schedule):
    """The rate is multiplied by a factor every few epochs (Krizhevsky et al. 2012, section 5, by hand)."""

    every: Annotated[int, Range(1, 1e6)]
    """Epochs from a step to the next."""
    factor: Annotated[float, Range(1e-9, 1)] = 0.1
    """Factor per step."""

    def scale(self, epoch: float, epochs: int) -> float:
        return float(self.factor ** floor(epoch / self.every))
