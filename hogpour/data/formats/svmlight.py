"""svmlight, also called libsvm: one example a line, a label and the features that are not zero.

    label index:value index:value ...  # comment

scikit-learn parses. Indices begin at 1 or, in some files, at 0: a file with an index 0 begins at 0, and its test file
is read alike. Rows stay sparse (CSR) here; who wants them dense, spreads them out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hogpour.core.errors import DataError
from hogpour.data.formats.base import Table, Wanted, opened

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.svm", "*.svmlight", "*.libsvm")

_LARGEST_INDEX = 2**31 - 1


def read(path: Path, wanted: Wanted) -> Table:
    """Read x as CSR (n, n_features) float32 and y (n,) float32."""
    from scipy.sparse import csr_matrix
    from sklearn.datasets import load_svmlight_file

    with opened(path) as file:
        try:
            x, y = load_svmlight_file(file, dtype=np.float32, zero_based=True)
        except (ValueError, OverflowError) as exc:
            with opened(path) as again:
                raise DataError(f"{path}: {_first_fault(again) or exc}") from exc
    if not len(y):
        return Table(csr_matrix((0, 1), dtype=np.float32), y)
    low, high = (int(x.indices.min()), int(x.indices.max())) if x.nnz else (1, 0)
    first = wanted.first_index if wanted.first_index is not None else min(low, 1)
    n_features = wanted.n_features or high - first + 1
    if low < first:
        row = _row(x, low)
        raise DataError(
            f"{path}: row {row}, counted from 0: the feature index is {low}, but the training set counts from {first}"
        )
    if high > first + n_features - 1:
        row = _row(x, high)
        raise DataError(
            f"{path}: row {row}, counted from 0: the feature index is {high}, expected at most "
            f"{first + n_features - 1} ({n_features} features)"
        )
    return Table(csr_matrix((x.data, x.indices - first, x.indptr), shape=(len(y), n_features)), y, first_index=first)


def _row(x: Any, index: int) -> int:
    """Return the first row of a CSR matrix that holds the column ``index``, counted from 0."""
    at = int(np.flatnonzero(x.indices == index)[0])
    return int(np.searchsorted(x.indptr, at, side="right")) - 1


def _first_fault(file: BinaryIO) -> str:
    """Return what is wrong in the first wrong line, or "" if no line is. Slow; runs after the parser gave up."""
    for number, line in enumerate(file, 1):
        label, *features = line.split(b"#", 1)[0].split() or [b"0"]
        if not _is_number(label):
            return f"line {number}: the label is {_shown(label)}, expected a number"
        last = -1
        for feature in features:
            index, colon, value = feature.partition(b":")
            if index == b"qid":
                continue
            if not (colon and index.isdigit() and _is_number(value)):
                return f"line {number}: got {_shown(feature)}, expected index:value"
            if int(index) > _LARGEST_INDEX:
                return f"line {number}: the feature index is {int(index)}, expected at most {_LARGEST_INDEX}"
            if int(index) <= last:
                return f"line {number}: the feature index {int(index)} follows {last}, expected ascending ones"
            last = int(index)
    return ""


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("ascii", "replace"))
