"""How many nodes must be there before anybody trains: the count, blocks, the first step of a gate, and who gives up."""

from __future__ import annotations

from support.cluster import Cluster, settle

from hogpour.algos.gate.barrier import Barrier
from hogpour.cluster.muster import Muster
from hogpour.net.wire.gate import Arrive, Attend
from hogpour.net.wire.lease import Leased


def test_it_is_over_once_and_for_all_when_enough_are_ready() -> None:
    muster = Muster(3, 5.0, 10.0)
    assert [muster.ends(ready) for ready in (1, 2, 3, 3, 1)] == [False, False, True, False, False]
    assert not muster.waiting
    assert not muster.failure(1, 100.0)


def test_one_node_is_waited_for_by_nobody() -> None:
    muster = Muster(1, 5.0, 10.0)
    assert (muster.waiting, muster.ends(1), muster.failure(1, 100.0)) == (False, False, "")


def test_it_fails_when_its_time_is_up_and_says_what_to_do() -> None:
    muster = Muster(4, 5.0, 10.0)
    assert muster.failure(2, 14.9) == ""
    assert muster.failure(2, 15.0) == (
        "2 of 4 nodes were ready within 5 s; start the others, or lower cluster.wait_for = 4"
    )


async def test_nobody_is_given_a_block_before_enough_members_have_replicas() -> None:
    cluster = Cluster(wait_for=2)
    await cluster.begin()
    await cluster.live(0.5)
    assert await cluster.lease(1, want=2) == Leased([], False)
    other = await cluster.join()
    await cluster.tick()
    assert (await cluster.beat(1)).reason == "waiting for nodes: 1 of 2 are ready", "the other one has no replicas yet"
    assert await cluster.lease(1, want=2) == Leased([], False)
    await cluster.live(0.5)
    assert cluster.lines[-1] == "2 nodes are ready: training begins"
    assert (await cluster.beat(1)).reason == ""
    assert len((await cluster.lease(1, want=2)).tickets) == 2
    cluster.silent.add(other)
    await cluster.live(5.0)
    assert len((await cluster.lease(1, want=2)).tickets) == 2, "who goes later is not waited for"


async def test_who_leaves_meanwhile_counts_no_more() -> None:
    cluster = Cluster(wait_for=3)
    await cluster.begin()
    cluster.silent.add(await cluster.join())
    await cluster.live(0.5)
    await cluster.live(5.0)
    assert (await cluster.beat(1)).reason == "waiting for nodes: 1 of 3 are ready"


async def test_a_run_whose_nodes_do_not_come_fails_on_all_of_them_and_says_why() -> None:
    cluster = Cluster(wait_for=3, wait_for_s=10.0)
    await cluster.begin()
    other = await cluster.join()
    await cluster.live(9.0)
    assert (await cluster.beat(other)).command == "run"
    await cluster.live(2.0)
    heard = await cluster.beat(other)
    assert (heard.command, heard.reason[:34]) == ("fail", "2 of 3 nodes were ready within 10 ")


async def test_a_stop_is_a_stop_however_many_are_missing() -> None:
    cluster = Cluster(wait_for=3, wait_for_s=10.0)
    await cluster.begin()
    await cluster.live(1.0)
    cluster.coordinator.stop("somebody asked")
    await cluster.live(20.0)
    heard = await cluster.beat(1)
    assert (heard.command, heard.reason) == ("stop", "somebody asked")
    assert await cluster.lease(1, want=2) == Leased([], True)


async def test_seconds_of_a_warm_start_begin_when_all_are_there() -> None:
    cluster = Cluster(wait_for=2, warm_start_s=4.0)
    await cluster.begin()
    await cluster.live(6.0)
    assert cluster.coordinator.warm_start.active
    await cluster.join()
    await cluster.live(3.0)
    assert cluster.coordinator.warm_start.active
    await cluster.live(2.0)
    assert not cluster.coordinator.warm_start.active


async def test_the_first_step_waits_until_every_replica_takes_part() -> None:
    cluster = Cluster(wait_for=2, gate=Barrier())
    await cluster.begin()
    other = await cluster.join()
    await cluster.live(0.5)  # two replicas each
    keeper = cluster.coordinator.gatekeeper
    for origin in ((1, 0), (1, 1), (other, 0)):
        assert await cluster.ask(Attend(*origin, True))
        keeper.arrive(Arrive(*origin, 1, 0))
    await cluster.tick(10)
    assert keeper.step == 0
    assert await cluster.ask(Attend(other, 1, True))
    keeper.arrive(Arrive(other, 1, 1, 0))
    await settle()
    assert keeper.step == 1


async def test_the_first_step_waits_for_nobody_who_is_gone() -> None:
    cluster = Cluster(wait_for=2, gate=Barrier())
    await cluster.begin()
    cluster.silent.add(await cluster.join())
    for node in (1, 2):
        await cluster.beat(node)
    await cluster.tick()
    keeper = cluster.coordinator.gatekeeper
    for replica in (0, 1):
        assert await cluster.ask(Attend(1, replica, True))
        keeper.arrive(Arrive(1, replica, 1, 0))
    await cluster.live(1.0)
    assert keeper.step == 0
    await cluster.live(5.0)
    assert keeper.step == 1


async def test_the_first_step_waits_for_nobody_who_gets_no_block() -> None:
    cluster = Cluster(wait_for=2, gate=Barrier())
    await cluster.begin()
    await cluster.join()
    await cluster.live(0.5)
    assert await cluster.ask(Attend(1, 0, True))
    cluster.coordinator.gatekeeper.arrive(Arrive(1, 0, 1, 0))
    await cluster.tick()
    assert cluster.coordinator.gatekeeper.step == 0
    holds: list[int] = []
    while granted := (await cluster.lease(1, 100, holds)).tickets:
        holds += granted
    await cluster.tick()
    assert cluster.coordinator.gatekeeper.step == 1
