"""Adam against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.algos.optim.adam import Adam


def test_five_steps_are_the_formula():
    rng = np.random.default_rng(0)
    grads, w = rng.normal(size=(5, 23)), rng.normal(size=23)
    params, state = w.copy(), (np.zeros(23), np.zeros(23))
    m, s = np.zeros(23), np.zeros(23)
    for t, grad in enumerate(grads, 1):
        Adam(0.1, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.01).apply(params, grad, state, lr_scale=1 / t, t=t)
        g = grad + 0.01 * w
        m = 0.8 * m + 0.2 * g
        s = 0.9 * s + 0.1 * g**2
        w = w - 0.1 / t * (m / (1 - 0.8**t)) / (np.sqrt(s / (1 - 0.9**t)) + 1e-3)
    np.testing.assert_allclose(params, w, rtol=1e-12)
    np.testing.assert_allclose(state[0], m, rtol=1e-12)
    np.testing.assert_allclose(state[1], s, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_first_step_has_the_length_lr_whatever_the_gradient(size):
    params = np.zeros(2)
    Adam(0.1).apply(params, np.array([size, -size]), (np.zeros(2), np.zeros(2)), lr_scale=1.0, t=1)
    np.testing.assert_allclose(params, [-0.1, 0.1], rtol=1e-4)


def test_moments_are_shared_because_t_counts_the_gradients_of_all_replicas():
    assert [(row.name, row.per) for row in Adam.state] == [("mean", "node"), ("mean_square", "node")]


def test_a_beta_of_one_is_refused():
    with pytest.raises(ValueError, match=r"^beta2 = 1.0, expected 0 to "):
        Adam(0.1, beta2=1)
