"""The link of a node, with shards that answer when the test says so: order, frozen memory, landings, moves, fences, ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.client import SIZE, Node
from support.cluster import settle
from support.server import Kernels

from hogpour.algos.exchange.elastic import Elastic
from hogpour.algos.optim.nesterov import Nesterov
from hogpour.client import fetches, routes
from hogpour.core.errors import PeerLost, Refusal
from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Reply
from hogpour.net.staging import PAGE_BYTES
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Outcome, Push, Pushed
from hogpour.shm.mailbox import BUFFER, LANDING


def sent(node: Node) -> list[tuple[str, str]]:
    """Where what was sent, in order."""
    return [(type(asked.message).__name__, asked.at) for asked in node.asked]


def threads(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Copies on threads are made when the test says so, and every shard is large."""
    kernels = Kernels()

    def run_in_executor(executor: None, copy: Callable[..., None], *arguments: Any) -> asyncio.Future[None]:
        return kernels.run_in_executor(executor, partial(copy, *arguments))

    monkeypatch.setattr(fetches, "_INLINE_ELEMENTS", SIZE - 1)
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", run_in_executor, raising=False)
    return kernels


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on a loop of its own: no task is left, and nothing is said to the loop's exception handler."""

    def runs(main: Coroutine[Any, Any, None]) -> None:
        said: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
            async with asyncio.timeout(5):
                await main
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner() as runner:
            runner.run(watched())
        gc.collect()  # a failure that nobody looked at is told when it is collected
        assert said == []

    return runs


# -- what leaves, and in which order


async def test_every_shard_gets_its_push_before_its_fetch_and_all_are_in_flight_together() -> None:
    node = Node()
    await node.land()
    node.step()
    await settle()
    assert sent(node) == [("Push", "a"), ("Fetch", "a"), ("Push", "b"), ("Fetch", "b"), ("Push", "c"), ("Fetch", "c")]
    assert [asked.message.shard for asked in node.asked] == [0, 0, 1, 1, 2, 2]
    await node.push()
    await node.fetch(1, 1.0)
    await node.link.close()


async def test_pushes_of_all_replicas_leave_before_the_fetch_that_all_have_asked_for() -> None:
    node = Node(shards=1, replicas=2)
    await node.land()
    for replica in (0, 1):
        node.seal(replica, replica + 1.0)
        node.landing.want(replica)
    node.link.poll()
    await settle()
    assert [(type(a.message).__name__, a.floats) for a in node.asked] == [("Push", [1.0]), ("Push", [2.0]), ("Fetch", [])]
    await node.push()
    await node.fetch(2, 5.0)
    assert node.landed == [1, 1]
    assert set(node.live["params"]) == {5.0}


async def test_what_a_push_says() -> None:
    node = Node(shards=2)
    await node.land(clock=40)
    node.seal(value=3.0, steps=5, scale=0.25)
    node.link.poll()
    await settle()
    assert [asked.message for asked in node.asked] == [Push(shard, 7, 0, 1, 40, 5, 0.25) for shard in (0, 1)]
    assert [asked.floats for asked in node.asked] == [[3.0], [3.0]]
    assert [len(asked.bytes) for asked in node.asked] == [4 * SIZE] * 2
    await node.push()


async def test_each_shard_is_sent_its_own_part_of_the_sum() -> None:
    node = Node()
    await node.land()
    accrual = node.accruals[0]
    accrual.begin(1)
    accrual.buffer[:] = np.arange(3 * SIZE)
    accrual.added(1.0)
    accrual.seal()
    node.link.poll()
    await settle()
    assert b"".join(asked.bytes for asked in node.asked) == np.arange(3 * SIZE, dtype=np.float32).tobytes()
    await node.push()


