"""Fetched parameters: which replica has asked for them, and what has landed in the live vector since.

A replica counts its wishes (ticks) and rings; the client fetches, copies into the live vector and says which ticks that
served. Each word has one writer and grows only, so nothing is lost when either looks late.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hogpour.core.kernels.jit import Array, njit
from hogpour.shm.atomics import atomic_store, fetch_add
from hogpour.shm.layout import LINE_BYTES, flat_words

__all__ = ["BLOCKS", "BUFFER", "LANDING", "WORDS", "Mailbox"]

BUFFER, LANDING, BLOCKS = 1, 2, 4
"""What a replica may wait for: its accrual buffer back, a landing, blocks to do or leave to compute."""

_LINE = LINE_BYTES // 8

WORDS = (2, _LINE)
"""Shape of the words of one replica, int64: a line written by the replica, one written by the client."""

_STRIDE = 2 * _LINE  # from a replica's words to the next one's
_WANTED, _REASON, _ATTENDS = range(3)  # of the replica's line
_LANDED, _NUMBER, _HELD, _PACE, _EVALUATION = range(_LINE, _LINE + 5)  # of the client's line


class Mailbox:
    """The words of all replicas of a node.

    Args:
        words: (replicas, *WORDS) int64, live shared memory.
    """

    def __init__(self, words: npt.NDArray[np.int64]) -> None:
        self._words, self._plain = words, flat_words(words)
        self._reals = self._plain.cast("B").cast("d")

    def __len__(self) -> int:
        """Return the number of replicas."""
        return len(self._words)

    # -- the replica's side

    def want(self, replica: int) -> None:
        """Ask for fresh parameters."""
        self._plain[_STRIDE * replica + _WANTED] += 1

    def wait_for(self, replica: int, reasons: int) -> None:
        """Say what the replica is about to wait for; 0: nothing any more.

        Said before the replica looks for the last time and waits. The link changes words first and looks here then;
        both sides are sequentially consistent, so that one of the two sees the other and no ring is missed.
        """
        landing_store(self._words[replica, 0], _REASON, reasons)

    def attend(self, replica: int, present: bool) -> None:
        """Say that a replica takes part in gated steps, or does not any more: after it has sealed what it had."""
        landing_store(self._words[replica, 0], _ATTENDS, int(present))

    def attends(self, replica: int) -> bool:
        """Return whether it does. Looked at before the buffers, the client sees all that was sealed before a no."""
        return bool(fetch_add(self._words[replica, 0], _ATTENDS, 0))

    def number(self, replica: int) -> int:
        """Return how many landings there were; what a replica computes next is computed on that one or a later one."""
        return self._plain[_STRIDE * replica + _NUMBER]

    def held(self, replica: int) -> bool:
        """Whether this replica is to compute nothing yet (warm start)."""
        return bool(self._plain[_STRIDE * replica + _HELD])

    def pace(self, replica: int) -> float:
        """Return how fast this node is, as a fraction of the fastest one of its cluster; 1 while that is not known."""
        return self._reals[_STRIDE * replica + _PACE] or 1.0

    def evaluation(self, replica: int) -> int:
        """Return the evaluation of a batch method that the live vector is of."""
        return self._plain[_STRIDE * replica + _EVALUATION]

    # -- the client's side

    def wanted(self) -> list[int]:
        """Return how many ticks each replica has asked for."""
        return self._plain[_WANTED::_STRIDE].tolist()

    def waits_for(self, replica: int) -> int:
        """Return what a replica waits for, ``BUFFER``, ``LANDING`` or ``BLOCKS``, added up; asked after a change."""
        return int(fetch_add(self._words[replica, 0], _REASON, 0))  # adding keeps the load behind the change

    def landed(self, replica: int) -> int:
        """Return how many ticks of a replica have been served."""
        return self._plain[_STRIDE * replica + _LANDED]

    def land(self, ticks: list[int], number: int) -> None:
        """Say that landing ``number`` is complete, and which ticks it serves."""
        for replica, tick in enumerate(ticks):
            self._plain[_STRIDE * replica + _NUMBER] = number
            self._plain[_STRIDE * replica + _LANDED] = tick

    def set_pace(self, pace: float) -> None:
        """Say to all replicas how fast this node is; above 0."""
        for replica in range(len(self)):
            self._reals[_STRIDE * replica + _PACE] = pace

    def set_evaluation(self, evaluation: int) -> None:
        """Say to all replicas which evaluation the live vector is of, before any of its blocks is in the queue."""
        for replica in range(len(self)):
            self._plain[_STRIDE * replica + _EVALUATION] = evaluation

    def hold(self, replica: int, held: bool) -> None:
        """Let a replica compute, or not yet."""
        self._plain[_STRIDE * replica + _HELD] = held


@njit(cache=True, nogil=True)
def landing_store(words: Array, word: int, value: int) -> None:
    atomic_store(words, word, np.int64(value))
