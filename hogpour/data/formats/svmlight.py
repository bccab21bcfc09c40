"""svmlight, also called libsvm: one example a line, a label and the features that are not zero.

    label qid:7 index:value index:value ...  # comment

Indices are digits, ascending, and begin at 1 or, in some files, at 0: a file with an index 0 begins at 0, and its test
file is read alike. Numbers are what ``float`` takes. The query number behind a label is left out, as are values of 0.
Rows stay sparse here; who wants them dense, spreads them out.

Cores parse ranges of whole lines at the same time into the same arrays: how much room a range needs at most is counted
first, and what blank lines and comments left free of it is closed up at last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path
from warnings import warn

import numpy as np
import numpy.typing as npt

from hogpour.core import host
from hogpour.core.csr import Csr
from hogpour.core.errors import DataError, DataWarning
from hogpour.data.formats.base import Table, Wanted, need_memory, opened

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.svm", "*.svmlight", "*.libsvm")

_LARGE, _MUCH = 1e9, 100
"""Dense rows of so many bytes, so many times the file: is the highest index meant?"""
_PIECE_BYTES = 1 << 20
_RANGE_BYTES = 1 << 20
"""Text that a core parses at a time, which takes a millisecond or two."""
_FEWEST_RANGES = 2
"""For which a thread is worth starting."""


def read(path: Path, wanted: Wanted) -> Table:
    """Read x as sparse rows (n, n_features) of float64 without zeros, and y (n,) float64."""
    text = _text(path)
    x, y = _parsed(path, text)
    if not len(y):
        return Table(x, y)
    low, high = (int(x.indices.min()), int(x.indices.max())) if x.nnz else (1, 0)
    first = wanted.first_index if wanted.first_index is not None else min(low, 1)
    n_features = wanted.n_features or high - first + 1
    last = first + n_features - 1
    if low < first:
        hint = "" if wanted.predicting else "; where they begin at 0, set data.first_index = 0"
        raise DataError(f"{path}: {_at(text, x, low)}: the feature index is {low}, but indices begin at {first}{hint}")
    if high > last and not wanted.predicting:
        raise DataError(
            f"{path}: {_at(text, x, high)}: the feature index is {high}, expected at most {last} "
            f"({n_features} features); for more of them set data.n_features = {high - first + 1}"
        )
    n_bytes, size = 4 * len(y) * n_features, path.stat().st_size
    if not (wanted.sparse or wanted.n_features) and n_bytes > max(_LARGE, _MUCH * size):
        raise DataError(
            f"{path}: {size / 1e6:.3g} MB would become {n_bytes / 1e9:.1f} GB of float32 values, as the highest feature "
            f"index is {high} ({_at(text, x, high)}); begin the model with a layer that takes sparse examples, such as "
            f'"sparse_linear", or say that they are meant: data.n_features = {n_features}'
        )
    indptr, indices, values = x.indptr, x.indices, x.values
    indices -= np.uint32(first)
    held = values != 0
    if high > last:
        known = indices < n_features
        warn(f"{path}: features that the model does not know are left out: {np.unique(indices[~known]).size}, such "
             f"as index {high} ({_at(text, x, high - first)})", DataWarning, stacklevel=2)  # fmt: skip
        held &= known
    if not held.all():
        before = np.concatenate([[0], np.cumsum(held)])
        indptr, indices, values = before[indptr], indices[held], values[held]
    x = Csr(indptr, indices, values, n_features)
    return Table(x, y, first_index=first, line=lambda row: _line(_text(path), row))


def _text(path: Path) -> bytearray:
    """Return the bytes of a file, and a line end behind them."""
    text = bytearray()
    with opened(path) as file:
        need_memory(path, "its bytes", path.stat().st_size)
        while piece := file.read(_PIECE_BYTES):
            text += piece
    text += b"\n"
    return text


def _parsed(path: Path, text: bytearray) -> tuple[Csr, npt.NDArray[np.float64]]:
    """Return the features of all examples, with their indices as they are in the file, and (n,) their labels."""
    from hogpour.data.kernels.svmlight import LARGEST_INDEX, count, parse

    lines = np.frombuffer(text, np.uint8)
    cuts = {text.index(b"\n", at) + 1 for at in range(_RANGE_BYTES, len(text), _RANGE_BYTES)}
    ranges = list(pairwise(sorted({0, *cuts, len(text)})))
    n_lines, n_colons = zip(*(count(lines, *one) for one in ranges))
    rows, places = ([0, *accumulate(most)] for most in (n_lines, n_colons))
    need_memory(path, f"{rows[-1]} lines with {places[-1]} values", 16 * rows[-1] + 12 * places[-1])
    y, indptr = np.empty(rows[-1]), np.zeros(rows[-1] + 1, np.int64)
    indices, values = np.empty(places[-1], np.uint32), np.empty(places[-1])

    def parsed(k: int) -> tuple[int, int, int]:
        """Parse a range; return how many examples and features it has, and -1 or a place in its first wrong line."""
        row, place = slice(rows[k], rows[k + 1]), slice(places[k], places[k + 1])
        odd = np.empty((n_lines[k] + n_colons[k], 3), np.int64)
        room = y[row], indptr[1:][row], indices[place], values[place]
        n, nnz, n_odd, fault = parse(lines, *ranges[k], *room, odd)
        for begin, end, which in odd[:n_odd].tolist():
            try:
                number = float(text[begin:end])
            except ValueError:
                return n, nnz, begin
            if which >= 0:
                values[places[k] + which] = number
            else:
                y[rows[k] - 1 - which] = number
        return n, nnz, fault

    n = nnz = 0
    for k, (more, filled, fault) in enumerate(_each(parsed, len(ranges))):
        if fault >= 0:
            raise DataError(f"{path}: {_fault(text, fault, LARGEST_INDEX)}")
        row, place = rows[k], places[k]
        indptr[n + 1 : n + 1 + more] = indptr[row + 1 : row + 1 + more] + nnz
        if n < row:
            y[n : n + more] = y[row : row + more]
        if nnz < place:
            indices[nnz : nnz + filled] = indices[place : place + filled]
            values[nnz : nnz + filled] = values[place : place + filled]
        n, nnz = n + more, nnz + filled
    return Csr(indptr[: n + 1], indices[:nnz], values[:nnz], LARGEST_INDEX + 1), y[:n]


def _each(parsed: Callable[[int], tuple[int, int, int]], n: int) -> Iterable[tuple[int, int, int]]:
    """Return what ``parsed`` returns for 0..n-1, by as many threads as there are cores: kernels let others run."""
    if (threads := min(host.cores(), n // _FEWEST_RANGES)) < 2:
        return map(parsed, range(n))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(parsed, range(n)))


def _fault(text: bytearray, place: int, largest: int) -> str:
    """Return the number of the line around a place, and what is wrong in it at first."""
    number, begin = text.count(b"\n", 0, place) + 1, text.rfind(b"\n", 0, place) + 1
    line = bytes(text[begin : text.index(b"\n", place)])
    return f"line {number}: {next(_faults(line, largest))}"


def _faults(line: bytes, largest: int) -> Iterator[str]:
    """Yield what is wrong in a line, word by word."""
    label, *words = line.partition(b"#")[0].split()
    if not _is_number(label):
        yield f"the label is {_shown(label)}, expected a number"
    last = -1
    for word in words[1 if words and words[0].startswith(b"qid:") else 0 :]:
        digits, colon, value = word.partition(b":")
        index = int(digits.lstrip(b"0")[:11] or b"0") if digits.isdigit() else -1  # of thousands int takes too long
        if not (index >= 0 and colon and _is_number(value)):
            yield f"got {_shown(word)}, expected index:value"
        elif index > largest:
            yield f"the feature index is {digits[:40].decode()}, expected at most {largest}"
        elif index <= last:
            yield f"the feature index {index} follows {last}, expected ascending ones"
        else:
            last = index


def _at(text: bytearray, x: Csr, index: int) -> str:
    """Return the line of the first example that has the feature ``index``."""
    at = int(np.flatnonzero(x.indices == index)[0])
    return f"line {_line(text, int(np.searchsorted(x.indptr, at, side='right')) - 1)}"


def _line(text: bytearray, row: int) -> int:
    """Return the line of an example."""
    from hogpour.data.kernels.svmlight import line_of

    return line_of(np.frombuffer(text, np.uint8), row)


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("ascii", "replace"))
