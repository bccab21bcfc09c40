from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hogpour.core.errors import ConfigError, DataError, LayoutError
from hogpour.data.scaling import Scaling

sets = arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.integers(1, 3), st.integers(1, 2)),
    elements=st.floats(-1000, 1000, width=32),
)


@given(sets)
def test_unit_takes_the_training_set_to_0_and_1(x: npt.NDArray[np.float32]) -> None:
    scaling = Scaling.fit("unit", [x])
    scaled = scaling.apply(x)
    varies = scaling.factor > 0
    assert np.array_equal(varies, x.max(axis=0) > x.min(axis=0))
    assert (scaled.min(axis=0) == 0).all()
    assert np.allclose(scaled.max(axis=0), varies, rtol=3e-7, atol=0)


@given(sets)
def test_standard_takes_the_training_set_to_mean_0_and_variance_1(x: npt.NDArray[np.float32]) -> None:
    # Rounded to steps of 1/8, so that the deviation is large against the float32 rounding of the mean.
    x = np.round(x * 8) / np.float32(8)
    scaled = Scaling.fit("standard", [x]).apply(x)
    varies = x.min(axis=0) != x.max(axis=0)
    assert np.allclose(scaled.mean(axis=0, dtype=np.float64), 0, atol=0.002)
    assert np.allclose(scaled.std(axis=0, dtype=np.float64), varies, atol=0.002)


@pytest.mark.parametrize("kind", ["unit", "standard"])
def test_a_constant_feature_is_left_at_0(kind: str) -> None:
    # 0.1 ten times: its mean in floating point is not 0.1, so a computed deviation is not 0.
    x = np.full((10, 1), 0.1, np.float32)
    scaling = Scaling.fit(kind, [x])  # type: ignore[arg-type]
    assert scaling.apply(np.array([[0.1], [7.0]], np.float32)).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(("kind", "scaled"), [("unit", [[0.0], [1.0]]), ("standard", [[-1.0], [1.0]])])
@pytest.mark.parametrize("least", [1e-45, 1e-149])
def test_the_least_numbers_are_told_apart(kind: str, scaled: list, least: float) -> None:
    x = np.array([[0.0], [least]])
    assert Scaling.fit(kind, [x]).apply(x).tolist() == scaled  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["unit", "standard"])
def test_a_span_whose_square_vanishes_counts_as_constant(kind: str) -> None:
    x = np.array([[0.0], [1e-200]])
    assert Scaling.fit(kind, [x]).factor.tolist() == [0.0]  # type: ignore[arg-type]


@given(
    st.floats(-1e15, 1e15), st.lists(st.integers(0, 2**20), min_size=2, max_size=20, unique=True),
    st.sampled_from([np.float64, np.int64]), st.sampled_from(["unit", "standard"]),
)  # fmt: skip
def test_what_lies_far_from_0_keeps_its_values_apart(offset: float, steps: list[int], dtype: type, kind: str) -> None:
    """Rounded to float32 before it was scaled, a column of timestamps was one value."""
    x = np.array([[round(offset) + step] for step in steps], dtype)
    scaled = Scaling.fit(kind, [x]).apply(x)  # type: ignore[arg-type]
    assert scaled.dtype == np.float32
    assert np.argsort(scaled[:, 0]).tolist() == np.argsort(steps).tolist()
    assert np.unique(scaled).size == len(steps)


@pytest.mark.parametrize("kind", ["unit", "standard"])
def test_statistics_do_not_depend_on_the_pieces(kind: str) -> None:
    x = np.arange(12.0).reshape(6, 2) ** 2
    whole, parts = Scaling.fit(kind, [x]), Scaling.fit(kind, [x[:1], x[1:4], x[4:]])  # type: ignore[arg-type]
    assert np.allclose(whole.offset, parts.offset, rtol=1e-15)
    assert np.allclose(whole.factor, parts.factor, rtol=1e-15)


def test_a_scaling_of_an_older_model_file_is_kept_as_it_is() -> None:
    """Files had float32 once."""
    old = {"offset": np.array([0.1], np.float32), "factor": np.array([3], np.float32)}
    scaling = Scaling.from_tensors("unit", old)
    assert {name: (t.dtype, t.tolist()) for name, t in scaling.to_tensors().items()} == {
        name: (t.dtype, t.tolist()) for name, t in old.items()
    }
    assert scaling.apply(np.array([[0.6]], np.float32))[0, 0] == np.float32(1.5000001)


def test_none_changes_nothing() -> None:
    x = np.array([[1.0, 2.0]], np.float32)
    scaling = Scaling.fit("none", [x])
    assert scaling.apply(x).tolist() == x.tolist()
    assert not np.shares_memory(scaling.apply(x), x)
    assert scaling.apply(x, out=x) is x


def test_scaling_in_place_equals_scaling_into_a_new_array() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    scaling = Scaling.fit("standard", [x])
    scaled = scaling.apply(x)
    assert x.tolist() == np.arange(12).reshape(4, 3).tolist()
    assert scaling.apply(x, out=x) is x
    assert x.tolist() == scaled.tolist()


def test_flat_examples_are_scaled_like_images() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    scaling = Scaling.fit("unit", [x])
    assert scaling.apply(x.reshape(3, 4)).tolist() == scaling.apply(x).reshape(3, 4).tolist()


def test_another_number_of_features_is_refused() -> None:
    scaling = Scaling.fit("unit", [np.zeros((2, 3), np.float32)])
    with pytest.raises(DataError, match=r"^examples have shape \(4,\), expected \(3,\) as scaled in training$"):
        scaling.apply(np.zeros((1, 4), np.float32))


def test_the_whole_range_of_float32_is_scaled() -> None:
    x = np.array([[-3e38], [3e38]], np.float32)
    assert Scaling.fit("unit", [x]).apply(x).tolist() == [[0.0], [1.0]]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'^scale = "max" is not known; known: none, unit, standard$'):
        Scaling.fit("max", [np.zeros((1, 1), np.float32)])  # type: ignore[arg-type]


@given(sets, st.sampled_from(["none", "unit", "standard"]))
def test_tensors_make_an_equal_scaling(x: npt.NDArray[np.float32], kind: str) -> None:
    scaling = Scaling.fit(kind, [x])  # type: ignore[arg-type]
    again = Scaling.from_tensors(scaling.kind, scaling.to_tensors())
    assert again.apply(x).tobytes() == scaling.apply(x).tobytes()


@pytest.mark.parametrize(
    ("kind", "tensors", "message"),
    [
        ("max", {}, 'scaling: "max" is not known; known: none, unit, standard'),
        ("unit", {"offset": np.zeros(1)}, "scaling: the tensor 'factor' is missing"),
        (
            "unit",
            {"offset": np.zeros(1), "factor": np.zeros(2)},
            "scaling: offset has shape (1,), factor (2,)",
        ),
        (
            "unit",
            {"offset": np.zeros(1), "factor": np.zeros(1, np.int64)},
            "scaling: offset is float64, factor int64, expected float64",
        ),
        *[
            ("unit", {"offset": np.ones(2), "factor": np.ones(2)} | bad, "scaling: holds numbers that are not finite, by which nothing can be scaled")
            for bad in ({"offset": np.array([0, np.nan])}, {"factor": np.array([np.inf, 1])})
        ],
    ],
)
def test_tensors_of_no_scaling_are_refused(kind: str, tensors: dict, message: str) -> None:
    with pytest.raises(LayoutError) as error:
        Scaling.from_tensors(kind, tensors)
    assert str(error.value) == message
