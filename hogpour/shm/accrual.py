"""Accrual buffers: gradients summed in shared memory until the node's client has pushed them. Two for each replica.

A replica adds into its active buffer and **seals** it: from then on the buffer belongs to the client, which sends
straight from this memory, so it is frozen until every shard has answered. Meanwhile the replica adds into the other
one. Only the writer seals; only the client releases; neither takes a lock.

    state of a buffer     0 fresh · +k sealed, its content is push number k · -k released, push k is answered

The number in the state makes recovery exact: a replica that is killed between sealing and switching buffers leaves the
sealed buffer active, and its successor sees that push ``sequence`` is sealed (or even answered) already. A kill in the
middle of an addition leaves a part of one gradient in the sum; the batch is then used again (``clocks.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.kernels.jit import Array, njit
from hogpour.shm.atomics import atomic_load, atomic_store
from hogpour.shm.layout import LINE_BYTES, flat_words

__all__ = ["BUFFERS", "TICKETS", "WORDS", "Accrual", "Sealed", "list_sealed", "release"]

BUFFERS = 2
TICKETS = 64
"""Tickets that one push can finish; a window that finishes more is sealed early."""

WORDS = (1 + BUFFERS, LINE_BYTES // 8)
"""Shape of the words of one replica, int64: a line of its own, then a line for each buffer."""

_ACTIVE, _COUNT, _SEQUENCE, _LANDING, _NEWEST_SCALE, _LOSS = range(6)  # of the replica's line
_STATE, _SEALED_COUNT, _SEALED_LANDING, _SCALE, _N_TICKETS, _SEALED_LOSS = range(6)  # of a buffer's line


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed buffer. Its memory is frozen until ``release``."""

    replica: int
    buffer: int
    sequence: int
    """1, 2, 3 ... of this replica."""
    steps: int
    """Gradients in the sum; 0: there is nothing to push, only tickets to report."""
    landing: int
    """Number of the landing that the first of these gradients was computed on."""
    scale: float
    """Factor of the learning-rate schedule."""
    tickets: tuple[int, ...]
    """Blocks whose last gradient is in this or an earlier push of this replica. One may be named twice."""
    loss: float = 0.0
    """Batch methods: the sum of the losses of the examples in the gradients; NaN where these were dropped."""


