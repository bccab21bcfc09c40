"""Step: scale = factor ^ floor(epoch / every), the staircase of the image papers."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from hogpour.algos.optim.base import check_range
from hogpour.algos.schedule.base import Schedule

__all__ = ["Step"]


@dataclass(frozen=True, slots=True)
class Step(Schedule):
    """The rate is multiplied by a factor every few epochs (Krizhevsky et al. 2012, section 5, by hand)."""

    every: int
    """Epochs from a step to the next, at least 1."""
    factor: float = 0.1
    """Factor per step, above 0 up to 1."""

    def __post_init__(self) -> None:
        check_range(self, every=(1, 1_000_000), factor=(1e-9, 1))

    def scale(self, epoch: float, epochs: int) -> float:
        return float(self.factor ** floor(epoch / self.every))
