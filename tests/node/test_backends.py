"""What stands behind a training: a machine alone, whose state is in its memory, and a part in a cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from support.prepared import N, prepared, small_job

from hogpour.core.errors import ClusterFailed, HogpourError
from hogpour.model.training_state import TrainingState
from hogpour.node.backends import Alone
from hogpour.node.cluster_run import InCluster


def test_a_machine_alone_is_complete_when_every_block_is_done() -> None:
    job = small_job(epochs=1)
    with prepared(job) as ready:
        alone = Alone(job, ready)
        taken: list[int] = []
        while not alone.nothing_else:
            alone.control.take_ticket(taken.append)
        last = taken[-1]
        alone.clocks.begin_block(0, last)
        assert not alone.stats.complete
        assert [block[0] for block in alone.state().pending] == [last]
        alone.clocks.end_block(0)
        assert alone.stats.complete


def test_a_machine_alone_counts_what_its_replicas_did_and_earlier_runs() -> None:
    job = small_job()
    with prepared(job) as ready:
        before = TrainingState(tickets=3, pending=(), steps=7, examples=12, n=N, block_replicas=1)
        ready.live.arrays["counters"][:] = 0
        alone = Alone(job, replace(ready, state=before))
        alone.clocks.set_steps(7)
        assert (alone.stats.before, alone.stats.examples, alone.stats.stepped) == (12, 0, False)
        alone.clocks.record(0, 4, 2.0, 3)
        assert (alone.stats.examples, alone.stats.stepped) == (4, True)
        totals = alone.stats.totals()
        assert (totals.examples, totals.loss, totals.right, totals.pushes) == (4, 2.0, 3, 0)
        state = alone.state()
        assert (state.tickets, state.steps, state.examples) == (3, 8, 16)
        assert alone.stats.cluster() is None


def test_the_memory_of_a_run_goes_when_its_backend_releases_it() -> None:
    """Its numbers stay, and whoever keeps them keeps no live vector with them."""
    job = small_job()
    with prepared(job) as ready:
        alone = Alone(job, ready)
        alone.clocks.record(0, 4, 2.0, 3)
        alone.release()
        assert ready.live._memory.closed
        assert alone.stats.examples == 4


async def test_nobody_else_has_a_part_in_what_a_machine_alone_does() -> None:
    job = small_job()
    with prepared(job) as ready:
        alone = Alone(job, ready)
        alone.train(lambda: 1)
        assert not alone.poll()
        assert not await alone.wind_down()
        await alone.finish(diverged=False)
        await alone.give_up(HogpourError("x"))
        assert (alone.ending, alone.rescue, alone.stats.shards, alone.stats.repeated) == ((), "", (), 0)


class Part:
    """Stands for everybody in a cluster run; notes what is asked of them."""

    beaten, node, warming, rescue = None, 2, False, ""

    def __init__(self, *, first: bool = False) -> None:
        self.asked: list[Any] = []
        self.path = SimpleNamespace(evaluation=None)
        self._first = first
        self.member = self

    def __getattr__(self, name: str) -> Any:
        if name in ("drain", "report", "where", "land", "beat_once", "conclude", "leave"):

            async def wait(*arguments: Any) -> Any:
                self.asked.append((name, *arguments[1:2]) if name == "leave" else name)
                return SimpleNamespace(epoch=0)

            return wait
        return lambda *arguments: self.asked.append(name)

    def __len__(self) -> int:
        return 0

    def fail(self, error: HogpourError) -> bool:
        self.asked.append(f"fail: {error}")
        return self._first


def in_cluster(part: Any) -> InCluster:
    loop = asyncio.get_running_loop()

    async def guard(work: Any) -> Any:
        return await work

    endpoint: Any = SimpleNamespace(
        stats=SimpleNamespace(beat=None), failed=loop.create_future(), ended=loop.create_future(), join="first:1",
        closing=[], heartbeat_hooks=[], rejoin_hooks=[], follow=lambda _: None, on_heartbeat=None, guard=guard,
    )  # fmt: skip
    live = {"control": np.zeros((2, 8), np.int64), "counters": None, "sums": None, "params": None}
    ready: Any = SimpleNamespace(live=SimpleNamespace(arrays=live))
    shard_map: Any = SimpleNamespace(epoch=1, addresses=())
    return InCluster(endpoint, part, part, part, part, part, part.wake, shard_map, ready)


async def test_in_a_cluster_a_part_ends_in_its_order() -> None:
    part = Part()
    backend = in_cluster(part)
    assert await backend.wind_down()
    assert part.asked == ["stop", "take_all", "close"]
    part.asked.clear()
    await backend.finish(diverged=False)
    assert part.asked == ["poll", "mark_all_absent", "drain", "report", "tick", "beat_once", "conclude", "where", "land",
                          ("leave", "")]  # fmt: skip


async def test_of_a_loss_that_is_not_finite_all_are_told() -> None:
    part = Part()
    await in_cluster(part).finish(diverged=True)
    assert part.asked[:2] == ["poll", "fail: the loss is not finite any more"]
    assert part.asked[-1] == ("leave", "the loss is not finite any more")


async def test_when_the_first_node_gives_up_it_does_not_wait_for_anything() -> None:
    part = Part(first=True)
    await in_cluster(part).give_up(HogpourError("no disk"))
    assert part.asked == ["fail: no disk"]


async def test_of_a_cluster_that_failed_nothing_is_wound_down() -> None:
    part = Part()
    backend = in_cluster(part)
    backend.ending[0].set_exception(ClusterFailed("gone"))
    assert not await backend.wind_down()
    await backend.give_up(HogpourError("x"))
    assert part.asked == ["fail: x"]
    assert backend.ending[0].exception() is not None
