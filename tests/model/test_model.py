"""A model's scores, predictions and evaluations, against the same numbers computed by hand."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import hogpour as hp
from hogpour.core.errors import ConfigError, DataError, LayoutError
from hogpour.core.progress import Evaluation
from hogpour.data.load import Encoding, Scaling
from hogpour.layers.sequential import network_of

IN = 4
Array = npt.NDArray[Any]


NAMES = ("red", "green", "blue")


def model_of(
    layers: list[Any] | None = None, *, loss: Any = "softmax_xent", shape: tuple[int, ...] = (IN,),
    scale: Scaling | None = None, **encoding: Any,
) -> hp.Model:  # fmt: skip
    job = hp.Job(data=None, model=layers or [hp.Linear(5), hp.Relu(), hp.Linear(3)], loss=loss)
    network = network_of(job, shape)
    params = network.spec.zeros()
    network.init(params, np.random.default_rng(1))
    labels = job.loss.targets == "labels"
    words = {"label_names": NAMES if labels else (), "numeric_labels": False, **encoding}
    return hp.Model(job, network, params, Encoding(shape, job.loss.targets, scaling=scale or Scaling.none(), **words))


def by_hand(model: hp.Model, x: Array) -> Array:
    """Scores of linear, relu, linear in float64."""
    views = model.network.spec.views(model.params.astype(np.float64))
    hidden = np.maximum(x @ views["0.linear.weight"] + views["0.linear.bias"], 0)
    return hidden @ views["2.linear.weight"] + views["2.linear.bias"]


def dataset(x: Array, y: Array, n_labels: int = 3) -> hp.Dataset:
    return hp.Dataset(x.astype(np.float32), y, n_labels, tuple(map(str, range(n_labels))), "test")


@pytest.fixture
def x(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return rng.normal(size=(300, IN)).astype(np.float32)


# 300 examples are a whole batch of 64 and a part of one.
@pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
def test_scores_are_those_of_the_formula_in_any_number(n: int, x: Array) -> None:
    model = model_of()
    scores = model.scores(x[:n])
    assert scores.shape == (n, 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, by_hand(model, x[:n]), rtol=1e-5, atol=1e-6)


def test_no_examples_have_no_scores() -> None:
    model = model_of()
    assert model.scores(np.zeros((0, IN))).shape == (0, 3)
    assert model.predict(np.zeros((0, IN))).shape == (0,)


def test_a_prediction_is_the_label_of_the_largest_score(x: Array) -> None:
    model = model_of()
    best = by_hand(model, x).argmax(axis=1)
    assert model.label_indices(x).tolist() == best.tolist()
    assert model.predict(x).tolist() == [NAMES[k] for k in best]


@pytest.mark.parametrize(
    "y",
    [
        np.array([-1, 1, 1, -1]), np.array([3, 26, 1, 3], np.uint8), np.array([0.0, 2.0, 5.0, 2.0], np.float32),
        np.array(["obj", "subj", "é", "obj"]), np.array([True, False, True, False]), np.array([2**52, 5, 7, 5]),
        np.array([1, 2**63 + 1, 1, 1], np.uint64), np.array(["007", "7", "x", "x"]), np.array(["10", "9", "2", "2"]), np.array([[4], [2], [4], [2]]),
    ],
    ids=lambda y: f"{y.dtype}{y.shape}",
)  # fmt: skip
def test_labels_come_back_as_they_were_given(y: Array, tmp_path: Path) -> None:
    """They came back as places among the names: an accuracy of 0.0 by ``(m.predict(x) == y).mean()``."""
    data = hp.arrays(np.eye(4), y, validation=0)
    job = hp.Job(data=data, model=hp.Linear(data.train.n_labels))
    network = network_of(job, (4,))
    params = network.spec.zeros()
    weight = network.spec.views(params)["0.linear.weight"]
    weight[data.train.x.argmax(axis=1), data.train.y] = 1
    hp.Model(job, network, params, data.encoding).save(path := str(tmp_path / "m"))
    for model in (hp.Model(job, network, params, data.encoding), hp.Model.load(path)):
        predicted = model.predict(np.eye(4))
        assert (predicted == y.ravel()).all()
        assert predicted.dtype.kind == y.dtype.kind
        assert predicted.dtype == y.dtype or y.dtype.kind == "U"
        assert (model.encoding.labels[model.label_indices(np.eye(4))] == y.ravel()).all()


@pytest.mark.parametrize(("shape", "expected"), [((4,), (4,)), ((4, 1), (4, 1)), ((4, 2), (4, 2))])
def test_values_come_back_in_the_shape_that_y_had(shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path) -> None:
    """``m.predict(x) - y`` of a y of shape (n,) was (n, n)."""
    data = hp.arrays(np.eye(4), np.ones(shape), targets="values", validation=0)
    job = hp.Job(data=data, model=hp.Linear(data.train.y.shape[1]), loss="squared_error")
    network = network_of(job, (4,))
    hp.Model(job, network, network.spec.zeros(), data.encoding).save(path := str(tmp_path / "m"))
    model = hp.Model.load(path)
    assert model.predict(np.eye(4)).shape == expected
    assert model.predict(np.zeros((0, 4))).shape == (0, *expected[1:])
    with pytest.raises(ConfigError, match=r"^model: SquaredError predicts values, which have no labels$"):
        model.label_indices(np.eye(4))


def test_scores_that_are_not_finite_are_no_prediction() -> None:
    """inf - inf is NaN, of which the largest is the first label."""
    model = model_of()
    model.params[...] *= 1000
    for ask in (model.predict, model.scores, model.label_indices):
        with pytest.raises(DataError, match=r"^model: row 1, counted from 0: the scores are not finite"):
            ask(np.array([[1, 1, 1, 1], [3e38, -3e38, 3e38, 3e38]]))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (np.full((2, 4), np.nan), "x holds 8 values not finite in float32, the first is nan at row 0"),
        (np.array([[0, 0, 0, 0], [0, 0, np.inf, 0]]), "x holds 1 value not finite in float32, the first is inf at row 1, column 2"),
        (np.full((1, 4), 1e300), "x holds 4 values not finite in float32, the first is 1e+300 at row 0, column 0"),
        (np.ma.masked_greater(np.arange(4.0).reshape(1, 4), 1), "masked"),
        (np.ones((1, 4), np.complex64), "x holds complex64, expected numbers; x.real is its real part"),
        (np.zeros((1, 4), "M8[s]"), "x holds datetime64[s], expected numbers"),
    ],
    ids=["nan", "inf", "1e300", "masked", "complex", "datetime"],
)
def test_what_is_no_finite_number_is_not_predicted(bad: Array, text: str) -> None:
    for ask in (model_of().predict, model_of().scores, model_of().label_indices):
        with pytest.raises(DataError) as error:
            ask(bad)
        assert text in str(error.value)
        assert "\n" not in str(error.value)


def test_values_are_predicted_one_row_an_example(x: Array) -> None:
    model = model_of(loss="squared_error")
    predicted = model.predict(x)
    assert predicted.shape == (300, 3)
    np.testing.assert_allclose(predicted, by_hand(model, x), rtol=1e-5, atol=1e-6)


def test_raw_examples_are_scaled_as_in_training(x: Array) -> None:
    scaled = model_of(scale=Scaling("unit", np.full(IN, 2, np.float32), np.full(IN, 0.5, np.float32)))
    assert scaled.scores(x).tobytes() == model_of().scores((x - 2) * np.float32(0.5)).tobytes()
    assert scaled.scores_of_scaled(x).tobytes() == model_of().scores(x).tobytes()


def test_lists_integers_and_other_shapes_of_the_same_size_are_taken(x: Array) -> None:
    model = model_of([hp.Linear(3)], shape=(2, 2))
    whole = np.arange(8).reshape(2, 2, 2)
    expected = model.scores(whole.astype(np.float32))
    for same in (whole, whole.tolist(), whole.reshape(2, 4), np.asfortranarray(whole)):
        assert model.scores(same).tobytes() == expected.tobytes()


def test_bytes_become_0_to_1_as_when_files_are_read() -> None:
    """The images of idx files are bytes. A model trained on them was given bytes and predicted nonsense."""
    model = model_of()
    images = np.array([[0, 1, 128, 255]], np.uint8)
    assert model.scores(images).tobytes() == model.scores(images.astype(np.float32) / np.float32(255)).tobytes()
    assert images.tolist() == [[0, 1, 128, 255]]


def test_any_number_of_examples_leaves_two_workspaces_at_most(x: Array) -> None:
    """A service that predicts what has come in meanwhile asks for every number once; each had its buffers kept."""
    model = model_of()
    for n in (3, 300, 7, 64, 1):
        model.scores(x[:n])
    assert sorted(model._workspaces) == [1, 64]


@pytest.mark.parametrize(
    ("shape", "shown"), [((3, 5), "(5,)"), ((2, 3, 4), "(3, 4)"), ((3,), "()"), ((0, 5), "(5,)")]
)
def test_examples_of_another_size_are_refused_with_both_shapes(shape: tuple[int, ...], shown: str) -> None:
    with pytest.raises(LayoutError) as error:
        model_of().scores(np.zeros(shape))
    assert str(error.value) == f"model: got examples of shape {shown}, expected (4,)"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([["a", "b", "c", "d"]], "x: row 0, column 0, counted from 0: got 'a', expected a number"),
        ([[1, 2, 3, 4], [1]], "x makes no array: its rows have 1 to 4 numbers"),
        (1.5, "x is one value (float), expected an array"),
        ([[1, 2, 3, np.nan]], "x holds 1 value not finite in float32, the first is nan at row 0, column 3, counted from 0"),
        ([[1, 2, 1e300, 4]], "x holds 1 value not finite in float32, the first is 1e+300 at row 0, column 2, counted from 0"),
    ],
)
def test_examples_that_are_no_numbers_are_refused(x: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        model_of().scores(x)
    assert str(error.value) == f"model: {message}"


def test_columns_of_a_frame_are_found_by_the_names_of_the_training_set(x: Array) -> None:
    class Frame:
        columns = ("d", "c", "text", "b", "a")

        def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
            return np.insert(x.astype(object), 2, "v", axis=1)

    model = model_of()
    model.encoding = Encoding((IN,), "labels", ("red", "green", "blue"), Scaling.none(), columns=("a", "b", "c", "d"))
    assert model.scores(Frame()).tobytes() == model.scores(x[:, ::-1]).tobytes()


def test_an_evaluation_is_the_mean_over_all_examples(x: Array, rng: np.random.Generator) -> None:
    """Not the mean of the batches' means: the last batch is shorter."""
    model, y = model_of(), rng.integers(3, size=300)
    scores = by_hand(model, x)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(300), y]
    evaluation = model.evaluate(dataset(x, y))
    assert evaluation is not None
    assert evaluation.examples == 300
    assert evaluation.accuracy == (scores.argmax(axis=1) == y).mean()
    assert evaluation.loss == pytest.approx(losses.mean(), rel=1e-6)


