"""AdamW against its formula."""

from __future__ import annotations

import numpy as np

from hogpour.algos.optim.adam import Adam
from hogpour.algos.optim.adamw import AdamW


def test_five_steps_are_the_formula():
    rng = np.random.default_rng(0)
    grads, w = rng.normal(size=(5, 23)), rng.normal(size=23)
    params, state = w.copy(), (np.zeros(23), np.zeros(23))
    m, s = np.zeros(23), np.zeros(23)
    for t, grad in enumerate(grads, 1):
        AdamW(0.1, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.3).apply(params, grad, state, lr_scale=1 / t, t=t)
        m = 0.8 * m + 0.2 * grad
        s = 0.9 * s + 0.1 * grad**2
        w = w * (1 - 0.1 / t * 0.3)
        w = w - 0.1 / t * (m / (1 - 0.8**t)) / (np.sqrt(s / (1 - 0.9**t)) + 1e-3)
    np.testing.assert_allclose(params, w, rtol=1e-12)
    np.testing.assert_allclose(state[0], m, rtol=1e-12)
    np.testing.assert_allclose(state[1], s, rtol=1e-12)


def test_without_decay_it_is_adam_and_with_decay_its_moments_are_those_without():
    rng = np.random.default_rng(0)
    grads, ends = rng.normal(size=(5, 23)).astype(np.float32), []
    for rule in (Adam(0.1), AdamW(0.1), AdamW(0.1, weight_decay=0.5)):
        params, state = np.ones(23, np.float32), tuple(np.zeros((2, 23), np.float32))
        for t, grad in enumerate(grads, 1):
            rule.apply(params, grad, state, lr_scale=1.0, t=t)
        ends.append((params, *state))
    adam, adamw, decayed = ends
    assert all(a.tobytes() == b.tobytes() for a, b in zip(adam, adamw, strict=True))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(adam[1:], decayed[1:], strict=True))
    assert (decayed[0] < adam[0]).all()
