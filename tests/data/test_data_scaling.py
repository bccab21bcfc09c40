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
    scaling = Scaling.fit("unit", x)
    scaled = scaling.apply(x)
    varies = scaling.factor > 0
    assert np.array_equal(varies, (x.max(axis=0).astype(np.float64) - x.min(axis=0)) >= 1 / np.finfo(np.float32).max)
    assert (scaled.min(axis=0) == 0).all()
    assert np.allclose(scaled.max(axis=0), varies, rtol=3e-7, atol=0)


@given(sets)
def test_standard_takes_the_training_set_to_mean_0_and_variance_1(x: npt.NDArray[np.float32]) -> None:
    # Rounded to steps of 1/8, so that the deviation is large against the float32 rounding of the mean.
    x = np.round(x * 8) / np.float32(8)
    scaled = Scaling.fit("standard", x).apply(x)
    varies = x.min(axis=0) != x.max(axis=0)
    assert np.allclose(scaled.mean(axis=0, dtype=np.float64), 0, atol=0.002)
    assert np.allclose(scaled.std(axis=0, dtype=np.float64), varies, atol=0.002)


@pytest.mark.parametrize("kind", ["unit", "standard"])
def test_a_constant_feature_is_left_at_0(kind: str) -> None:
    # 0.1 ten times: its mean in floating point is not 0.1, so a computed deviation is not 0.
    x = np.full((10, 1), 0.1, np.float32)
    scaling = Scaling.fit(kind, x)  # type: ignore[arg-type]
    assert scaling.apply(np.array([[0.1], [7.0]], np.float32)).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("kind", ["unit", "standard"])
def test_a_span_whose_inverse_overflows_counts_as_constant(kind: str) -> None:
    x = np.array([[0.0], [1e-45]], np.float32)
    assert Scaling.fit(kind, x).factor.tolist() == [0.0]  # type: ignore[arg-type]


def test_none_changes_nothing() -> None:
    x = np.array([[1.0, 2.0]], np.float32)
    scaling = Scaling.fit("none", x)
    assert scaling.apply(x).tolist() == x.tolist()
    assert not np.shares_memory(scaling.apply(x), x)
    assert scaling.apply(x, out=x) is x


def test_scaling_in_place_equals_scaling_into_a_new_array() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    scaling = Scaling.fit("standard", x)
    scaled = scaling.apply(x)
    assert x.tolist() == np.arange(12).reshape(4, 3).tolist()
    assert scaling.apply(x, out=x) is x
    assert x.tolist() == scaled.tolist()


def test_flat_examples_are_scaled_like_images() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    scaling = Scaling.fit("unit", x)
    assert scaling.apply(x.reshape(3, 4)).tolist() == scaling.apply(x).reshape(3, 4).tolist()


def test_another_number_of_features_is_refused() -> None:
    scaling = Scaling.fit("unit", np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match=r"^examples have shape \(4,\), expected \(3,\) as scaled in training$"):
        scaling.apply(np.zeros((1, 4), np.float32))


def test_a_span_beyond_float32_is_refused() -> None:
    with pytest.raises(DataError, match=r"^a feature spans 6e\+38, more than float32 can scale \(3.4e\+38\)$"):
        Scaling.fit("unit", np.array([[-3e38], [3e38]], np.float32))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'^scale = "max" is not known; known: none, unit, standard$'):
        Scaling.fit("max", np.zeros((1, 1), np.float32))  # type: ignore[arg-type]


def test_statistics_of_many_pieces_equal_those_of_one() -> None:
    x = np.random.default_rng(0).normal(5, 3, (3000, 500)).astype(np.float32)
    scaling = Scaling.fit("standard", x)
    assert np.allclose(scaling.offset, x.mean(axis=0, dtype=np.float64), rtol=1e-6)
    assert np.allclose(scaling.factor, 1 / x.std(axis=0, dtype=np.float64), rtol=1e-6)


@given(sets, st.sampled_from(["none", "unit", "standard"]))
def test_tensors_make_an_equal_scaling(x: npt.NDArray[np.float32], kind: str) -> None:
    scaling = Scaling.fit(kind, x)  # type: ignore[arg-type]
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
    ],
)
def test_tensors_of_no_scaling_are_refused(kind: str, tensors: dict, message: str) -> None:
    with pytest.raises(LayoutError) as error:
        Scaling.from_tensors(kind, tensors)
    assert str(error.value) == message
