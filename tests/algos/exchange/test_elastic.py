"""The elastic pull on arrays: the papers' matrix, its stability, and that nothing is lost between the two sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.algos.exchange.base import ReplicaView
from hogpour.algos.exchange.elastic import Elastic


def trajectory(eta: float, alpha: float, steps: int, optimiser: Any = None) -> np.ndarray:
    """Worker and centre, (steps + 1, 2), on the loss x²/2, one worker with τ = 1: gradient, pull, step."""
    rule = optimiser or hp.Sgd(eta)
    view = ReplicaView(np.array([1.0]), tuple(np.zeros(1) for _ in rule.state), rule)
    centre, push = np.array([-0.5]), np.zeros(1)
    exchange, found = Elastic(alpha, 1), [(1.0, -0.5)]
    for _ in range(steps):
        grad = view.params.copy()
        named = rule.ahead(1.0)
        exchange.pull(view.params, centre, push, view.state if named else (), named[1] if named else 0.0)
        exchange.on_gradient(view, grad)
        exchange.server_rule(rule).apply(centre, push, (), lr_scale=1.0, t=1)
        found.append((view.params[0], centre[0]))
    return np.array(found)


@pytest.mark.parametrize(("eta", "alpha"), [(0.1, 0.225), (0.5, 0.9), (1.3, 0.4), (0.7, 0.0)])
def test_one_worker_on_a_quadratic_follows_the_matrix_of_the_paper(eta: float, alpha: float) -> None:
    matrix, place = np.array([[1 - eta - alpha, alpha], [alpha, 1 - alpha]]), np.array([1.0, -0.5])
    for got in trajectory(eta, alpha, 40):
        np.testing.assert_allclose(got, place, rtol=1e-11, atol=1e-13)
        place = matrix @ place


@pytest.mark.parametrize("eta", [0.2, 0.8, 1.5])
def test_the_bound_of_stability_is_that_of_the_paper(eta: float) -> None:
    bound = (4 - 2 * eta) / (4 - eta)
    assert np.abs(trajectory(eta, 0.99 * bound, 4000)[-1]).max() < 1e-6
    assert np.abs(trajectory(eta, 1.01 * bound, 4000)[-1]).max() > 1e6


def test_with_momentum_it_is_algorithm_2() -> None:
    """v ← δv - η g(x + δv), x ← x + v, with the pull at x; our live vector is x + δv."""
    eta, alpha, delta = 0.02, 0.3, 0.9
    x, v, centre = 1.0, 0.0, -0.5
    for live, got in trajectory(eta, alpha, 60, hp.Nesterov(eta, momentum=delta)):
        np.testing.assert_allclose((live, got), (x + delta * v, centre), rtol=1e-11, atol=1e-13)
        grad, d = x + delta * v, alpha * (x - centre)
        x, centre = x - d, centre + d
        v = delta * v - eta * grad
        x += v


def test_velocities_of_several_replicas_are_undone_together(rng: np.random.Generator) -> None:
    """Two replicas with a velocity each, by turns on one vector: the pull is where they would be without looks ahead."""
    rule, alpha = hp.Nesterov(0.1, momentum=0.9), 0.25
    params, fetched = rng.standard_normal((2, 37))
    views = [ReplicaView(params, (np.zeros(37),), rule) for _ in range(2)]
    x, velocities = params.copy(), np.zeros((2, 37))
    for k in (0, 1, 1, 0, 1):
        grad = rng.standard_normal(37)
        Elastic(alpha, 1).on_gradient(views[k], grad)
        velocities[k] = 0.9 * velocities[k] - 0.1 * grad
        x += velocities[k]
    push = np.zeros(37)
    Elastic(alpha, 1).pull(params, fetched, push, [view.state[0] for view in views], rule.ahead(1.0)[1])
    np.testing.assert_allclose(push, -alpha * (x - fetched), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 0.225, 1.0])
def test_a_pull_gives_the_servers_what_it_takes_from_the_node(alpha: float, rng: np.random.Generator) -> None:
    params, fetched = rng.standard_normal((2, 1000)).astype(np.float32)
    before, push, centre = params.copy(), np.full(1000, np.nan, np.float32), fetched.copy()
    exchange = Elastic(alpha, 1)
    exchange.pull(params, fetched, push, (), 0.0)
    exchange.server_rule(hp.Adagrad(7.0)).apply(centre, push, (), lr_scale=1.0, t=1)
    sums, after = before.astype(np.float64) + fetched, params.astype(np.float64) + centre
    np.testing.assert_allclose(after, sums, rtol=0, atol=2 * np.spacing(np.float32(8)))
    if not alpha:
        assert params.tobytes() == before.tobytes()
        assert centre.tobytes() == fetched.tobytes()


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^alpha = 1.5, expected 0 to 1$"):
        Elastic(1.5)
    with pytest.raises(ValueError, match=r"^tau = 0, expected at least 1$"):
        hp.Easgd(tau=0)
