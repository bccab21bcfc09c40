"""Clocks: how far each replica is, one cache line of counters and one of sums a replica, written by it alone.

A reader sees each number whole but not all at one moment; progress needs no more. After a death the row says which
block was under way and how far, so that the replica's successor goes on there and no example is left out. A kill can
fall between the update of the parameters and the row: then one batch is used twice. A block is announced here before it
is taken: a kill in between can make it be used twice too, never not at all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hogpour.core.kernels.jit import Array, njit
from hogpour.shm.layout import LINE_BYTES

__all__ = ["COUNTERS", "SUMS", "Clocks"]

COUNTERS, SUMS = LINE_BYTES // 8, LINE_BYTES // 8
"""int64 counters and float64 sums of a replica."""

_STEPS, _TICKET, _POSITION, _EXAMPLES, _RIGHT = range(5)
_LOSS, _BEGAN = 0, 1


class Clocks:
    """The clocks of all replicas of a node.

    Args:
        counters: (replicas, COUNTERS) int64, live shared memory.
        sums: (replicas, SUMS) float64, live shared memory.
    """

    def __init__(self, counters: npt.NDArray[np.int64], sums: npt.NDArray[np.float64]) -> None:
        self._counters, self._sums = counters, sums

    def begin_block(self, replica: int, ticket: int, position: int = 0) -> None:
        """Say that ``replica`` works on block ``ticket``, of which ``position`` examples are done."""
        # The ticket last: a death between the two stores must not pair the new block with the old position.
        self._counters[replica, _TICKET] = 0
        self._counters[replica, _POSITION] = position
        self._counters[replica, _TICKET] = ticket + 1

    def end_block(self, replica: int) -> None:
        """Say that ``replica`` has no block under way."""
        self._counters[replica, _TICKET] = 0

    def unfinished(self, replica: int) -> tuple[int, int] | None:
        """Return (ticket, examples done) of the block that ``replica`` has under way, if any."""
        ticket = int(self._counters[replica, _TICKET])
        return (ticket - 1, int(self._counters[replica, _POSITION])) if ticket else None

    def detach(self) -> None:
        """Let go of the memory, keeping the numbers as they are now."""
        self._counters, self._sums = self._counters.copy(), self._sums.copy()

    def record(self, replica: int, examples: int, loss: float, right: int, steps: int = 1) -> int:
        """Count finished steps and return the number of steps of all replicas together."""
        return clocks_record(self._counters, self._sums, replica, examples, loss, right, steps)

    def begin(self, replica: int, now: float) -> None:
        """Say that ``replica`` has done its first step at ``now``, on the clock that all processes share; once."""
        if not self._sums[replica, _BEGAN]:
            self._sums[replica, _BEGAN] = now

    @property
    def began(self) -> float | None:
        """When the first of all replicas had done its first step; None before that."""
        times = self._sums[:, _BEGAN]
        return float(times[times > 0].min()) if times.any() else None

    @property
    def n_begun(self) -> int:
        """Number of replicas that have done a step."""
        return int((self._sums[:, _BEGAN] > 0).sum())

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """(replicas,) finished steps, a copy."""
        return self._counters[:, _STEPS].copy()

    def set_steps(self, steps: int) -> None:
        """Begin at this count; before any replica runs."""
        self._counters[0, _STEPS] = steps

    @property
    def examples(self) -> int:
        """Examples used by all replicas since the segment was made."""
        return int(self._counters[:, _EXAMPLES].sum())

    @property
    def right(self) -> int:
        """Training examples that were predicted right, by all replicas."""
        return int(self._counters[:, _RIGHT].sum())

    @property
    def loss(self) -> float:
        """Sum of the losses of all examples, by all replicas."""
        return float(self._sums[:, _LOSS].sum())


@njit(cache=True, nogil=True)
def clocks_record(
    counters: Array, sums: Array, replica: int, examples: int, loss: float, right: int, steps: int
) -> int:
    row = counters[replica]
    row[_EXAMPLES] += examples
    row[_RIGHT] += right
    sums[replica, _LOSS] += loss
    row[_POSITION] += examples
    row[_STEPS] += steps
    total = 0
    for other in range(counters.shape[0]):
        total += counters[other, _STEPS]
    return total
