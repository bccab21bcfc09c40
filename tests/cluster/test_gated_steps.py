"""How a step reaches every shard once, whatever dies, lies, or is lost meanwhile."""

from __future__ import annotations

import pytest
from support.cluster import settle
from support.gates import gated, known

from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.gate.slack import Slack
from hogpour.cluster import step_gatekeeper
from hogpour.cluster.gatekeeper import MOST_REPLICAS
from hogpour.cluster.step_gatekeeper import MOST_WAITING
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net import frame
from hogpour.net.wire.gate import COUNTED, LATE, Commit, Counted

# -- a step is told until every shard has it


async def test_an_answer_that_is_lost_has_the_step_told_again_and_applied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogpour.cluster.every_shard._AGAIN_S", 0.0)
    async with gated(Barrier()) as g:
        g.attend((1, 0))
        g.shards.deaf = {"b"}
        assert await g.round(1) == [None]
        assert g.shards.clocks == [1, 1]
        g.shards.deaf.clear()
        await settle()
        assert g.steps == [[(1, 0)]]
        assert known(g.arrive(1)) == (COUNTED, 0)
        assert {(at, tuple(one.shards)) for at, one in g.shards.asked[2:]} == {("b", (1,))}
        assert g.said[0] == "step 0 is asked for again: b: no answer"


async def test_a_step_follows_a_shard_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogpour.cluster.every_shard._AGAIN_S", 0.0)
    async with gated(Barrier(), ("a", "b", "b")) as g:
        g.attend((1, 0))
        g.shards.move(1, "c", known=False)  # it is on its way, and the map does not say so yet
        assert await g.round(1) == [None]
        assert g.shards.clocks == [1, 0, 1]
        g.shards.tell()
        await settle()
        assert g.steps == [[(1, 0)]]
        assert (g.shards.asked[-1][0], g.shards.asked[-1][1].shards) == ("c", [1])


async def test_where_others_have_answered_a_step_is_told_again_without_a_pause() -> None:
    async with gated(Barrier()) as g:
        g.attend((1, 0))
        g.shards.slow = {"b"}
        g.arrive(1)
        await settle()
        g.shards.slow.clear()
        g.shards.move(1, "c")
        g.shards.waiting[0].set()  # b says that it has no such shard
        await settle()
        assert g.steps == [[(1, 0)]]


async def test_a_step_that_no_shard_can_apply_ends_the_run() -> None:
    async with gated(Barrier()) as g:
        g.attend((1, 0))
        g.shards.refusal = RequestFailed(Refusal.WRONG, "shard 0: at clock 2, told of step 0")
        assert await g.round(1) == [None]
        assert g.failed == ["step 0 cannot be carried out: shard 0: at clock 2, told of step 0"]


async def test_behind_a_step_that_failed_no_other_is_made() -> None:
    """Shards that had applied it would apply the next one, and be further and further from those that had not."""
    async with gated(Quorum(n=2)) as g:
        g.attend((1, 0), (2, 0))
        g.shards.slow.update("ab")
        await g.round(1)
        assert [asked.step for _, asked in g.shards.asked] == [0, 0]
        g.arrive(2)  # it waits for the next step
        g.shards.refusal = RequestFailed(Refusal.WRONG, "as the test says")
        for waiting in g.shards.waiting:
            waiting.set()
        await settle()
        assert (len(g.failed), [asked.step for _, asked in g.shards.asked]) == (1, [0, 0])


async def test_a_server_that_is_busy_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogpour.cluster.every_shard._AGAIN_S", 0.0)
    async with gated(Barrier()) as g:
        g.attend((1, 0))
        g.shards.refusal = RequestFailed(Refusal.BUSY, "as the test says")
        assert await g.round(1) == [None]
        g.shards.refusal = None
        await settle()
        assert (g.steps, g.failed) == ([[(1, 0)]], [])


# -- lies


async def test_a_gradient_that_was_not_there_is_told_in_one_line_and_the_step_is_made() -> None:
    async with gated(Barrier()) as g:
        g.attend((1, 0), (2, 0))
        g.shards.lacks = (2,)
        assert await g.round(1, 2) == [(COUNTED, 0)] * 2
        assert await g.round(1, 2, sequence=2, step=1) == [(COUNTED, 0)] * 2
        assert g.said == ["step 0: a gradient of node 2 was not there as it said: such ones count as zeros"]
        assert g.failed == []


