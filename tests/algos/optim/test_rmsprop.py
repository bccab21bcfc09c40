"""RMSProp against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.algos.optim.rmsprop import RmsProp


def test_five_steps_are_the_formula():
    rng = np.random.default_rng(0)
    grads, w = rng.normal(size=(5, 23)), rng.normal(size=23)
    params, mean_square, s = w.copy(), np.zeros(23), np.zeros(23)
    optimiser = RmsProp(0.1, decay=0.8, epsilon=1e-3, weight_decay=0.01)
    for t, grad in enumerate(grads, 1):
        optimiser.apply(params, grad, (mean_square,), lr_scale=1 / t, t=t)
        g = grad + 0.01 * w
        s = 0.8 * s + 0.2 * g**2
        w = w - 0.1 / t * g / (np.sqrt(s) + 1e-3)
    np.testing.assert_allclose(params, w, rtol=1e-12)
    np.testing.assert_allclose(mean_square, s, rtol=1e-12)


def test_an_epsilon_of_zero_is_refused_because_it_would_divide_zero_by_zero():
    with pytest.raises(ValueError, match=r"^epsilon = 0.0, expected 1e-30 to 1e\+30$"):
        RmsProp(0.1, epsilon=0)
