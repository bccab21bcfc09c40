"""Delay compensation: its formula, what it is in expectation, and the degenerate cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.algos.correction.base import Late
from hogpour.algos.optim.sgd import Sgd

N = 50


@dataclass(frozen=True, slots=True)
class OtherSgd(Sgd):
    """SGD by another name, which takes the pass of any optimiser."""


def pushed(correction: Any, optimiser: Any, params: Any, grad: Any, fetched: Any, square: Any = None) -> np.ndarray:
    """The parameters after one push."""
    params = params.copy()
    rows = () if square is None else (square,)
    correction.apply(optimiser, Late(params, grad, fetched, rows, (), np.empty_like(params), 1.0, 1))
    return params


def vectors(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return tuple(rng.standard_normal((3, N)))


@pytest.mark.parametrize("optimiser", [Sgd(0.5), OtherSgd(0.5)], ids=["one pass", "two passes"])
def test_constant_compensation_is_the_papers_equation(optimiser: Any, rng: np.random.Generator) -> None:
    w, g, old = vectors(rng)
    got = pushed(hp.DelayCompensation(0.3), optimiser, w, g, old)
    np.testing.assert_allclose(got, w - 0.5 * (g + 0.3 * g * g * (w - old)), rtol=1e-13)


@pytest.mark.parametrize("optimiser", [Sgd(0.5), OtherSgd(0.5)], ids=["one pass", "two passes"])
def test_adaptive_compensation_is_the_papers_equation_with_the_root(optimiser: Any, rng: np.random.Generator) -> None:
    w, g, old = vectors(rng)
    before = rng.random(N)
    square = before.copy()
    got = pushed(hp.AdaptiveCompensation(2.0, 0.9), optimiser, w, g, old, square)
    expected = 0.9 * before + 0.1 * g * g
    np.testing.assert_allclose(square, expected, rtol=1e-13)
    np.testing.assert_allclose(got, w - 0.5 * (g + 2 / np.sqrt(expected + 1e-7) * g * g * (w - old)), rtol=1e-13)


def test_a_gradient_that_is_not_late_enters_the_mean_square_too(rng: np.random.Generator) -> None:
    w, g, _ = vectors(rng)
    square = np.zeros(N)
    pushed(hp.AdaptiveCompensation(2.0, 0.9), Sgd(0.5), w, g, None, square)
    np.testing.assert_allclose(square, 0.1 * g * g, rtol=1e-13)


@pytest.mark.parametrize("correction", [hp.DelayCompensation(0.0), hp.AdaptiveCompensation(0.0)], ids=str)
def test_without_strength_it_is_asynchronous_sgd_bit_for_bit(correction: Any, rng: np.random.Generator) -> None:
    w, g, old = vectors(rng)
    plain = w.copy()
    Sgd(0.5).apply(plain, g, (), lr_scale=1.0, t=1)
    assert pushed(correction, Sgd(0.5), w, g, old, np.zeros(N)).tobytes() == plain.tobytes()


def test_in_expectation_the_compensated_gradient_is_the_fresh_one(rng: np.random.Generator) -> None:
    """One-hot least squares with noise of 1: E[g²] = 1 is the Hessian at the optimum, and λ = 1 undoes the delay.

    Beside the optimum g² is larger by the squared distance, so the fetched parameters are the optimum here.
    """
    target = rng.standard_normal(8)
    w = target + rng.standard_normal(8)
    runs = 200_000
    grads = rng.standard_normal((runs, 8))  # of ½ (w_bak - y)² at w_bak = target, y = target + noise
    now, then, mean = np.tile(w, runs), np.tile(target, runs), np.zeros(8)
    for grad in (grads, -grads):  # antithetic: the noise itself cancels, what is left is of g²
        stepped = pushed(hp.DelayCompensation(1.0), Sgd(1.0), now, grad.reshape(-1), then)
        mean += (now - stepped).reshape(runs, 8).mean(axis=0) / 2
    np.testing.assert_allclose(mean, w - target, rtol=0.02)


@pytest.mark.parametrize("make", [lambda: hp.DelayCompensation(-1.0), lambda: hp.AdaptiveCompensation(decay=1.1), lambda: hp.AdaptiveCompensation(decay=1.0),
                                  lambda: hp.DcAsgd(adaptive=False, decay=7.0),
                                  lambda: hp.InverseStaleness(2), lambda: hp.DcAsgd(strength=float("nan"))])  # fmt: skip
def test_numbers_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()


def test_inverse_staleness_is_that_of_both_papers() -> None:
    assert [hp.InverseStaleness().scale(late) for late in range(4)] == [1, 1, 1 / 2, 1 / 3]
    assert [hp.InverseStaleness(1).scale(late) for late in range(4)] == [1, 1 / 2, 1 / 3, 1 / 4]


def largest_stable(staleness: int, scale: float) -> float:
    """The largest α₀h at which w ← w - α₀h·scale·w(-τ) does not grow, by bisection on the largest root."""
    low, high = 0.0, 4.0
    for _ in range(60):
        middle = (low + high) / 2
        roots = np.roots([1, -1, *[0] * (staleness - 1), middle * scale] if staleness else [1, middle * scale - 1])
        low, high = (middle, high) if np.abs(roots).max() < 1 else (low, middle)
    return low


@pytest.mark.parametrize("staleness", [0, 1, 2, 5, 15, 30])
def test_divided_by_its_staleness_a_rate_that_is_stable_without_delay_is_stable_at_any(staleness: int) -> None:
    assert largest_stable(staleness, hp.InverseStaleness().scale(staleness)) >= 1 - 1e-9
