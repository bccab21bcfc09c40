"""WarmUp: a ramp in front of any other schedule (Goyal et al. 2017, section 2.2, "gradual warmup").

    scale = (start + (1 - start) · min(1, epoch / epochs_of_ramp)) · then.scale(epoch, epochs)

The other schedule sees the whole run and is multiplied, so that nothing else needs to know of warm-up. In a job file:
``schedule = {name = "warm_up", epochs = 2, then = {name = "cosine"}}``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from hogpour.algos.schedule.base import Schedule
from hogpour.algos.schedule.constant import Constant
from hogpour.core.limits import Fraction, Range

__all__ = ["WarmUp"]


@dataclass(frozen=True, slots=True)
class WarmUp(Schedule):
    """The rate rises linearly from ``start`` to 1, on top of what ``then`` says."""

    epochs: Annotated[float, Range(1e-9, 1e9)] = 1.0
    """Length of the ramp in epochs."""
    start: Fraction = 0.1
    """Scale at the beginning. 0 would waste the first block of examples."""
    then: Schedule = field(default_factory=Constant, metadata={"kind": "schedule"})
    """The schedule that is multiplied."""

    def scale(self, epoch: float, epochs: int) -> float:
        ramp = self.start + (1 - self.start) * min(1.0, epoch / self.epochs)
        return ramp * self.then.scale(epoch, epochs)
