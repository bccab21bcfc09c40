"""BackOff: Hogwild!'s schedule, scale = beta ^ floor(epoch)."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Annotated

from hogpour.algos.schedule.base import Schedule
from hogpour.core.limits import Range

__all__ = ["BackOff"]


@dataclass(frozen=True, slots=True)
class BackOff(Schedule):
    """The rate is constant within an epoch and multiplied by beta at its end; the robust 1/k rate of Niu et al. 2011,
    section "Robust 1/k rates". The paper's theory has epochs that grow by 1/beta each; its experiments, and we, have
    equal ones."""

    beta: Annotated[float, Range(1e-9, 1)] = 0.9
    """Factor per epoch; 0.9 over 20 epochs in the paper's experiments."""

    def scale(self, epoch: float, epochs: int) -> float:
        return float(self.beta ** floor(epoch))