async def test_nothing_is_sent_where_nothing_is_due() -> None:
    node = Node()
    await node.land()
    node.link.poll()
    node.seal()
    node.link.poll()
    node.link.poll()
    await settle()
    assert sent(node) == [("Push", "a"), ("Push", "b"), ("Push", "c")]
    await node.push()
    node.link.poll()
    await settle()
    assert len(node.asked) == 3


async def test_a_fetch_that_is_asked_for_while_the_link_looks_waits_for_its_push() -> None:
    """A replica sealed and asked between the look at the buffers and the look at the wishes: the fetch that left then
    served a wish whose push was still at home, and the replica went on from parameters without its own gradient."""
    node = Node(shards=1, replicas=2)
    await node.land()

    class Late:
        """The words of the first replica; it seals and asks just after somebody has read them."""

        def __init__(self) -> None:
            self.words, self.looked = node.link.buffers._words, False

        def __len__(self) -> int:
            return len(self.words)

        def __getitem__(self, at: Any) -> Any:
            if at == (1, 1) and not self.looked:  # the other one's turn: the first one was looked at
                self.looked = True
                node.seal(0)
                node.landing.want(0)
            return self.words[at]

    node.link.buffers._words = Late()  # type: ignore[assignment]
    node.landing.want(1)
    node.link.poll()
    await settle()
    await node.push()
    await node.fetch(0, 0.0)
    assert node.landed == [0, 1]
    node.link.poll()
    await settle()
    assert [type(asked.message) for asked in node.asked] == [Fetch, Push, Fetch]
    await node.push()
    await node.fetch(1, 1.0)
    assert node.landed == [1, 1]


# -- frozen, released, reported


async def test_a_buffer_is_frozen_until_every_shard_has_answered() -> None:
    node = Node()
    await node.land()
    node.landing.wait_for(0, BUFFER)
    node.seal(value=1.0)
    node.seal(value=2.0)
    node.link.poll()
    await settle()
    first, second = [a for a in node.asked if a.floats == [1.0]], [a for a in node.asked if a.floats == [2.0]]
    for asked in (first[2], second[0], first[0]):
        asked.pushed()
        await settle()
        assert not node.accruals[0].free
        assert (node.woken, node.link.buffers.pushes) == ([], 0)
    first[1].pushed()
    await settle()
    assert node.accruals[0].free
    assert (node.woken, node.link.buffers.pushes) == ([0], 1)
    node.accruals[0].buffer[:] = 9.0
    for asked in second[1:]:
        asked.pushed()  # asserts that its memory is as it was
    await settle()
    assert node.link.buffers.pushes == 2


async def test_a_replica_is_woken_by_what_it_waits_for_only() -> None:
    node = Node(shards=1, replicas=2)
    await node.land()
    node.landing.wait_for(1, LANDING)
    node.step()
    await settle()
    await node.push()
    assert node.woken == []
    await node.fetch(1, 1.0)
    assert node.woken == [1]


async def test_tickets_are_reported_when_every_shard_has_answered() -> None:
    node = Node()
    await node.land()
    node.seal(tickets=(4, 5))
    node.link.poll()
    await settle()
    for asked in node.asked:
        assert node.done == []
        asked.pushed()
        await settle()
    assert node.done == [(4, 5)]


async def test_a_report_without_gradients_needs_no_push() -> None:
    node = Node()
    await node.land()
    node.seal(steps=0, tickets=(4,))
    node.link.poll()
    await settle()
    assert (node.asked, node.done, node.link.buffers.pushes) == ([], [(4,)], 0)
    assert node.accruals[0].free


async def test_a_ticket_whose_gradients_are_in_an_earlier_push_waits_for_that() -> None:
    """n_push = 1: the last gradient of a block was sealed before the block could be noted, which then went alone, had
    nothing to wait for, and was reported while the gradient was on its way. Had the node died then, it were lost."""
    node = Node(shards=1, replicas=2)
    await node.land()
    node.seal(0)
    node.seal(0, steps=0, tickets=(4,))
    node.seal(1, steps=0, tickets=(9,))
    node.link.poll()
    await settle()
    assert node.done == [(9,)]
    await node.push()
    assert node.done == [(9,), (4,)]


