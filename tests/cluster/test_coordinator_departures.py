"""The coordinator and those who die, leave, or cannot be reached."""

from __future__ import annotations

import asyncio

import pytest
from support.cluster import LEASE_S, SECRET, TICK_S, Cluster, settle

from hogpour.cluster import member_requests as module
from hogpour.net.credentials import Issuer, credential
from hogpour.net.wire.base import Ok
from hogpour.net.wire.heartbeat import Heartbeat
from hogpour.net.wire.join import Join, Leave
from hogpour.net.wire.lease import Lease, Leased
from hogpour.net.wire.reach import Unreachable
from hogpour.net.wire.where import Map, Where

# -- death


async def test_blocks_of_the_dead_are_given_out_again_within_lease_and_a_tick() -> None:
    cluster = Cluster()
    await cluster.begin()
    node = await cluster.join()
    await cluster.lease(1, 1)
    await cluster.lease(node, 3)
    await cluster.lease(node, 0, [2, 3], [1])
    cluster.silent.add(node)
    await cluster.live(LEASE_S - TICK_S)
    assert len(cluster.coordinator.members) == 2
    await cluster.live(TICK_S)
    assert len(cluster.coordinator.members) == 1
    assert cluster.lines[-1] == "node 2 (a name) is gone: silent for 3.0 s; 200 examples are given to others"
    assert cluster.coordinator.command == "run"
    assert await cluster.lease(1, 3, [0]) == Leased([2, 3, 4], False)
    assert cluster.ledger.examples_repeated == 200
    await cluster.tick()
    assert cluster.world[""].fenced == [node]


async def test_late_words_of_the_dead_count_for_nothing() -> None:
    cluster = Cluster()
    await cluster.begin()
    node = await cluster.join()
    await cluster.lease(node, 1)
    await cluster.beat(node, 50)
    cluster.silent.add(node)
    await cluster.live(LEASE_S)
    assert (await cluster.refused(Lease(node, [], [0], 1)))[0] == "fenced"
    assert (await cluster.refused(Heartbeat(node, 2, 70, 0, 0.0, 0, 0.0)))[0] == "fenced"
    assert cluster.ledger.done == 0
    assert cluster.coordinator.stats.totals.examples == cluster.coordinator.examples == 50


@pytest.mark.parametrize("sign", ["beat", "lease", "ready"])
async def test_any_word_of_a_member_renews_its_lease(sign: str) -> None:
    cluster = Cluster()
    node = await cluster.join()
    for _ in range(10):
        await cluster.tick(16)
        if sign == "beat":
            await cluster.beat(node)
        elif sign == "lease":
            await cluster.lease(node)
        else:
            await cluster.ready(node)
    assert len(cluster.coordinator.members) == 2


async def test_the_home_needs_no_heartbeat() -> None:
    cluster = Cluster()
    await cluster.tick(1000)
    assert len(cluster.coordinator.members) == 1
    assert cluster.coordinator.command == "run"


async def test_a_coordinator_that_slept_declares_nobody_dead() -> None:
    cluster = Cluster()
    await cluster.join()
    await cluster.tick()
    cluster.clock.now += 60.0
    await cluster.tick()
    assert len(cluster.coordinator.members) == 2


@pytest.mark.parametrize("snapshot", ["", "model.snapshot"])
async def test_the_run_fails_on_every_node_when_a_member_dies_that_serves(snapshot: str) -> None:
    cluster = Cluster(4)
    cluster.coordinator.snapshot = snapshot
    await cluster.begin()
    serving, computing = await cluster.join("n2:1"), await cluster.join()
    await cluster.tick()
    assert cluster.coordinator.map.owners == (1, 1, 2, 2)
    await cluster.beat(serving)
    cluster.silent.add(serving)
    cluster.world["n2:1"].dead = True
    await cluster.live(LEASE_S - TICK_S)
    assert (await cluster.beat(computing)).command == "run"
    await cluster.live(TICK_S)
    go_on = "go on with --resume from model.snapshot" if snapshot else "there is no snapshot yet"
    for node in (1, computing):
        beaten = await cluster.beat(node)
        assert beaten.command == "fail"
        assert beaten.reason == f"node 2 (n2:1) is gone; it served shards 2 to 3; {go_on}"
        assert await cluster.lease(node, 1) == Leased([], True)
    await cluster.tick(5)
    await cluster.coordinator.close()


