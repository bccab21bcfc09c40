"""The link of a node at a gate that the test opens: when it fetches, whom it counts in and out, what it reports when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.client import Node
from support.cluster import settle

from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.gate.slack import Slack
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.gate import COUNTED, LATE, UNDECIDED, Arrive, Arrived
from hogpour.net.wire.push import Outcome, Push


class Gated(Node):
    """A node whose first replicas take part."""

    def __init__(self, gate: Gate, **more: Any) -> None:
        super().__init__(**{"shards": 2} | more, gate=gate)

    async def enter(self, *replicas: int, clock: int = 0) -> None:
        """The first fetches of replicas that take part from now on."""
        await self.land(clock)
        for replica in replicas or (0,):
            self.landing.attend(replica, True)
            self.landing.want(replica)
        self.link.poll()
        await settle()
        while self.open(Fetch):  # the first one may leave before the second replica is counted in
            await self.fetch(clock, 0.0)
        assert self.landed == [int(replica in (replicas or (0,))) for replica in range(len(self.accruals))]
        self.asked.clear()
        self.attended.clear()
        self.woken.clear()

    @property
    def waiting(self) -> list[Arrive]:
        """What the gate has not answered."""
        return [arrive for arrive, answer in self.arrivals if not answer.done()]

    async def decide(self, outcome: int, staleness: int = 0) -> None:
        """Answer everything that waits."""
        for _, answer in self.arrivals:
            if not answer.done():
                answer.set_result(Arrived(outcome, staleness))
        await settle()

    async def end(self) -> None:
        await self.link.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}


every_gate = pytest.mark.parametrize("gate", [Barrier(), Quorum(), Slack()], ids=lambda g: type(g).__name__)


# -- what is fetched when


@every_gate
async def test_a_fetch_waits_until_its_push_has_passed_the_gate(gate: Gate) -> None:
    node = Gated(gate)
    await node.enter(clock=5)
    node.step()
    await settle()
    await node.push(outcome=Outcome.HELD)
    assert node.waiting == [Arrive(7, 0, 1, 5)]
    assert node.open(Fetch) == []
    await node.decide(COUNTED)
    assert len(node.open(Fetch)) == 2
    await node.fetch(6, 1.0)
    assert (node.landed, node.link.buffers.pushes) == ([2], 1)
    await node.end()


async def test_a_push_arrives_when_every_shard_has_it_with_the_least_of_their_clocks() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.landing.want(0)
    node.link.poll()
    await settle()
    for asked, clock in zip(node.open(Fetch), (9, 8), strict=True):  # the next step was being applied
        asked.fetched(clock, 0.0)
    await settle()
    node.step()
    await settle()
    first, second = node.open(Push)
    first.pushed(outcome=Outcome.HELD)
    await settle()
    assert node.waiting == []
    second.pushed(outcome=Outcome.HELD)
    await settle()
    assert node.waiting == [Arrive(7, 0, 1, 8)]
    await node.end()


async def test_one_replica_waits_at_the_gate_while_another_fetches() -> None:
    node = Gated(Barrier(), replicas=2)
    await node.enter(0, 1)
    for replica in (0, 1):
        node.step(replica)
    await settle()
    await node.push(outcome=Outcome.HELD)
    (_, first), _ = node.arrivals
    first.set_result(Arrived(LATE, 1))
    await settle()
    await node.fetch(1, 1.0)
    assert node.landed == [2, 1]
    await node.decide(COUNTED)
    await node.fetch(2, 1.0)
    assert node.landed == [2, 2]
    await node.end()


async def test_two_pushes_of_one_replica_have_to_pass_before_it_fetches() -> None:
    node = Gated(Slack())
    await node.enter()
    node.seal()
    node.step()
    await settle()
    await node.push(0)
    assert [one.sequence for one in node.waiting] == [1, 2]
    node.arrivals[0][1].set_result(Arrived(COUNTED, 0))
    await settle()
    assert node.open(Fetch) == []
    await node.decide(COUNTED)
    assert len(node.open(Fetch)) == 2
    await node.end()


async def test_whoever_hears_nothing_asks_again_until_it_is_decided() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.step(tickets=(4,))
    await settle()
    await node.push(outcome=Outcome.HELD)
    for k in range(1, 4):
        assert node.waiting == [Arrive(7, 0, 1, 0)]
        assert len(node.arrivals) == k
        await node.decide(UNDECIDED)
    assert (node.accruals[0].free, node.done, node.open(Fetch)) == (True, [], [])  # the other buffer is free
    await node.decide(COUNTED)
    assert node.done == [(4,)]
    await node.end()


async def test_a_push_without_gradients_does_not_go_through_the_gate() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.seal(steps=0, tickets=(4,))
    node.link.poll()
    await settle()
    assert (node.asked, node.arrivals, node.done) == ([], [], [(4,)])
    await node.end()


# -- who takes part


@every_gate
async def test_a_replica_is_counted_in_before_it_fetches_what_it_computes_on(gate: Gate) -> None:
    node = Gated(gate)
    await node.land()
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    told: list[tuple[int, int, bool]] = []

    async def attend(*what: Any) -> None:
        told.append(what)
        await answer

    node.attend = attend  # type: ignore[method-assign]
    node.landing.attend(0, True)
    node.landing.want(0)
    node.link.poll()
    node.link.poll()
    await settle()
    assert (told, node.open(Fetch)) == ([(7, 0, True)], [])
    answer.set_result(None)
    await settle()
    assert len(node.open(Fetch)) == 2
    await node.fetch(3, 1.0)
    assert node.landed == [1]
    await node.end()


async def test_a_replica_that_does_not_take_part_fetches_without_a_word() -> None:
    node = Gated(Barrier())
    await node.land()
    node.landing.want(0)
    node.link.poll()
    await settle()
    assert (node.attended, len(node.open(Fetch))) == ([], 2)
    await node.end()


@every_gate
async def test_a_replica_is_counted_out_when_its_push_has_passed_and_not_before(gate: Gate) -> None:
    """Counted out first, the others would decide without its gradient, and it would be late for no reason."""
    node = Gated(gate)
    await node.enter()
    node.seal()
    node.landing.attend(0, False)
    node.link.poll()
    await settle()
    assert node.attended == []
    await node.push(outcome=Outcome.HELD)
    assert node.attended == []
    await node.decide(COUNTED)
    assert node.attended == [(7, 0, False)]
    await node.end()


async def test_one_that_changes_its_mind_while_the_coordinator_is_told_is_counted_in_again() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.landing.attend(0, False)
    node.link.poll()
    node.landing.attend(0, True)
    node.landing.want(0)
    node.link.poll()
    await settle()
    assert node.attended == [(7, 0, False), (7, 0, True)]
    await node.fetch(1, 1.0)
    assert node.landed == [2]
    await node.end()


async def test_all_that_have_ended_are_counted_out() -> None:
    node = Gated(Slack(), replicas=2)
    await node.enter(0, 1)
    node.link.mark_all_absent()
    await settle()
    assert node.attended == [(7, 0, False), (7, 1, False)]
    node.link.mark_all_absent()
    await settle()
    assert len(node.attended) == 2
    await node.end()


async def test_one_that_has_ended_is_counted_out_behind_its_last_push() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.step()
    node.link.mark_all_absent()
    await settle()
    await node.push(outcome=Outcome.HELD)
    assert node.attended == []
    await node.decide(COUNTED)
    assert node.attended == [(7, 0, False)]
    await node.end()


# -- buffers and tickets


async def test_behind_a_barrier_a_buffer_is_free_and_its_blocks_done_when_the_step_is_made() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.seal(tickets=(1,))
    node.seal(tickets=(2,))
    node.link.poll()
    await settle()
    await node.push(outcome=Outcome.HELD)
    assert (node.accruals[0].free, node.done) == (False, [])
    await node.decide(COUNTED)
    assert (node.accruals[0].free, node.done) == (True, [(1,), (2,)])
    await node.end()


async def test_a_quorum_gives_the_buffer_back_at_once_and_reports_blocks_when_they_are_in_the_shards() -> None:
    node = Gated(Quorum())
    await node.enter()
    node.step(tickets=(3,))
    await settle()
    await node.push(outcome=Outcome.HELD)
    await node.decide(UNDECIDED)
    await node.fetch(0, 0.0)
    assert (node.landed, node.done, node.link.buffers.pushes) == ([2], [], 0)
    node.step(value=2.0, tickets=(4,))  # computed meanwhile
    await settle()
    await node.push(outcome=Outcome.HELD)
    assert [one.sequence for one in node.waiting] == [1, 2]
    node.arrivals[-1][1].set_result(Arrived(COUNTED, 5))
    await settle()
    assert node.done == []  # blocks are reported in the order of their pushes
    await node.decide(COUNTED, 2)
    assert node.done == [(3,), (4,)]
    assert (node.link.buffers.pushes, node.link.buffers.staleness, node.link.buffers.dropped) == (2, 7.0, 0)
    await node.end()


async def test_a_decision_that_comes_late_gives_no_buffer_back_that_is_in_use_again() -> None:
    node = Gated(Quorum())
    await node.enter()
    for value in (1.0, 2.0):
        node.step(value=value)
        await settle()
        await node.push(outcome=Outcome.HELD)
        for arrive, answer in node.arrivals:
            if arrive.sequence == value and not answer.done():
                answer.set_result(Arrived(UNDECIDED, 0))
        await settle()
        await node.fetch(0, 0.0)
    node.step(value=3.0)  # in the buffer of the first one
    node.seal(value=4.0)
    await settle()
    before = [asked.bytes for asked in node.open(Push)]
    for arrive, answer in node.arrivals:
        if arrive.sequence == 1 and not answer.done():
            answer.set_result(Arrived(COUNTED, 0))
    await settle()
    assert not node.accruals[0].free
    assert [asked.bytes for asked in node.open(Push)] == before
    await node.end()


async def test_with_slack_a_push_is_applied_and_done_before_its_replica_may_go_on() -> None:
    node = Gated(Slack())
    await node.enter()
    node.step(tickets=(1,))
    await settle()
    await node.push(3)
    assert (node.done, node.link.buffers.pushes, node.link.buffers.staleness) == ([(1,)], 1, 3.0)
    assert (len(node.waiting), node.open(Fetch)) == (1, [])
    await node.decide(COUNTED, 9)
    assert (node.link.buffers.pushes, node.link.buffers.staleness) == (1, 3.0)  # it is counted once
    await node.end()


async def test_whoever_was_told_too_late_of_its_old_incarnation_is_told_of_the_new_one() -> None:
    """It had entered while its node joined again: nothing else would ever count it in."""
    node = Gated(Barrier())
    await node.enter()
    node.landing.attend(0, False)
    node.link.poll()
    await settle()
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    told: list[tuple[int, int, bool]] = []

    async def attend(at: int, replica: int, present: bool) -> None:
        told.append((at, replica, present))
        if at == 7:
            await answer

    node.attend = attend  # type: ignore[method-assign]
    node.landing.attend(0, True)
    node.link.poll()
    await settle()
    node.node = 8
    node.link.drop_pushes()
    node.link.poll()
    await settle()
    answer.set_exception(RequestFailed(Refusal.FENCED, "as the test says"))
    await settle()
    assert told == [(7, 0, True), (8, 0, True)]
    await node.end()


# -- too late


@pytest.mark.parametrize("at", ["gate", "shard"])
async def test_what_came_too_late_is_counted_and_its_blocks_are_done(at: str) -> None:
    node = Gated(Barrier(backups=1))
    await node.enter()
    node.step(tickets=(6,))
    await settle()
    if at == "gate":
        await node.push(outcome=Outcome.HELD)
        await node.decide(LATE, 1)
    else:  # one of the shards has the next step; whoever is told when all have it
        first, second = node.open(Push)
        first.pushed(outcome=Outcome.DROPPED)
        second.pushed(outcome=Outcome.HELD)
        await settle()
        assert (node.link.buffers.dropped, node.landed) == (0, [1])
        await node.decide(LATE, 1)
    assert (node.link.buffers.dropped, node.link.buffers.pushes, node.done) == (1, 0, [(6,)])
    await node.fetch(1, 1.0)
    assert node.landed == [2]
    await node.end()


# -- declared dead


@every_gate
async def test_one_that_is_fenced_while_it_waits_reports_nothing_and_waits_for_nobody(gate: Gate) -> None:
    node = Gated(gate)
    await node.enter()
    node.seal(tickets=(1,))
    node.seal(tickets=(2,))
    node.link.poll()
    await settle()
    await node.push(outcome=Outcome.HELD)
    for _, answer in node.arrivals:
        answer.set_exception(RequestFailed(Refusal.FENCED, "as the test says"))
    await settle()
    assert node.fenced == [7, 7]
    assert node.done == ([] if gate.holds else [(1,), (2,)])  # with slack they were in the shards before
    assert node.accruals[0].free
    assert (node.link.buffers.dropped, node.link.path._passing, node.link.buffers._open[0]) == (0, {}, {})
    await node.end()


async def test_the_next_incarnation_is_counted_in_anew() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.node = 8
    node.link.drop_pushes()
    node.landing.want(0)
    node.link.poll()
    await settle()
    assert node.attended == [(8, 0, True)]
    await node.fetch(1, 1.0)
    assert node.landed == [2]
    await node.end()


async def test_one_that_is_fenced_while_it_is_counted_in_says_it_again_as_the_next() -> None:
    node = Gated(Barrier())
    await node.land()
    refusal: list[RequestFailed] = [RequestFailed(Refusal.FENCED, "as the test says")]

    async def attend(*what: Any) -> None:
        node.attended.append(what)
        if refusal:
            raise refusal.pop()

    node.attend = attend  # type: ignore[method-assign]
    node.landing.attend(0, True)
    node.landing.want(0)
    node.link.poll()
    await settle()
    assert (node.fenced, node.open(Fetch)) == ([7], [])
    node.node = 8
    node.link.drop_pushes()
    node.link.poll()
    await settle()
    assert node.attended == [(7, 0, True), (8, 0, True)]
    assert len(node.open(Fetch)) == 2
    await node.end()


async def test_what_is_no_fence_breaks_the_link() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.step()
    await settle()
    await node.push(outcome=Outcome.HELD)
    node.arrivals[0][1].set_exception(RequestFailed(Refusal.WRONG, "as the test says"))
    await settle()
    with pytest.raises(RequestFailed, match="as the test says"):
        await node.link.broken()
    await node.end()


async def test_closing_ends_what_waits_at_the_gate() -> None:
    node = Gated(Barrier())
    await node.enter()
    node.step()
    await settle()
    await node.push(outcome=Outcome.HELD)
    await node.end()
    assert node.arrivals[0][1].cancelled()