async def test_pushes_that_are_answered_out_of_order_are_reported_in_order() -> None:
    node = Node(shards=1)
    await node.land()
    node.seal(tickets=(1,))
    node.link.poll()
    node.seal(tickets=(2,))
    node.link.poll()
    await settle()
    first, second = node.asked
    second.pushed()
    await settle()
    assert (node.done, node.link.buffers.pushes) == ([], 1)
    first.pushed()
    await settle()
    assert node.done == [(1,), (2,)]


async def test_staleness_is_the_mean_over_shards_summed_over_pushes_and_a_repeated_push_counts_as_fresh() -> None:
    node = Node()
    await node.land()
    for staleness in ((3, 0, 6), (None, None, 2)):
        node.seal()
        node.link.poll()
        await settle()
        for asked, stale in zip(node.open(Push), staleness):
            asked.pushed(staleness=stale or 0, outcome=Outcome.REPEATED if stale is None else Outcome.APPLIED)
        await settle()
    assert (node.link.buffers.pushes, node.link.buffers.staleness) == (2, pytest.approx(3 + 2 / 3))


# -- landings


async def test_a_landing_copies_every_shard_and_says_which_wishes_it_serves() -> None:
    node = Node(replicas=2)
    await node.land()
    node.landing.want(1)
    node.link.poll()
    await settle()
    for value, asked in enumerate(node.open(Fetch), 1):
        assert (node.landed, node.landing.number(0)) == ([0, 0], 1)
        asked.fetched(5, value)
        await settle()
    assert (node.landed, node.landing.number(0), node.landing.number(1)) == ([0, 1], 2, 2)
    assert node.live["params"].tolist() == [1.0] * SIZE + [2.0] * SIZE + [3.0] * SIZE
    assert node.staging.taken_bytes == 0


async def test_wishes_while_a_fetch_is_in_flight_share_the_next_one() -> None:
    node = Node(shards=1, replicas=3)
    await node.land()
    node.landing.want(0)
    node.link.poll()
    for replica in (1, 2):
        node.landing.want(replica)
        node.link.poll()
    await settle()
    assert len(node.open(Fetch)) == 1
    await node.fetch(1, 1.0)
    assert node.landed == [1, 0, 0]
    assert len(node.open(Fetch)) == 1
    await node.fetch(2, 2.0)
    assert node.landed == [1, 1, 1]
    assert node.open(Fetch) == []


async def test_pushes_leave_at_once_while_a_fetch_is_in_flight() -> None:
    node = Node(shards=1)
    await node.land()
    node.landing.want(0)
    node.link.poll()
    node.step()
    await settle()
    assert [type(asked.message) for asked in node.asked] == [Fetch, Push]
    await node.push()
    await node.fetch(1, 1.0)
    assert [type(asked.message) for asked in node.asked] == [Fetch, Push, Fetch]
    await node.fetch(2, 2.0)
    assert node.landed == [2]


async def test_a_push_names_the_clock_of_the_landing_that_its_first_gradient_was_computed_on() -> None:
    node = Node(shards=2)
    await node.land(clock=10)
    accrual = node.accruals[0]
    accrual.begin(node.landing.number(0))
    node.landing.want(0)
    node.link.poll()
    await settle()
    for clock, asked in zip((20, 30), node.open(Fetch)):
        asked.fetched(clock, 0.0)
    await settle()
    accrual.added(1.0)
    accrual.seal()
    node.seal()
    node.link.poll()
    await settle()
    assert [(a.message.sequence, a.message.shard, a.message.clock) for a in node.open(Push)] == [(1, 0, 10), (2, 0, 20), (1, 1, 10), (2, 1, 30)]
    await node.push()