async def test_no_member_has_more_gradients_wait_than_it_may_have_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a step is applied they took memory, and then a message that is larger than a step may be."""
    monkeypatch.setattr(step_gatekeeper, "MOST_REPLICAS", 3)
    async with gated(Quorum(n=2)) as g:
        g.attend((1, 0), (2, 0))
        g.shards.slow = {"a"}
        for sequence in range(1, 5):  # the first one is the step
            g.arrive(1, sequence=sequence)
        with pytest.raises(RequestFailed, match=r"^3 gradients of node 1 wait for their step already$"):
            g.arrive(1, sequence=5)
        g.arrive(2)
        assert len(g.keeper._pool) == 4


async def test_where_too_many_wait_the_node_with_most_loses_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_gatekeeper, "MOST_WAITING", 5)
    async with gated(Barrier()) as g:
        g.attend((1, 0), (2, 0))
        g.shards.slow = {"a"}
        await g.round(1, 2)
        honest = g.arrive(1, sequence=2, step=1)
        lies = [g.arrive(3, sequence=sequence, step=1) for sequence in range(1, 5)]
        lies[-1].cancel()  # its connection has gone
        more = [g.arrive(node, step=1) for node in (4, 5)]
        assert [known(lie) for lie in lies[:3]] == [None, None, (LATE, 0)]
        assert g.keeper.dropped == 2
        g.shards.slow.clear()
        g.shards.waiting[0].set()
        await settle()
        assert [known(answer) for answer in (honest, *lies[:2], *more)] == [(COUNTED, 0)] * 5
        assert {len(commit.counted) for _, commit in g.shards.asked} == {2, 5}


def test_a_step_of_all_that_may_wait_fits_its_message() -> None:
    """A dozen members with a thousand lies each made one that did not: the first node ended with a bug."""
    largest = (1 << 63) - 1
    counted = [Counted(largest, MOST_REPLICAS, largest, largest)] * MOST_WAITING
    frame.encode(Commit(largest, list(range(4096)), counted, 1.0), 1)


# -- deaths


async def test_one_that_dies_while_its_step_is_applied_is_in_it() -> None:
    async with gated(Barrier()) as g:
        g.attend((1, 0), (2, 0))
        g.shards.slow = {"a"}
        answers = [g.arrive(1), g.arrive(2)]
        await settle()
        g.keeper.forget(2)
        g.shards.waiting[0].set()
        await settle()
        assert known(answers[0]) == (COUNTED, 0)
        assert g.steps == [[(1, 0), (2, 0)]]
        assert (2, 0) not in g.keeper._outcomes  # nothing is kept of it
        g.shards.slow.clear()
        assert await g.round(1, sequence=2, step=1) == [(COUNTED, 0)]


async def test_of_the_dead_nothing_is_kept() -> None:
    for gate in (Barrier(), Quorum(), Slack()):
        async with gated(gate) as g:
            g.attend((1, 0), (2, 0), (2, 1))
            for sequence in (1, 2):
                g.arrive(2, 1, sequence=sequence)
            g.keeper.forget(2)
            keeper = g.keeper
            books = [book for book in vars(keeper).values() if isinstance(book, dict)]
            assert len(books) >= 4
            assert [key for book in books for key in book if key[0] == 2] == []


# -- who looks at all shards at once


async def test_whoever_holds_still_sees_all_shards_at_one_clock() -> None:
    async with gated(Barrier()) as g:
        g.attend((1, 0))
        async with g.keeper.still:
            assert await g.round(1) == [None]
            assert (g.shards.clocks, g.shards.asked) == ([0, 0], [])
        await settle()
        assert g.steps == [[(1, 0)]]


async def test_nobody_holds_still_while_a_step_is_applied() -> None:
    async with gated(Barrier()) as g:
        g.attend((1, 0))
        g.shards.slow = {"b"}
        g.arrive(1)
        await settle()
        assert g.keeper.still.locked()
        assert g.shards.clocks == [1, 0]
        g.shards.waiting[0].set()
        await settle()
        assert not g.keeper.still.locked()
