"""Who does nothing though its node is heard from: gates go on without it, and its blocks are given to others."""

from __future__ import annotations

import pytest
from support.cluster import Cluster, settle

from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.slack import Slack
from hogpour.cluster.overdue import StallLimit
from hogpour.core.cluster_state import WaitedFor
from hogpour.net.wire.gate import COUNTED, LATE, UNDECIDED, Arrive, Arrived, Attend
from hogpour.net.wire.lease import Leased

STALL_S = 4.0
SHORT_S = 0.04  # of real time, a quarter of which a request waits at a gate


async def pair(gate: Gate | None = None, **terms: object) -> tuple[Cluster, int]:
    """A first node and another one; their replicas take part in the gate, if there is one."""
    cluster = Cluster(gate=gate, stall_s=STALL_S, give_up_s=SHORT_S, **terms)
    await cluster.begin()
    other = await cluster.join()
    for node in (1, other) if gate is not None else ():
        await cluster.ask(Attend(node, 0, True))
    return cluster, other


def test_the_limit_is_ten_times_what_is_usual_and_not_less_than_is_said() -> None:
    limit = StallLimit(5.0)
    assert limit.limit_s == 50.0, "nobody knows"
    limit.note(0.1)
    assert limit.limit_s == 5.0
    for seconds in (2.0, 2.0, 400.0):
        limit.note(seconds)
    assert limit.limit_s == 20.0, "one that stood still changes nothing"


@pytest.mark.parametrize(("gate", "late"), [(Barrier(), LATE), (Slack(s=0), COUNTED)])
async def test_a_gate_goes_on_without_a_replica_that_does_nothing_and_takes_it_back(gate: Gate, late: int) -> None:
    """A run stood still for ever once: its node was heard from."""
    cluster, other = await pair(gate)
    answer = await cluster.ask(Arrive(1, 0, 1, 0))
    assert answer.outcome == UNDECIDED
    await cluster.live(STALL_S - 0.5)
    (waited,) = cluster.coordinator.waiting.list()
    assert (waited.node, waited.replica, waited.by) == (2, 0, (1,))
    assert STALL_S - 1.0 <= waited.seconds <= STALL_S
    assert not [line for line in cluster.lines if "nothing" in line]
    await cluster.live(1.0)
    assert [line for line in cluster.lines if "nothing" in line] == [
        "replica 0 of node 2 has done nothing for 4.1 s: others wait for it no longer"
    ]
    assert await cluster.ask(Arrive(1, 0, 1, 0)) == Arrived(COUNTED, 0)
    assert cluster.coordinator.waiting.list() == ()
    back = await cluster.ask(Arrive(other, 0, 1, 0))
    assert back.outcome == late
    assert cluster.lines[-1] == "replica 0 of node 2 is back"
    assert cluster.coordinator.gatekeeper.present == 2
    assert (await cluster.ask(Arrive(1, 0, 2, 1))).outcome == UNDECIDED, "it is waited for again"
    await cluster.coordinator.close()


async def test_whoever_takes_part_and_never_sends_anything_is_waited_for_no_longer_than_others() -> None:
    cluster, _ = await pair(Barrier())
    await cluster.ask(Attend(1, 7, True))  # of no replica that there is
    for sequence in (1, 2):
        for node in (1, 2):
            await cluster.ask(Arrive(node, 0, sequence, sequence - 1))
        await cluster.live(STALL_S + 0.5)
        assert cluster.coordinator.gatekeeper.step == sequence
    await cluster.coordinator.close()


async def test_a_replica_that_computes_as_long_as_all_others_is_waited_for() -> None:
    cluster, other = await pair(Barrier())
    for sequence in (1, 2):
        await cluster.live(2 * STALL_S)
        await cluster.ask(Arrive(1, 0, sequence, sequence - 1))
        await cluster.live(2 * STALL_S)
        await cluster.ask(Arrive(other, 0, sequence, sequence - 1))
        await settle()
        assert cluster.coordinator.gatekeeper.step == sequence
    assert not [line for line in cluster.lines if "nothing" in line]
    await cluster.coordinator.close()