async def test_of_a_landing_that_is_long_past_the_oldest_clock_is_named_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetches, "_REMEMBERED", 2)
    node = Node(shards=1)
    await node.land(clock=1)
    node.accruals[0].begin(1)
    for clock in (2, 3, 4):
        node.landing.want(0)
        node.link.poll()
        await settle()
        await node.fetch(clock, 0.0)
    assert len(node.link._landings._clocks) == 2
    node.accruals[0].added(1.0)
    node.accruals[0].seal()
    node.link.poll()
    await settle()
    assert node.open(Push)[0].message.clock == 3
    await node.push()


async def test_a_large_shard_is_copied_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(shards=1)
    await node.land()
    kernels = threads(monkeypatch)
    node.step()
    await settle()
    await node.push()
    await node.fetch(1, 4.0)
    assert (set(node.live["params"]), node.landed) == ({0.0}, [0])
    await kernels.finish()
    await settle()
    assert (set(node.live["params"]), node.landed) == ({4.0}, [1])
    assert node.staging.taken_bytes == 0


# -- shards of its own


def served(value: float, *, later: bool = False) -> tuple[dict[type[Message], Any], list[str]]:
    """Handlers of a server whose shards all hold a value, and what happened there."""
    happened: list[str] = []

    def answered(reply: Reply) -> Any:
        async def soon() -> Reply:
            await asyncio.sleep(0)
            return reply

        return soon() if later else reply

    def fetch(message: Fetch) -> Any:
        happened.append(f"fetch {message.shard}")
        vector = memoryview(np.full(SIZE, value, np.float32)).cast("B").toreadonly()
        return answered(Reply(Fetched(message.shard, 3), [vector], lambda: happened.append(f"sent {message.shard}")))

    def push(message: Push, payload: memoryview) -> Any:
        happened.append(f"push {message.shard}: {np.frombuffer(payload, np.float32)[0]:g}")
        return answered(Reply(Pushed(message.shard, 4, 1)))

    return {Fetch: fetch, Push: push}, happened


@pytest.mark.parametrize("later", [False, True])
async def test_shards_of_its_own_are_reached_without_a_copy_in_between(later: bool) -> None:
    own, happened = served(6.0, later=later)
    node = Node(shards=2, own=own, own_address="a")
    await node.land()
    assert sorted(happened) == ["fetch 0", "sent 0"]
    happened.clear()
    node.step(value=2.0, tickets=(8,))
    await settle()
    assert sent(node) == [("Push", "b"), ("Fetch", "b")]
    assert happened == ["push 0: 2", "fetch 0", "sent 0"]
    await node.push(staleness=3)
    await node.fetch(3, 1.0)
    assert node.live["params"].tolist() == [6.0] * SIZE + [1.0] * SIZE
    assert (node.link.buffers.pushes, node.link.buffers.staleness, node.done, node.landed) == (1, 2.0, [(8,)], [1])


async def test_a_node_that_serves_everything_needs_no_turn_of_the_event_loop() -> None:
    own, _ = served(6.0)
    node = Node(shards=1, own=own, own_address="a")
    await node.land()
    node.step(tickets=(8,))
    assert (node.link.buffers.pushes, node.done, node.landed) == (1, [(8,)], [1])


# -- moves


async def test_what_moved_follows_the_newer_map_with_the_same_sequence() -> None:
    node = Node(shards=2)
    await node.land()
    node.step(value=5.0)
    await settle()
    for asked in node.asked[2:]:
        asked.failed(Refusal.MOVED)
    await settle()
    assert [epoch for epoch, _ in node.relocations] == [1, 1]
    newer = node.map.moved(1, 2, "z")
    for _, future in node.relocations:
        future.set_result(newer)
    await settle()
    again = node.asked[4:]
    assert [(type(a.message).__name__, a.at) for a in again] == [("Push", "z"), ("Fetch", "z")]
    assert again[0].message == node.asked[2].message
    assert again[0].bytes == node.asked[2].bytes
    assert not node.accruals[0].free or node.link.buffers.pushes == 0
    await node.push()
    await node.fetch(1, 1.0)
    assert (node.link.buffers.pushes, node.landed) == (1, [1])
    node.step()
    await settle()
    assert [a.at for a in node.open(Push)] == ["a", "z"]
    await node.push()
    await node.fetch(2, 2.0)


