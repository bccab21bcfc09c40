"""A node as a member: a real coordinator, a wire that loses and delays what it is told to, and time that is made up."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from support.cluster import World

from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.cluster.coordinator import Coordinator, Terms
from hogpour.cluster.lease_desk import LeaseDesk
from hogpour.cluster.leases import EpochLedger
from hogpour.cluster.member_requests import MemberRequests
from hogpour.core.errors import ClusterFailed, PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.data.blocks import Blocks
from hogpour.data.identity import DataIdentity
from hogpour.net.loopback import Loopback
from hogpour.net.wire.base import Message
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.join import Join, Leave, Ready
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.where import Where
from hogpour.shm.queue import ROOM, WORDS, TicketQueue, leased_ticket

LEASE_S, GIVE_UP_S = 3.0, 10.0


class _Jump(selectors.SelectSelector):
    """Does not wait: what the loop would sleep for has passed."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for ever"
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes when there is nothing to do, and at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine in virtual time; it leaves no task."""

    def runs(main: Coroutine[Any, Any, None]) -> None:
        async def watched() -> None:
            async with asyncio.timeout(1000.0):
                await main
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(watched())

    return runs


class Wire:
    """The way to the coordinator. As a peer does, it asks again when the connection was lost, until the deadline."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.local = Loopback(MemberRequests(coordinator).handlers())
        self.asked: list[Any] = []
        self.lost: Counter[type[Message]] = Counter()  # answers that get lost
        self.held: dict[type[Message], asyncio.Event] = {}  # answers that wait for it
        self.instead: list[Exception] = []  # what is answered before anybody is asked
        self.up = asyncio.Event()
        self.up.set()

    async def request(self, message: Any, payload: Sequence[memoryview] = (), *, into: memoryview | None = None,
                      deadline_s: float, retry: bool = True) -> Message:  # fmt: skip
        assert deadline_s > 0
        assert retry
        kind = type(message).__name__
        self.asked.append(message)
        if self.instead:
            raise self.instead.pop(0)
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    await self.up.wait()
                    try:
                        answer = await self.local.request(message, deadline_s=1.0)
                    except RequestFailed as error:
                        answer = error
                    if (held := self.held.get(type(message))) is not None:
                        await held.wait()
                    if not self.lost[type(message)]:
                        break
                    self.lost[type(message)] -= 1
        except TimeoutError:
            raise PeerLost("first:7000", f"no answer to {kind} within {deadline_s:g} s") from None
        if isinstance(answer, RequestFailed):
            raise answer
        return answer

    def of(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.asked if type(message) is kind]


class Node:
    """A member with a queue, whose replicas are what the test says."""

    def __init__(self, *, blocks: int = 20, address: str = "", shards: int = 2) -> None:
        self.loop = asyncio.get_running_loop()
        self.ledger = EpochLedger(Blocks(n=10 * blocks, batch=10, replicas=blocks, epochs=1), 0)
        assert self.ledger.total == blocks
        self.coordinator = Coordinator(
            Terms(job=b"{}", base="/", block_replicas=1, spec="s", data=DataIdentity("d"), lease_s=LEASE_S, give_up_s=GIVE_UP_S),
            LeaseDesk(self.ledger),
            bounds=tuple(100 * k for k in range(shards + 1)),
            peers=World(shards).__getitem__,
            clock=self.loop.time,
            log=lambda line: None,
            secret=b"of this run",
        )
        self.wire = Wire(self.coordinator)
        self.shown: list[tuple[int, dict[str, bytes]]] = []
        self.member = CoordinatorClient(self.wire, "a name", address, "first:7000", self.identities)
        self.queue = TicketQueue(np.zeros(WORDS, np.int64), np.zeros(ROOM, np.int64))
        self.woken = 0
        self.again = 0
        self.tasks: list[asyncio.Task[Any]] = []

    def identities(self, node: int, servers: Sequence[str], credentials: Sequence[bytes]) -> None:
        self.shown.append((node, dict(zip(servers, credentials, strict=True))))

    async def __aenter__(self) -> Node:
        self.spawn(self.tick())
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        for task in self.tasks:
            assert task.cancelled() or task.exception() is None or error[0] is not None
        await self.coordinator.close()

    async def tick(self) -> None:
        while True:
            self.coordinator.tick(self.loop.time())
            await asyncio.sleep(0.125)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    async def begin(self, *, beats: bool = True) -> None:
        await self.member.join(5.0)
        if beats:
            self.spawn(self.member.beat(totals, lambda beaten: None))
        self.spawn(self.member.rejoin(self.join_again))
        await self.member.ready("s", DataIdentity("d"))

    def join_again(self) -> None:
        self.again += 1
        self.queue.take_all()

    def lease(self, stock: int = 4) -> asyncio.Task[Any]:
        return self.spawn(self.member.lease(self.queue, stock, self.wake))

    def wake(self) -> None:
        self.woken += 1

    def take(self) -> int | None:
        return self.queue.take(lambda ticket: None)

    async def silent(self, seconds: float) -> None:
        """Be out of reach."""
        self.wire.up.clear()
        await asyncio.sleep(seconds)
        self.wire.up.set()


