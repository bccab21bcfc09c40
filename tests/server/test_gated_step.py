"""Gradients that wait at a shard, and the step that is made of them: what is summed, in which order, at which rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.server import SIZE, push

import hogpour as hp
from hogpour.algos.optim.base import Optimiser
from hogpour.core import registry
from hogpour.net.wire.push import Push
from hogpour.server.copies import Replaced, Vector
from hogpour.server.gated_step import GatedStep, PendingPushes

Floats = npt.NDArray[np.float32]
OPTIMISERS = [cls(0.1) for cls in registry.available("optimiser").values()]
every_optimiser = pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda o: type(o).__name__)


class Shard:
    """What a step is applied to."""

    def __init__(self, optimiser: Optimiser, params: Floats) -> None:
        self.optimiser, self.params = optimiser, params.copy()
        self.rows = tuple(np.zeros(SIZE, np.float32) for _ in optimiser.state)
        self.clock = 0

    def step(self, *held: tuple[Push, Floats], staleness: Sequence[int] = (),
             scale: Callable[[int], float] = lambda late: 1.0) -> GatedStep:  # fmt: skip
        step = GatedStep(held, list(staleness) or [0] * len(held), scale, self.optimiser, self.params, self.rows, Replaced(),
                    np.full(SIZE, np.nan, np.float32), self.clock + 1)  # fmt: skip
        step.run()
        self.clock += 1
        return step

    def apply(self, grad: Floats, scale: float = 1.0) -> None:
        """What the optimiser does with it, without a gate."""
        self.optimiser.apply(self.params, grad, self.rows, lr_scale=scale, t=self.clock + 1)
        self.clock += 1

    @property
    def bytes(self) -> list[bytes]:
        return [self.params.tobytes(), *(row.tobytes() for row in self.rows)]


def grads(rng: np.random.Generator, count: int) -> list[Floats]:
    return list(rng.standard_normal((count, SIZE)).astype(np.float32))


def filled(value: float) -> Floats:
    return np.full(SIZE, value, np.float32)


# -- steps


@every_optimiser
@pytest.mark.parametrize("factor", [1.0, 0.3, 0.0])
def test_a_step_of_one_gradient_is_what_the_optimiser_does_with_it(
    optimiser: Any, factor: float, rng: np.random.Generator
) -> None:
    """Bit for bit, at every rate: the factor goes to the optimiser, and not into the gradient."""
    start, *of_steps = grads(rng, 5)
    gated, plain = Shard(optimiser, start), Shard(optimiser, start)
    for grad in of_steps:
        gated.step((push(scale=0.7), grad), staleness=[3], scale=lambda late: factor)
        plain.apply(grad, 0.7 * factor)
        assert gated.bytes == plain.bytes


@every_optimiser
@pytest.mark.parametrize("c", [2, 3, 7])
def test_a_step_of_several_is_one_step_on_their_mean(optimiser: Any, c: int, rng: np.random.Generator) -> None:
    start, *given = grads(rng, 1 + 4 * c)
    gated, plain = Shard(optimiser, start), Shard(optimiser, start)
    for at in range(0, 4 * c, c):
        some = given[at : at + c]
        gated.step(*((push(node=k), grad) for k, grad in enumerate(some)))
        total = some[0]
        for grad in some[1:]:
            total = total + grad
        plain.apply(total / np.float32(c))
        assert gated.bytes == plain.bytes


def test_the_order_of_the_sum_is_the_order_of_the_gradients() -> None:
    for order, expected in (((1e8, 1.0, -1e8), 0.0), ((1e8, -1e8, 1.0), np.float32(1) / np.float32(3))):
        shard = Shard(hp.Sgd(1.0), filled(0))
        shard.step(*((push(node=k), filled(value)) for k, value in enumerate(order)))
        assert set(shard.params.tolist()) == {-expected}


def test_the_mean_of_three_is_divided_and_not_multiplied_by_a_third() -> None:
    """Times the float nearest to 1/3, some sums miss their third by a bit."""
    values = [k for k in range(1, 200) if np.float32(k) * (np.float32(1) / np.float32(3)) != np.float32(k) / np.float32(3)]
    assert values
    shard = Shard(hp.Sgd(1.0), filled(0))
    shard.step(*((push(node=k), filled(value)) for k, value in enumerate((values[0], 0, 0))))
    assert set(shard.params.tolist()) == {-np.float32(values[0]) / np.float32(3)}


@pytest.mark.parametrize("c", [2, 3, 5])
@pytest.mark.parametrize("rate", [1.0, 0.1, 1 / 3, 0.7])
def test_equal_factors_are_the_rate_exactly(c: int, rate: float, rng: np.random.Generator) -> None:
    """Their sum over their number would miss some of them by a bit; 0.1 + 0.1 + 0.1 is not 0.3."""
    start, *given = grads(rng, 1 + c)
    gated, plain = Shard(hp.Adam(0.01), start), Shard(hp.Adam(0.01), start)
    step = gated.step(*((push(node=k, scale=rate), grad) for k, grad in enumerate(given)))
    assert step.lr_scale == rate
    total = given[0]
    for grad in given[1:]:
        total = total + grad
    plain.apply(total / np.float32(c), rate)
    assert gated.bytes == plain.bytes


def test_factors_weigh_gradients_before_they_are_averaged() -> None:
    """Zhang et al. 2016, equation 4 with 6: g = 1/c · Σ α(τ_k) Δθ_k, with α(τ) = α₀/τ. With a schedule of ½
    that is ½ · (8 + 16/2 + 64/4) / 3 here, and not the mean of 8, 16 and 64 at the mean of 1, ½ and ¼."""
    correction = hp.InverseStaleness()
    shard = Shard(hp.Sgd(1.0), filled(0))
    held = [(push(node=k, scale=0.5), filled(value)) for k, value in enumerate((8.0, 16.0, 64.0))]
    step = shard.step(*held, staleness=[0, 2, 4], scale=correction.scale)
    assert step.factors == [1.0, 0.5, 0.25]
    expected = 0.5 * (8 * 1 + 16 / 2 + 64 / 4) / 3
    assert shard.params == pytest.approx(-expected, rel=1e-6)
    assert expected != pytest.approx(0.5 * (8 + 16 + 64) / 3 * (1 + 0.5 + 0.25) / 3, rel=0.1)


def test_to_a_rule_that_divides_by_its_history_the_mean_rate_is_a_rate() -> None:
    """Adagrad's first step is its rate, however large a gradient is. Weighed inside the sum alone, a step whose gradients
    all count little would be as large as any."""
    shard = Shard(hp.Adagrad(0.1), filled(0))
    shard.step((push(scale=0.5), filled(3.0)), (push(node=2, scale=0.25), filled(3.0)))
    assert shard.params == pytest.approx(-0.1 * 0.375, rel=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_share_is_one_of_the_rate(share: float) -> None:
    old = filled(1)
    step = GatedStep([(push(), filled(2)), (push(), filled(4))], [0, 1], lambda late: 1.0 / (1 + late), hp.Sgd(0.5), old, (),
                Replaced(), filled(0), 1, share)  # fmt: skip
    step.run()
    assert old.tolist() == filled(1 - 0.5 * share * (2 + 4 / 2) / 2).tolist()


@pytest.mark.parametrize(("steps", "staleness", "decayed"), [
    ((4, 4), (0, 0), 4), ((1, 5), (0, 0), 3), ((4, 1), (0, 3), (4 + 1 / 4) / 2),
])  # fmt: skip
def test_the_weight_decay_of_a_step_is_the_mean_of_that_of_its_gradients(
    steps: tuple[int, ...], staleness: tuple[int, ...], decayed: float
) -> None:
    """Each as often as its push has gradients, and weighed as these are."""
    shard = Shard(hp.Sgd(0.5, weight_decay=0.125), filled(4))
    held = [(push(node=k, steps=count), filled(0)) for k, count in enumerate(steps)]
    shard.step(*held, staleness=staleness, scale=lambda late: 1 / (1 + late))
    assert shard.params == pytest.approx(4 - 0.5 * 0.125 * 4 * decayed, rel=1e-6)


def test_a_rate_of_nothing_moves_nothing() -> None:
    shard = Shard(hp.Sgd(1.0), filled(2))
    shard.step((push(scale=0.0), filled(3.0)), (push(node=2, scale=0.0), filled(4.0)))
    assert set(shard.params.tolist()) == {2.0}


def test_what_somebody_reads_is_copied_before_it_is_applied() -> None:
    old, new = Vector(filled(5)), Vector(filled(np.nan))
    step = GatedStep([(push(), filled(1))], [0], lambda _: 1.0, hp.Sgd(1.0), new.array, (), Replaced([(old, new)]), filled(0), 1)
    assert step.sources == [old]
    step.run()
    assert (set(old.array.tolist()), set(new.array.tolist())) == ({5.0}, {4.0})


def test_the_gradients_that_wait_are_not_written() -> None:
    given = [filled(1), filled(2)]
    Shard(hp.Sgd(1.0), filled(0)).step(*((push(node=k, scale=1.0 + k), grad) for k, grad in enumerate(given)))
    assert [set(grad.tolist()) for grad in given] == [{1.0}, {2.0}]


# -- what waits


def held_of(held: PendingPushes) -> list[tuple[int, int, int]]:
    return [(one.node, one.replica, one.sequence) for one, _ in held]


def holding(*pushes: Push) -> PendingPushes:
    held = PendingPushes()
    for one in pushes:
        held.hold(one, filled(one.node))
    return held


def test_what_waits_is_taken_in_the_order_that_is_asked_for() -> None:
    held = holding(push(node=1), push(node=2), push(node=3, replica=4))
    assert held_of(held) == [(1, 0, 1), (2, 0, 1), (3, 4, 1)]
    taken = held.take([(3, 4, 1), (1, 0, 1)])
    assert [(one.node, float(grad[0])) for one, grad in taken] == [(3, 3.0), (1, 1.0)]
    assert (len(held), held_of(held)) == (1, [(2, 0, 1)])


def test_what_of_a_step_is_not_here_can_be_feigned() -> None:
    held = holding(push(node=1), push(2, node=1))
    assert held.lacking([(1, 0, 2), (1, 0, 1)]) == []
    assert held.lacking([(1, 0, 1), (1, 0, 3), (2, 0, 1)]) == [(1, 0, 3), (2, 0, 1)]
    assert (held.count(1), held.count(2)) == (2, 0)
    held.feign([(2, 0, 1)], 4, 9, 3)
    ((one, grad),) = held.take([(2, 0, 1)])
    assert (one.shard, one.clock, one.steps, one.scale, grad.tolist()) == (4, 9, 1, 1.0, [0.0] * 3)
    assert held.has(push(2, node=1, clock=9))  # whatever else it says: by its origin and number
    assert not held.has(push(2, node=1, replica=1))


def test_late_ones_are_freed_and_counted_and_those_of_the_gone_are_freed() -> None:
    held = holding(push(node=1, clock=3), push(node=2, clock=4), push(node=3, clock=3), push(node=4, clock=4))
    assert held.free({3, 4}, lambda clock: clock < 4) == 1
    assert held_of(held) == [(2, 0, 1)]


def test_where_late_ones_count_those_of_the_gone_alone_are_freed() -> None:
    held = holding(push(node=1, clock=0), push(node=2, clock=0))
    assert held.free({2}, lambda _: False) == 0
    assert held_of(held) == [(1, 0, 1)]
    assert held.free(set(), lambda _: False) == 0


def test_memory_is_taken_again() -> None:
    held = holding(push(node=1), push(node=2, clock=1), push(node=3))
    arrays = {id(grad) for _, grad in held}
    held.give_back([grad for _, grad in held.take([(1, 0, 1)])])
    held.free((), lambda clock: clock < 1)  # the third one
    for node in (7, 8):
        held.hold(push(node=node), filled(node))
    assert {id(grad) for _, grad in held} == arrays
    assert [float(grad[0]) for _, grad in held] == [2.0, 7.0, 8.0]


def test_what_waits_is_a_copy() -> None:
    grad = filled(1)
    held = PendingPushes()
    held.hold(push(), grad)
    grad[:] = 9
    assert [float(array[0]) for _, array in held] == [1.0]


def test_gradients_that_never_came_take_the_memory_of_one() -> None:
    """Each lie, a message of some bytes, had every server allocate a gradient, and keep that for good."""
    pending = PendingPushes()
    lies = [(9, replica, 1) for replica in range(50)]
    pending.feign(lies, 0, 3, SIZE)
    held = pending.take(lies)
    assert len({id(array) for _, array in held}) == 1
    assert not any(array.any() for _, array in held)
    pending.give_back([array for _, array in held])
    for sequence in (1, 2):  # the memory is one gradient's again
        pending.hold(push(sequence), filled(sequence))
    assert [array.tolist() for _, array in pending] == [filled(1).tolist(), filled(2).tolist()]