async def test_a_server_that_dies_after_the_last_block_still_fails_the_run() -> None:
    """Its shards are in nobody's model yet."""
    cluster = Cluster(2)
    await cluster.begin()
    serving = await cluster.join("n2:1")
    await cluster.lease(1, 10)
    await cluster.lease(1, 0, [], list(range(10)))
    await cluster.tick()
    await cluster.live(0.5)
    assert cluster.coordinator.command == "finish"
    assert cluster.coordinator.map.owners == (1, 1)  # too late to be spread
    cluster = Cluster(2)
    await cluster.begin()
    serving = await cluster.join("n2:1")
    await cluster.tick()
    cluster.coordinator.stop("")
    cluster.silent.add(serving)
    await cluster.live(LEASE_S)
    assert cluster.coordinator.command == "fail"


async def test_a_member_that_dies_while_a_shard_is_brought_to_it_does_not_end_the_run() -> None:
    cluster = Cluster(2)
    await cluster.begin()
    node = await cluster.join("n2:1")
    cluster.world["n2:1"].gate = asyncio.Event()
    await cluster.tick()
    assert cluster.world[""].kept == {1}
    cluster.silent.add(node)
    cluster.world["n2:1"].dead = True
    await cluster.live(LEASE_S + TICK_S)
    assert cluster.coordinator.command == "run"
    assert cluster.coordinator.map.owners == (1, 1)
    assert cluster.world[""].serves == {0, 1}


async def test_a_shard_that_is_lost_on_its_way_fails_the_run() -> None:
    cluster = Cluster(2)
    await cluster.begin()
    node = await cluster.join("n2:1")
    cluster.world["n2:1"].gate = asyncio.Event()
    await cluster.tick()
    cluster.world[""].kept.clear()
    cluster.silent.add(node)
    cluster.world["n2:1"].dead = True
    await cluster.live(LEASE_S + TICK_S)
    assert (await cluster.beat(1)).reason == "shard 1 was lost between node 1 and node 2: shard 1 is not here"


async def test_blocks_that_a_member_was_never_given_are_not_done_by_its_report() -> None:
    """Whoever claims all blocks of a run ends nothing by it."""
    cluster = Cluster()
    await cluster.begin()
    other, claims = await cluster.join(), await cluster.join()
    assert (await cluster.lease(other, want=2)).tickets == [0, 1]
    leased = await cluster.lease(claims, want=1, done=list(range(cluster.ledger.total + 5)))
    assert leased == Leased([2], False)
    assert (cluster.ledger.done, cluster.coordinator.command) == (0, "run")
    assert cluster.ledger.held(other) == {0, 1}


# -- shards and leaving


async def test_whoever_serves_is_given_shards_when_it_is_ready_and_the_map_says_so() -> None:
    cluster = Cluster(4)
    await cluster.begin()
    node = (await cluster.ask(Join("a", "n2:1"))).node
    await cluster.tick()
    assert await cluster.ask(Where()) == Map(1, [0, 100, 200, 300, 400], [1, 1, 1, 1], [""] * 4)
    assert (await cluster.beat(1)).map_epoch == 1
    await cluster.ready(node)
    await cluster.tick()
    assert await cluster.ask(Where()) == Map(3, [0, 100, 200, 300, 400], [1, 1, 2, 2], ["", "", "n2:1", "n2:1"])
    assert (await cluster.beat(1)).map_epoch == 3


