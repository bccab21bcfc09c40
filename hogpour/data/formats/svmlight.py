"""svmlight, also called libsvm: one example a line, a label and the features that are not zero.

    label qid:7 index:value index:value ...  # comment

Indices are digits, ascending, and begin at 1 or, in some files, at 0: a file with an index 0 begins at 0, and its test
file is read alike. Numbers are what ``float`` takes. The query number behind a label is left out, as are values of 0.
Rows stay sparse here; who wants them dense, spreads them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.errors import DataError, DataWarning
from hogpour.data.formats.base import Table, Wanted, check_dense
from hogpour.data.ranges import Parsed, parsed_lines, text_of, without

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.svm", "*.svmlight", "*.libsvm")

_COLONS = (ord(":"), ord(":"))
"""Every feature has one."""


def read(path: Path, wanted: Wanted) -> Table:
    """Read x as sparse rows (n, n_features) of float64 without zeros, and y (n,) float64."""
    text = text_of(path)
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
    if not (wanted.sparse or wanted.n_features):
        check_dense(path, len(y), n_features, f"the highest feature index is {high} ({_at(text, x, high)})",
                    f"say that they are meant: data.n_features = {n_features}")  # fmt: skip
    indices = x.indices
    indices -= np.uint32(first)
    left_out = x.values == 0
    if high > last:
        unknown = indices >= n_features
        warn(f"{path}: features that the model does not know are left out: {np.unique(indices[unknown]).size}, such "
             f"as index {high} ({_at(text, x, high - first)})", DataWarning, stacklevel=2)  # fmt: skip
        left_out |= unknown
    return Table(without(x, left_out, n_features), y, first_index=first, line=lambda row: _line(text_of(path), row))


def _parsed(path: Path, text: bytearray) -> tuple[Csr, npt.NDArray[np.float64]]:
    """Return the features of all examples, with their indices as they are in the file, and (n,) their labels."""
    from hogpour.data.kernels.svmlight import LARGEST_INDEX, parse

    lines = np.frombuffer(text, np.uint8)

    def wrong(place: int) -> tuple[int, str]:
        line = bytes(text[text.rfind(b"\n", 0, place) + 1 : text.index(b"\n", place)])
        return place, next(_faults(line, LARGEST_INDEX))

    def parsed(begin: int, end: int, *room: npt.NDArray[Any]) -> Parsed:
        y, ends, indices, values = room
        odd = np.empty((len(y) + len(indices), 3), np.int64)
        n, nnz, n_odd, fault = parse(lines, begin, end, y, ends, indices, values, odd)
        for first, last, which in odd[:n_odd].tolist():
            try:
                number = _number(text[first:last])
            except ValueError:
                return n, nnz, wrong(first)
            if which >= 0:
                values[which] = number
            else:
                y[-1 - which] = number
        return n, nnz, None if fault < 0 else wrong(fault)

    return parsed_lines(path, text, _COLONS, 1, parsed, (np.float64,), LARGEST_INDEX + 1)


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
    from hogpour.data.kernels.text import line_of

    return line_of(np.frombuffer(text, np.uint8), row, ord("#"))


def _number(text: bytes | bytearray) -> float:
    """As ``float``, but underscores, which only Python takes, are a ValueError."""
    return float(b"-" if b"_" in text else text)


def _is_number(text: bytes) -> bool:
    try:
        _number(text)
    except ValueError:
        return False
    return True


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("ascii", "replace"))
