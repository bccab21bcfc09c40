"""Sparse rows (CSR): of each example the features that are not zero, and their values.

Row r holds the features ``indices[indptr[r] : indptr[r + 1]]``, each at most once. Under a file's own numbers they
ascend, hashed names stand as in the file, and both keep their order when they are called otherwise. Most text and
click data have no value but 1: then there is no array of values, and nothing of it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import DataError

__all__ = ["Csr"]


@dataclass(frozen=True, slots=True, eq=False)
class Csr:
    """n examples of ``n_features`` features. The arrays are owned by whoever made them, and read only by agreement.

    Raises:
        DataError: the arrays do not fit together. That a feature comes once in a row, and is below ``n_features``, is
            not looked at.
    """

    indptr: npt.NDArray[np.int64]
    """(n + 1,) int64: where each row begins in the other two, and behind the last one where they end."""
    indices: npt.NDArray[np.uint32]
    """(nnz,) uint32: features."""
    values: npt.NDArray[Any]
    """(nnz,) floats; or (0,): they are all 1."""
    n_features: int
    """One more than the largest index that there may be."""

    def __post_init__(self) -> None:
        indptr, indices, values = self.indptr, self.indices, self.values
        if not (
            indptr.dtype == np.int64 and indptr.ndim == 1 and indices.dtype == np.uint32 and indices.ndim == 1
            and values.dtype.kind == "f" and values.shape in (indices.shape, (0,)) and len(indptr) > 0
            and indptr[0] == 0 and indptr[-1] == len(indices) and bool(np.all(indptr[1:] >= indptr[:-1]))
        ):  # fmt: skip
            raise DataError(
                f"sparse rows: got indptr {indptr.dtype} {indptr.shape}, indices {indices.dtype} {indices.shape}, "
                f"values {values.dtype} {values.shape}, expected int64 (n + 1,) rising from 0 to the length of the "
                "indices, uint32 (nnz,), and floats (nnz,) or (0,)"
            )

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of features."""
        return len(self), self.n_features

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return len(self.indices)

    def longest(self, n: int) -> int:
        """Return how many entries n rows have together, at most."""
        lengths = np.diff(self.indptr)
        return int(np.partition(lengths, -n)[-n:].sum()) if n < len(lengths) else self.nnz

    def take(self, order: npt.NDArray[np.int64]) -> Csr:
        """Return the rows ``order``, (m,) int64 of 0..n-1, in that order; new arrays."""
        begins = self.indptr[order]
        lengths = self.indptr[1:][order] - begins
        indptr = _begins(lengths)
        places = np.repeat(begins - indptr[:-1], lengths)
        places += np.arange(len(places))
        values = self.values[places] if self.values.size else self.values.copy()
        return Csr(indptr, self.indices[places], values, self.n_features)

    def rows(self, start: int, stop: int) -> Csr:
        """Return the rows start..stop-1; their indices and values are views of these."""
        indptr = self.indptr[start : stop + 1]
        held = slice(indptr[0], indptr[-1])
        return Csr(indptr - indptr[0], self.indices[held], self.values[held], self.n_features)

    def toarray(self, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """Return the same as new (n, n_features) of ``dtype``, C-contiguous."""
        dense = np.zeros(self.shape, dtype)
        rows = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        dense[rows, self.indices] = self.values if self.values.size else 1
        return dense

    @classmethod
    def from_scipy(cls, matrix: Any) -> Self:
        """Return a copy of a sparse matrix of SciPy: duplicates summed, zeros left out, values of float32 or float64.

        Args:
            matrix: (n, n_features) of any form, and real numbers of any type; not changed.
        """
        # Floats before the sums, which some forms make in tocsr: those of bytes would wrap around.
        matrix = matrix.astype(np.float32 if matrix.dtype == np.float32 else np.float64, copy=True).tocsr()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        indptr = matrix.indptr.astype(np.int64)
        return cls(indptr, matrix.indices.astype(np.uint32), matrix.data, int(matrix.shape[1]))

    @classmethod
    def from_dense(cls, x: npt.NDArray[Any]) -> Self:
        """Return the entries of (n, n_features) floats that are not zero; new arrays."""
        rows, indices = np.nonzero(x)
        indptr = _begins(np.bincount(rows, minlength=len(x)))
        return cls(indptr, indices.astype(np.uint32), x[rows, indices], x.shape[1])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return its arrays by their names; no copies."""
        return {"indptr": self.indptr, "indices": self.indices, "values": self.values}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], n_features: int) -> Self:
        """Return the rows of which ``arrays`` hold what ``Csr.arrays`` gave, perhaps among others; no copies."""
        return cls(arrays["indptr"], arrays["indices"], arrays["values"], n_features)


def _begins(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)], dtype=np.int64)
