"""The coordinator and who computes at the beginning."""

from __future__ import annotations

import asyncio

import pytest
from support.cluster import LEASE_S, Cluster, settle

from hogpour.cluster.leases import LedgerState
from hogpour.net.wire.base import Ok
from hogpour.net.wire.join import Leave
from hogpour.net.wire.lease import Leased


async def test_all_compute_at_once_without_a_warm_start() -> None:
    assert not Cluster().coordinator.warm_start.active


async def test_only_the_first_member_computes_until_so_many_examples_were_used() -> None:
    cluster = Cluster(warm_start_examples=200)
    await cluster.begin()
    node = await cluster.join()
    assert await cluster.lease(node, 1) == Leased([], False)
    assert await cluster.lease(1, 1) == Leased([0], False)
    assert (await cluster.beat(1, 199)).warming
    await cluster.tick()
    assert (await cluster.beat(1, 200)).warming  # decided by ticks
    await cluster.tick()
    assert not (await cluster.beat(1, 200)).warming
    assert await cluster.lease(node, 1) == Leased([1], False)
    assert cluster.lines[-1] == "warm start is over: all replicas compute"


async def test_a_warm_start_ends_by_time_since_the_first_was_ready() -> None:
    cluster = Cluster(warm_start_s=5.0)
    await cluster.tick(100)
    await cluster.begin()
    await cluster.live(4.875)
    assert cluster.coordinator.warm_start.active
    await cluster.live(0.125)
    assert not cluster.coordinator.warm_start.active


async def test_a_warm_start_by_both_ends_with_whichever_comes_first() -> None:
    for examples, seconds in ((100, 0.125), (0, 5.0)):
        cluster = Cluster(warm_start_examples=100, warm_start_s=5.0)
        await cluster.begin()
        await cluster.beat(1, examples)
        await cluster.live(seconds)
        assert not cluster.coordinator.warm_start.active


async def test_a_run_that_is_resumed_behind_its_warm_start_has_none() -> None:
    cluster = Cluster(warm_start_examples=200, state=LedgerState(2))
    assert cluster.coordinator.examples == 200
    await cluster.tick()
    assert not cluster.coordinator.warm_start.active


@pytest.mark.parametrize("clean", [False, True])
async def test_another_member_warms_up_when_the_one_that_did_is_gone(clean: bool) -> None:
    cluster = Cluster(warm_start_examples=200)
    node, other = await cluster.join(), await cluster.join()
    await cluster.begin()
    assert await cluster.lease(node, 1) == Leased([0], False)  # it was the first to be ready
    assert await cluster.lease(1, 1) == await cluster.lease(other, 1) == Leased([], False)
    cluster.silent.add(node)
    if clean:
        await cluster.ask(Leave(node))
    else:
        await cluster.live(LEASE_S)
    assert await cluster.lease(other, 1) == Leased([], False)
    assert await cluster.lease(1, 1) == Leased([0], False)


async def test_whoever_is_loading_or_leaves_does_not_warm_up() -> None:
    cluster = Cluster(warm_start_examples=200)
    node, leaver, other = await cluster.join("n2:1"), await cluster.join("n3:1"), await cluster.join()
    await cluster.tick()
    tasks = [asyncio.ensure_future(cluster.ask(Leave(each))) for each in (leaver, node)]
    await settle()
    await cluster.ready(1)  # the home comes late
    assert await cluster.lease(1, 1) == Leased([], False)
    assert await cluster.lease(other, 1) == Leased([0], False)
    await cluster.tick()
    assert [task.result() for task in tasks] == [Ok(), Ok()]
    assert await cluster.lease(other, 1, [0]) == Leased([1], False)


async def test_the_time_of_a_warm_start_goes_on_where_another_member_takes_it_over() -> None:
    cluster = Cluster(warm_start_s=5.0)
    node = await cluster.join()
    await cluster.live(4.0)
    await cluster.ask(Leave(node))
    await cluster.begin()
    await cluster.live(1.0)
    assert not cluster.coordinator.warm_start.active


async def test_the_next_one_to_be_ready_warms_up_when_nobody_was_left() -> None:
    cluster = Cluster(warm_start_examples=200)
    node = await cluster.join()
    await cluster.ask(Leave(node))
    await cluster.begin()
    assert await cluster.lease(1, 1) == Leased([0], False)
