"""Local steps on arrays: what is accrued is what the live vector moved by, to the bit where that can be so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.gradients import gradients

import hogpour as hp
from hogpour.algos.exchange.base import ReplicaView
from hogpour.algos.exchange.local import Local


def view_of(rule: Any, start: np.ndarray) -> ReplicaView:
    rows = tuple(np.zeros_like(start) for _ in rule.state)
    view = ReplicaView(start.copy(), rows, rule, lr_scale=0.7, scratch=np.full((2, start.size), np.nan, np.float32))
    view.accrued = np.full(start.size, np.nan, np.float32)  # what an answered push left there means nothing
    return view


@pytest.mark.parametrize("n", [1, 16, 37, 4096])
def test_a_round_of_one_step_of_sgd_applied_at_rate_1_is_that_step_bit_for_bit(n: int, rng: np.random.Generator) -> None:
    """The pushed product must be rounded as the rule rounds it: a fused multiply-add on either side would differ."""
    start = rng.standard_normal(n).astype(np.float32)
    expected, shard = start.copy(), start.copy()
    view = view_of(hp.Sgd(0.3), start)
    for grad in gradients(rng, n):
        hp.Sgd(0.3).apply(expected, grad, (), lr_scale=0.7, t=1)
        Local(1, hp.Sgd(0.3)).on_gradient(view, grad)
        hp.Sgd(1.0).apply(shard, view.accrued, (), lr_scale=1.0, t=1)
        assert expected.tobytes() == shard.tobytes() == view.params.tobytes()


RULES = [hp.Sgd(0.3), hp.Sgd(0.3, weight_decay=0.1), hp.Momentum(0.1), hp.AdamW(0.01, weight_decay=0.1)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_is_accrued_is_the_displacement_of_the_rules_own_steps(rule: Any, rng: np.random.Generator) -> None:
    start = rng.standard_normal(37).astype(np.float32)
    expected, rows = start.copy(), tuple(np.zeros(37, np.float32) for _ in rule.state)
    view = view_of(rule, start)
    for t, grad in enumerate(gradients(rng, 37), 1):
        rule.apply(expected, grad, rows, lr_scale=0.7, t=t)
        view.t, view.n_accrued = t, t - 1
        Local(4, rule).on_gradient(view, grad)
    np.testing.assert_allclose(view.params, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(start - view.accrued, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_replicas_of_a_node_push_what_each_moved_the_vector_by_and_nothing_twice(
    rule: Any, rng: np.random.Generator
) -> None:
    """Two replicas on one live vector, the second one between the first one's steps."""
    start = rng.standard_normal(37).astype(np.float32)
    views = [view_of(rule, start) for _ in range(2)]
    views[1].params = views[0].params
    for t, grad in enumerate(gradients(rng, 37)):
        for view in views:
            view.n_accrued = t
            Local(4, rule).on_gradient(view, grad)
    pushed = views[0].accrued + views[1].accrued  # type: ignore[operator]
    np.testing.assert_allclose(start - pushed, views[0].params, rtol=1e-5, atol=1e-6)


def test_another_replicas_step_during_a_step_is_kept_and_not_accrued(rng: np.random.Generator) -> None:
    start, grad = rng.standard_normal((2, 37)).astype(np.float32)
    view = view_of(hp.Momentum(0.1), start)

    class Disturbed(hp.Momentum):
        """As Momentum, while somebody else moves the live vector."""

        def apply(self, *arguments: Any, **more: Any) -> None:
            super().apply(*arguments, **more)
            view.params += 5

    view.optimiser = Disturbed(0.1)
    Local(4, hp.Momentum(0.1)).on_gradient(view, grad)
    np.testing.assert_allclose(view.accrued, 0.07 * grad, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(view.params, start + 5 - 0.07 * grad, rtol=1e-5, atol=1e-6)


def test_to_the_outer_rule_a_displacement_is_one_gradient_and_what_is_accrued_as_many_as_steps() -> None:
    assert (Local(500).gradients(500), Local(500).gradients(3)) == (1, 1)
    assert (hp.Accrue(16, 16).gradients(16), hp.Accrue(16, 16).gradients(3)) == (16, 3)


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^steps = 0, expected at least 1$"):
        Local(0)
