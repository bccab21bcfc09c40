"""A piece of memory that several processes map: the only door to shared memory.

The segment has no name. It is a file descriptor (``memfd_create``, elsewhere an unlinked temporary file) that child
processes inherit, so the kernel frees it with its last process: a ``kill -9`` of any or all of them leaves nothing in
``/dev/shm``, and no resource tracker is needed. Names that somebody must unlink are what leaks in other systems.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy.typing as npt

from hogpour.core.errors import ResourceError
from hogpour.core.host import available_memory
from hogpour.shm.layout import Layout

__all__ = ["Segment", "anonymous_file"]


class Segment:
    """Mapped shared memory with named arrays.

    Attributes:
        fd: descriptor to pass to child processes; open until ``close``.
        arrays: views of the memory by name. They are live: other processes write them.
    """

    def __init__(self, fd: int, layout: Layout) -> None:
        self.fd, self.layout = fd, layout
        self._memory = mmap.mmap(fd, layout.size)
        self.arrays: Mapping[str, npt.NDArray[Any]] = layout.views(self._memory)

    @classmethod
    def create(cls, layout: Layout, purpose: str, fd: int | None = None) -> Segment:
        """Reserve zeroed memory for a layout.

        Args:
            purpose: what it is for, in error messages.
            fd: an empty ``anonymous_file``, perhaps already inherited by others; None makes one. Belongs to the
                segment when this returns, still to the caller when it raises.

        Raises:
            ResourceError: the machine does not have that much.
        """
        needs = f"shared memory: {purpose} needs {layout.size / 1e9:.3f} GB"
        advice = "use less data, a smaller model or fewer replicas"
        if layout.size > (available := available_memory()):
            # Asked first: where there is no limit but the memory itself, reserving too much wakes the kernel's killer.
            raise ResourceError(f"{needs}, {available / 1e9:.3f} GB are available; {advice}")
        given, fd = fd, anonymous_file() if fd is None else fd
        try:
            # Reserved now: without it, memory that is not there is a SIGBUS in the middle of training.
            os.posix_fallocate(fd, 0, layout.size)
            return cls(fd, layout)
        except OSError as error:
            if given is None:
                os.close(fd)
            if error.errno == errno.EFBIG:
                advice = "raise the limit of file sizes (ulimit -f), which shared memory has as well"
            raise ResourceError(f"{needs}, which this machine does not give ({error.strerror}); {advice}") from error

    @classmethod
    def attach(cls, fd: int, layout: Layout) -> Segment:
        """Map a segment that the parent process made; ``fd`` is inherited and belongs to the segment from now on."""
        return cls(fd, layout)

    def release(self) -> None:
        """Drop the arrays, not the descriptor. The memory goes when the last view of it goes."""
        self.arrays = {}
        with suppress(BufferError):  # somebody still holds a view; the mapping goes with it
            self._memory.close()

    def close(self) -> None:
        """Drop the arrays and close the descriptor."""
        self.release()
        os.close(self.fd)


def anonymous_file() -> int:
    """Return the descriptor of a new empty file without a name, not inherited unless asked for."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hogpour")
    with tempfile.TemporaryFile(prefix="hogpour") as file:
        return os.dup(file.fileno())
