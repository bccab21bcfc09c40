"""Sparse rows: whatever is done to them, the dense rows are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import sparse

from hogpour.core.csr import Csr
from hogpour.core.errors import DataError

X = np.array([[0, 1, 0, 2.5], [0, 0, 0, 0], [3, 0, 0, 0], [0, -1, 4, 1e300]])
mostly_zero = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6), elements=st.sampled_from([0.0, 0, 0, 1, -2.5]))


def without_values(x: npt.NDArray[Any]) -> Csr:
    csr = Csr.from_dense(x)
    return Csr(csr.indptr, csr.indices, csr.values[:0], csr.n_features)


@given(mostly_zero)
def test_dense_rows_come_back(x: npt.NDArray[np.float64]) -> None:
    csr = Csr.from_dense(x)
    assert (csr.indptr.dtype, csr.indices.dtype, csr.values.dtype) == (np.int64, np.uint32, np.float64)
    assert (csr.shape, len(csr), csr.nnz) == (x.shape, len(x), np.count_nonzero(x))
    assert csr.toarray().tobytes() == x.tobytes()
    assert without_values(x).toarray(np.float32).tolist() == (x != 0).tolist()


@given(mostly_zero, st.data())
def test_rows_are_taken_in_any_order_and_more_than_once(x: npt.NDArray[np.float64], data: st.DataObject) -> None:
    order = np.array(data.draw(st.lists(st.integers(0, len(x) - 1), max_size=8)) if len(x) else [], np.int64)
    csr, ones = Csr.from_dense(x), without_values(x)
    assert csr.take(order).toarray().tolist() == x[order].tolist()
    assert ones.take(order).toarray().tolist() == (x[order] != 0).tolist()
    assert ones.take(order).values.size == 0
    assert not any(np.shares_memory(csr.arrays()[name], array) for name, array in csr.take(order).arrays().items())


def test_neighbouring_rows_are_views() -> None:
    csr = Csr.from_dense(X)
    for start in range(5):
        for stop in range(start, 5):
            part = csr.rows(start, stop)
            assert part.toarray().tolist() == X[start:stop].tolist()
            if part.nnz:
                assert np.shares_memory(part.indices, csr.indices)
                assert np.shares_memory(part.values, csr.values)
    assert without_values(X).rows(2, 4).toarray().tolist() == (X[2:4] != 0).tolist()


@pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("make", ["array", "matrix"])
def test_every_form_of_scipy_is_taken(form: str, make: str) -> None:
    csr = Csr.from_scipy(getattr(sparse, f"{form}_{make}")(X))
    assert csr.toarray().tolist() == X.tolist()
    assert (csr.nnz, csr.indptr.dtype, csr.indices.dtype, csr.values.dtype) == (6, np.int64, np.uint32, np.float64)


def test_what_scipy_leaves_in_disorder_is_put_in_order_in_a_copy() -> None:
    """Indices that do not ascend or come twice, sums that are 0, zeros; indices of 64 bits."""
    indptr, indices = np.array([0, 5, 6], np.int64), np.array([3, 0, 3, 2, 2, 1], np.int64)
    matrix = sparse.csr_array((np.array([1, 2, 0.5, 1, -1, 0]), indices, indptr), shape=(2, 4))
    csr = Csr.from_scipy(matrix)
    assert {name: array.tolist() for name, array in csr.arrays().items()} == {
        "indptr": [0, 2, 2], "indices": [0, 3], "values": [2, 1.5]
    }  # fmt: skip
    assert matrix.indices.tolist() == [3, 0, 3, 2, 2, 1]
    ordered = sparse.csr_array(X)
    assert not np.shares_memory(Csr.from_scipy(ordered).values, ordered.data)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32])
def test_values_of_scipy_become_floats_before_they_are_summed(dtype: Any) -> None:
    twice = (np.array([200, 100], dtype), (np.array([0, 0]), np.array([1, 1])))
    csr = Csr.from_scipy(sparse.coo_array(twice, shape=(1, 2)))
    assert csr.values.dtype == (np.float32 if dtype is np.float32 else np.float64)
    assert csr.toarray().tolist() == [[0, 2 if dtype is np.bool_ else 300]]


def test_it_is_laid_out_by_name_and_found_again_without_a_copy() -> None:
    csr = Csr.from_dense(X)
    other = Csr.of({"y": X, **csr.arrays()}, 4)
    assert all(other.arrays()[name] is array for name, array in csr.arrays().items())
    assert other.shape == (4, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"indptr": np.array([0, 2])}, {"indptr": np.array([0, 1, 2, 3, 5, 6])[::2]}, {"indptr": np.array([1, 2, 6])}, {"indptr": np.array([0, 4, 3, 6])},
        {"indptr": np.array([], np.int64)}, {"indptr": np.array([0, 6], np.int32)}, {"indptr": np.array([[0, 6]])}, {"indices": np.arange(6)},
        {"indices": np.zeros((6, 1), np.uint32)}, {"values": np.ones(5)}, {"values": np.ones(6, np.int64)}, {"values": np.ones((6, 1))},
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_together_are_refused(wrong: dict[str, npt.NDArray[Any]]) -> None:
    with pytest.raises(DataError, match=r"^sparse rows: got indptr .*expected int64"):
        Csr.of(Csr.from_dense(X).arrays() | wrong, 4)