async def test_the_first_step_does_not_wait_for_a_replica_that_never_begins() -> None:
    cluster = Cluster(gate=Barrier(), wait_for=2, stall_s=STALL_S, give_up_s=SHORT_S)
    await cluster.begin()
    await cluster.join()
    await cluster.live(0.5)
    await cluster.ask(Attend(1, 0, True))
    await cluster.ask(Arrive(1, 0, 1, 0))
    await cluster.live(STALL_S - 0.5)
    assert cluster.coordinator.gatekeeper.step == 0
    await cluster.live(1.0)
    assert cluster.coordinator.gatekeeper.step == 1
    await cluster.coordinator.close()


async def test_the_last_blocks_of_whoever_does_nothing_are_given_to_others_and_count_once() -> None:
    cluster, other = await pair()
    assert (await cluster.lease(other, want=2)).tickets == [0, 1]
    assert (await cluster.lease(1, want=8)).tickets == list(range(2, 10))
    await cluster.live(0.25)
    assert (await cluster.lease(1, want=3, done=list(range(2, 10)))).tickets == []
    await cluster.live(1.5)
    assert [str(one) for one in cluster.coordinator.waiting.list()] == ["blocks of node 2, 2 s"]
    assert cluster.coordinator.waiting.list()[0].by == (1,)
    await cluster.live(STALL_S - 2.0)
    assert (await cluster.lease(1, want=3)).tickets == []
    await cluster.live(1.0)
    assert cluster.lines[-1] == "2 blocks of node 2 are not done after 4.1 s: others are given them too"
    assert (await cluster.lease(1, want=3)).tickets == [0, 1]
    assert cluster.ledger.examples_repeated == 200
    await cluster.lease(other, done=[0], holds=[1])  # it moves again, too late
    assert cluster.ledger.done == 8
    assert await cluster.lease(1, done=[0, 1]) == Leased([], True)
    assert (cluster.ledger.done, cluster.ledger.examples_done) == (10, 1000)
    await cluster.coordinator.close()


async def test_whoever_waits_at_the_gate_is_not_late_with_its_blocks() -> None:
    """Its last blocks were taken from it, and a line named it, where another stood still."""
    cluster, other = await pair(Slack(s=0))
    await cluster.lease(1, want=1)
    for node in (1, other):
        await cluster.ask(Arrive(node, 0, 1, 0))
    await cluster.lease(1, want=7, done=[0])
    await cluster.lease(other, want=2)
    assert (await cluster.ask(Arrive(1, 0, 2, 0))).outcome == UNDECIDED
    await cluster.live(STALL_S + 0.5)
    assert cluster.lines[-2:] == [
        "2 blocks of node 2 are not done after 4.1 s: others are given them too",
        "replica 0 of node 2 has done nothing for 4.1 s: others wait for it no longer",
    ]
    assert cluster.ledger.held(1) == set(range(1, 8))
    await cluster.lease(1, want=2, done=list(range(1, 8)))
    assert cluster.ledger.held(1) == {8, 9}
    await cluster.live(STALL_S + 0.5)  # nobody is waited for at the gate now
    assert cluster.lines[-1] == "2 blocks of node 1 are not done after 4.1 s: others are given them too"
    await cluster.coordinator.close()


async def test_blocks_are_not_overdue_while_others_are_free() -> None:
    cluster, other = await pair()
    await cluster.lease(other, want=2)
    await cluster.lease(1, want=1)
    await cluster.lease(1, done=[2])
    await cluster.live(3 * STALL_S)
    assert cluster.ledger.held(other) == {0, 1}
    assert cluster.coordinator.waiting.list() == ()
    await cluster.coordinator.close()


async def test_time_in_which_the_first_node_stood_still_is_held_against_nobody() -> None:
    cluster, _ = await pair(Barrier())
    await cluster.ask(Arrive(1, 0, 1, 0))
    await cluster.live(1.0)
    cluster.clock.now += 100.0
    await cluster.tick(2)
    assert cluster.coordinator.gatekeeper.step == 0
    assert cluster.coordinator.gatekeeper.present == 2
    await cluster.coordinator.close()


def test_who_is_waited_for_is_said_in_a_few_words() -> None:
    assert str(WaitedFor(2, 0, 12.3, (1,))) == "replica 0 of node 2, 12 s"