def totals() -> dict[str, Any]:
    return {"replicas": 2, "examples": 30, "right": 20, "loss": 1.5, "pushes": 3, "staleness": 0.5}


# -- joining


def test_a_first_node_that_reads_its_data_is_asked_again(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            node.wire.instead = [RequestFailed(Refusal.BUSY, "reads")] * 3
            began = node.loop.time()
            joined = await node.member.join(5.0)
            assert (joined.node, node.member.node, len(node.wire.of(Join))) == (2, 2, 4)
            assert node.loop.time() - began == pytest.approx(0.75)

    run(main())


def test_a_first_node_that_stays_busy_is_told_of_within_the_patience(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            node.wire.instead = [RequestFailed(Refusal.BUSY, "reads")] * 100
            began = node.loop.time()
            with pytest.raises(RequestFailed, match=r"^reads$"):
                await node.member.join(5.0)
            assert 4.0 <= node.loop.time() - began <= 5.0

    run(main())


def test_another_refusal_is_told_at_once_and_silence_after_the_patience(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            node.wire.instead = [RequestFailed(Refusal.ENDED, "the run has ended")]
            with pytest.raises(RequestFailed, match=r"^the run has ended$"):
                await node.member.join(5.0)
            node.wire.up.clear()
            began = node.loop.time()
            with pytest.raises(PeerLost, match=r"^first:7000: no answer to Join within 5 s$"):
                await node.member.join(5.0)
            assert node.loop.time() - began == pytest.approx(5.0)

    run(main())


def test_a_lost_answer_to_a_joining_leaves_a_member_that_expires(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            node.wire.lost[Join] = 1
            await node.begin()
            assert (node.member.node, len(node.coordinator.members)) == (3, 3)
            await asyncio.sleep(LEASE_S + 0.5)
            assert len(node.coordinator.members) == 2

    run(main())


def test_another_model_is_no_fence(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.member.join(5.0)
            with pytest.raises(RequestFailed, match="another model of the same job"):
                await node.member.ready("t", DataIdentity("d"))
            assert not node.member._fenced.is_set()

    run(main())


# -- blocks


@pytest.mark.parametrize("lost", [0, 1, 3, 1000])
def test_lost_answers_lose_no_ticket_and_repeated_reports_count_once(run: Any, lost: int) -> None:
    async def main() -> None:
        async with Node(blocks=20) as node:
            await node.begin()
            leasing = node.lease()
            rng, done = np.random.default_rng(lost), []
            while not leasing.done():
                node.wire.lost[Lease] = int(rng.integers(0, lost + 1)) if lost < 1000 else 2
                if (ticket := node.take()) is not None:
                    done.append(ticket)
                    node.member.finished((ticket,))
                await asyncio.sleep(0.02)
            assert sorted(done) == list(range(20))
            assert node.queue.closed
            assert (node.ledger.examples_done, node.ledger.examples_repeated) == (200, 0)
            assert node.coordinator.command == "finish"

    run(main())


def test_the_queue_holds_the_stock_and_is_filled_when_it_is_half_empty(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            node.lease(stock=4)
            await asyncio.sleep(0.01)
            assert (len(node.queue), node.woken) == (4, 1)
            for left in (3, 2):
                node.take()
                node.member.look()
                await asyncio.sleep(0.01)
                assert len(node.queue) == left
            node.take()
            node.member.look()
            await asyncio.sleep(0.01)
            assert len(node.queue) == 4
            lease = node.wire.of(Lease)[-1]
            assert (lease.holds, lease.done, lease.want) == ([0, 1, 2, 3], [], 3)

    run(main())


def test_what_is_done_is_reported_at_once_and_no_more_held(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            node.lease(stock=4)
            await asyncio.sleep(0.01)
            node.take()
            node.member.finished((0,))
            node.member.finished((0, 17))  # named twice, and one that is nobody's here
            await asyncio.sleep(0.01)
            lease = node.wire.of(Lease)[-1]
            assert (lease.holds, lease.done, lease.want) == ([1, 2, 3], [0], 1)
            assert node.ledger.done == 1
            assert len(node.wire.of(Lease)) == 2

    run(main())


def test_a_node_without_work_asks_again_for_what_others_hold(run: Any) -> None:
    async def main() -> None:
        async with Node(blocks=4) as node:
            other = node.coordinator.members.join("other", "", node.loop.time())
            other.ready = True
            node.coordinator.stats.open(other.node, 0)
            assert node.ledger.grant(other.node, (), 4) == [0, 1, 2, 3]
            await node.begin()
            node.lease()
            await asyncio.sleep(LEASE_S - 0.5)
            assert (len(node.queue), node.queue.closed) == (0, False)
            assert len(node.wire.of(Lease)) >= 40
            await asyncio.sleep(1.0)  # the other one is dead
            assert len(node.queue) == 4
            asked = len(node.wire.of(Lease))
            await asyncio.sleep(5.0)
            assert len(node.wire.of(Lease)) == asked, "it has work, and nothing to say"

    run(main())


def test_the_more_nodes_are_without_work_the_less_often_each_asks(run: Any) -> None:
    """Two hundred that wait for a warm start kept the coordinator busy with their questions."""

    async def main() -> None:
        async with Node(blocks=4) as node:
            other = node.coordinator.members.join("other", "", node.loop.time())
            other.ready = True
            node.coordinator.stats.open(other.node, 0)
            node.ledger.grant(other.node, (), 4)
            await node.begin(beats=False)
            node.member.beaten = HeartbeatReply("run", "", 1, True, 200, 0, 1.0)
            node.lease()
            await asyncio.sleep(2.1)
            assert len(node.wire.of(Lease)) == 6

    run(main())


def test_a_stop_closes_the_queue_and_what_is_done_is_still_reported(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            leasing = node.lease(stock=4)
            await asyncio.sleep(0.01)
            node.coordinator.stop("somebody asked")
            node.take()
            node.member.finished((0,))
            await leasing
            assert node.queue.closed
            node.take()
            node.member.finished((1,))
            asked = len(node.wire.of(Lease))
            node.wire.lost[Lease] = 1
            await node.member.report()
            await node.member.report()
            assert [(m.done, m.want) for m in node.wire.of(Lease)[asked:]] == [([1], 0)]
            assert node.ledger.done == 2

    run(main())


def test_more_than_a_message_holds_is_reported_in_several(run: Any) -> None:
    async def main() -> None:
        async with Node(blocks=3000) as node:
            await node.begin()
            member = node.member
            member._held.update(node.ledger.grant(member.node, (), 1024))
            member.finished(tuple(range(1024)))
            member._done.update(dict.fromkeys(range(5000, 5100), 0.0))
            await member.report()
            assert [len(message.done) for message in node.wire.of(Lease)] == [1024, 100]
            assert node.ledger.done == 1024

    run(main())


# -- fenced, and joined again


def test_a_node_that_was_silent_joins_again_and_holds_nothing(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            node.lease(stock=4)
            await asyncio.sleep(0.01)
            node.take()
            await node.silent(LEASE_S + 1.0)
            await asyncio.sleep(0.5)
            assert (node.again, node.member.node) == (1, 3)
            kinds = [type(message) for message in node.wire.asked if getattr(message, "node", 0) == 3]
            assert kinds.index(Ready) < kinds.index(Lease), "it asked for blocks before it was ready"
            first = next(message for message in node.wire.of(Lease) if message.node == 3)
            assert (first.holds, first.done, first.want) == ([], [], 4)
            assert node.ledger.held(3) == {0, 1, 2, 3}
            assert len(node.queue) == 4

    run(main())


def test_what_was_done_before_the_fence_and_not_reported_is_others(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            node.lease(stock=4)
            await asyncio.sleep(0.01)
            node.wire.up.clear()
            node.take()
            node.member.finished((0,))
            await node.silent(LEASE_S + 1.0)
            await asyncio.sleep(0.5)
            assert (node.member.node, node.ledger.done) == (3, 0)
            assert [m.done for m in node.wire.of(Lease) if m.node == 3] == [[]]
            assert node.ledger.examples_repeated == 40

    run(main())


def test_a_late_answer_to_the_old_incarnation_grants_nothing(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            held = node.wire.held[Lease] = asyncio.Event()
            node.lease(stock=4)
            await asyncio.sleep(0.01)
            assert node.ledger.held(2) == {0, 1, 2, 3}
            node.coordinator._bury(node.coordinator.members.get(2), node.loop.time())
            node.member.fence(2)
            await asyncio.sleep(0.01)
            assert node.member.node == 3
            other = node.coordinator.members.join("other", "", node.loop.time())
            assert node.ledger.grant(other.node, (), 4) == [0, 1, 2, 3]
            del node.wire.held[Lease]
            held.set()
            await asyncio.sleep(0.1)
            assert sorted(iter(node.take, None)) == [leased_ticket(ticket, 1) for ticket in (4, 5, 6, 7)]

    run(main())


@pytest.mark.parametrize("kind", [Lease, Heartbeat])
def test_news_of_an_earlier_fence_do_not_fence_the_new_incarnation(run: Any, kind: type[Message]) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin(beats=False)
            node.lease(stock=4)
            await asyncio.sleep(0.01)
            node.coordinator._bury(node.coordinator.members.get(2), node.loop.time())
            held = node.wire.held[kind] = asyncio.Event()
            if kind is Lease:
                node.member.finished((0,))
            else:
                node.spawn(node.member.beat_once(totals, lambda beaten: None))
            await asyncio.sleep(0.01)
            assert node.wire.of(kind)[-1].node == 2
            node.member.fence(2)
            await asyncio.sleep(0.01)
            del node.wire.held[kind]
            held.set()
            node.member.fence(2)
            await asyncio.sleep(1.0)
            assert (node.member.node, node.again) == (3, 1)

    run(main())


def test_a_block_that_a_replica_ends_for_the_old_incarnation_is_not_done_for_the_new_one(run: Any) -> None:
    """The same node may be given the same block again. A replica that was in the midst of it reports it soon, though
    pushes of it were fenced; the block was counted as done while it lay in the queue, and lost if the run ended. Later,
    seed 1270 of the sweep: as done while a replica was in the midst of it for the second time."""

    async def main() -> None:
        async with Node() as node:
            await node.begin()
            node.lease(stock=4)
            await asyncio.sleep(0.01)
            assert node.take() == 0
            await node.silent(LEASE_S + 1.0)
            await asyncio.sleep(0.5)
            assert leased_ticket(0, 1) in node.queue
            node.member.finished((0,))
            await asyncio.sleep(0.5)
            assert node.ledger.done == 0
            assert node.take() == leased_ticket(0, 1)
            node.member.finished((0,))
            await asyncio.sleep(0.5)
            assert node.ledger.done == 0
            node.member.finished((leased_ticket(0, 1),))
            await asyncio.sleep(0.5)
            assert node.ledger.done == 1

    run(main())


def test_a_node_whose_first_node_was_started_anew_ends(run: Any) -> None:
    """It joined the new run with the shards, the map and the blocks of the old one: seeds 192 and 214 of the sweep."""

    async def main() -> None:
        async with Node() as node:
            await node.member.join(5.0)
            node.coordinator.members.next += 1 << 20  # as the numbers of another run
            node.coordinator._bury(node.coordinator.members.get(2), node.loop.time())
            node.member.fence(2)
            with pytest.raises(ClusterFailed, match="was started anew: what this node did belongs to the run before"):
                await node.member.rejoin(node.join_again)
            assert node.again == 0
            # What its replicas sealed is still pushed for a moment: as the old incarnation's, or the new run takes it.
            assert node.member.node == 2
            await node.member.leave()
            assert [member.node for member in node.coordinator.members] == [1]

    run(main())


def test_a_node_that_is_fenced_while_it_loads_joins_again_and_becomes_ready(run: Any) -> None:
    """Its Ready was refused like another model, and the node ended with "is no member of the cluster"."""

    async def main() -> None:
        async with Node() as node:
            await node.member.join(5.0)
            node.spawn(node.member.rejoin(node.join_again))
            await asyncio.sleep(LEASE_S + 1.0)
            await node.member.ready("s", DataIdentity("d"))
            await asyncio.sleep(0.1)
            assert (node.member.node, node.again) == (3, 1)
            node.lease(stock=4)
            await asyncio.sleep(0.1)
            assert len(node.queue) == 4

    run(main())


def test_a_node_that_is_fenced_again_while_it_becomes_ready_joins_once_more(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin(beats=False)
            held = node.wire.held[Join] = asyncio.Event()
            node.coordinator._bury(node.coordinator.members.get(2), node.loop.time())
            node.member.fence(2)
            await asyncio.sleep(LEASE_S + 1.0)  # node 3 joined, and does not know it yet
            assert len(node.coordinator.members) == 1
            del node.wire.held[Join]
            held.set()
            await asyncio.sleep(0.1)
            assert (node.member.node, node.again) == (4, 2)
            assert node.coordinator.members.get(4).ready

    run(main())


def test_a_report_of_a_fenced_node_ends(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.member.join(5.0)
            await node.member.ready("s", DataIdentity("d"))
            node.member._held.add(0)
            node.member.finished((0,))
            await asyncio.sleep(LEASE_S + 1.0)
            await node.member.report()
            assert len(node.wire.of(Lease)) == 1
            assert node.member._fenced.is_set()

    run(main())


# -- the map


def test_where_waits_for_a_later_map(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            first = await node.member.where()
            assert first == node.coordinator.map == ShardMap(1, (0, 100, 200), (1, 1), ("", ""))
            later = node.spawn(node.member.where(first.epoch))
            await asyncio.sleep(1.0)
            assert not later.done()
            node.coordinator.placement.map = first.moved(1, 2, "b:1")
            await asyncio.sleep(0.1)
            assert later.result() == ShardMap(2, (0, 100, 200), (1, 2), ("", "b:1"))
            asked = len(node.wire.of(Where))
            assert asked < 30
            await asyncio.sleep(1.0)
            assert len(node.wire.of(Where)) == asked

    run(main())


def test_a_map_that_does_not_come_is_waited_for_as_long_as_a_move_may_take(run: Any) -> None:
    """It was waited for as long as the coordinator may be silent: one slow move, and every node had given up."""

    async def main() -> None:
        async with Node() as node:
            await node.begin()
            began = node.loop.time()
            text = r"^a shard is not where the map of epoch 1 says, and after 60 s there is no newer map$"
            with pytest.raises(ClusterFailed, match=text):
                await node.member.where(1)
            assert 60.0 <= node.loop.time() - began <= 60.1

    run(main())


def test_a_map_is_waited_for_no_longer_than_the_coordinator_may_be_silent(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin(beats=False)
            waiting = asyncio.ensure_future(node.member.where(1))
            await asyncio.sleep(15.0)
            assert not waiting.done()
            node.wire.up.clear()
            began = node.loop.time()
            with pytest.raises(ClusterFailed, match=r"^the first node, first:7000, does not answer"):
                await waiting
            assert node.loop.time() - began <= GIVE_UP_S + 0.1

    run(main())


# -- heartbeats, and the end


def test_six_beats_a_lease_tell_the_totals(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            heard: list[HeartbeatReply] = []
            await node.member.join(5.0)
            node.spawn(node.member.beat(totals, heard.append))
            await asyncio.sleep(LEASE_S - 0.1)
            assert node.wire.of(Heartbeat) == [Heartbeat(2, **totals())] * 6
            assert heard == [node.member.beaten] * 6
            assert (heard[0].command, heard[0].nodes) == ("run", 2)
            assert node.coordinator.stats.totals.examples == 30
            await asyncio.sleep(100.0)
            assert len(node.coordinator.members) == 2

    run(main())


def test_slow_answers_delay_no_beat_by_more_than_they_take(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.member.join(5.0)
            node.spawn(node.member.beat(totals, lambda beaten: None))
            held = node.wire.held[Heartbeat] = asyncio.Event()
            await asyncio.sleep(2.0)
            assert len(node.wire.of(Heartbeat)) == 1
            del node.wire.held[Heartbeat]
            held.set()
            await asyncio.sleep(0.01)
            assert len(node.wire.of(Heartbeat)) == 2

    run(main())


def test_a_coordinator_that_does_not_answer_is_given_up_after_the_stated_time(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.member.join(5.0)
            beating = asyncio.ensure_future(node.member.beat(totals, lambda beaten: None))
            await asyncio.sleep(0.1)
            node.wire.up.clear()
            began = node.loop.time()
            text = r"^the first node, first:7000, does not answer: first:7000: no answer to Heartbeat within 10 s$"
            with pytest.raises(ClusterFailed, match=text):
                await beating
            assert node.loop.time() - began < GIVE_UP_S + LEASE_S / 6

    run(main())


def test_a_node_that_leaves_does_not_join_again(run: Any) -> None:
    """A heartbeat behind the Leave was refused, since the node was no member any more; so it joined, as a new one, while
    it was going, and was waited for until its lease was over. Where the run had ended it could not, and failed."""

    async def main() -> None:
        async with Node() as node:
            await node.begin()
            held = node.wire.held[Leave] = asyncio.Event()
            leaving = node.spawn(node.member.leave())
            await asyncio.sleep(2.0)
            held.set()
            await leaving
            await asyncio.sleep(2.0)
            assert len(node.wire.of(Heartbeat)) > 4
            assert (len(node.wire.of(Join)), node.again, len(node.coordinator.members)) == (1, 0, 1)

    run(main())


def test_a_leave_is_waited_for_longer_than_shards_may_take_and_may_be_asked_twice(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            node.lease(stock=4)
            await asyncio.sleep(0.01)
            held = node.wire.held[Leave] = asyncio.Event()
            node.wire.lost[Leave] = 1
            leaving = node.spawn(node.member.leave())
            await asyncio.sleep(60.0)
            held.set()
            await leaving
            assert node.wire.of(Leave) == [Leave(2, "")]
            assert (len(node.coordinator.members), node.ledger.leased, node.ledger.free) == (1, 0, 20)

    run(main())


def test_whoever_was_declared_dead_has_left(run: Any) -> None:
    """As where the first node began again meanwhile: nothing is to be given back, and a stop is no failure."""

    async def main() -> None:
        async with Node() as node:
            await node.begin()
            node.coordinator.remove(node.coordinator.members.get(node.member.node))
            await node.member.leave()
            assert len(node.wire.of(Leave)) == 1

    run(main())


def test_a_member_that_cannot_go_on_says_why(run: Any) -> None:
    async def main() -> None:
        async with Node() as node:
            await node.begin()
            await node.member.leave("its disk is full")
            assert (node.coordinator.command, node.coordinator.reason) == ("fail", "node 2 (a name) cannot go on: its disk is full")

    run(main())


# -- what it shows to others


def test_a_node_shows_what_it_was_given_for_its_newest_incarnation(run: Any) -> None:
    """A map that was asked for by the one before came later, and nobody would have believed the new one any more."""

    async def main() -> None:
        async with Node() as node:
            await node.member.join(5.0)
            await node.member.where()
            held = node.wire.held[Where] = asyncio.Event()
            late = asyncio.ensure_future(node.member.where())
            await asyncio.sleep(0.01)
            node.coordinator.remove(node.coordinator.members.get(2))  # type: ignore[arg-type]
            await node.member.join(5.0)
            held.set()
            await late
            issuer = node.coordinator.issuer
            assert node.shown == [(n, dict(zip(*issuer.credentials(n), strict=True))) for n in (2, 2, 3)]

    run(main())
