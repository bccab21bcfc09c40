"""Memory that requests land in: a bounded pool of page-aligned buffers, made when they are needed and used again.

A gradient of 4 MB lands in one of these, is applied from there, and the buffer is free for the next one. When none is
free, whoever asks waits its turn; a connection reads nothing more meanwhile, so TCP slows the sender down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import LocalProtocolError

__all__ = ["Staging"]

PAGE_BYTES = 4096

_Buffer = npt.NDArray[np.uint8]


class Staging:
    """A pool of buffers.

    Args:
        limit_bytes: all buffers together take at most so much. A single one larger than that is granted when it is the
            only one, so that nothing is stuck.

    Attributes:
        taken_bytes: size of the buffers that are in use.
        held_bytes: size of all buffers.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.taken_bytes = self.held_bytes = 0
        self._limit = limit_bytes
        self._free: list[_Buffer] = []
        self._taken: dict[int, _Buffer] = {}
        self._waiting: deque[tuple[int, Callable[[memoryview], None]]] = deque()

    def take(self, n_bytes: int, later: Callable[[memoryview], None] | None = None) -> memoryview | None:
        """Return ``n_bytes`` that belong to the caller until ``give``, or None when there are none now.

        Args:
            later: instead of a refusal, called with them as soon as there are; in the order of the calls. ``forget``
                takes it back.
        """
        assert n_bytes > 0
        view = None if self._waiting else self._grant(n_bytes)  # nobody overtakes, or a large request would starve
        if view is None and later is not None:
            self._waiting.append((n_bytes, later))
        return view

    def give(self, view: memoryview) -> None:
        """Give back what ``take`` returned. The memory is another's from now on."""
        buffer = self._taken.pop(id(view.obj), None)
        if buffer is None:
            raise LocalProtocolError("a buffer was given back that is not taken")
        self.taken_bytes -= buffer.nbytes
        self._free.append(buffer)
        self._serve()

    def forget(self, later: Callable[[memoryview], None]) -> None:
        """Take back what waits with ``later``."""
        self._waiting = deque(entry for entry in self._waiting if entry[1] != later)
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            n_bytes, later = self._waiting[0]
            view = self._grant(n_bytes)
            if view is None:
                return
            self._waiting.popleft()
            later(view)

    def _grant(self, n_bytes: int) -> memoryview | None:
        size = -(-n_bytes // PAGE_BYTES) * PAGE_BYTES
        fitting = [k for k, buffer in enumerate(self._free) if buffer.nbytes >= size]
        best = min(fitting, key=lambda k: self._free[k].nbytes, default=None)
        # A far larger one is left for those that need it, as long as there is room for one that fits.
        if best is not None and self._free[best].nbytes > 4 * size and self.held_bytes + size <= self._limit:
            best = None
        if best is None:
            if self.taken_bytes + size > self._limit and self._taken:
                return None
            while self._free and self.held_bytes + size > self._limit:
                self.held_bytes -= self._free.pop(0).nbytes
            buffer = _aligned(size)
            self.held_bytes += size
        else:
            buffer = self._free.pop(best)
        self._taken[id(buffer)] = buffer
        self.taken_bytes += buffer.nbytes
        return buffer.data[:n_bytes]


def _aligned(size: int) -> _Buffer:
    """Return fresh memory that begins on a page."""
    memory = np.empty(size + PAGE_BYTES, np.uint8)
    begin = -memory.ctypes.data % PAGE_BYTES
    return memory[begin : begin + size]
