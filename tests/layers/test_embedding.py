"""Embeddings of fields against picked rows, and what is said of examples that have other fields than expected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

import hogpour as hp
from hogpour.core.csr import Csr
from hogpour.core.errors import DataError
from hogpour.data.dataset import Data
from hogpour.data.load import encoded
from hogpour.layers.embedding import Embedding
from hogpour.layers.sequential import Sequential
from hogpour.machine.prepare import examine

ROWS, FIELDS, OF_FIELD = 30, 3, 4


def clicks(rng: np.random.Generator, ones: bool) -> Csr:
    """Feature f of field f // OF_FIELD, under numbers of the model."""
    chosen = rng.integers(OF_FIELD, size=(ROWS, FIELDS)) + np.arange(FIELDS) * OF_FIELD
    values = rng.uniform(1, 2, ROWS * FIELDS)[: 0 if ones else None]
    named = rng.permutation(FIELDS * OF_FIELD)[chosen.ravel()].astype(np.uint32)
    return Csr(np.arange(ROWS + 1) * FIELDS, named, values, FIELDS * OF_FIELD)


@given(
    seed=st.integers(0, 99), units=st.sampled_from([1, 3, 17]), batch=st.sampled_from([1, 2, 20]), ones=st.booleans()
)
def test_an_example_is_the_vectors_of_its_fields_one_behind_the_other(
    seed: int, units: int, batch: int, ones: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, order = clicks(rng, ones), rng.permutation(ROWS)
    network = Sequential(Embedding(units, FIELDS)).network((x.n_features,))
    params = network.spec.zeros(float)
    network.init(params, rng)
    weight = network.spec.by_row[0].view(params)
    workspace = network.workspace(batch, params, rows=FIELDS * OF_FIELD)
    picked = x.indices.reshape(ROWS, FIELDS)
    values = x.values.reshape(ROWS, FIELDS) if x.values.size else np.ones((ROWS, FIELDS))
    for start in (0, 2):  # a second time, in used buffers
        workspace.gather(x, order, start)
        workspace.forward()
        own = order[start : start + batch]
        expected = weight[picked[own]] * values[own][..., None]
        assert pytest.approx(expected.reshape(batch, -1), rel=1e-12) == workspace.scores.T
        workspace.d_scores[...] = rng.standard_normal((FIELDS * units, batch))
        workspace.backward()
        workspace.by_row[0][1].write_to(got := np.full_like(weight, np.nan))
        d_weight = np.zeros_like(weight)
        np.add.at(d_weight, picked[own], workspace.d_scores.T.reshape(batch, FIELDS, units) * values[own][..., None])
        assert got == pytest.approx(d_weight, rel=1e-12, abs=1e-12)


def test_examples_of_another_length_stay_within_their_arrays() -> None:
    """Nobody hands such over, but a kernel must not write beside its arrays for it."""
    x = Csr(np.array([0, 1, 4]), np.array([2, 0, 1, 2], np.uint32), np.empty(0), 3)
    network = Sequential(Embedding(1, 2)).network((3,))
    params = network.spec.zeros(float)
    network.spec.by_row[0].view(params)[:, 0] = [5, 6, 7]
    workspace = network.workspace(2, params, rows=3)
    workspace.gather(x, np.arange(2), 0)
    workspace.d_scores[...] = 1
    workspace.forward()
    workspace.backward()
    assert workspace.scores.T.tolist() == [[7, 0], [5, 6]]
    workspace.by_row[0][1].write_to(got := np.full((3, 1), np.nan))
    assert got[:, 0].tolist() == [1, 1, 1]


def data_of(x: np.ndarray, **options: object) -> Data:
    return hp.arrays(csr_matrix(x), np.arange(len(x)) % 2, **options)  # type: ignore[arg-type]


def test_an_example_with_other_fields_is_named_before_anything_starts() -> None:
    x = np.tile(np.eye(4), (5, 1)) + np.roll(np.tile(np.eye(4), (5, 1)), 1, axis=1)
    model = [hp.Embedding(2, 2), hp.Linear(1)]
    job = hp.Job(data=data_of(x), model=model, loss=hp.Logistic(), batch=1)
    _, network = examine(job)
    assert network.output_shape == (1,)
    x[7, 1:] = 0
    with pytest.raises(DataError) as error:
        examine(hp.Job(data=data_of(x), model=model, loss=hp.Logistic(), batch=1))
    assert str(error.value) == (
        "arrays: row 7, counted from 0: layer 0.embedding: takes 2 features that are not zero in each example, one of "
        "each field, and this one has 1; set fields, or let a missing value be a feature as well"
    )


@pytest.mark.parametrize("held_out", [False, True], ids=["predicted", "tested"])
def test_it_is_named_where_it_is_not_trained_on(held_out: bool) -> None:
    rng = np.random.default_rng(0)
    x = clicks(rng, ones=True).toarray()
    wrong = x[:5].copy()
    wrong[4] = 0
    model = [hp.Embedding(2, FIELDS), hp.Linear(1)]
    more = {"test_x": csr_matrix(wrong), "test_y": np.arange(5) % 2} if held_out else {"validation": 0}
    job = hp.Job(data=data_of(x, **more), model=model, loss=hp.Logistic(), batch=1)
    said = pytest.raises(DataError, match=r"row 4, counted from 0: layer 0\.embedding: .* this one has 0")
    if held_out:
        with said:
            examine(job)
        return
    data, network = examine(job)
    trained = hp.Model(job, network, network.spec.zeros(), data.encoding)
    assert len(trained.predict(csr_matrix(x[:5]))) == 5
    with said:
        trained.predict(csr_matrix(wrong))
    with said:
        trained.evaluate(replace(data.train, x=encoded(Csr.from_dense(wrong), data.encoding, "x"), rows=None,
                                 y=data.train.y[:5]))
