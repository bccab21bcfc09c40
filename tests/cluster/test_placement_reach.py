"""Placement: who cannot be reached, and who is told of the dead."""

from __future__ import annotations

import asyncio

from support.placed import HOME, Cluster

from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.wire.dump import Adopt
from hogpour.net.wire.reach import Knock
from hogpour.net.wire.status import Fence


async def test_a_server_that_cannot_be_reached_computes_only_and_holds_up_no_move() -> None:
    """Its port is firewalled, and its heartbeats get through: every other move waited for its first one, for ever."""
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.world["n2:1"].firewalled = True
    cluster.serve(3)
    await cluster.tick()
    assert cluster.lines == ["n2:1, node 2, cannot be reached from here: firewall? it computes only (n2:1: no connection within 1 s)"]
    assert cluster.owners == (1, 1, 1, 3, 3, 3)
    cluster.placement.leave(3)
    await cluster.tick()
    assert cluster.owners == (1,) * 6
    assert len(cluster.lines) == 1
    assert cluster.world[""].asked == [Adopt(k, "n3:1") for k in (3, 4, 5)]
    cluster.agrees()


async def test_a_server_is_knocked_at_until_it_can_be_reached() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.firewalled = True
    await cluster.tick(4)
    assert taker.asked == [Adopt(1, ""), *[Knock()] * 3]
    taker.firewalled = False
    await cluster.tick(2)
    assert cluster.lines[1:] == ["node 2 (n2:1) can be reached now"]
    assert cluster.owners == (1, 2)
    cluster.agrees()


async def test_a_server_that_cannot_be_told_of_the_dead_is_named() -> None:
    cluster = Cluster(2)
    cluster.placement.gone(9)
    cluster.serve(2)
    cluster.world["n2:1"].firewalled = True
    await cluster.tick(3)
    assert [line.partition(":1, ")[0] for line in cluster.lines] == ["n2"]
    cluster.world["n2:1"].firewalled = False
    await cluster.tick(3)
    assert cluster.world["n2:1"].fenced == [9]
    assert cluster.owners == (1, 2)


async def test_a_taker_that_may_have_heard_and_cannot_be_reached_any_more_is_buried() -> None:
    """It may have the shard: nobody else is asked before it is declared dead and the source has heard so."""
    cluster = Cluster(2)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.deaf = True
    await cluster.tick()
    taker.firewalled = True
    await cluster.tick(4)
    assert (cluster.buried, taker.serves) == ([], {1})
    await cluster.tick()
    assert cluster.buried == [2]
    await cluster.tick(3)
    assert cluster.world[""].asked == [Fence(2), Adopt(1, "")]
    assert cluster.owners == (1, 1)
    assert cluster.failures == []
    cluster.agrees()


async def test_a_shard_of_a_leaver_goes_to_another_taker_where_one_refuses() -> None:
    """One that cannot reach the leaver says so; it was asked three times before the home was."""
    cluster = Cluster([100] * 2)
    cluster.serve(2)
    await cluster.tick()
    cluster.serve(3)
    cluster.world["n3:1"].refuses = True
    cluster.placement.leave(2)
    await cluster.tick(2)
    assert cluster.owners == (1, 1)
    assert [m for m in cluster.world["n3:1"].asked if m.source == "n2:1"] == [Adopt(1, "n2:1")]


async def test_shards_of_a_server_that_some_member_cannot_reach_go_to_others() -> None:
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.serve(3)
    await cluster.tick()
    assert cluster.placement.shun(2, 5, "cannot be reached by node 5 (five)")
    assert cluster.placement.shun(2, 5, "cannot be reached by node 5 (five)")
    await cluster.tick()
    assert sorted(cluster.owners) == [1, 1, 1, 3, 3, 3]
    assert cluster.lines == ["node 2 (n2:1) cannot be reached by node 5 (five): firewall? its shards go to others, it computes only"]
    await cluster.tick(3)
    assert 2 not in cluster.owners
    assert cluster.placement.shun(99, 5, "is gone already")
    cluster.agrees()