def test_values_have_a_loss_and_no_accuracy(x: Array, rng: np.random.Generator) -> None:
    model, y = model_of(loss="squared_error"), rng.normal(size=(300, 3)).astype(np.float32)
    target = np.ascontiguousarray(y.T)
    expected = model.job.loss.apply(by_hand(model, x).T.copy(), target.astype(np.float64), np.empty((3, 300)))[0] / 300
    evaluation = model.evaluate(dataset(x, y, 0))
    assert evaluation is not None
    assert evaluation.accuracy is None
    assert evaluation.loss == pytest.approx(expected, rel=1e-6)


def test_an_evaluation_ends_without_an_answer_when_told(x: Array) -> None:
    answers = iter([True, False])
    assert model_of().evaluate(dataset(x, np.zeros(300, np.int64)), lambda: next(answers)) is None
    assert list(answers) == []


def test_dropout_plays_no_part_in_evaluation(x: Array) -> None:
    layers = [hp.Linear(5), hp.Relu(), hp.Linear(3)]
    with_dropout = model_of([*layers, hp.Dropout(0.5)])
    assert with_dropout.scores(x).tobytes() == model_of(layers).scores(x).tobytes()


def test_a_model_sees_its_parameters_change(x: Array) -> None:
    """The node evaluates one model again and again, with snapshots copied into its vector."""
    model = model_of()
    before = model.scores(x)
    model.params *= 2
    assert before.tobytes() != model.scores(x).tobytes()
    np.testing.assert_allclose(model.scores(x), by_hand(model, x), rtol=1e-5, atol=1e-6)


