"""The head: the first pages of live vectors, of which each replica has a copy of its own that it merges now and then.

Features that nearly every example has make two lock-free replicas slower than one: their cache lines travel between the
cores at each step (SGD on a9a: 0.58 to 0.73 of one; ``params.py`` tells of THE RACE). Numbered by their frequency they
lie at the beginning of the vectors. Each replica maps its own memory there, under the same addresses: kernels read and
write one array, and know nothing of it. Every some examples it adds what it has changed to the shared vector, and takes
the sum (``vector_merge``): two replicas are 1.36 to 1.88 of one then (``bench sparse``). A copy that each access had to
choose would cost a comparison for each non-zero.

What is lost: nothing that a race would not lose too. A replica that is killed takes the changes of the examples since
its last merge with it; its block is begun anew. A single replica comes to the bits that it comes to without a head.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.shm.segment import Segment

__all__ = ["MOST_BYTES", "Head"]

MOST_BYTES = 1 << 15
"""Of a vector that are a replica's own: a first-level cache, and merged in 2 µs where all of it is near."""

_MAP_FIXED = 0x10  # of Linux, macOS and the BSDs; Python's mmap does not name it, and cannot map at an address


class Head:
    """A replica's own mapping of some vectors of a segment. For the life of the process: nothing unmaps it.

    Args:
        segment: of a layout in which each of ``names`` begins at a page, and has its last page for itself.
        names: of float32 arrays of one axis.
        n_bytes: of each that become the replica's own: rounded up to whole pages.

    Attributes:
        arrays: the vectors by name; their beginnings are the replica's own, the rest is the segment's.
        parts: for each of them its own beginning, what that was at the last merge, and the segment's.
    """

    def __init__(self, segment: Segment, names: Iterable[str], n_bytes: int) -> None:
        page = mmap.PAGESIZE
        self.arrays: Mapping[str, npt.NDArray[Any]] = {}
        self.parts: tuple[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], ...] = ()
        fields = {field.name: field for field in segment.layout.fields}
        for name in names:
            shared, offset = segment.arrays[name], fields[name].offset
            assert offset % page == 0, f"{name} begins at byte {offset}, expected a page's beginning"
            whole = -(-shared.nbytes // page) * page
            own = min(-(-n_bytes // page) * page, whole)
            address = _map(None, whole, mmap.MAP_SHARED, segment.fd, offset)
            _map(address, own, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED, -1, 0)
            memory: Any = (ctypes.c_char * shared.nbytes).from_address(address)
            array = np.frombuffer(memory, np.float32)
            first = slice(min(own // 4, shared.size))
            array[first] = shared[first]
            self.arrays = {**self.arrays, name: array}
            self.parts += ((array[first], array[first].copy(), shared[first]),)


def _map(address: int | None, size: int, flags: int, fd: int, offset: int) -> int:
    """Map memory where ``address`` says, or anywhere.

    Raises:
        OSError: the system does not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    mapped = libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset)
    if mapped in (None, ctypes.c_void_p(-1).value):
        raise OSError(error := ctypes.get_errno(), f"mmap: {os.strerror(error)}")
    return int(mapped)