async def test_a_server_that_some_could_not_reach_serves_again_when_they_are_gone() -> None:
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.serve(3)
    for who in (5, 6):
        cluster.placement.shun(2, who, f"cannot be reached by node {who}")
    await cluster.tick(2)
    assert sorted(cluster.owners) == [1, 1, 1, 3, 3, 3]
    cluster.placement.gone(5)
    await cluster.tick(2)
    assert 2 not in cluster.owners, "node 6 cannot reach it, and is there"
    cluster.placement.gone(6)
    await cluster.tick(2)
    assert sorted(cluster.owners) == [1, 1, 2, 2, 3, 3]
    assert len(cluster.lines) == 1, "a member that comes and goes makes no line of it each time"
    cluster.agrees()


async def test_who_leaves_is_served_before_who_cannot_be_reached() -> None:
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.serve(3)
    await cluster.tick()
    cluster.placement.shun(2, 5, "cannot be reached")
    cluster.placement.leave(3)
    await cluster.tick()
    assert cluster.owners == (1,) * 6
    assert [m.source for m in cluster.world[""].asked] == ["n3:1"] * 2 + ["n2:1"] * 2


async def test_there_is_nobody_else_for_shards_of_the_home() -> None:
    cluster = Cluster(2)
    assert not cluster.placement.shun(HOME, 5, "cannot be reached")
    assert cluster.lines == []


async def test_every_server_is_told_of_whoever_is_gone() -> None:
    cluster = Cluster(4)
    cluster.serve(2)
    await cluster.tick()
    cluster.placement.gone(3)
    await cluster.tick()
    assert [cluster.world[a].fenced for a in ("", "n2:1")] == [[3], [3]]
    await cluster.tick(3)
    assert [cluster.world[a].fenced for a in ("", "n2:1")] == [[3], [3]]


async def test_a_fence_is_tried_again_until_it_is_answered_or_the_server_is_gone() -> None:
    cluster = Cluster(4)
    cluster.serve(2)
    cluster.serve(3)
    await cluster.tick()
    for node in (2, 3):
        cluster.world[f"n{node}:1"].dead = True
    cluster.placement.gone(4)
    cluster.placement.gone(5)
    await cluster.tick(3)
    assert cluster.world[""].fenced == [4, 5]
    cluster.world["n2:1"].dead = False
    cluster.placement.gone(3)
    await cluster.tick(3)
    assert cluster.world["n2:1"].fenced == [3, 4, 5]
    asked = len(cluster.world["n3:1"].asked)
    await cluster.tick(3)
    assert len(cluster.world["n3:1"].asked) == asked


async def test_a_server_that_does_not_fence_is_told_of_once_and_asked_again() -> None:
    cluster = Cluster(1)
    cluster.world[""].fence_error = RequestFailed(Refusal.WRONG, "what is that")
    cluster.placement.gone(2)
    await cluster.tick(3)
    assert cluster.lines == ["node 1 does not fence node 2: what is that"]
    cluster.world[""].fence_error = None
    await cluster.tick()
    assert cluster.world[""].fenced == [2]


async def test_a_new_server_is_told_of_the_dead_before_it_gets_a_shard() -> None:
    """What a dead member still pushes must not find a server that never heard of its death."""
    cluster = Cluster(2)
    cluster.placement.gone(2)
    await cluster.tick()
    cluster.serve(3)
    cluster.world["n3:1"].deaf = True
    await cluster.tick(3)
    assert set(cluster.world["n3:1"].asked) == {Fence(2)}
    cluster.world["n3:1"].deaf = False
    await cluster.tick(2)
    assert cluster.owners == (1, 3)


async def test_a_slow_server_holds_up_no_fence_of_others() -> None:
    cluster = Cluster(4)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.gate = asyncio.Event()
    await cluster.tick()  # a move is under way for as long as it likes
    cluster.placement.gone(3)
    await cluster.tick()
    assert [cluster.world[a].fenced for a in ("", "n2:1")] == [[3], [3]]
    await cluster.placement.close()


async def test_what_is_owed_to_a_silent_server_is_bounded() -> None:
    cluster = Cluster(1)
    for node in range(2, 1000):
        cluster.placement.gone(node)
    cluster.serve(1000)
    await cluster.tick(2)
    assert cluster.world["n1000:1"].fenced == list(range(1000 - 256, 1000))