async def test_what_a_server_has_no_turn_for_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 129 nodes with 8 requests in flight each, a server refuses the last ones: their runs ended."""
    monkeypatch.setattr(routes, "_AGAIN_S", 0.0)
    node = Node(shards=1)
    await node.land()
    node.step(value=5.0, tickets=(4,))
    await settle()
    for asked in list(node.asked):
        asked.failed(Refusal.BUSY)
    await settle()
    assert node.asked[2].message == node.asked[0].message
    assert node.asked[2].bytes == node.asked[0].bytes
    assert not node.accruals[0]._state(0) < 0
    await node.push()
    await node.fetch(1, 1.0)
    assert (node.done, node.landed, node.relocations) == ([(4,)], [1], [])


async def test_a_map_of_an_earlier_epoch_replaces_none() -> None:
    node = Node(shards=2)
    await node.land()
    node.seal()
    node.link.poll()
    await settle()
    for asked in list(node.asked):
        asked.failed(Refusal.MOVED)
    await settle()
    newest = node.map.moved(0, 2, "y").moved(1, 2, "z")
    (_, first), (_, second) = node.relocations
    first.set_result(newest)
    await settle()
    second.set_result(node.map.moved(0, 2, "x"))
    await settle()
    assert [asked.at for asked in node.open(Push)] == ["y", "z"]
    await node.push()


async def test_a_shard_that_moved_here_and_away_again_is_followed_every_time() -> None:
    own, happened = served(6.0)
    node = Node(shards=1, own=own, own_address="home")
    await node.land()
    node.step()
    await settle()
    newer = node.map
    for address in ("y", "z", "home"):
        newer = newer.moved(0, 2, address)
        for asked in node.open(Push) + node.open(Fetch):
            asked.failed(Refusal.MOVED)
        await settle()
        for _, future in node.relocations:
            future.set_result(newer)
        node.relocations.clear()
        await settle()
        await settle()
    await settle()
    assert [a.at for a in node.asked] == ["a", "a", "y", "y", "z", "z", "home"]
    assert happened == ["fetch 0", "sent 0"]
    await node.push()
    assert (node.link.buffers.pushes, node.landed) == (1, [1])


@pytest.mark.parametrize("kind", [Push, Fetch])
async def test_a_server_that_went_after_its_shard_had_moved_is_asked_no_more(kind: type[Message]) -> None:
    node = Node(shards=1)
    await node.land()
    node.step()
    await settle()
    node.link.follow(node.map.moved(0, 2, "z"))
    for asked in node.open(kind):
        asked.lost()
    await settle()
    assert ([asked.at for asked in node.open(kind)], node.relocations) == (["z"], [])
    await node.push()
    await node.fetch(1, 1.0)
    assert (node.link.buffers.pushes, node.landed) == (1, [1])


async def test_a_server_has_a_bounded_number_of_requests_to_answer_and_they_keep_their_order() -> None:
    """The patience of each is for itself: with all shards of a large model in flight, the last one's would be over."""
    node = Node(shards=6)
    node.link.follow(ShardMap(2, node.map.bounds, node.map.owners, ("a",) * 6))
    await node.land()
    node.step()
    for answered in range(12):
        await settle()
        kinds = [(type(asked.message), asked.message.shard) for asked in node.asked]
        assert len(kinds) == min(12, 8 + answered)
        assert kinds == [(kind, shard) for shard in range(6) for kind in (Push, Fetch)][: len(kinds)]
        asked = node.asked[answered]
        asked.pushed() if answered % 2 == 0 else asked.fetched(1, 1.0)
    await settle()
    assert (node.link.buffers.pushes, node.landed) == (1, [1])


