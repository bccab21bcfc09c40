"""Placement: moves of shards that fail, and what becomes of the shard."""

from __future__ import annotations

import asyncio

import pytest
from support.placed import Cluster

from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.wire.dump import Adopt
from hogpour.net.wire.status import Fence


async def test_a_move_whose_answer_was_lost_is_tried_again_as_it_was() -> None:
    """The taker may have the shard already: to bring it back would have two serve it."""
    cluster = Cluster(2)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.deaf = True
    await cluster.tick()
    assert cluster.owners == (1, 1)
    assert cluster.lines == ["shard 1 is still on its way to node 2 (n2:1): n2:1: no answer"]
    taker.deaf = False
    await cluster.tick()
    assert cluster.owners == (1, 2)
    assert taker.asked == [Adopt(1, "")] * 2
    assert cluster.world[""].asked == []
    cluster.agrees()


async def test_a_move_whose_answer_was_lost_is_not_replaced_by_a_better_one() -> None:
    cluster = Cluster([100, 600])
    cluster.serve(2)
    cluster.world["n2:1"].deaf = True
    await cluster.tick()
    assert cluster.world["n2:1"].serves == {0}  # and the map does not say so
    cluster.serve(3)
    cluster.placement.leave(2)
    cluster.world["n2:1"].deaf = False
    await cluster.tick()
    assert cluster.world["n2:1"].asked == [Adopt(0, "")] * 2
    assert cluster.owners == (3, 1)
    cluster.agrees()


async def test_a_move_is_tried_once_a_tick() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].dead = True
    await cluster.tick(3)
    assert len(cluster.world["n2:1"].asked) == 3


async def test_a_shard_that_was_refused_stays_where_it_is() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].refuses = True
    await cluster.tick()
    assert cluster.lines == ["node 2 (n2:1) does not take shard 1 from node 1: no memory"]
    assert cluster.world[""].asked == [Adopt(1, "")]  # go on serving
    cluster.agrees()


async def test_who_refuses_three_times_is_asked_no_more() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].refuses = True
    await cluster.tick(10)
    assert len(cluster.world["n2:1"].asked) == 3
    cluster.serve(3)
    await cluster.tick()
    assert cluster.owners == (1, 3)


async def test_who_says_again_that_it_serves_is_no_other_than_before() -> None:
    cluster = Cluster(2)
    cluster.placement.gone(9)
    cluster.serve(2)
    cluster.world["n2:1"].refuses = True
    await cluster.tick(10)
    cluster.serve(2)
    await cluster.tick(3)
    assert cluster.world["n2:1"].asked == [Fence(9)] + [Adopt(1, "")] * 3


async def test_the_home_is_asked_for_ever_to_take_what_a_leaver_has() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    await cluster.tick()
    cluster.world[""].refuses = True
    cluster.placement.leave(2)
    await cluster.tick(10)
    assert cluster.owners == (1, 2)
    cluster.agrees()
    cluster.world[""].refuses = False
    await cluster.tick()
    assert cluster.owners == (1, 1)
    cluster.agrees()


@pytest.mark.parametrize("early", [False, True])
async def test_a_taker_that_dies_in_the_midst_of_a_move_leaves_the_shard_to_its_owner(early: bool) -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.gate, taker.gate_before = asyncio.Event(), early
    await cluster.tick()
    assert cluster.world[""].kept == (set() if early else {1})
    taker.dead = True
    assert cluster.placement.gone(2) == []
    await cluster.tick(3)
    assert cluster.owners == (1, 1)
    assert cluster.world[""].asked == [Fence(2), Adopt(1, "")]
    cluster.agrees()
    assert cluster.failures == []
    cluster.serve(3)
    await cluster.tick(2)  # first it is told of the death
    assert cluster.owners == (1, 3)


async def test_a_shard_is_brought_back_when_its_server_has_heard_that_the_taker_is_dead() -> None:
    """Otherwise the taker, which may live on unheard, could fetch it again from a server that goes on serving it."""
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].gate = asyncio.Event()
    await cluster.tick()
    cluster.world["n2:1"].dead = True
    home = cluster.world[""]
    home.fence_error = RequestFailed(Refusal.BUSY, "later")
    cluster.placement.gone(2)
    await cluster.tick(4)
    assert set(home.asked) == {Fence(2)}
    home.fence_error = None
    await cluster.tick(2)
    assert home.asked[-2:] == [Fence(2), Adopt(1, "")]
    cluster.agrees()


async def test_a_shard_that_came_back_has_a_map_of_its_own() -> None:
    """A node whose push was refused while the shard was given up waits for a map of a later epoch. None came when the
    shard was where it had been, and after 10 s that node gave up the cluster."""
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].gate = asyncio.Event()
    await cluster.tick()
    cluster.placement.gone(2)
    changed = asyncio.ensure_future(cluster.placement.changed())
    await cluster.tick(3)
    assert (cluster.owners, cluster.placement.map.epoch, changed.done()) == ((1, 1), 2, True)
    cluster.agrees()


async def test_a_shard_that_nobody_has_any_more_fails_the_run() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    taker, home = cluster.world["n2:1"], cluster.world[""]
    taker.gate = asyncio.Event()
    await cluster.tick()
    taker.dead = True
    home.kept.clear()
    cluster.placement.gone(2)
    await cluster.tick(5)
    assert cluster.failures == ["shard 1 was lost between node 1 and node 2: shard 1 is not here"]


async def test_a_source_that_does_not_answer_is_asked_again_to_go_on() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    await cluster.tick()
    cluster.serve(3)
    cluster.placement.leave(2)
    cluster.world["n3:1"].refuses = cluster.world[""].refuses = True
    cluster.world["n2:1"].deaf = True
    await cluster.tick()
    assert cluster.lines[-1] == "shard 1 is still on its way back to node 2 (n2:1): n2:1: no answer"
    cluster.world["n2:1"].deaf = False
    cluster.world[""].refuses = cluster.world["n3:1"].refuses = False
    cluster.world["n2:1"].asked.clear()
    await cluster.tick()
    assert cluster.world["n2:1"].asked == [Adopt(1, "n2:1")]  # before anybody else is offered it
    assert cluster.owners == (1, 2)
    cluster.agrees()
    await cluster.tick()
    assert cluster.owners != (1, 2)
    cluster.agrees()
    assert cluster.failures == []


async def test_a_source_that_dies_in_the_midst_of_a_move_takes_its_shards_along() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    await cluster.tick()
    cluster.placement.leave(2)
    home = cluster.world[""]
    home.gate, home.gate_before = asyncio.Event(), True
    await cluster.tick()
    cluster.world["n2:1"].dead = True
    assert cluster.placement.gone(2) == [1]
    await cluster.tick(3)
    home.gate.set()
    await cluster.tick(3)
    assert cluster.owners == (1, 2)
    assert [message for message in home.asked if isinstance(message, Adopt)] == [Adopt(1, "n2:1")]
