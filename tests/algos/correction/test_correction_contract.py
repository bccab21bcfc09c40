"""What every correction keeps: nothing is amended that is not late, to the bit, and arrays that are read only stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.algos.correction.base import Correction, Late
from hogpour.core import registry

CORRECTIONS = registry.available("correction")
OPTIMISERS = registry.available("optimiser")
N = 37

every_correction = pytest.mark.parametrize("name", CORRECTIONS)


def late(rng: np.random.Generator, correction: Correction, optimiser: Any, *, fetched: bool) -> Late:
    """A push of 37 elements, some of them 0."""
    params, grad, old = rng.standard_normal((3, N)).astype(np.float32)
    grad[::5] = 0
    grad.flags.writeable = old.flags.writeable = False
    rows = tuple(rng.random(N, np.float32) for _ in correction.rows)
    state = tuple(np.zeros(N, np.float32) for _ in optimiser.state)
    return Late(params, grad, old if fetched else None, rows, state, np.full(N, np.nan, np.float32), 0.7, 3)


@every_correction
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_what_is_not_late_is_applied_as_the_optimiser_alone_does(
    name: str, optimiser: str, rng: np.random.Generator
) -> None:
    correction, rule = CORRECTIONS[name](), OPTIMISERS[optimiser](lr=0.1)
    push = late(rng, correction, rule, fetched=False)
    params, state = push.params.copy(), tuple(row.copy() for row in push.state)
    rule.apply(params, push.grad, state, lr_scale=0.7, t=3)
    correction.apply(rule, push)
    assert push.params.tobytes() == params.tobytes()
    assert [row.tobytes() for row in push.state] == [row.tobytes() for row in state]
    assert correction.scale(0) == 1


@every_correction
def test_the_rate_never_grows_with_staleness(name: str) -> None:
    scales = [CORRECTIONS[name]().scale(staleness) for staleness in range(200)]
    assert all(type(scale) is float for scale in scales)
    assert sorted(scales, reverse=True) == scales
    assert scales[-1] > 0


@every_correction
@pytest.mark.parametrize("optimiser", [hp.Sgd(0.1), hp.Sgd(0.1, weight_decay=0.01), hp.Adagrad(0.1)], ids=str)
def test_one_pass_and_two_give_the_same_bits_and_any_cut_too(
    name: str, optimiser: Any, rng: np.random.Generator
) -> None:
    correction = CORRECTIONS[name]()
    push = late(rng, correction, optimiser, fetched=True)
    parts = [slice(0, 16), slice(16, N)]
    cut = [
        Late(push.params[part].copy(), push.grad[part], push.fetched[part], tuple(row[part].copy() for row in push.rows),
             tuple(row[part].copy() for row in push.state), np.empty(part.stop - part.start, np.float32), 0.7, 3)
        for part in parts
    ]  # fmt: skip
    correction.apply(optimiser, push)
    for piece in cut:
        correction.apply(optimiser, piece)
    assert np.concatenate([piece.params for piece in cut]).tobytes() == push.params.tobytes()
    for k in range(len(push.rows)):
        assert np.concatenate([piece.rows[k] for piece in cut]).tobytes() == push.rows[k].tobytes()


@every_correction
def test_words_become_the_correction_and_the_correction_words(name: str) -> None:
    words = registry.describe(CORRECTIONS[name]())
    assert registry.build("correction", words, "algorithm.correction") == CORRECTIONS[name]()
