"""Momentum and Nesterov against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.algos.optim.momentum import Momentum
from hogpour.algos.optim.nesterov import Nesterov

rng = np.random.default_rng(0)
GRADS = rng.normal(size=(5, 23))
PARAMS = rng.normal(size=23)


@pytest.mark.parametrize("cls", [Momentum, Nesterov])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_five_steps_are_the_formula(cls, weight_decay):
    params, velocity = PARAMS.copy(), np.zeros(23)
    w, v = PARAMS.copy(), np.zeros(23)
    optimiser = cls(0.1, momentum=0.9, weight_decay=weight_decay)
    for t, grad in enumerate(GRADS, 1):
        optimiser.apply(params, grad, (velocity,), lr_scale=1 / t, t=t)
        g = grad + weight_decay * w
        v = 0.9 * v + g
        w = w - 0.1 / t * (v if cls is Momentum else g + 0.9 * v)
    np.testing.assert_allclose(params, w, rtol=1e-13)
    np.testing.assert_allclose(velocity, v, rtol=1e-13)


@pytest.mark.parametrize("cls", [Momentum, Nesterov])
def test_a_constant_gradient_is_followed_at_lr_over_one_minus_momentum(cls):
    params, velocity, grad = np.zeros(1), np.zeros(1), np.ones(1)
    for t in range(1, 401):
        before = params[0]
        cls(0.1, momentum=0.75).apply(params, grad, (velocity,), lr_scale=1.0, t=t)
    assert before - params[0] == pytest.approx(0.1 / (1 - 0.75), rel=1e-12)


@pytest.mark.parametrize("cls", [Momentum, Nesterov])
def test_without_momentum_it_is_sgd(cls):
    params, velocity = PARAMS.copy(), np.zeros(23)
    for grad in GRADS:
        cls(0.1, momentum=0.0).apply(params, grad, (velocity,), lr_scale=1.0, t=1)
    np.testing.assert_allclose(params, PARAMS - 0.1 * GRADS.sum(axis=0), rtol=1e-13)


@pytest.mark.parametrize("cls", [Momentum, Nesterov])
def test_every_replica_has_its_own_velocity(cls):
    assert [(row.name, row.per) for row in cls.state] == [("velocity", "replica")]
