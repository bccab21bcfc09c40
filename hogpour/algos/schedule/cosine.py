"""Cosine: half a cosine wave over the whole run (Loshchilov and Hutter 2017, eq. 5, without restarts).

scale = floor + (1 - floor) · (1 + cos(π · epoch / epochs)) / 2
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from hogpour.algos.schedule.base import Schedule
from hogpour.core.limits import Fraction

__all__ = ["Cosine"]


@dataclass(frozen=True, slots=True)
class Cosine(Schedule):
    """The rate falls slowly, then fast, then slowly, from 1 to ``floor``."""

    floor: Fraction = 0.0
    """Scale at the end of the run."""

    def scale(self, epoch: float, epochs: int) -> float:
        done = min(epoch / epochs, 1.0)  # replicas may finish a little beyond the last epoch
        return self.floor + (1 - self.floor) * (1 + cos(pi * done)) / 2
