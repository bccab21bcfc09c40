"""Downpour's client on arrays: one pass over the gradient does what two do, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.gradients import gradients

import hogpour as hp
from hogpour.algos.exchange.accrue import Accrue, accrue_add
from hogpour.algos.exchange.base import ReplicaView


@pytest.mark.parametrize("n", [1, 16, 37, 4096])
@pytest.mark.parametrize("optimiser", [hp.Sgd(0.3), hp.Sgd(0.3, weight_decay=0.1), hp.Adagrad(0.1)], ids=str)
def test_a_step_is_the_optimisers_and_the_sum_is_that_of_all_gradients(
    optimiser: Any, n: int, rng: np.random.Generator
) -> None:
    start = rng.standard_normal(n).astype(np.float32)
    expected, sums = start.copy(), np.zeros(n, np.float32)
    rows = tuple(np.zeros(n, np.float32) for _ in optimiser.state)
    view = ReplicaView(start.copy(), tuple(row.copy() for row in rows), optimiser, lr_scale=0.7)
    view.accrued = np.full(n, np.nan, np.float32)  # what an answered push left there means nothing
    for t, grad in enumerate(gradients(rng, n), 1):
        optimiser.apply(expected, grad, rows, lr_scale=0.7, t=t)
        accrue_add(sums, grad)
        view.t, view.n_accrued = t, t - 1
        Accrue(4, 4).on_gradient(view, grad)
    assert view.params.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(view.accrued, sums)


def test_fetched_parameters_overwrite_local_drift(rng: np.random.Generator) -> None:
    params, fetched = rng.random(40, np.float32), rng.random(40, np.float32)
    Accrue(1, 1).on_params(params[16:32], fetched[:16])
    np.testing.assert_array_equal(params[16:32], fetched[:16])


@pytest.mark.parametrize("field", ["n_push", "n_fetch", "warm_start_examples", "warm_start_s"])
def test_numbers_out_of_range_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field} = -1(\.0)?, expected"):
        hp.Downpour(**{field: -1})


@pytest.mark.parametrize("field", ["warm_start_examples", "warm_start_s"])
def test_a_warm_start_has_an_end(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = inf.*, expected|{field} = inf: expected int"):
        hp.Downpour(**{field: float("inf")})