# -- fences


def test_a_fenced_push_is_dropped_and_told(run: Any) -> None:
    async def main() -> None:
        node = Node()
        await node.land()
        node.landing.wait_for(0, BUFFER)
        node.seal(tickets=(4,))
        node.link.poll()
        await settle()
        for asked in node.open(Push):  # several servers know of it
            asked.failed(Refusal.FENCED)
        await settle()
        assert (node.fenced, node.done, node.link.buffers.pushes, node.woken) == ([7], [], 0, [0])
        assert node.accruals[0].free
        await node.link.drain()
        await node.link.close()

    run(main())


async def test_a_fence_is_heard_while_another_shard_does_not_answer() -> None:
    """Shard 0 was waited for first: had it been silent for the node's patience, the run had failed instead."""
    node = Node()
    await node.land()
    node.seal()
    node.link.poll()
    await settle()
    node.asked[2].failed(Refusal.FENCED)
    await settle()
    assert node.fenced == [7]
    assert node.asked[0].future.cancelled()
    assert node.accruals[0].free


async def test_a_fenced_push_tells_of_the_incarnation_that_made_it() -> None:
    node = Node(shards=1)
    await node.land()
    node.seal()
    node.link.poll()
    await settle()
    node.node = 9
    node.seal()
    node.link.poll()
    await settle()
    assert [a.message.node for a in node.open(Push)] == [7, 9]
    node.asked[0].failed(Refusal.FENCED)
    await settle()
    assert node.fenced == [7]
    node.asked[1].pushed()
    await settle()
    assert node.link.buffers.pushes == 1


async def test_dropped_pushes_are_given_back_unsent_and_those_in_flight_are_left_alone() -> None:
    node = Node(shards=1)
    await node.land()
    node.seal(value=1.0, tickets=(1,))
    node.link.poll()
    node.seal(value=2.0, tickets=(2,))
    node.link.drop_pushes()
    assert node.woken == [0]
    node.link.poll()
    await settle()
    assert [asked.floats for asked in node.asked] == [[1.0]]
    assert not node.accruals[0].free
    await node.push()
    assert (node.done, node.link.buffers.pushes) == ([(1,)], 1)
    assert node.accruals[0].free
    node.seal(value=3.0, tickets=(3,))
    node.link.poll()
    await settle()
    assert [asked.message.sequence for asked in node.open(Push)] == [3]
    await node.push()
    assert node.done == [(1,), (3,)]


# -- errors and ends


@pytest.mark.parametrize("kind", [Push, Fetch])
def test_what_cannot_go_on_is_told_once_and_ends_the_other_parts(kind: type[Message], run: Any) -> None:
    async def main() -> None:
        node = Node()
        await node.land()
        broken = asyncio.ensure_future(node.link.broken())
        node.step()
        await settle()
        assert not broken.done()
        parts = node.open(kind)
        parts[1].lost()
        parts[2].failed(Refusal.WRONG)
        await settle()
        with pytest.raises(PeerLost, match=r"^b: as the test says$"):
            await broken
        assert parts[0].future.cancelled()
        assert node.accruals[0].free is True  # the other one
        assert node.staging.taken_bytes == (0 if kind is Fetch else 3 * PAGE_BYTES)
        await node.link.close()
        assert node.staging.taken_bytes == 0
        assert all(asked.future.done() for asked in node.asked)

    run(main())


async def test_a_push_that_failed_keeps_its_buffer() -> None:
    node = Node(shards=1)
    await node.land()
    node.seal(tickets=(1,))
    node.link.poll()
    node.seal()
    await settle()
    node.asked[0].lost()
    await settle()
    assert not node.accruals[0].free
    assert node.done == []
    with pytest.raises(PeerLost):
        await node.link.broken()


