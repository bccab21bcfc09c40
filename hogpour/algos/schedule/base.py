"""The contract of learning-rate schedules: a pure function from the progress of a run to a factor of the rate.

A replica asks at the beginning of each block (``machine/replica.py``). Where parameters are on shards, the factor goes
with the push as the exchange says (``Exchange.push_scale``): no server keeps a schedule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from hogpour.core.limits import Checked

__all__ = ["Schedule"]


class Schedule(Checked, ABC):
    """One schedule. Subclasses are frozen dataclasses whose fields are what a job file may say."""

    __slots__ = ()
    kind: ClassVar[str] = "schedule"

    @abstractmethod
    def scale(self, epoch: float, epochs: int) -> float:
        """Return the factor of the learning rate, 0 or more.

        Args:
            epoch: progress in epochs since the beginning of training, 0.0 up to ``epochs``; a fraction within an epoch.
                A replica asks once per block of examples.
            epochs: length of the whole run.
        """
