"""WarmUp: a ramp in front of any other schedule (Goyal et al. 2017, section 2.2, "gradual warmup").

    scale = (start + (1 - start) · min(1, epoch / epochs_of_ramp)) · then.scale(epoch, epochs)

The other schedule sees the whole run and is multiplied, so that nothing else needs to know of warm-up. In a job file:
``schedule = {name = "warm_up", epochs = 2, then = {name = "cosine"}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hogpour import registry
from hogpour.algos.optim.base import check_range
from hogpour.algos.schedule.base import Schedule

__all__ = ["WarmUp"]


@dataclass(frozen=True)  # without slots: ``_then`` is no field, so that it is neither configured nor described
class WarmUp(Schedule):
    """The rate rises linearly from ``start`` to 1, on top of what ``then`` says."""

    epochs: float = 1.0
    """Length of the ramp in epochs, above 0."""
    start: float = 0.1
    """Scale at the beginning, 0 to 1. 0 would waste the first block of examples."""
    then: Any = "constant"
    """The schedule that is multiplied: its name, ``{name = ..., ...}``, or in Python the schedule itself. Kept as a job
    file would say it, in full."""

    def __post_init__(self) -> None:
        check_range(self, epochs=(1e-9, 1e9), start=(0, 1))
        then = self.then
        if not isinstance(then, str | Mapping | Schedule):
            raise ValueError(f"then = {then!r}, expected the name of a schedule or {{name = ...}}")
        built = then if isinstance(then, Schedule) else registry.build("schedule", then, "warm_up.then")
        object.__setattr__(self, "_then", built)
        object.__setattr__(self, "then", registry.describe(built))

    def scale(self, epoch: float, epochs: int) -> float:
        ramp = self.start + (1 - self.start) * min(1.0, epoch / self.epochs)
        then: Schedule = self.__dict__["_then"]
        return ramp * then.scale(epoch, epochs)
