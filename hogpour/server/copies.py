"""The arrays of shards, who reads them, and the memory for those that are replaced while somebody does.

Parameters leave without a copy: the transport reads the live array itself, for as long as the other end takes. So an
array that somebody reads is **frozen**. An update that finds it frozen goes on in a copy, which is the live array from
then on, and the old one is dropped with its last reader: a slow reader never delays an update, and gets the shard as
it was at one clock, never half of an update. What old arrays may take in all is bounded (``Copies``); above it, updates
wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["Copies", "Replaced", "Vector", "owned"]


class Vector:
    """An array of a shard.

    Attributes:
        array: (size,) float32.
        payload: the same memory as bytes, read only.
        readers: of ``payload``; while there are any, nobody writes the array.
        live: whether the shard still uses it; otherwise it lives until its last reader is done.
    """

    __slots__ = ("array", "live", "payload", "readers")

    def __init__(self, array: npt.NDArray[np.float32]) -> None:
        self.array = array
        self.payload = array.data.cast("B").toreadonly()
        self.readers = 0
        self.live = True


class Replaced(list[tuple[Vector, Vector]]):
    """Frozen vectors of a shard, each with the one that is live in its place and still has to be filled. Whoever has
    this counts as a reader of the frozen ones."""

    @property
    def sources(self) -> list[Vector]:
        """The frozen ones."""
        return [old for old, _ in self]

    def fill(self) -> None:
        """Copy what is frozen."""
        for old, new in self:
            new.array[...] = old.array


class Copies:
    """The memory that frozen arrays may take after their shards have gone on without them.

    Attributes:
        used_bytes: taken now.
        waiting: called, in this order, when a reader is done: they wait for memory. By who waits.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self.used_bytes = limit_bytes, 0
        self.waiting: dict[object, Callable[[], None]] = {}

    def take(self, n_bytes: int) -> bool:
        """Account for a copy; False where it would exceed the limit."""
        if self.used_bytes + n_bytes > self._limit:
            return False
        self.used_bytes += n_bytes
        return True

    def release(self, vectors: Iterable[Vector]) -> None:
        """Let a reader of these vectors go, who is not the last one."""
        for vector in vectors:
            assert vector.readers > 0, "a reader was let go twice"
            vector.readers -= 1
            if not vector.readers and not vector.live:
                self.used_bytes -= vector.array.nbytes

    def let_go(self, vectors: list[Vector]) -> None:
        """Let a reader of these vectors go, and those go on who wait for memory."""
        self.release(vectors)
        for go_on in list(self.waiting.values()):
            go_on()


def owned(array: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Return the array if its memory is its own, else a copy."""
    fits = array.dtype == np.float32 and array.shape == (size,)
    assert fits, f"got {array.dtype} {array.shape}, expected ({size},)"
    return array if array.flags.owndata and array.flags.c_contiguous and array.flags.writeable else array.copy()
