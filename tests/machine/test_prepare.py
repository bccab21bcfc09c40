"""Everything that can be wrong with a job is found before anything starts: here without any process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.prepared import prepared
from support.user_parts import Scale

import hogpour as hp
from hogpour.core.errors import ConfigError, DataError, LayoutError
from hogpour.data.load import Data, Dataset, Encoding, Scaling
from hogpour.layers import linear
from hogpour.layers.base import Shape
from hogpour.machine.prepare import prepare, rehearse
from hogpour.model import model_file
from hogpour.model.training_state import TrainingState
from hogpour.shm.segment import anonymous_file

N = 20


def data_of(**options: Any) -> Data:
    x = np.random.default_rng(0).normal(size=(N, 8))
    return hp.arrays(x, np.arange(N) % 3, **{"validation": 0, **options})


def job_of(**changes: Any) -> hp.Job:
    return hp.Job(**{"data": data_of(), "model": [hp.Linear(3)], "batch": 4, **changes})


def refused(job: hp.Job, kind: type[Exception], *, resume: bool = False) -> str:
    fds = (anonymous_file(), anonymous_file())
    try:
        with pytest.raises(kind) as error:
            prepare(job, 1, resume, fds)
    finally:
        for fd in fds:
            os.close(fd)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- the job and its data ---------------------------------------------------------------------------------------------


def test_an_input_shape_of_another_size_is_refused() -> None:
    """It was compared with nothing: kernels read past the end of the examples, and a larger one was a segfault."""
    text = refused(job_of(input=(1, 28, 28)), ConfigError)
    assert text == "model.input: (1, 28, 28) holds 784 numbers, an example of arrays has 8"


def test_a_job_without_data_cannot_be_trained() -> None:
    """It ended in an AttributeError: such a job is one of a model that only predicts."""
    assert refused(job_of(data=None), ConfigError) == "data: got none, expected examples to train on"


def test_data_of_labels_are_no_data_for_a_loss_of_values() -> None:
    text = refused(job_of(loss="squared_error"), ConfigError)
    assert text == "loss: SquaredError takes values, the data hold labels; load them with targets = 'values'"


# -- resuming -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> str:
    """The path of a model file from which a run of ``job_of(save=path)`` can go on."""
    path = str(tmp_path / "m")
    job = job_of()
    network = hp.Sequential(*job.model).network((8,))
    model = hp.Model(job, network, network.spec.zeros(), job.data.encoding)
    model_file.save(path, model, TrainingState(tickets=0, pending=(), steps=0, examples=0, n=N, block_replicas=1))
    return path


def named(names: tuple[str, ...]) -> Data:
    data = data_of()
    train = Dataset(data.train.x, data.train.y, 3, names, "mine")
    return Data(train, None, Encoding((8,), "labels", names, Scaling.none(), bytes=False))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": 1}, "seed 0, the job says seed 1"),
        ({"loss": "hinge"}, "loss {'name': 'softmax_xent'}, the job says loss {'name': 'hinge'}"),
        ({"data": data_of(scale="unit")}, "scale 'none', the job says scale 'unit'"),
        (
            {"seed": 1, "data": data_of(scale="unit")},
            "seed 0, the job says seed 1; scale 'none', the job says scale 'unit'",
        ),
        ({"data": named(("0", "1", "x"))}, "label_names ('0', '1', '2'), the job says label_names ('0', '1', 'x')"),
    ],
)
def test_a_run_is_not_resumed_as_another_one(changes: dict[str, Any], text: str, stored: str) -> None:
    """A resumed run with another seed takes some examples twice, with another scaling it trains on other numbers."""
    said = refused(job_of(save=stored, **changes), LayoutError, resume=True)
    assert said == f"model file {stored}: was trained with {text}"


def test_a_run_that_goes_on_with_other_settings_says_which(stored: str) -> None:
    """The layers make the same tensors, and the rate may be changed; whoever did not mean to hears it."""
    job = job_of(save=stored, model=[hp.Linear(3), hp.Relu()], algorithm=hp.Hogwild(optimiser=hp.Sgd(0.5)))
    fds = (anonymous_file(), anonymous_file())
    ready = prepare(job, 1, True, fds)
    ready.live.close()
    ready.examples.close()
    assert ready.changed == (
        f"model file {stored}: was trained with algorithm.optimiser.lr = 0.1, now 0.5; model.layers[1].name = 'none', now 'relu'"
    )


def test_a_scaling_measured_on_other_data_is_told_by_its_first_feature(tmp_path: Path) -> None:
    path = str(tmp_path / "m")
    job = job_of(data=data_of(scale="unit"))
    network = hp.Sequential(*job.model).network((8,))
    state = TrainingState(tickets=0, pending=(), steps=0, examples=0, n=N, block_replicas=1)
    model_file.save(path, hp.Model(job, network, network.spec.zeros(), job.data.encoding), state)
    x = np.random.default_rng(0).normal(size=(N, 8))
    x[:, 5] -= 100
    other = hp.arrays(x, np.arange(N) % 3, validation=0, scale="unit")
    text = refused(job_of(save=path, data=other), LayoutError, resume=True)
    assert text.startswith(f"model file {path}: was trained with offset of feature 5 -")
    assert ", the job says offset of feature 5 -10" in text


# -- layers of the user's own -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoShape(Scale):
    """Cannot say its shape."""

    def output_shape(self, shape: Shape) -> Shape:
        raise ZeroDivisionError("division by zero")


@dataclass(frozen=True)
class NoBeginning(Scale):
    """Has one parameter and begins two."""

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        return {"a": (1,)}

    def init(self, params: Sequence[npt.NDArray[Any]], shape: Shape, rng: np.random.Generator) -> None:
        params[1][...] = 0


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (NoShape(), "model: layer NoShape: ZeroDivisionError: division by zero"),
        (NoBeginning(), "model: layer NoBeginning: IndexError: tuple index out of range"),
    ],
)
def test_a_broken_layer_of_the_users_own_is_named(layer: Any, text: str) -> None:
    """The whole traceback of the node was the answer, and nothing in it said which layer of the job it was."""
    assert refused(job_of(model=[layer, hp.Linear(3)]), ConfigError) == text


# -- data sets of the user's own ----------------------------------------------------------------------------------------

X: npt.NDArray[Any] = np.ones((4, 2), np.float32)
Y: npt.NDArray[Any] = np.arange(4) % 2
VALUES: npt.NDArray[Any] = np.ones((4, 1), np.float32)


def bad(place: int, value: float) -> npt.NDArray[Any]:
    x = X.copy()
    x.flat[place] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "n_labels", "text"),
    [
        (X.astype(np.float64), Y, 2, "x: got float64 (4, 2), expected float32 (n, ...) in C order"),
        (X.T.copy().T, Y, 2, "x: got float32 (4, 2), not in C order, expected float32 (n, ...) in C order"),
        (X[:0], Y[:0], 2, "x: got float32 (0, 2), expected float32 (n, ...) in C order"),
        ([[1.0]], Y, 2, "x: got list, expected float32 (n, ...) in C order"),
        (bad(5, np.nan), Y, 2, "x: holds values that are not finite"),
        (bad(5, -np.inf), Y, 2, "x: holds values that are not finite"),
        (X, Y[:3], 2, "x has 4 examples, y has 3"),
        (X, Y.astype(np.int32), 2, "y: got int32 (4,), expected int64 (n,) in C order, as there are 2 labels"),
        (X, Y[:, None], 2, "y: got int64 (4, 1), expected int64 (n,) in C order, as there are 2 labels"),
        (X, Y + 1, 2, "y: holds labels 1 to 2, expected 0 to 1"),
        (X, Y - 1, 2, "y: holds labels -1 to 0, expected 0 to 1"),
        (X, Y, 0, "y: got int64 (4,), expected float32 (n, n_values) in C order, as there are no labels"),
        (X, VALUES[:, 0], 0, "y: got float32 (4,), expected float32 (n, n_values) in C order, as there are no labels"),
        (X, VALUES * np.float32(np.inf), 0, "y: holds values that are not finite"),
    ],
)
def test_a_data_set_that_kernels_could_not_read_is_refused(x: Any, y: Any, n_labels: int, text: str) -> None:
    """It is a public class, and nothing was checked: float64 bytes were read as float32, labels as addresses."""
    with pytest.raises(DataError) as error:
        Dataset(x, y, n_labels, (), "mine")
    said = str(error.value)
    assert said.startswith(f"mine: {text}")
    assert said == f"mine: {text}" or said.endswith("; hogpour.arrays makes such arrays of others")


def test_training_and_test_set_must_be_alike() -> None:
    train, encoding = Dataset(X, Y, 2, (), "a"), Encoding((2,), "labels", (), Scaling.none())
    with pytest.raises(DataError, match=r"^b: examples have shape \(1,\), expected \(2,\) as in a$"):
        Data(train, Dataset(X[:, :1].copy(), Y, 2, (), "b"), encoding)
    with pytest.raises(DataError, match=r"^b: has 3 labels, a has 2$"):
        Data(train, Dataset(X, Y, 3, (), "b"), encoding)
    with pytest.raises(DataError, match=r"^a: examples have shape \(2,\), the encoding says \(3,\)$"):
        Data(train, None, Encoding((3,), "labels", (), Scaling.none()))
    with pytest.raises(DataError, match=r"^a: holds labels, the encoding says values$"):
        Data(train, None, Encoding((2,), "values", (), Scaling.none()))


def test_a_rehearsal_whose_numbers_overflow_is_told_of_by_no_warning_of_numpy() -> None:
    """It multiplies batches above 64, and said so on the node's terminal; the loss is looked at in training."""
    x = np.full((2 * 65, 8), 1e30, np.float32)
    job = job_of(data=hp.arrays(x, np.arange(len(x)) % 3, validation=0), model=[hp.Linear(4), hp.Linear(3)], batch=65)
    fds = (anonymous_file(), anonymous_file())
    ready = prepare(job, 1, False, fds)
    try:
        ready.live.arrays["params"][:] = 1e30
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            rehearse(job, ready, 1)
        assert told == []
    finally:
        ready.live.close()
        ready.examples.close()


def test_a_bug_of_ours_in_the_first_step_is_no_fault_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every exception was told in one line, as that of a layer of the user's own: no traceback, nothing to report."""

    def broken(*args: Any) -> None:
        raise ZeroDivisionError("of ours")

    with prepared(job_of()) as ready:
        monkeypatch.setattr(linear, "add_bias", broken)
        with pytest.raises(ZeroDivisionError, match="of ours"):
            rehearse(job_of(), ready, 1)
