"""svmlight, also called libsvm: one example a line, a label and the features that are not zero.

    label index:value index:value ...  # comment

scikit-learn parses. Indices begin at 1 or, in some files, at 0: a file with an index 0 begins at 0, and its test file
is read alike. Rows stay sparse (CSR) here; who wants them dense, spreads them out.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from warnings import warn

import numpy as np

from hogpour.core.errors import DataError, DataWarning
from hogpour.data.formats.base import Table, Wanted, need_memory, opened

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.svm", "*.svmlight", "*.libsvm")

_LARGEST_INDEX = 2**31 - 1
_LARGE, _MUCH = 1e9, 100
"""Dense rows of so many bytes, so many times the file: is the highest index meant?"""


def read(path: Path, wanted: Wanted) -> Table:
    """Read x as CSR (n, n_features) float64 and y (n,) float64."""
    from scipy.sparse import csr_matrix
    from sklearn.datasets import load_svmlight_file

    with opened(path) as file:
        try:
            x, y = load_svmlight_file(file, dtype=np.float64, zero_based=True)
        except (ValueError, OverflowError) as exc:
            with opened(path) as again:
                raise DataError(f"{path}: {_first_fault(again) or exc}") from exc
    if not len(y):
        return Table(csr_matrix((0, 1)), y)
    low, high = (int(x.indices.min()), int(x.indices.max())) if x.nnz else (1, 0)
    first = wanted.first_index if wanted.first_index is not None else min(low, 1)
    n_features = wanted.n_features or high - first + 1
    last = first + n_features - 1
    if low < first:
        hint = "" if wanted.predicting else "; where they begin at 0, set data.first_index = 0"
        raise DataError(f"{path}: {_at(path, x, low)}: the feature index is {low}, but indices begin at {first}{hint}")
    if high > last and not wanted.predicting:
        raise DataError(
            f"{path}: {_at(path, x, high)}: the feature index is {high}, expected at most {last} "
            f"({n_features} features); for more of them set data.n_features = {high - first + 1}"
        )
    n_bytes, size = 4 * len(y) * n_features, path.stat().st_size
    if not wanted.n_features and n_bytes > max(_LARGE, _MUCH * size):
        need_memory(path, f"{len(y)} x {n_features} float32 values", n_bytes)
        warn(f"{path}: {size / 1e6:.3g} MB become {n_bytes / 1e9:.1f} GB of float32 values, as the highest feature "
             f"index is {high} ({_at(path, x, high)})", DataWarning, stacklevel=2)  # fmt: skip
    x.indices -= first
    if high > last:
        known = x.indices < n_features
        warn(f"{path}: features that the model does not know are left out: {np.unique(x.indices[~known]).size}, such "
             f"as index {high} ({_at(path, x, high - first)})", DataWarning, stacklevel=2)  # fmt: skip
        before = np.concatenate([[0], np.cumsum(known)])
        x = csr_matrix((x.data[known], x.indices[known], before[x.indptr]), shape=(len(y), n_features))
    else:
        x = csr_matrix((x.data, x.indices, x.indptr), shape=(len(y), n_features))
    return Table(x, y, first_index=first, line=partial(_line, path))


def _at(path: Path, x: Any, index: int) -> str:
    """Return the line of the first row of a CSR matrix that holds the column ``index``, counted from 0."""
    at = int(np.flatnonzero(x.indices == index)[0])
    return f"line {_line(path, int(np.searchsorted(x.indptr, at, side='right')) - 1)}"


def _line(path: Path, row: int) -> int:
    """Return the line of an example. Slow, as the file is read once more; for messages."""
    with opened(path) as file:
        lines = (number for number, line in enumerate(file, 1) if line.partition(b"#")[0].strip())
        return next(islice(lines, row, None))


def _first_fault(file: BinaryIO) -> str:
    """Return what is wrong in the first wrong line, or "" if no line is. Slow; runs after the parser gave up."""
    for number, line in enumerate(file, 1):
        label, *features = line.split(b"#", 1)[0].split() or [b"0"]
        if not _is_number(label):
            return f"line {number}: the label is {_shown(label)}, expected a number"
        last = -1
        for feature in features:
            index, colon, value = feature.partition(b":")
            if last < 0 and index == b"qid":
                continue
            if not (colon and index.isdigit() and _is_number(value)):
                return f"line {number}: got {_shown(feature)}, expected index:value"
            place = int(index.lstrip(b"0")[:11] or b"0")  # more digits are too many, and thousands too many for int
            if place > _LARGEST_INDEX:
                return f"line {number}: the feature index is {index[:40].decode()}, expected at most {_LARGEST_INDEX}"
            if place <= last:
                return f"line {number}: the feature index {place} follows {last}, expected ascending ones"
            last = place
    return ""


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("ascii", "replace"))