async def test_a_member_is_told_what_to_show_to_everybody_who_serves_and_nobody_else_is() -> None:
    cluster = Cluster(4)
    await cluster.begin()
    other, issuer = await cluster.join(), Issuer(SECRET, 1)
    assert (await cluster.ask(Where(other))).servers == [""]
    server = await cluster.join("n2:1")
    told = await cluster.ask(Where(other))
    shown = [credential(issuer.key(1), other), credential(issuer.key(server), other)]
    assert (told.servers, told.credentials) == (["", "n2:1"], shown)
    nobody = await cluster.ask(Where())
    assert (nobody.servers, nobody.credentials) == ([], [])
    assert cluster.shown == [(1, ["", "n2:1"], [credential(issuer.key(node), 1) for node in (1, server)])]
    await cluster.ask(Leave(server))
    assert (await cluster.ask(Where(other))).servers == [""]


async def test_whoever_only_computes_leaves_at_once() -> None:
    cluster = Cluster()
    await cluster.begin()
    node = await cluster.join()
    await cluster.lease(node, 2)
    await cluster.beat(node, 30)
    assert await cluster.ask(Leave(node)) == Ok()
    assert len(cluster.coordinator.members) == 1
    assert cluster.lines[-1] == "node 2 (a name) left"
    assert await cluster.ask(Leave(node)) == Ok()  # the answer was lost
    assert await cluster.lease(1, 2) == Leased([0, 1], False)
    assert cluster.coordinator.stats.totals.examples == 30
    await cluster.tick()
    assert cluster.world[""].fenced == [node]  # so that servers forget it


async def test_one_whose_loss_is_not_finite_leaves_alone_and_a_second_one_ends_the_run() -> None:
    """Of one alone the memory may be bad: the word of one was the end for all."""
    cluster = Cluster(1)
    await cluster.begin()
    first, second = await cluster.join(), await cluster.join()
    await cluster.ask(Leave(first, "as the test says"))
    assert cluster.lines[-2:] == [f"node {first} (a name) cannot go on: as the test says", f"node {first} (a name) left"]
    assert cluster.coordinator.command == "run"
    await cluster.ask(Leave(second, "as the test says"))
    assert cluster.coordinator.command == "fail"
    assert cluster.coordinator.reason == f"node {second} (a name) cannot go on: as the test says"
    await cluster.coordinator.close()


async def test_one_that_joins_again_with_bad_memory_leaves_alone_as_well() -> None:
    cluster = Cluster(1)
    await cluster.begin()
    bad, good = await cluster.join(), await cluster.join()
    await cluster.ask(Leave(bad, "as the test says"))
    for _ in range(2):
        again = await cluster.join()
        await cluster.ask(Leave(again, "as the test says"))
        assert cluster.lines[-1] == f"node {again} (a name) left"
    assert cluster.coordinator.command == "run"
    await cluster.ask(Leave(good, "as the test says"))
    assert cluster.coordinator.command == "fail"
    await cluster.coordinator.close()


async def test_one_that_says_twice_that_it_cannot_go_on_is_one() -> None:
    """It serves shards, so its leave takes a while; a connection that broke meanwhile has it ask again."""
    cluster = Cluster(4)
    await cluster.begin()
    node = await cluster.join("n2:1")
    await cluster.tick()
    leaving = [asyncio.ensure_future(cluster.ask(Leave(node, "as the test says"))) for _ in range(2)]
    await settle()
    await cluster.tick(2)
    assert [one.result() for one in leaving] == [Ok(), Ok()]
    assert cluster.coordinator.command == "run"
    await cluster.coordinator.close()


async def test_whoever_serves_leaves_when_its_shards_are_with_others() -> None:
    cluster = Cluster(4)
    await cluster.begin()
    node = await cluster.join("n2:1")
    await cluster.lease(node, 2)
    await cluster.tick()
    leaving = asyncio.ensure_future(cluster.ask(Leave(node)))
    again = asyncio.ensure_future(cluster.ask(Leave(node)))
    await settle()
    assert not leaving.done()
    assert await cluster.lease(node, 2) == Leased([], True)
    assert await cluster.lease(1, 2) == Leased([0, 1], False)
    await cluster.tick()
    assert leaving.result() == again.result() == Ok()
    assert cluster.coordinator.map.owners == (1, 1, 1, 1)
    assert len(cluster.coordinator.members) == 1
    assert cluster.coordinator.command == "run"


