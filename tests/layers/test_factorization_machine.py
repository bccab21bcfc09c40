"""Factorisation machines against the sum over pairs that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core.csr import Csr
from hogpour.layers.factorization_machine import FactorizationMachine
from hogpour.layers.sequential import Network, Sequential

ROWS, FEATURES = 20, 9


def machine(factors: int, bias: bool = True) -> tuple[Network, np.ndarray]:
    network = Sequential(FactorizationMachine(factors, bias)).network((FEATURES,))
    params = network.spec.zeros(float)
    network.init(params, np.random.default_rng(0))
    return network, params


@given(
    seed=st.integers(0, 99), factors=st.sampled_from([1, 7, 8, 19]), batch=st.sampled_from([1, 2, 15]),
    ones=st.booleans(), bias=st.booleans(),
)  # fmt: skip
def test_the_score_is_a_weight_of_every_feature_and_one_of_every_pair(
    seed: int, factors: int, batch: int, ones: bool, bias: bool
) -> None:
    """Rendle 2010, equations 1 and 4; and the slopes of these, of which the layer has other forms."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, FEATURES)) * (rng.random((ROWS, FEATURES)) < 0.5)
    x = (x != 0).astype(float) if ones else x
    sparse = Csr.from_dense(x)
    sparse = Csr(sparse.indptr, sparse.indices, sparse.values[: 0 if ones else None], FEATURES)
    network, params = machine(factors, bias)
    tensors = network.spec.views(params)
    tensors["0.factorization_machine.weight"][...] = rng.standard_normal((FEATURES, 1 + factors))
    w, v = np.split(tensors["0.factorization_machine.weight"], [1], axis=1)
    b = rng.standard_normal()
    if bias:
        tensors["0.factorization_machine.bias"][...] = b
    workspace = network.workspace(batch, params, rows=FEATURES)
    order = rng.permutation(ROWS)
    for start in (0, 3):  # a second time, in used buffers
        workspace.gather(sparse, order, start)
        workspace.forward()
        d = workspace.d_scores[...] = rng.standard_normal((1, batch))
        workspace.backward()
        d_w, d_v = np.zeros_like(w), np.zeros_like(v)
        for k, example in enumerate(x[order[start : start + batch]]):
            score = b * bias + example @ w[:, 0]
            d_w[:, 0] += d[0, k] * example
            for i in range(FEATURES):
                for j in range(i + 1, FEATURES):
                    together = example[i] * example[j]
                    score += v[i] @ v[j] * together
                    d_v[i] += d[0, k] * together * v[j]
                    d_v[j] += d[0, k] * together * v[i]
            assert workspace.scores[0, k] == pytest.approx(score, rel=1e-10, abs=1e-10)
        workspace.by_row[0][1].write_to(got := np.full((FEATURES, 1 + factors), np.nan))
        assert got == pytest.approx(np.hstack([d_w, d_v]), rel=1e-10, abs=1e-10)


def test_weights_begin_with_0_and_factors_apart() -> None:
    network, params = machine(400)
    weight = network.spec.by_row[0].view(params)
    assert not weight[:, 0].any()
    assert weight[:, 1:].std() == pytest.approx(0.01, rel=0.05)
    assert params[: network.spec.n_dense].tolist() == [0] * 16
