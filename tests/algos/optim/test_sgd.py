"""SGD against its formula."""

from __future__ import annotations

import numpy as np

from hogpour.algos.optim.sgd import Sgd


def test_a_step_is_the_formula():
    params, grad = np.array([1.0, -2.0, 0.5]), np.array([0.5, 0.25, -1.0])
    Sgd(0.5).apply(params, grad, (), lr_scale=0.5, t=1)
    assert params.tolist() == [0.875, -2.0625, 0.75]


def test_float32_computes_in_float32():
    """In float64, 2²⁴ + 1 would survive until the store and round to another value."""
    params, grad = np.full(20, 2.0**24, np.float32), np.full(20, 1.0, np.float32)
    Sgd(1.0, weight_decay=1.0).apply(params, grad, (), lr_scale=1.0, t=1)
    assert params.tolist() == [0.0] * 20