async def test_a_leaver_that_dies_before_its_shards_are_with_others_fails_the_run() -> None:
    cluster = Cluster(4)
    await cluster.begin()
    node = await cluster.join("n2:1")
    await cluster.tick()
    cluster.world["n2:1"].dead = True
    leaving = asyncio.ensure_future(cluster.refused(Leave(node)))
    cluster.silent.add(node)
    await cluster.live(LEASE_S + TICK_S)
    assert cluster.coordinator.command == "fail"
    assert (await leaving)[0] == "wrong"


async def test_everybody_may_leave_a_run_that_failed() -> None:
    cluster = Cluster(4)
    await cluster.begin()
    node = await cluster.join("n2:1")
    await cluster.tick()
    leaving = asyncio.ensure_future(cluster.ask(Leave(node)))
    await settle()
    cluster.coordinator.fail("something")
    await settle()
    assert leaving.result() == Ok()


async def test_a_leave_that_takes_too_long_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAVE_S", 0.0)
    cluster = Cluster(4)
    await cluster.begin()
    node = await cluster.join("n2:1")
    await cluster.tick()
    assert await cluster.refused(Leave(node)) == ("busy", "node 2 (n2:1) still serves shards 2 to 3")
    await cluster.tick()
    assert await cluster.ask(Leave(node)) == Ok()


async def test_the_home_gives_back_its_blocks_and_stays() -> None:
    cluster = Cluster()
    await cluster.begin()
    await cluster.lease(1, 2)
    assert await cluster.ask(Leave(1)) == Ok()
    assert (cluster.ledger.leased, len(cluster.coordinator.members)) == (0, 1)


# -- who cannot be reached


async def test_a_firewalled_server_keeps_nobody_from_leaving() -> None:
    """After 110 s the other one was not out yet: its shards waited behind a move to a port that nobody reached."""
    cluster = Cluster(4)
    await cluster.begin()
    leaver = await cluster.join("n2:1")
    await cluster.tick()
    cluster.world["n3:1"].firewalled = True
    await cluster.join("n3:1")
    await cluster.live(1.0)
    leaving = asyncio.ensure_future(cluster.ask(Leave(leaver)))
    await cluster.tick(2)
    assert await leaving == Ok()
    assert [line for line in cluster.lines if "firewall" in line] == [
        "n3:1, node 3, cannot be reached from here: firewall? it computes only (n3:1: no connection within 1 s)"
    ]


async def test_a_server_that_a_member_cannot_reach_serves_nothing_any_more() -> None:
    """That member ended: "node 2, which serves shards, does not answer", while all others reached it."""
    cluster = Cluster(4)
    await cluster.begin()
    server, member = await cluster.join("n2:1"), await cluster.join()
    await cluster.tick()
    assert server in cluster.coordinator.map.owners
    assert await cluster.ask(Unreachable(member, server)) == Ok()
    await cluster.tick()
    assert server not in cluster.coordinator.map.owners
    assert cluster.lines[-1] == "node 2 (n2:1) cannot be reached by node 3 (a name): firewall? its shards go to others, it computes only"
    assert (await cluster.refused(Unreachable(member, cluster.coordinator.home)))[0] == "wrong"
    assert (await cluster.refused(Unreachable(99, server)))[0] == "fenced"


async def test_a_taker_that_may_have_a_shard_and_cannot_be_reached_is_dead_in_seconds() -> None:
    cluster = Cluster(4)
    await cluster.begin()
    await cluster.join("n2:1")
    taker = cluster.world["n2:1"]
    taker.deaf = True
    await cluster.tick()
    taker.firewalled = True
    await cluster.tick(6)
    assert cluster.lines[-1].startswith("node 2 (n2:1) is gone: silent for ")
    assert cluster.coordinator.command == "run"
    assert set(cluster.coordinator.map.owners) == {1}
