"""Sparse rows under other numbers of their features, ascending again, in time that grows with their length alone."""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit

__all__ = ["renumber"]


@njit(cache=True, nogil=True)
def renumber(indptr: Array, indices: Array, values: Array, place: Array) -> tuple[Array, Array]:
    """Return indices and values of the same rows where feature f is called place[f].

    Sorted by counting: turned into columns, in their new order, and back into rows; so each row's features ascend.

    Args:
        indptr, indices, values: of a ``Csr``; read only.
        place: (n_features,) uint32, a permutation.
    """
    n, nnz = indptr.size - 1, indices.size
    begins = np.zeros(place.size + 1, np.int64)
    for k in range(nnz):
        begins[np.intp(place[indices[k]]) + 1] += 1
    for f in range(place.size):
        begins[f + 1] += begins[f]
    of_row, of_value, at = np.empty(nnz, np.int64), np.empty(values.size, values.dtype), begins[:-1].copy()
    for row in range(n):
        for k in range(indptr[row], indptr[row + 1]):
            f = place[indices[k]]
            of_row[at[f]] = row
            if values.size:
                of_value[at[f]] = values[k]
            at[f] += 1
    new_indices, new_values, at = np.empty_like(indices), np.empty_like(values), indptr[:-1].copy()
    for f in range(place.size):
        for k in range(begins[f], begins[f + 1]):
            row = of_row[k]
            new_indices[at[row]] = f
            if values.size:
                new_values[at[row]] = of_value[k]
            at[row] += 1
    return new_indices, new_values
