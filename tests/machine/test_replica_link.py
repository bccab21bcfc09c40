"""Downpour's client around the replica's loop, in this process: a fake link that applies and lands when it is waited for."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support import reference_sgd
from support.replicas import OPTIMISERS, digits, job_of

import hogpour as hp
from hogpour.core.shard_map import cut
from hogpour.data.blocks import Blocks, generator
from hogpour.layers.sequential import network_of
from hogpour.machine.replica import Replica, live_layout
from hogpour.shm.accrual import Sealed, list_sealed, release
from hogpour.shm.mailbox import Mailbox
from hogpour.shm.queue import TicketQueue


class FakeLink:
    """A parameter server of several shards and a network without time: everything happens when somebody waits."""

    def __init__(self, live: Mapping[str, np.ndarray], optimiser: Any, shards: int) -> None:
        n = live["params"].size
        bounds = cut(n, -(-n // shards // 16) * 64 + 64)
        self.live, self.optimiser = live, optimiser
        self.slices = [slice(a, b) for a, b in pairwise(bounds)]
        self.params = live["params"].copy()
        self.rows = tuple(np.zeros(n, np.float32) for _ in optimiser.state)
        self.landing, self.queue = Mailbox(live["mailbox"]), TicketQueue(live["queue"], live["queue_ring"])
        self.clock, self.number = 0, 0
        self.pushes: list[Sealed] = []

    def lease(self, tickets: list[int]) -> None:
        self.queue.put(tickets)
        self.queue.close()

    def deliver(self) -> None:
        for replica in range(len(self.live["accrual"])):
            for push in list_sealed(self.live["accrual"], self.live["accrual_tickets"], replica):
                self.pushes.append(push)
                if push.steps:
                    self.clock += 1
                    for part in self.slices:
                        self.optimiser.apply(
                            self.params[part],
                            self.live["accrued"][replica, push.buffer][part],
                            tuple(row[part] for row in self.rows),
                            lr_scale=push.scale,
                            t=self.clock,
                        )
                release(self.live["accrual"], push)
        if self.landing.wanted() != [self.landing.landed(k) for k in range(len(self.live["mailbox"]))]:
            self.number += 1
            self.live["params"][:] = self.params
            self.landing.land(self.landing.wanted(), self.number)


def run(job: Any, shards: int = 1, replica: type = Replica, **more: Any) -> tuple[FakeLink, np.ndarray]:
    x, y = digits(203)
    network = network_of(job, x.shape[1:])
    layout = live_layout(network, job.algorithm.replica_rule, 1, 0, True)
    live = layout.views(bytearray(layout.size))
    network.init(live["params"], generator(job.seed, 5))
    before = live["params"].copy()
    link = FakeLink(live, job.algorithm.server_rule, shards)
    link.lease(list(range(Blocks(len(x), job.batch, 1, job.epochs).total)))
    replica(job, network, live, x, y, 0, block_replicas=1, wait=link.deliver, **more).run()
    link.deliver()
    return link, before


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda o: type(o).__name__)
def test_one_replica_that_pushes_and_fetches_every_step_is_plain_sgd_bit_for_bit(optimiser: Any, shards: int) -> None:
    job = job_of(algorithm=hp.Downpour(optimiser=optimiser, schedule=hp.BackOff(beta=0.8)))
    link, before = run(job, shards)
    x, y = digits(203)
    expected = reference_sgd.train(job, network_of(job, x.shape[1:]), before, x, y)
    assert len(link.slices) == shards
    assert expected.tobytes() == link.params.tobytes()


@pytest.mark.parametrize(("n_push", "n_fetch"), [(1, 1), (1, 5), (4, 4), (5, 1), (7, 3), (1000, 1000)])
def test_every_gradient_is_pushed_once_and_every_block_reported_once(n_push: int, n_fetch: int) -> None:
    job = job_of(algorithm=hp.Downpour(optimiser=hp.Sgd(0.1), n_push=n_push, n_fetch=n_fetch))
    link, _ = run(job)
    steps = job.epochs * -(-203 // job.batch)
    assert sum(push.steps for push in link.pushes) == steps
    assert {push.steps for push in link.pushes[:-1]} <= {n_push}
    tickets = [ticket for push in link.pushes for ticket in push.tickets]
    assert sorted(tickets) == list(range(Blocks(203, job.batch, 1, job.epochs).total))
    assert [push.sequence for push in link.pushes] == list(range(1, len(link.pushes) + 1))
    assert link.landing.wanted() == [steps // n_fetch]


def test_a_replica_computes_no_further_than_its_fetches_allow() -> None:
    """Parameters asked for after step k·n_fetch have landed before step (k+1)·n_fetch; so a replica cannot drift away."""
    job = job_of(algorithm=hp.Downpour(optimiser=hp.Sgd(0.1), n_push=1000, n_fetch=4))
    seen: list[tuple[int, int]] = []

    class Watched(Replica):
        def compute(self, *arguments: Any) -> bool:
            landing = Mailbox(self.landing_words)
            seen.append((len(seen) + 1, landing.landed(0)))
            return super().compute(*arguments)

        def __init__(self, job: Any, network: Any, live: Any, *more: Any, **named: Any) -> None:
            self.landing_words = live["mailbox"]
            super().__init__(job, network, live, *more, **named)

    run(job, replica=Watched)
    assert all(landed >= step // 4 - 1 for step, landed in seen)
    assert any(landed < step // 4 for step, landed in seen), "it never computed while a fetch was under way"


def test_a_replica_that_is_held_back_computes_nothing_until_it_may() -> None:
    job = job_of(algorithm=hp.Downpour(optimiser=hp.Sgd(0.1)), epochs=1)
    x, y = digits(203)
    network = network_of(job, x.shape[1:])
    layout = live_layout(network, job.algorithm.optimiser, 1, 0, True)
    live = layout.views(bytearray(layout.size))
    link = FakeLink(live, job.algorithm.optimiser, 1)
    link.lease(list(range(Blocks(len(x), job.batch, 1, 1).total)))
    link.landing.hold(0, True)
    waits = 0

    def wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            assert not link.pushes
            link.landing.hold(0, False)
        link.deliver()

    Replica(job, network, live, x, y, 0, block_replicas=1, wait=wait).run()
    link.deliver()
    assert waits >= 3
    assert sum(push.steps for push in link.pushes) == 13


@pytest.mark.parametrize("alive_for", [1, 5, 12])
def test_a_successor_finishes_the_block_and_the_window(alive_for: int) -> None:
    """A replica that ends in the middle leaves its block and its accrued gradients to the next one; all are pushed."""
    job = job_of(algorithm=hp.Downpour(optimiser=hp.Sgd(0.1), n_push=5, n_fetch=5))
    x, y = digits(203)
    network = network_of(job, x.shape[1:])
    layout = live_layout(network, job.algorithm.optimiser, 1, 0, True)
    live = layout.views(bytearray(layout.size))
    link = FakeLink(live, job.algorithm.optimiser, 1)
    link.lease(list(range(Blocks(len(x), job.batch, 1, job.epochs).total)))
    left = alive_for

    def alive() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    Replica(job, network, live, x, y, 0, block_replicas=1, wait=link.deliver, alive=alive).run()
    assert live["counters"][0, 0] < 39
    Replica(job, network, live, x, y, 0, block_replicas=1, wait=link.deliver).run()
    link.deliver()
    assert sum(push.steps for push in link.pushes) == 39
    assert sorted({t for push in link.pushes for t in push.tickets}) == list(range(Blocks(203, 16, 1, 3).total))


def test_a_batch_is_accrued_before_it_is_counted_as_used() -> None:
    """A replica that was killed between the two had counted a batch whose gradient nobody ever pushed."""
    job = job_of(algorithm=hp.Downpour(optimiser=hp.Sgd(0.1), n_push=5, n_fetch=5))
    x, y = digits(203)
    network = network_of(job, x.shape[1:])
    layout = live_layout(network, job.algorithm.optimiser, 1, 0, True)
    live = layout.views(bytearray(layout.size))
    link = FakeLink(live, job.algorithm.optimiser, 1)
    link.lease(list(range(Blocks(len(x), job.batch, 1, job.epochs).total)))

    class Killed(Exception):
        pass

    class Mortal(Replica):
        def use(self, *arguments: Any) -> None:
            record, steps = self._clocks.record, int(self._clocks.steps.sum())

            def die(*counts: Any) -> int:
                if steps == 6:
                    raise Killed
                return record(*counts)

            self._clocks.record = die  # type: ignore[method-assign]
            try:
                super().use(*arguments)
            finally:
                del self._clocks.record

    with pytest.raises(Killed):
        Mortal(job, network, live, x, y, 0, block_replicas=1, wait=link.deliver).run()
    Replica(job, network, live, x, y, 0, block_replicas=1, wait=link.deliver).run()
    link.deliver()
    assert sum(push.steps for push in link.pushes) == 40  # 39, and one twice


def test_a_successor_pushes_at_the_rate_of_what_was_accrued() -> None:
    """It sealed the window of its predecessor with the scale that a view has before its first block: 1."""
    job = job_of(algorithm=hp.Downpour(optimiser=hp.Sgd(0.1), n_push=100, n_fetch=1, schedule=hp.Step(every=1, factor=0.25)))
    x, y = digits(16)
    network = network_of(job, x.shape[1:])
    layout = live_layout(network, job.algorithm.optimiser, 1, 0, True)
    live = layout.views(bytearray(layout.size))
    link = FakeLink(live, job.algorithm.optimiser, 1)
    link.queue.put([1])  # of the second epoch
    Replica(job, network, live, x, y, 0, block_replicas=1, wait=link.deliver, alive=lambda: not live["counters"][0, 0]).run()
    assert not link.pushes
    Replica(job, network, live, x, y, 0, block_replicas=1, wait=link.deliver, alive=lambda: not link.pushes).run()
    link.deliver()
    assert [push.scale for push in link.pushes] == [0.25]


class Recorded(FakeLink):
    """Notes at each delivery how many rounds were pushed, asked for and landed."""

    def deliver(self) -> None:
        super().deliver()
        assert self.landing.wanted()[0] == sum(push.steps > 0 for push in self.pushes), "a push and its fetch part"


@pytest.mark.parametrize("steps", [1, 4, 1000])
def test_in_rounds_every_push_has_its_fetch_and_the_next_step_waits_for_it(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a round that ends early, because there are no blocks: else pushes and fetches would drift apart."""
    monkeypatch.setitem(globals(), "FakeLink", Recorded)
    link, _ = run(job_of(algorithm=hp.Custom(exchange=hp.Local(steps), optimiser=hp.Sgd(1.0))))
    rounds = [push.steps for push in link.pushes if push.steps]
    assert rounds == [steps] * (39 // steps) + [39 % steps] * (39 % steps > 0)
    assert [push.landing for push in link.pushes if push.steps] == list(range(len(rounds)))


@pytest.mark.parametrize(("pace", "steps"), [(0.0, 8), (1.0, 8), (0.5, 4), (0.3, 2), (0.01, 1)])
def test_a_slower_node_has_proportionally_shorter_rounds(pace: float, steps: int) -> None:
    job = job_of(algorithm=hp.AsyncDiLoCo(steps=8, inner=hp.Sgd(0.1)))

    class Paced(Replica):
        def __init__(self, job: Any, network: Any, live: Any, *more: Any, **named: Any) -> None:
            if pace:
                Mailbox(live["mailbox"]).set_pace(pace)
            super().__init__(job, network, live, *more, **named)

    link, _ = run(job, replica=Paced)
    assert {push.steps for push in link.pushes[:-1] if push.steps} == {steps}


def test_the_schedule_is_that_of_the_inner_rule() -> None:
    job = job_of(algorithm=hp.Custom(exchange=hp.Local(3), optimiser=hp.Sgd(1.0), schedule=hp.Step(every=1, factor=0.25)))
    link, _ = run(job)
    assert {push.scale for push in link.pushes} == {1.0}


def test_a_successor_asks_for_the_fetch_that_its_predecessor_may_have_left_out() -> None:
    """Killed after it sealed and before it asked: of a round that is pulled, nobody would ever have told the tickets."""
    job = job_of(algorithm=hp.Custom(exchange=hp.Local(4), optimiser=hp.Sgd(1.0)))
    x, y = digits(203)
    network = network_of(job, x.shape[1:])
    layout = live_layout(network, job.algorithm.replica_rule, 1, 0, True)
    live = layout.views(bytearray(layout.size))
    link = FakeLink(live, job.algorithm.server_rule, 1)
    link.lease(list(range(Blocks(len(x), job.batch, 1, job.epochs).total)))
    Replica(job, network, live, x, y, 0, block_replicas=1, alive=lambda: live["counters"][0, 0] < 2).run()
    assert link.landing.wanted() == [0]
    Replica(job, network, live, x, y, 0, block_replicas=1, alive=lambda: False)
    assert link.landing.wanted() == [1]


def test_where_rounds_are_pulled_a_gradient_is_computed_before_the_landing_and_used_after_it() -> None:
    job = job_of(algorithm=hp.Easgd(tau=1), epochs=1)
    seen: list[tuple[str, int]] = []

    class Watched(Replica):
        def compute(self, *arguments: Any) -> bool:
            seen.append(("compute", Mailbox(self.words).landed(0)))
            return super().compute(*arguments)

        def use(self, batch: int) -> None:
            seen.append(("use", Mailbox(self.words).landed(0)))
            super().use(batch)

        def __init__(self, job: Any, network: Any, live: Any, *more: Any, **named: Any) -> None:
            self.words = live["mailbox"]
            super().__init__(job, network, live, *more, **named)

    run(job, replica=Watched)
    computed = [landed for what, landed in seen if what == "compute"]
    used = [landed for what, landed in seen if what == "use"]
    assert used == list(range(13))
    assert computed == [0, *range(12)]
