"""Delayed Nesterov: so many pushes are one Nesterov step on their mean."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.algos.optim.delayed_nesterov import DelayedNesterov
from hogpour.algos.optim.nesterov import Nesterov


def both(rng, every, dtype, numbers):
    """Parameters after 5 means of gradients: delayed, and of Nesterov's rule on the means; and the velocities."""
    lr, momentum = 0.5, 0.75
    params = numbers(rng, 40).astype(dtype)
    whole, velocity = params.copy(), np.zeros(40, dtype)
    rows = np.zeros(40, dtype), np.zeros(40, dtype)
    rule = DelayedNesterov(lr, momentum=momentum, every=every)
    for mean in range(5):
        grads = [numbers(rng, 40).astype(dtype) for _ in range(every)]
        for k, grad in enumerate(grads):
            rule.apply(params, grad, rows, lr_scale=0.5, t=mean * every + k + 1)
        Nesterov(lr, momentum=momentum).apply(whole, sum(grads) / every, (velocity,), lr_scale=0.5, t=mean + 1)
    return params, whole, rows[0], velocity


@pytest.mark.parametrize("every", [1, 2, 4, 8])
def test_so_many_pushes_are_one_nesterov_step_on_their_mean_exactly(every, rng):
    """On whole numbers, whose sums, halves and quarters are exact: then nothing is rounded, and nothing may differ."""
    params, whole, ours, theirs = both(rng, every, np.float64, lambda rng, n: rng.integers(-64, 64, n) * 4.0)
    np.testing.assert_array_equal(params, whole)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("every", [1, 3, 5])
def test_and_up_to_rounding_on_any_numbers(every, rng):
    params, whole, ours, theirs = both(rng, every, np.float64, lambda rng, n: rng.standard_normal(n))
    np.testing.assert_allclose(params, whole, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_between_two_means_a_push_is_a_plain_step_of_its_share():
    params, rows = np.array([8.0]), (np.array([100.0]), np.array([77.0]))
    DelayedNesterov(1.0, momentum=0.5, every=4).apply(params, np.array([2.0]), rows, lr_scale=1.0, t=1)
    assert (params[0], rows[0][0], rows[1][0]) == (7.5, 100.0, 2.0)


def test_a_mean_of_no_gradient_is_refused():
    with pytest.raises(ValueError, match=r"^every = 0, expected 1 to 1e\+09$"):
        DelayedNesterov(0.1, every=0)