@pytest.mark.parametrize("turns", range(6))
def test_closing_leaves_no_task_and_no_staging_taken(turns: int, run: Any) -> None:
    async def main() -> None:
        node = Node(staging=PAGE_BYTES)  # one fetch at a time
        await node.land_slowly()
        node.step()
        for _ in range(turns):
            await asyncio.sleep(0)
        await node.link.close()
        assert node.staging.taken_bytes == 0
        assert node.staging.take(PAGE_BYTES) is not None

    run(main())


def test_fetches_that_are_cancelled_while_they_wait_for_staging_leave_it_to_others(run: Any) -> None:
    """A fetch that was cancelled gave its staging to the next one, which was cancelled too but did not know it yet."""

    async def main() -> None:
        node = Node(shards=6, staging=PAGE_BYTES)
        await node.land_slowly()
        node.landing.want(0)
        node.link.poll()
        await settle()
        assert len(node.open(Fetch)) == 1
        node.open(Fetch)[0].lost()
        with pytest.raises(PeerLost):
            await node.link.broken()
        assert node.staging.taken_bytes == 0
        assert node.staging.take(PAGE_BYTES) is not None
        await node.link.close()

    run(main())


@pytest.mark.parametrize("ended", ["failed", "cancelled"])
def test_a_first_landing_that_ends_early_leaves_no_fetch_behind(ended: str, run: Any) -> None:
    async def main() -> None:
        node = Node()
        landing = asyncio.ensure_future(node.link.land())
        await settle()
        if ended == "failed":
            node.asked[1].lost()
        else:
            landing.cancel()
        with pytest.raises(PeerLost if ended == "failed" else asyncio.CancelledError):
            await landing
        assert all(asked.future.done() for asked in node.asked)
        assert node.staging.taken_bytes == 0
        assert node.landing.number(0) == 0

    run(main())


