"""Constant: the learning rate stays what it is."""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.algos.schedule.base import Schedule

__all__ = ["Constant"]


@dataclass(frozen=True, slots=True)
class Constant(Schedule):
    """No schedule: scale = 1."""

    def scale(self, epoch: float, epochs: int) -> float:
        return 1.0
