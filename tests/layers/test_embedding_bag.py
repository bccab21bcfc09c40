"""Embedding bags: means over words with their counts, and their gradient by row against a dense product."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core.csr import Csr
from hogpour.layers.embedding_bag import EmbeddingBag
from hogpour.layers.linear import Linear
from hogpour.layers.sequential import Sequential, Workspace

ROWS, FEATURES = 30, 12


def counts(rng: np.random.Generator, ones: bool = False) -> Csr:
    x = rng.integers(1, 2 if ones else 5, (ROWS, FEATURES)) * (rng.random((ROWS, FEATURES)) < 0.4)
    x[3] = 0  # an example without words
    sparse = Csr.from_dense(x.astype(float))
    return Csr(sparse.indptr, sparse.indices, sparse.values[: 0 if ones else None], FEATURES)


def bag(layer: EmbeddingBag, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, Workspace]:
    network = Sequential(layer).network((FEATURES,))
    params = network.spec.zeros(float)
    network.init(params, rng)
    return network.spec.by_row[0].view(params), network.workspace(batch, params, rows=FEATURES)


def test_the_mean_is_over_words_and_a_word_of_count_3_is_three_of_them() -> None:
    rng = np.random.default_rng(0)
    x = counts(rng)
    weight, workspace = bag(EmbeddingBag(5), ROWS, rng)
    workspace.gather(x, np.arange(ROWS), 0)
    workspace.forward()
    for row, counted in enumerate(x.toarray().astype(int)):
        words = np.repeat(np.arange(FEATURES), counted)
        expected = weight[words].mean(axis=0) if len(words) else np.zeros(5)
        assert workspace.scores[:, row] == pytest.approx(expected, rel=1e-12)


@given(
    seed=st.integers(0, 99), units=st.sampled_from([1, 3, 17]), mode=st.sampled_from(["mean", "sum"]),
    batch=st.sampled_from([1, 2, 20]), ones=st.booleans(),
)  # fmt: skip
def test_scores_and_gradients_are_those_of_a_dense_product(
    seed: int, units: int, mode: Literal["mean", "sum"], batch: int, ones: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, order = counts(rng, ones), rng.permutation(ROWS)
    weight, workspace = bag(EmbeddingBag(units, mode), batch, rng)
    dense = x.toarray()
    if mode == "mean":
        dense /= np.maximum(dense.sum(axis=1, keepdims=True), 1)
    for start in (0, 2):  # a second time, in used buffers
        own = dense[order[start : start + batch]]
        workspace.gather(x, order, start)
        workspace.forward()
        assert pytest.approx(own @ weight, rel=1e-12, abs=1e-12) == workspace.scores.T
        workspace.d_scores[...] = rng.standard_normal((units, batch))
        workspace.backward()
        workspace.by_row[0][1].write_to(got := np.full_like(weight, np.nan))
        assert got == pytest.approx(own.T @ workspace.d_scores.T, rel=1e-12, abs=1e-12)


def test_it_begins_as_fast_text_does_and_a_linear_layer_follows() -> None:
    network = Sequential(EmbeddingBag(4), Linear(2)).network((500,))
    params = network.spec.zeros(float)
    network.init(params, np.random.default_rng(0))
    weight = network.spec.views(params)["0.embedding_bag.weight"]
    assert 0.24 < abs(weight).max() <= 0.25
    assert abs(weight.mean()) < 0.02
    assert network.output_shape == (2,)
