"""The sparse form of a vector on the wire: only the elements that are not 0, or that changed, and where they are.

    m values, float32 in little-endian order | m gaps: elements left out before each, as numbers of 1 to 5 bytes

A gap is written in groups of seven bits, the lowest first, each but the last with its eighth bit set (LEB128). Features
are numbered by their frequency, so most gaps take one byte: 5 bytes an element. It is an encoding and nothing more:
whoever reads it has the same vector, to the bit, and every scheme works with it. Written here, and not by a library,
because it runs in every push.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hogpour.core.kernels.jit import Array, njit

__all__ = ["Elements", "Form", "changes", "elements", "nonzeros", "read"]

_MOST_GAP_BYTES = 5

class Elements(NamedTuple):
    """Some elements of a vector; all others are 0."""

    places: npt.NDArray[np.uint32]
    """(m,) ascending."""
    values: npt.NDArray[np.float32]
    """(m,)"""

    def whole(self, size: int) -> npt.NDArray[np.float32]:
        """Return the vector, new."""
        vector = np.zeros(size, np.float32)
        vector[self.places] = self.values
        return vector


Form = tuple[int, memoryview]
"""Number of elements, and the bytes; new memory, the caller's."""


def nonzeros(vector: npt.NDArray[np.float32]) -> Form | None:
    """Return the form of a gradient, of which all other elements are 0; None where it is not shorter. The zero with a
    sign is an element like any other."""
    return _form(vector, vector.view(np.int32), 0, signed=True)


def changes(vector: npt.NDArray[np.float32], changed: npt.NDArray[np.int32], since: int) -> Form | None:
    """Return the form of the elements k with changed[k] > since, of which others have the rest; None where it is not
    shorter."""
    return _form(vector, changed, since, signed=False)


def read(payload: memoryview, n_entries: int, out: npt.NDArray[np.float32]) -> str:
    """Write the elements that a form names into ``out``, which is as long as the vector; others are left alone.

    Returns:
        What is wrong with the form, and then nothing was written; empty: nothing.
    """
    found = elements(payload, n_entries, out.size)
    if isinstance(found, str):
        return found
    out[found.places] = found.values
    return ""


def elements(payload: memoryview, n_entries: int, size: int) -> Elements | str:
    """Return the elements that a form names of a vector of ``size``; or what is wrong with it.

    The values are views of the payload.
    """
    n_values = 4 * n_entries
    if not n_values <= payload.nbytes - n_entries <= n_values + (_MOST_GAP_BYTES - 1) * n_entries:
        return f"{payload.nbytes} bytes are no {n_entries} elements"
    places = np.empty(n_entries, np.uint32)
    if not n_entries:
        return Elements(places, np.empty(0, np.float32))
    wrong = int(read_places(np.frombuffer(payload, np.uint8, offset=n_values), size, places))
    if wrong >= 0:
        return f"element {wrong} of {n_entries} does not end within {size}, or more follows"
    return Elements(places, np.frombuffer(payload, np.float32, n_entries))


def _form(vector: npt.NDArray[np.float32], marks: npt.NDArray[np.int32], above: int, signed: bool) -> Form | None:
    n_entries = int(count_marked(marks, above, signed))
    if (_MOST_GAP_BYTES + 3) * n_entries > 4 * vector.size:
        return None
    n_values = 4 * n_entries
    out = np.empty(n_values + _MOST_GAP_BYTES * n_entries, np.uint8)
    size = int(write_elements(vector, marks, above, signed, out[:n_values].view(np.float32), out[n_values:]))
    return n_entries, out[: n_values + size].data


@njit(inline="always")
def _is_marked(mark: int, above: int, signed: bool) -> bool:
    return mark != above if signed else mark > above


@njit(cache=True, nogil=True)
def count_marked(marks: Array, above: int, signed: bool) -> int:
    count = 0
    for k in range(marks.size):
        count += _is_marked(marks[k], above, signed)
    return count


@njit(cache=True, nogil=True)
def write_elements(vector: Array, marks: Array, above: int, signed: bool, values: Array, gaps: Array) -> int:
    """Fill ``values`` and ``gaps``; return how many bytes of gaps there are."""
    at, found, next_one = 0, 0, 0
    for k in range(vector.size):
        if _is_marked(marks[k], above, signed):
            values[found] = vector[k]
            found += 1
            gap = k - next_one
            next_one = k + 1
            while gap >= 128:
                gaps[at] = 128 | (gap & 127)
                gap >>= 7
                at += 1
            gaps[at] = gap
            at += 1
    return at


@njit(cache=True, nogil=True)
def read_places(gaps: Array, size: int, places: Array) -> int:
    """Return -1 where all was well; else the number of the element that was not."""
    at, place = 0, -1
    for k in range(places.size):
        gap, shift = 0, 0
        while True:
            if at == gaps.size or shift > 28:
                return k
            byte = gaps[at]
            at += 1
            gap |= (int(byte) & 127) << shift
            shift += 7
            if byte < 128:
                break
        place += 1 + gap
        if place >= size:
            return k
        places[k] = place
    return -1 if at == gaps.size else places.size
