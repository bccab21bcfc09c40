"""Control words: what the node tells its replicas, and the ticket counter that hands out blocks of examples.

Each word has a cache line of its own, because replicas poll ``command`` on every step and add to ``ticket`` on every
block. Nobody locks: a process that is killed holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.kernels.jit import Array, njit
from hogpour.shm.atomics import atomic_exchange_if, atomic_load, atomic_store
from hogpour.shm.layout import LINE_BYTES

__all__ = ["DIVERGED", "RUN", "STOP", "WORDS", "Control"]

WORDS = (2, LINE_BYTES // 8)
"""Shape of the array of control words, int64: one line for each word."""

RUN, STOP, DIVERGED = 0, 1, 2
"""Commands. ``STOP``: end after the step under way. ``DIVERGED``: the same, from a replica whose loss is not finite."""

_COMMAND, _TICKET = 0, 1


class Control:
    """The control words of a segment.

    Args:
        words: ``WORDS`` int64, live shared memory.
    """

    def __init__(self, words: npt.NDArray[np.int64]) -> None:
        assert words.shape == WORDS
        self._words = words.reshape(-1)

    @property
    def command(self) -> int:
        """What the replicas are to do."""
        return int(control_load(self._words, _COMMAND))

    def stop(self) -> None:
        """Say ``STOP``, unless something else than ``RUN`` has been said: divergence is not forgotten."""
        control_exchange_if(self._words, _COMMAND, RUN, STOP)

    def diverge(self) -> None:
        """Say ``DIVERGED``, whatever was said before."""
        control_store(self._words, _COMMAND, DIVERGED)

    @property
    def tickets_taken(self) -> int:
        """Number of blocks handed out since the training began; may exceed the number of blocks at the end."""
        return int(control_load(self._words, _TICKET))

    @tickets_taken.setter
    def tickets_taken(self, value: int) -> None:
        """Set where training goes on; before any replica runs."""
        control_store(self._words, _TICKET, value)

    def take_ticket(self, announce: Callable[[int], None]) -> int:
        """Take the next block for the calling replica: 0, 1, 2 ..., each number given once.

        Args:
            announce: called with a number before it is taken, and again with another one where somebody was quicker.
                A replica that is killed at any moment has then said which block it may have taken; none is lost, and
                one that another replica took between the two is used twice.
        """
        while True:
            ticket = self.tickets_taken
            announce(ticket)
            if control_exchange_if(self._words, _TICKET, ticket, ticket + 1):
                return ticket

    def detach(self) -> None:
        """Let go of the memory, keeping the words as they are now."""
        self._words = self._words.copy()


_STRIDE: Any = LINE_BYTES // 8


@njit(cache=True, nogil=True)
def control_load(words: Array, word: int) -> int:
    return atomic_load(words, word * _STRIDE)


@njit(cache=True, nogil=True)
def control_store(words: Array, word: int, value: int) -> None:
    atomic_store(words, word * _STRIDE, np.int64(value))


@njit(cache=True, nogil=True)
def control_exchange_if(words: Array, word: int, expected: int, value: int) -> bool:
    return atomic_exchange_if(words, word * _STRIDE, np.int64(expected), np.int64(value))
