"""L1 on vectors: pseudo-gradients, directions and trials, element by element."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.algos.lbfgs.orthant import align, keep_orthant, pseudo_gradient


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("w", "g", "expected"),
    [
        (1.0, 0.25, 1.25),
        (-1.0, 0.25, -0.75),
        (0.0, 0.25, 0.0),  # either way is up
        (0.0, 1.5, 0.5),
        (0.0, -1.5, -0.5),
        (-0.0, -1.0, 0.0),
        (1e-45, 0.0, 1.0),
    ],
)
def test_a_pseudo_gradient_is_the_slope_of_the_way_down(w: float, g: float, expected: float) -> None:
    out = floats(7.0)
    pseudo_gradient(out, floats(w), floats(g), 1.0)
    assert out[0] == expected


def test_a_gradient_that_is_no_number_stays_none() -> None:
    out = floats(0.0, 0.0)
    pseudo_gradient(out, floats(0.0, 1.0), floats(np.nan, np.nan), 1.0)
    assert np.isnan(out).all()


def test_a_direction_keeps_what_leads_down() -> None:
    direction = floats(1.0, -1.0, 1.0, -1.0, 1.0, 0.0)
    align(direction, floats(-2.0, 2.0, 2.0, -2.0, 0.0, 1.0))
    assert direction.tolist() == [1.0, -1.0, 0.0, 0.0, 0.0, 0.0]
    assert not np.signbit(direction[2:]).any()


def test_a_trial_stays_in_the_orthant_of_the_point_or_where_its_pseudo_gradient_leads() -> None:
    trial = floats(0.5, -0.5, -0.5, 0.5, -0.5, 0.5)
    keep_orthant(trial, floats(1.0, 1.0, -1.0, 0.0, 0.0, 0.0), floats(9.0, -9.0, 9.0, -1.0, -1.0, 0.0))
    assert trial.tolist() == [0.5, 0.0, -0.5, 0.5, 0.0, 0.0]
