"""Adagrad as DistBelief states it: no epsilon, the first step is lr, no history no step."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hogpour.algos.optim.adagrad import Adagrad


def test_five_steps_are_the_formula():
    rng = np.random.default_rng(0)
    grads, w = rng.normal(size=(5, 23)), rng.normal(size=23)
    params, history, h = w.copy(), np.zeros(23), np.zeros(23)
    for t, grad in enumerate(grads, 1):
        Adagrad(0.5, weight_decay=0.01).apply(params, grad, (history,), lr_scale=1 / t, t=t)
        g = grad + 0.01 * w
        h = h + g**2
        w = w - 0.5 / t * g / np.sqrt(h)
    np.testing.assert_allclose(params, w, rtol=1e-13)
    np.testing.assert_allclose(history, h, rtol=1e-13)


@given(st.floats(1e-15, 1e15), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_the_first_gradient_moves_a_coordinate_by_exactly_lr(size, negative, dtype):
    params = np.zeros(1, dtype)
    Adagrad(0.3).apply(params, np.array([-size if negative else size], dtype), (np.zeros(1, dtype),), lr_scale=1.0, t=1)
    assert params[0] == (dtype(0.3) if negative else -dtype(0.3))


def test_a_coordinate_that_has_seen_only_zeros_is_left_alone():
    params, history = np.array([3.0, 3.0]), np.zeros(2)
    for t in range(1, 4):
        Adagrad(0.5).apply(params, np.array([0.0, 2.0]), (history,), lr_scale=1.0, t=t)
    assert params[0] == 3.0
    assert history.tolist() == [0.0, 12.0]
    assert params[1] < 3.0 - 0.5


def test_a_zero_gradient_after_others_leaves_the_coordinate_too():
    params, history = np.array([3.0]), np.array([4.0])
    Adagrad(0.5).apply(params, np.array([0.0]), (history,), lr_scale=1.0, t=9)
    assert (params[0], history[0]) == (3.0, 4.0)


def test_a_history_of_nan_stays_visible():
    params, history = np.array([3.0]), np.array([np.nan])
    Adagrad(0.5).apply(params, np.array([0.0]), (history,), lr_scale=1.0, t=9)
    assert np.isnan(params[0])


def test_equal_gradients_step_with_one_over_the_root_of_their_number():
    params, history = np.zeros(1), np.zeros(1)
    for t in range(1, 10):
        before = params[0]
        Adagrad(0.5).apply(params, np.array([7.0]), (history,), lr_scale=1.0, t=t)
    np.testing.assert_allclose(before - params[0], 0.5 / np.sqrt(9), rtol=1e-12)


def test_the_replicas_of_a_node_share_one_history():
    assert [(row.name, row.per) for row in Adagrad.state] == [("history", "node")]
