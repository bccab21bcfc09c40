"""Sparse linear against the dense layer on the same numbers, and its gradient by row against a dense one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError
from hogpour.layers.linear import Linear
from hogpour.layers.relu import Relu
from hogpour.layers.sequential import Sequential
from hogpour.layers.sparse_linear import SparseLinear

ROWS = 40


def examples(rng: np.random.Generator, features: int, ones: bool = False) -> Csr:
    x = rng.standard_normal((ROWS, features)) * (rng.random((ROWS, features)) < 0.3)
    sparse = Csr.from_dense((x != 0).astype(float) if ones else x)
    return Csr(sparse.indptr, sparse.indices, sparse.values[:0] if ones else sparse.values, features)


@given(
    seed=st.integers(0, 99), features=st.sampled_from([1, 5, 70]), units=st.sampled_from([1, 3, 17]),
    batch=st.sampled_from([1, 2, 33]), ones=st.booleans(), bias=st.booleans(),
)  # fmt: skip
def test_scores_and_gradients_are_those_of_the_dense_layer(
    seed: int, features: int, units: int, batch: int, ones: bool, bias: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = examples(rng, features, ones)
    sparse = Sequential(SparseLinear(units, bias)).network((features,))
    dense = Sequential(Linear(units, bias)).network((features,))
    of_dense = rng.standard_normal(dense.spec.n)
    of_sparse = sparse.spec.zeros(float)
    names = dict(zip(sparse.spec.views(of_sparse), ("bias", "weight") if bias else ("weight",)))
    for name, kind in names.items():
        sparse.spec.views(of_sparse)[name][...] = dense.spec.views(of_dense)[f"0.linear.{kind}"]
    order = rng.integers(ROWS, size=batch + 2)
    a = sparse.workspace(batch, of_sparse, rows=min(features, x.nnz))
    b = dense.workspace(batch, of_dense)
    for start in (0, 2):  # a second time, in used buffers
        a.gather(x, order, start)
        b.gather(x.toarray(), order, start)
        a.forward()
        b.forward()
        assert a.scores == pytest.approx(b.scores, rel=1e-12, abs=1e-12)
        d_scores = rng.standard_normal((units, batch))
        a.d_scores[...], b.d_scores[...] = d_scores, d_scores
        a.backward()
        b.backward()
        (tensor, grad), = a.by_row
        got = np.full(tensor.shape, np.nan)
        grad.write_to(got)
        expected = dense.spec.views(b.grad)
        assert got == pytest.approx(expected["0.linear.weight"], rel=1e-12, abs=1e-12)
        assert len(set(grad.touched[0].tolist())) == len(grad.touched[0]) <= min(features, x.nnz)
        if bias:
            assert sparse.spec.views(a.grad)["0.sparse_linear.bias"] == pytest.approx(expected["0.linear.bias"])


def test_dense_layers_follow() -> None:
    rng = np.random.default_rng(0)
    x = examples(rng, 9)
    network = Sequential(SparseLinear(4), Relu(), Linear(2)).network((9,))
    assert [t.name for t in network.spec.tensors] == [
        "0.sparse_linear.bias", "2.linear.weight", "2.linear.bias", "0.sparse_linear.weight",
    ]  # fmt: skip
    assert network.spec.n_dense == network.spec.by_row[0].offset == 48
    params = network.spec.zeros(float)
    network.init(params, rng)
    workspace = network.workspace(5, params, rows=9)
    workspace.gather(x, np.arange(5), 0)
    workspace.forward()
    views = network.spec.views(params)
    hidden = np.maximum(x.toarray()[:5] @ views["0.sparse_linear.weight"] + views["0.sparse_linear.bias"], 0)
    expected = hidden @ views["2.linear.weight"] + views["2.linear.bias"]
    np.testing.assert_allclose(workspace.scores.T, expected)


def test_a_single_unit_begins_with_zeros_and_several_apart() -> None:
    for units, alike in ((1, True), (2, False)):
        network = Sequential(SparseLinear(units)).network((3,))
        params = network.spec.zeros(float)
        network.init(params, np.random.default_rng(0))
        assert (not params.any()) == alike


def test_it_must_come_first() -> None:
    with pytest.raises(ConfigError, match=r"layer 1\.sparse_linear: takes sparse examples, got .* put it first"):
        Sequential(Linear(3), SparseLinear(2)).network((4,))
    with pytest.raises(ConfigError, match=r"expected examples of one axis of features, got \(4, 4\)"):
        Sequential(SparseLinear(2)).network((4, 4))