def test_neither_parameters_nor_examples_are_written(x: Array) -> None:
    model = model_of()
    x.setflags(write=False)
    params = model.params.copy()
    y = np.zeros(300, np.int64)
    assert isinstance(model.evaluate(dataset(x, y)), Evaluation)
    model.predict(x)
    assert model.params.tobytes() == params.tobytes()


def test_a_model_is_used_from_another_thread(x: Array) -> None:
    model = model_of()
    expected, got = model.scores(x), []
    thread = threading.Thread(target=lambda: got.append(model.scores(x)))
    thread.start()
    thread.join()
    assert got[0].tobytes() == expected.tobytes()


def test_two_threads_get_their_own_scores_and_evaluations(x: Array) -> None:
    """Services call a model through ``to_thread``; both threads wrote one workspace."""
    model = model_of([hp.Linear(200), hp.Relu(), hp.Linear(3)])
    rows = np.tile(x, (8, 1))
    other = dataset(-rows, np.zeros(len(rows), np.int64))
    expected = [model.scores(rows).tobytes(), model.evaluate(other)]
    got: list[set[Any]] = [set(), set()]

    def score() -> None:
        got[0].update(model.scores(rows).tobytes() for _ in range(30))

    def evaluate() -> None:
        got[1].update(model.evaluate(other) for _ in range(30))

    threads = [threading.Thread(target=score), threading.Thread(target=evaluate)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [{one} for one in expected]


def test_an_evaluation_may_ask_the_model_itself_whether_to_go_on(x: Array) -> None:
    """``go_on`` is the caller's code: the lock is not held while it runs."""
    model = model_of()
    assert model.evaluate(dataset(x, np.zeros(300, np.int64)), lambda: len(model.scores(x[:1])) == 1) is not None


def test_a_model_says_what_it_is() -> None:
    assert repr(model_of()) == "Model(43 parameters, (4,) → (3,))"


def test_a_saved_model_predicts_the_same(x: Array, tmp_path: Path) -> None:
    path = str(tmp_path / "m.safetensors")
    model = model_of()
    model.save(path)
    assert hp.Model.load(path).scores(x).tobytes() == model.scores(x).tobytes()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_is_copied_and_pickled(again: Callable[[hp.Model], hp.Model], x: Array) -> None:
    """joblib, dask and spawned processes all do: "cannot pickle '_thread.lock'"."""
    model = model_of()
    scores = model.scores(x)
    assert again(model).scores(x).tobytes() == scores.tobytes()
    assert again(model).job == model.job
