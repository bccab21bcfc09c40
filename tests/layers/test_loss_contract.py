"""Every loss that the registry finds keeps the contract, and has the values that its formula says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hogpour.core import registry
from hogpour.layers.base import Loss
from hogpour.layers.losses.hinge import Hinge
from hogpour.layers.losses.logistic import Logistic
from hogpour.layers.losses.softmax_xent import SoftmaxXent
from hogpour.layers.losses.squared_error import SquaredError
from hogpour.testing.layers import check_loss

LOSSES = registry.available("loss")


@pytest.mark.parametrize("name", LOSSES)
@given(n_targets=st.integers(2, 12), batch=st.sampled_from([1, 5, 16, 67]))
@settings(max_examples=8)
def test_a_found_loss_keeps_the_contract(name: str, n_targets: int, batch: int) -> None:
    check_loss(registry.build("loss", name, at="test"), n_targets=n_targets, batch=batch)


def apply(loss: Loss, scores: list[list[float]], target: object) -> tuple[float, int, np.ndarray]:
    s = np.array(scores)
    d = np.full_like(s, np.nan)
    total, right = loss.apply(s, np.array(target), d)
    return total, right, d


@pytest.mark.parametrize("loss", [SoftmaxXent(), Logistic(), Hinge()])
def test_huge_scores_overflow_nowhere(loss: Loss) -> None:
    for label in (0, 1):
        total, right, d_scores = apply(loss, [[3e4], [-3e4]], [label])
        assert np.isfinite(total)
        assert np.isfinite(d_scores).all()
        assert right == (label == 0)


@pytest.mark.parametrize("label", [0, 1])
def test_a_softmax_loss_depends_on_differences_of_scores_only(label: int) -> None:
    """Near 10^6 float32 has steps of 1/16: added to the largest score first, a loss of 0.474 was 0.5."""
    near, far = (np.array([[top], [top - 0.5]], np.float32) for top in (0.0, 1e6))
    losses = [SoftmaxXent().apply(scores, np.array([label]), np.empty_like(scores))[0] for scores in (near, far)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("loss", [SoftmaxXent(), Logistic(), Hinge(), SquaredError()])
@pytest.mark.parametrize("place", [(0, 0), (2, 1)])
def test_nan_in_any_score_shows_in_the_loss(loss: Loss, place: tuple[int, int]) -> None:
    scores = np.ones((3, 2))
    scores[place] = np.nan
    target = scores * 0 if loss.targets == "values" else [0, 1]
    assert np.isnan(apply(loss, scores.tolist(), target)[0])


@pytest.mark.parametrize("loss", [Logistic(), Hinge()])
def test_one_unit_serves_two_labels(loss: Loss) -> None:
    assert loss.n_outputs(2) == (1, 2)
    assert loss.n_outputs(3) == (3,)
    scores = np.array([[2.0, -2.0, 2.0]])
    assert loss.predict(scores).tolist() == [1, 0, 1]
    assert apply(loss, scores.tolist(), [1, 0, 0])[1] == 2


@pytest.mark.parametrize("loss", [Logistic(), Hinge()])
def test_one_unit_and_two_mirrored_units_agree(loss: Loss) -> None:
    """With s for label 1 and -s for label 0, each of two units loses what the one unit loses."""
    s, target = [0.3, -1.7, 0.9, 2.5], [1, 1, 0, 0]
    one, right_one, d_one = apply(loss, [s], target)
    two, right_two, d_two = apply(loss, [[-v for v in s], s], target)
    assert two == pytest.approx(2 * one, rel=1e-14)
    assert right_one == right_two
    np.testing.assert_array_equal(d_two[1], d_one[0])


def test_hinge_leaves_an_example_alone_from_its_margin_on() -> None:
    total, right, d_scores = apply(Hinge(), [[1.0, 1.0, 0.5, -3.0]], [1, 0, 1, 1])
    assert total == 0.0 + 2.0 + 0.5 + 4.0
    assert right == 2
    assert d_scores.tolist() == [[0.0, 0.25, -0.25, -0.25]]


def test_logistic_is_the_sum_of_one_classifier_per_label() -> None:
    scores = np.array([[0.2, -1.0], [1.5, 0.4], [-0.3, 2.0]])
    sign = np.array([[-1, 1], [1, -1], [-1, -1]])
    total, right, d_scores = apply(Logistic(), scores.tolist(), [1, 0])
    assert total == pytest.approx(np.log1p(np.exp(-sign * scores)).sum(), rel=1e-14)
    assert right == 1
    np.testing.assert_allclose(d_scores, -sign / (1 + np.exp(sign * scores)) / 2, rtol=1e-14)


def test_squared_error_is_half_the_squared_distance() -> None:
    total, right, d_scores = apply(SquaredError(), [[1.0, 2.0], [0.0, 4.0]], [[0.0, 2.0], [2.0, 1.0]])
    assert (total, right) == (0.5 * (1 + 4 + 9), 0)
    assert d_scores.tolist() == [[0.5, 0.0], [-1.0, 1.5]]