def test_a_thread_that_copies_keeps_its_staging_until_it_has_ended(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        node = Node(shards=1)
        await node.land()
        kernels = threads(monkeypatch)
        node.landing.want(0)
        node.link.poll()
        await settle()
        await node.fetch(1, 4.0)
        closing = asyncio.ensure_future(node.link.close())
        await settle()
        assert not closing.done()
        assert node.staging.taken_bytes == PAGE_BYTES
        await kernels.finish()
        await closing
        assert node.staging.taken_bytes == 0

    run(main())


def test_draining_waits_for_what_was_started_and_for_what_that_started(run: Any) -> None:
    async def main() -> None:
        node = Node(shards=1)
        await node.land()
        node.step()
        await settle()
        node.landing.want(0)
        node.link.poll()  # after the one in flight
        draining = asyncio.ensure_future(node.link.drain())
        await settle()
        for end in (node.push, lambda: node.fetch(1, 1.0), lambda: node.fetch(1, 1.0)):
            assert not draining.done()
            await end()
        await draining
        assert node.landed == [2]
        await node.link.close()

    run(main())


# -- pulls


async def pulled(shards: int = 3, replicas: int = 1, params: float = 4.0) -> Node:
    """A node whose exchange pulls halfway; its live vector holds ``params``, and a fetch of every shard is asked for."""
    node = Node(shards, replicas, exchange=Elastic(0.5, 1))
    await node.land()
    node.live["params"][:] = params
    node.step(tickets=(5,))
    await settle()
    return node


async def test_a_pull_moves_the_live_vector_and_pushes_to_each_shard_what_it_lost() -> None:
    node = await pulled()
    assert sent(node) == [("Fetch", "a"), ("Fetch", "b"), ("Fetch", "c")], "what was accrued was pushed"
    node.asked[1].fetched(8, 2.0)
    await settle()
    assert [asked.message for asked in node.open(Push)] == [Push(1, 7, 1, 1, 8, 1, 1.0)]
    assert node.open(Push)[0].floats == [-1.0]
    assert sorted(set(node.live["params"][SIZE : 2 * SIZE])) == [3.0]
    assert sorted(set(node.live["params"][:SIZE])) == [4.0]
    assert (node.landed, node.done) == ([0], [])
    node.landing.wait_for(0, LANDING)
    await node.fetch(9, 2.0)
    assert (node.landed, node.woken) == ([1], [0]), "replicas go on when all has landed"
    assert set(node.live["params"]) == {3.0}
    assert node.accruals[0]._state(0) > 0
    await node.push(staleness=2)
    assert (node.done, node.link.buffers.pushes, node.link.buffers.staleness) == ([(5,)], 1, 2.0)
    assert node.accruals[0]._state(0) < 0, "the buffer was not given back"
    await node.link.close()


async def test_a_pull_is_at_the_place_behind_the_look_ahead_whose_length_follows_the_schedule() -> None:
    """Two replicas that look ahead by velocities of 8 and 16, at half of the rate of 0.5: the node is at 4 + 3."""
    node = Node(1, 2, exchange=Elastic(0.5, 1), rule=Nesterov(0.5, momentum=0.5))
    await node.land()
    node.live["params"][:], node.live["velocity.0"][:], node.live["velocity.1"][:] = 4.0, 8.0, 16.0
    node.step(scale=0.5)
    await settle()
    await node.fetch(1, 2.0)
    assert node.open(Push)[0].floats == [-2.5]
    assert set(node.live["params"]) == {1.5}
    await node.push()
    await node.link.close()


async def test_the_first_and_the_last_landing_of_a_node_take_the_parameters_over() -> None:
    node = await pulled()
    await node.fetch(1, 2.0)
    await node.push()
    await node.land(2, 9.0)
    assert set(node.live["params"]) == {9.0}


async def test_what_a_pull_pushes_is_frozen_and_the_next_pull_waits_for_the_answers() -> None:
    """``Asked.pushed`` compares the memory that was sent with what is there when it is answered."""
    node = await pulled(shards=2)
    await node.fetch(1, 2.0)
    node.step(tickets=(6,))
    await settle()
    assert node.open(Fetch) == [], "a second pull was begun over pushes that are not answered"
    first, second = node.open(Push)
    first.pushed()
    await settle()
    assert node.open(Fetch) == []
    second.pushed()
    await settle()
    assert node.done == [(5,)]
    assert len(node.open(Fetch)) == 2
    await node.fetch(2, 1.0)
    assert [(a.message.sequence, a.floats) for a in node.open(Push)] == [(2, [-1.0])] * 2
    await node.push()
    assert node.done == [(5,), (6,)]


async def test_tickets_that_come_without_steps_are_told_after_those_before_them() -> None:
    node = await pulled(shards=1)
    node.seal(steps=0, tickets=(6,))
    node.link.poll()
    await settle()
    assert node.done == []
    await node.fetch(1, 2.0)
    await node.push()
    assert node.done == [(5,), (6,)]


@pytest.mark.parametrize("joined_first", [False, True], ids=["refused first", "joined again first"])
async def test_a_pull_that_is_refused_is_made_again_when_the_node_has_joined_again(joined_first: bool) -> None:
    """Its replicas would have waited for ever for shards that had not landed when another one was refused."""
    node = await pulled(shards=2)
    node.asked[0].fetched(1, 2.0)
    await settle()

    def join_again() -> None:
        node.node = 8
        node.link.drop_pushes()

    if joined_first:
        join_again()
    node.open(Push)[0].failed(Refusal.FENCED)
    await settle()
    assert node.fenced == [7]
    if not joined_first:
        assert node.open(Fetch) == []
        join_again()
        await settle()
    assert node.done == [], "a refused push was told as done"
    await node.fetch(3, 2.0)
    assert node.landed == [1]
    assert {asked.message.node for asked in node.open(Push)} == {8}
    await node.push()
    assert node.accruals[0].free
    await node.link.close()
