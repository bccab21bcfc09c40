"""Where members report and are given more: at once of an epoch, and when there is an evaluation of that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.cluster import settle

from hogpour.cluster.evaluation_ledger import EvaluationLedger
from hogpour.cluster.lease_desk import EvaluationDesk, LeaseDesk
from hogpour.cluster.leases import EpochLedger
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.data.blocks import Blocks
from hogpour.net.wire.lease import Lease


def alive() -> bool:
    return True


def ask(node: int, want: int = 1, *, done: list[int] | None = None, holds: list[int] | None = None) -> Lease:
    return Lease(node, holds or [], done or [], want, [0.5] * len(done or []), 1)


class Evaluations:
    """Four blocks of two examples, as often as somebody opens an evaluation."""

    def __init__(self, *, copies: bool = False) -> None:
        self.ledger = EvaluationLedger(Blocks(n=8, batch=2, replicas=1, epochs=9, count=4), copies=copies)
        self.desk = EvaluationDesk(self.ledger)

    def wait(self, node: int, want: int = 1, patience_s: float = 60.0, alive: Any = alive, **more: Any) -> Any:
        granted = self.desk.grant(ask(node, want, **more), patience_s, alive)
        assert not isinstance(granted, list)
        return asyncio.ensure_future(granted)


def test_blocks_of_an_epoch_are_given_and_taken_back_at_once() -> None:
    desk = LeaseDesk(EpochLedger(Blocks(n=8, batch=2, replicas=1, epochs=1, count=4), 0))
    assert desk.grant(ask(2, 3), 0.0, alive) == [0, 1, 2]
    assert desk.report(ask(2, done=[0])) == 2
    assert desk.report(ask(2, done=[0])) == 0, "it is told again"
    assert desk.take_back(2) == 4
    assert desk.grant(ask(3, 9), 0.0, alive) == [1, 2, 3]
    assert (desk.ended, desk.failed) == (False, False)
    desk.end()
    desk.end(failed=True)
    desk.end()
    assert (desk.ended, desk.failed) == (True, True)


async def test_members_wait_for_the_next_evaluation_and_its_driver_for_the_last_report() -> None:
    e = Evaluations()
    one, two = e.wait(2, 3), e.wait(3, 3)
    await settle()
    assert not one.done()
    complete = e.desk.open(None)
    assert (await one, await two) == ([4, 5, 6], [7])
    assert e.desk.report(ask(2, done=[4, 5, 6])) == 6
    assert not complete.done()
    assert e.desk.report(ask(3, done=[7])) == 2
    assert complete.done()
    assert e.ledger.loss == pytest.approx(2.0 / 8)


async def test_who_wants_nothing_does_not_wait() -> None:
    assert Evaluations().desk.grant(ask(2, 0), 60.0, alive) == []


async def test_who_finds_nothing_for_so_long_is_told() -> None:
    assert await Evaluations().wait(2, patience_s=0.0) == []


@pytest.mark.parametrize("why", ["given back", "copied"])
async def test_who_waits_is_woken_by_what_there_is_now(why: str) -> None:
    e = Evaluations(copies=why == "copied")
    complete = e.desk.open(None)
    first = await e.wait(2, 4)
    second = e.wait(3)
    if why == "copied":
        assert await second == [4], "the one given out first"
    else:
        await settle()
        assert not second.done()
        assert e.desk.take_back(2) == 8
        assert (await second)[0] in first
    assert not complete.done()


async def test_a_report_wakes_who_may_copy_what_is_left() -> None:
    """A member that computes with one replica is given no copy while it holds a block."""
    e = Evaluations(copies=True)
    e.desk.open(None)
    assert await e.wait(2, 2) == [4, 5]
    assert sorted(await e.wait(3, 2)) == [6, 7]
    more = e.wait(3, 1, holds=[6, 7])
    await settle()
    assert not more.done()
    assert e.desk.report(ask(3, done=[6, 7])) == 4
    assert await more == [4]


async def test_a_member_that_died_while_it_waited_is_given_nothing() -> None:
    e = Evaluations()
    gone = e.wait(2, alive=lambda: False)
    await settle()
    e.desk.open(None)
    assert await gone == []
    assert e.ledger.held(2) == frozenset()


@pytest.mark.parametrize("before", [True, False], ids=["ended before", "ended meanwhile"])
async def test_the_end_of_a_run_lets_everybody_go(before: bool) -> None:
    e = Evaluations()
    waiting = e.wait(2)
    await settle()
    if before:
        e.desk.end(failed=True)
        complete = e.desk.open(None)
    else:
        complete = e.desk.open(None)
        e.desk.end(failed=True)
    assert complete.done()
    await waiting
    assert (e.desk.ended, e.desk.failed) == (True, True)


@pytest.mark.parametrize(
    ("lease", "text"),
    [
        (Lease(2, [], [4], 1, [], 1), "node 2 reports 1 blocks with 0 losses, and has 1 replicas"),
        (Lease(2, [], [], 1, [0.5], 1), "node 2 reports 0 blocks with 1 losses, and has 1 replicas"),
        (Lease(2, [], [], 1, [], -1), "node 2 reports 0 blocks with 0 losses, and has -1 replicas"),
    ],
)
def test_what_no_member_says_is_refused(lease: Lease, text: str) -> None:
    with pytest.raises(RequestFailed) as caught:
        EvaluationDesk(EvaluationLedger(Blocks(n=8, batch=2, replicas=1, epochs=9, count=4))).report(lease)
    assert (caught.value.code, str(caught.value)) == (Refusal.WRONG, text)