class Accrual:
    """The writer's side: the buffers of one replica, used by that replica alone.

    Args:
        words: ``WORDS`` int64, live shared memory.
        tickets: (BUFFERS, TICKETS) int64, live shared memory.
        buffers: (BUFFERS, n) float32, live shared memory.
    """

    def __init__(self, words: npt.NDArray[np.int64], tickets: npt.NDArray[np.int64], buffers: npt.NDArray[Any]) -> None:
        assert words.shape == WORDS, f"accrual words: got {words.shape}, expected {WORDS}"
        self._flat, self._tickets, self._buffers = words.reshape(-1), tickets, list(buffers)
        self._plain = flat_words(words)  # begins with the replica's own line
        self._reals = self._plain.cast("B").cast("d")
        if not self._plain[_SEQUENCE]:
            self._plain[_SEQUENCE] = 1
        self._switch()  # the predecessor may have been killed between sealing and switching

    @property
    def buffer(self) -> npt.NDArray[Any]:
        """The active buffer, (n,)."""
        return self._buffers[self._plain[_ACTIVE]]

    @property
    def count(self) -> int:
        """Gradients in the active buffer."""
        return self._plain[_COUNT]

    @property
    def free(self) -> bool:
        """Whether the active buffer may be written: what it held before is answered."""
        return self._state(self._plain[_ACTIVE]) <= 0

    @property
    def waiting(self) -> bool:
        """Whether there is anything to seal. What lies in a buffer that is not ``free`` is another push's."""
        return self.free and bool(self._plain[_COUNT] or self._plain[self._line + _N_TICKETS])

    @property
    def full(self) -> bool:
        """Whether the window can take no further ticket, and must be sealed."""
        return self.free and self._plain[self._line + _N_TICKETS] == TICKETS

    def begin(self, landing: int) -> None:
        """Say on which landing the first gradient of the window is computed; before that gradient."""
        self._plain[_LANDING] = landing

    def added(self, scale: float) -> int:
        """Count one gradient that was added to ``buffer``; return how many it holds.

        Args:
            scale: factor of the learning-rate schedule; that of the newest gradient is the push's.
        """
        self._reals[_NEWEST_SCALE] = scale
        self._plain[_COUNT] = count = self._plain[_COUNT] + 1
        return count

    def add_loss(self, loss: float) -> None:
        """Add the losses of the examples of a gradient; before ``added``, whose count says which ones are in."""
        before = self._reals[_LOSS] if self._plain[_COUNT] else 0.0
        self._reals[_LOSS] = before + loss

    def drop(self) -> None:
        """Forget what was accrued and not sealed."""
        self._plain[_COUNT] = 0
        self._reals[_LOSS] = np.nan

    def finish(self, ticket: int) -> None:
        """Note a finished block. Not where the window is ``full``."""
        count = self._plain[self._line + _N_TICKETS]
        self._tickets[self._plain[_ACTIVE], count] = ticket
        self._plain[self._line + _N_TICKETS] = count + 1

    def seal(self) -> None:
        """Give the active buffer to the client and go on with the other one, once that is ``free``."""
        assert self.free, "a buffer was sealed that the client still sends"
        line, plain = self._line, self._plain
        plain[line + _SEALED_COUNT], plain[line + _SEALED_LANDING] = plain[_COUNT], plain[_LANDING]
        plain[line + _SCALE], plain[line + _SEALED_LOSS] = plain[_NEWEST_SCALE], plain[_LOSS]
        accrual_store(self._flat, line + _STATE, plain[_SEQUENCE])  # the last: whoever sees it sees all of the above
        self._switch()

    def _switch(self) -> None:
        """Leave the buffer that holds push ``sequence``, if one does: a successor may do this again from any point."""
        for buffer in range(BUFFERS):
            if abs(self._state(buffer)) == self._plain[_SEQUENCE]:
                self._plain[_COUNT] = 0
                self._plain[_ACTIVE] = 1 - buffer
                self._plain[_SEQUENCE] += 1  # the last store: until then, the line above says what is to be done
                return

    @property
    def _line(self) -> int:
        """Return where the active buffer's line begins."""
        return (1 + self._plain[_ACTIVE]) * WORDS[1]

    def _state(self, buffer: int) -> int:
        return int(accrual_load(self._flat, (1 + buffer) * WORDS[1] + _STATE))


def list_sealed(
    words: npt.NDArray[np.int64], tickets: npt.NDArray[np.int64], replica: int, above: int = 0
) -> list[Sealed]:
    """Return the sealed buffers of a replica, in the order of their sealing; the client's side.

    Args:
        words: (replicas, *WORDS) int64, live shared memory.
        tickets: (replicas, BUFFERS, TICKETS) int64, live shared memory.
        above: sequence of the last push that is not of interest.
    """
    lines = [words[replica, 1 + buffer] for buffer in range(BUFFERS)]
    # Looked at twice: between two loads a replica may seal one buffer and then the other, and whoever saw the second
    # alone would take the first, when it sees it, for one that it has sent. What is sealed by now is seen below.
    last = max(accrual_load(line, _STATE) for line in lines)
    found: list[Sealed] = []
    if last <= above:
        return found
    for buffer, line in enumerate(lines):
        if above < (sequence := int(accrual_load(line, _STATE))) <= last:
            plain = flat_words(line)
            reals, n_tickets = plain.cast("B").cast("d"), plain[_N_TICKETS]
            named = tuple(tickets[replica, buffer, :n_tickets].tolist()) if n_tickets else ()
            found.append(
                Sealed(
                    replica,
                    buffer,
                    sequence,
                    plain[_SEALED_COUNT],
                    plain[_SEALED_LANDING],
                    reals[_SCALE],
                    named,
                    reals[_SEALED_LOSS],
                )
            )
    found.sort(key=lambda s: s.sequence)
    return found


def release(words: npt.NDArray[np.int64], push: Sealed) -> None:
    """Give a buffer back to its writer: all shards have answered. Doing it again changes nothing: the writer may have
    sealed the next push in it."""
    line = words[push.replica, 1 + push.buffer]
    if accrual_load(line, _STATE) != push.sequence:
        return
    line[_N_TICKETS] = 0
    accrual_store(line, _STATE, -push.sequence)


@njit(cache=True, nogil=True)
def accrual_load(words: Array, word: int) -> int:
    return atomic_load(words, word)


@njit(cache=True, nogil=True)
def accrual_store(words: Array, word: int, value: int) -> None:
    atomic_store(words, word, np.int64(value))
