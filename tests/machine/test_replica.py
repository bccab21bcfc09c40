"""The replica's loop, in this process: against the ruler, bit for bit, and its habits around blocks, stops and NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from support import reference_sgd
from support.replicas import OPTIMISERS, digits, job_of

import hogpour as hp
from hogpour.core.job import Job
from hogpour.data.blocks import generator
from hogpour.layers.sequential import network_of
from hogpour.machine.replica import Replica, live_layout
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import DIVERGED, Control


def live_of(job: Job, shape: tuple[int, ...], replicas: int = 1, pending: int = 0) -> Mapping[str, np.ndarray]:
    network = network_of(job, shape)
    layout = live_layout(network, job.algorithm.optimiser, replicas, pending)
    live = layout.views(bytearray(layout.size))
    network.init(live["params"], generator(job.seed, 5))
    return live


def replica_of(job: Job, live: Mapping[str, np.ndarray], x: np.ndarray, y: np.ndarray, **more: Any) -> Replica:
    return Replica(job, network_of(job, x.shape[1:]), live, x, y, more.pop("number", 0),
                   block_replicas=more.pop("block_replicas", 1), **more)  # fmt: skip


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("scheme", [hp.Hogwild, hp.SyncSgd])
def test_one_replica_is_the_ruler_bit_for_bit(scheme: type, optimiser: Any) -> None:
    x, y = digits(203)
    job = job_of(algorithm=scheme(optimiser=optimiser, schedule=hp.BackOff(beta=0.8)))
    live = live_of(job, x.shape[1:])
    expected = reference_sgd.train(job, network_of(job, x.shape[1:]), live["params"], x, y)
    replica_of(job, live, x, y).run()
    assert expected.tobytes() == live["params"].tobytes()


@pytest.mark.parametrize("schedule", [hp.Cosine(), hp.WarmUp(epochs=1.5)], ids=str)
def test_the_rate_follows_its_schedule_within_an_epoch(schedule: Any) -> None:
    """By blocks, of which an epoch here has many: with a rate for each epoch the same job comes elsewhere."""
    x, y = digits(203)
    job = job_of(algorithm=hp.Hogwild(optimiser=hp.Sgd(0.1), schedule=schedule))
    live = live_of(job, x.shape[1:])
    expected = reference_sgd.train(job, network_of(job, x.shape[1:]), live["params"], x, y)
    replica_of(job, live, x, y).run()
    assert expected.tobytes() == live["params"].tobytes()


def test_every_step_of_a_block_drops_other_units_and_the_same_step_the_same() -> None:
    x, y = digits(64)
    job = job_of(model=[hp.Linear(64), hp.Dropout(0.5), hp.Linear(10)])
    replica = replica_of(job, live_of(job, x.shape[1:]), x, y)
    order = np.tile(np.arange(16), 4)  # the same examples in each step

    def loss(position: int, ticket: int) -> float:
        assert replica.compute(order, position, 16, ticket)
        return float(replica._loss)

    steps = [(position, ticket) for position in (0, 16, 32) for ticket in (0, 1)]
    losses = [loss(*step) for step in steps]
    assert len(set(losses)) == len(steps)
    assert [loss(*step) for step in steps] == losses


def test_a_convolution_network_is_the_ruler_bit_for_bit() -> None:
    x, y = digits(50)
    layers = [hp.Conv2D(4, kernel=3), hp.MaxPool2D(2), hp.Relu(), hp.Linear(10)]
    job = job_of(model=layers, epochs=2)
    live = live_of(job, x.shape[1:])
    expected = reference_sgd.train(job, network_of(job, x.shape[1:]), live["params"], x, y)
    replica_of(job, live, x, y).run()
    assert expected.tobytes() == live["params"].tobytes()


def test_every_example_is_used_once_an_epoch_by_two_replicas_in_turn() -> None:
    """Two replicas that take turns on one live vector share the tickets; together they use each example once."""
    x, y = digits(333)
    job = job_of(epochs=2)
    live = live_of(job, x.shape[1:], replicas=2)
    used = np.zeros(len(x), int)

    class Counting(Replica):
        def compute(self, order: np.ndarray, position: int, batch: int, ticket: int) -> bool:
            np.add.at(used, order[position : position + batch], 1)
            return super().compute(order, position, batch, ticket)

    turns = iter([True] * 5)
    first = Counting(job, network_of(job, x.shape[1:]), live, x, y, 0, block_replicas=2,
                     alive=lambda: next(turns, False))  # fmt: skip
    first.run()
    Counting(job, network_of(job, x.shape[1:]), live, x, y, 1, block_replicas=2).run()
    assert used.max() <= 2
    Counting(job, network_of(job, x.shape[1:]), live, x, y, 0, block_replicas=2).run()
    assert used.tolist() == [2] * len(x)
    assert Clocks(live["counters"], live["sums"]).examples == 2 * len(x)


def test_a_successor_finishes_the_block_of_the_dead_bit_for_bit() -> None:
    """A replica that ends in the middle of a block and its successor do together what one does alone."""
    x, y = digits(203)
    job = job_of(model=[hp.Linear(16), hp.Dropout(0.3), hp.Relu(), hp.Linear(10)])
    whole, broken = live_of(job, x.shape[1:]), live_of(job, x.shape[1:])
    replica_of(job, whole, x, y).run()
    for steps in (3, 10, 1):
        turns = iter([True] * steps)
        replica_of(job, broken, x, y, alive=lambda turns=turns: next(turns, False)).run()
    replica_of(job, broken, x, y).run()
    assert whole["params"].tobytes() == broken["params"].tobytes()


def test_pending_blocks_of_a_resumed_run_are_done_first() -> None:
    x, y = digits(200)
    job = job_of(epochs=1)
    live = live_of(job, x.shape[1:], replicas=2, pending=3)
    control, clocks = Control(live["control"]), Clocks(live["counters"], live["sums"])
    live["pending"][...] = [(0, 16), (2, 0), (1, 32)]
    control.tickets_taken = 10**6
    replica_of(job, live, x, y, number=1, block_replicas=1).run()
    assert live["pending"].tolist() == [[0, 16], [-1, -1], [1, 32]]
    replica_of(job, live, x, y, number=0, block_replicas=1).run()
    assert (live["pending"] == -1).all()
    size = 16
    assert clocks.examples % size in (0, 200 % size)


def test_a_block_that_was_announced_and_not_taken_is_left_to_whoever_takes_it() -> None:
    """The dead replica had said 0, and nobody had taken it: done once, not twice."""
    x, y = digits(200)
    job = job_of(epochs=1)
    live = live_of(job, x.shape[1:])
    clocks = Clocks(live["counters"], live["sums"])
    clocks.begin_block(0, 0)
    replica_of(job, live, x, y).run()
    assert clocks.examples == 200


def test_a_replica_killed_right_after_taking_a_block_has_announced_it() -> None:
    x, y = digits(200)
    job = job_of(epochs=1)
    live = live_of(job, x.shape[1:])
    clocks = Clocks(live["counters"], live["sums"])

    class Killed(BaseException):
        pass

    class Dies(Replica):
        def _block(self, word: int) -> bool:
            raise Killed

    with pytest.raises(Killed):
        Dies(job, network_of(job, x.shape[1:]), live, x, y, 0, block_replicas=1).run()
    assert clocks.unfinished(0) == (0, 0)
    replica_of(job, live, x, y).run()
    assert clocks.examples == 200


def test_a_stop_ends_before_the_next_step() -> None:
    x, y = digits(200)
    job = job_of()
    live = live_of(job, x.shape[1:])
    Control(live["control"]).stop()
    replica_of(job, live, x, y).run()
    assert Clocks(live["counters"], live["sums"]).examples == 0


def test_a_loss_that_is_not_finite_stops_all_and_is_not_applied() -> None:
    x, y = digits(200)
    job = job_of()
    live = live_of(job, x.shape[1:])
    live["params"][20 * 16] = np.inf  # a pixel in the middle: one that is always 0 is never read
    before = live["params"].tobytes()
    replica_of(job, live, x, y).run()
    assert Control(live["control"]).command == DIVERGED
    assert live["params"].tobytes() == before


def test_a_step_allocates_nothing() -> None:
    import tracemalloc

    x, y = digits(64)
    job = job_of(model=[hp.Conv2D(16, kernel=3), hp.Relu(), hp.Dropout(0.5), hp.Linear(10)])
    live = live_of(job, x.shape[1:])
    replica = replica_of(job, live, x, y)
    order = np.arange(64)
    assert replica.compute(order, 0, 16, 0)
    replica.use(16)
    tracemalloc.start()
    try:
        replica.compute(order, 16, 16, 0)
        replica.use(16)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for step in range(3):
            replica.compute(order, 16 * step, 16, 0)
            replica.use(16)
        taken = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # Python's own small objects, and the words of a generator's state; the smallest activation here has 40 kB.
    assert taken < 4096


def test_values_are_learnt_too() -> None:
    x, _ = digits(200)
    y = x.reshape(200, -1)[:, 20:22].copy()
    job = job_of(model=[hp.Linear(2)], loss="squared_error", algorithm=hp.Hogwild(optimiser=hp.Sgd(0.05)), epochs=20)
    live = live_of(job, x.shape[1:])
    replica_of(job, live, x, y).run()
    network = network_of(job, x.shape[1:])
    workspace = network.workspace(200, live["params"])
    workspace.x[...] = np.moveaxis(x, 0, -1)
    workspace.forward()
    assert np.mean((workspace.scores.T - y) ** 2) < 0.1 * y.var()


def test_a_batch_larger_than_any_memory_takes_all_examples() -> None:
    """It asked for room for as many numbers of examples: "array is too big"."""
    x, y = digits(100)
    job = job_of(batch=2**63 - 1, epochs=2)
    replica = replica_of(job, live := live_of(job, x.shape[1:]), x, y)
    replica.run()
    assert Clocks(live["counters"], live["sums"]).steps.tolist() == [2]
