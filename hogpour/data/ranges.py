"""A text in which a line is an example, parsed by all cores.

Cores parse ranges of whole lines at the same time into the same arrays: how much room a range needs at most is counted
first, and what blank lines, and the like, left free of it is closed up at last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core import host
from hogpour.core.csr import Csr
from hogpour.core.errors import DataError
from hogpour.data.formats.base import need_memory, opened

__all__ = ["Parse", "Parsed", "line_at", "parsed_lines", "text_of", "without"]

_PIECE_BYTES = 1 << 20
_RANGE_BYTES = 1 << 20
"""Text that a core parses at a time, which takes a millisecond or two."""
_FEWEST_RANGES = 2
"""For which a thread is worth starting."""

Parsed = tuple[int, int, "tuple[int, str] | None"]
"""Of a range: number of examples and of features; a place in its first wrong line and what is wrong there, or None."""
Parse = Callable[..., Parsed]


def text_of(path: Path) -> bytearray:
    """Return the bytes of a file, and a line end behind them."""
    text = bytearray()
    with opened(path) as file:
        need_memory(path, "its bytes", path.stat().st_size)
        while piece := file.read(_PIECE_BYTES):
            text += piece
    text += b"\n"
    return text


def parsed_lines(
    path: Path,
    text: bytearray,
    marks: tuple[int, int],
    most: int,
    parse: Parse,
    answer: tuple[Any, ...],
    n_features: int,
) -> tuple[Csr, npt.NDArray[Any]]:
    """Return the features of all examples, (n,), and what stands for their answers, (n, ...).

    Args:
        text: from ``text_of``.
        marks, most: first and last of the bytes, each of which has ``most`` features behind it at most.
        parse: called as parse(begin, end, answers, ends, indices, values) with text[begin:end], and views of arrays
            that it writes: what stands for the answer of each example; (n_lines,) int64, where its features end in the
            other two; (n_marks,) uint32 and float64. By several threads at once.
        answer: dtype and, behind it, shape of what stands for an answer.
        n_features: one more than the largest index that there may be.

    Raises:
        DataError: what ``parse`` found wrong, with the line.
        ResourceError: there is not the memory.
    """
    from hogpour.data.kernels.text import count

    lines = np.frombuffer(text, np.uint8)
    cuts = {text.index(b"\n", at) + 1 for at in range(_RANGE_BYTES, len(text), _RANGE_BYTES)}
    ranges = list(pairwise(sorted({0, *cuts, len(text)})))
    n_lines, n_marks = zip(*(count(lines, *one, *marks) for one in ranges))
    rows, places = [0, *accumulate(n_lines)], [0, *accumulate(most * n for n in n_marks)]
    need_memory(path, f"{rows[-1]} lines with {places[-1]} values", 16 * rows[-1] + 12 * places[-1])
    answers, indptr = np.empty((rows[-1], *answer[1:]), answer[0]), np.zeros(rows[-1] + 1, np.int64)
    indices, values = np.empty(places[-1], np.uint32), np.empty(places[-1])

    def parsed(k: int) -> Parsed:
        row, place = slice(rows[k], rows[k + 1]), slice(places[k], places[k + 1])
        return parse(*ranges[k], answers[row], indptr[1:][row], indices[place], values[place])

    n = nnz = 0
    for k, (more, filled, fault) in enumerate(_each(parsed, len(ranges))):
        if fault is not None:
            raise DataError(f"{path}: line {line_at(text, fault[0])}: {fault[1]}")
        row, place = rows[k], places[k]
        indptr[n + 1 : n + 1 + more] = indptr[row + 1 : row + 1 + more] + nnz
        if n < row:
            answers[n : n + more] = answers[row : row + more]
        if nnz < place:
            indices[nnz : nnz + filled] = indices[place : place + filled]
            values[nnz : nnz + filled] = values[place : place + filled]
        n, nnz = n + more, nnz + filled
    return Csr(indptr[: n + 1], indices[:nnz], values[:nnz], n_features), answers[:n]


def _each(parsed: Callable[[int], Parsed], n: int) -> Iterable[Parsed]:
    """Return what ``parsed`` returns for 0..n-1, by as many threads as there are cores: kernels let others run."""
    if (threads := min(host.cores(), n // _FEWEST_RANGES)) < 2:
        return map(parsed, range(n))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(parsed, range(n)))


def line_at(text: bytearray, place: int) -> int:
    """Return the line around a place, counted from 1."""
    return text.count(b"\n", 0, place) + 1


def without(x: Csr, left_out: npt.NDArray[np.bool_], n_features: int) -> Csr:
    """Return the rows without the entries of which ``left_out``, (nnz,), says so."""
    if not left_out.any():
        return Csr(x.indptr, x.indices, x.values, n_features)
    held = ~left_out
    before = np.concatenate([[0], np.cumsum(held)])
    return Csr(before[x.indptr], x.indices[held], x.values[held], n_features)
