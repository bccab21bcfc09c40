"""The gatekeeper: what makes a step, and who waits for whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.cluster import settle
from support.gates import Gated, gated, known

from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.open import Open
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.gate.slack import Slack
from hogpour.cluster.step_gatekeeper import _REMEMBERED
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.wire.gate import COUNTED, LATE, UNDECIDED, Arrive

# -- who waits for whom, and what a step is made of

CASES = [
    # sentence, gate, what happens and what is known by it, the steps in the order of their sums, dropped
    ("a step is made when everybody has arrived",
     Barrier(), "+1 +1.1 +2 2 1.1 1>1:0,1.1:0,2:0", "1,1.1,2", 0),
    ("a barrier sums in the order of numbers where all came in it", Barrier(), "+1 +2 +3 1 2 3>1:0,2:0,3:0", "1,2,3", 0),
    ("a barrier sums in the order of numbers where the last came first", Barrier(), "+1 +2 +3 3 1 2>1:0,2:0,3:0", "1,2,3", 0),
    ("a barrier sums in the order of numbers where the first came last", Barrier(), "+1 +2 +3 2 3 1>1:0,2:0,3:0", "1,2,3", 0),
    ("with backups the first make the step and the others are late",
     Barrier(backups=2), "+1 +2 +3 +4 +5 4 2 5>2:0,4:0,5:0 1@0>1:L1 3@0>3:L1", "2,4,5", 2),
    ("more backups than there are origins let each make its step",
     Barrier(backups=4), "+1 +2 2>2:0 1@0>1:L1 1>1:0", "2 1", 1),
    ("a late one that asks again is dropped once, and told what it was then",
     Barrier(backups=1), "+1 +2 1>1:0 2@0>2:L1 2?>2:L1 2?>2:L1 1>1:0 2?>2:L1", "1 1", 1),
    ("a quorum counts the first in the order of their coming and keeps nobody waiting",
     Quorum(n=2), "+1 +2 +3 +4 +5 4>4:U 2>2:0 4?>4:0 5@0>5:U 1@0>1:1 5?>5:1", "4,2 5,1", 0),
    ("one origin may have several gradients in a step of a quorum",
     Quorum(n=1), "+1 +2 +3 2>2:U 2>2:U 2>2:0 +4", "2,2,2", 0),
    ("staleness is told in steps since the parameters, and not below zero where a shard ran ahead",
     Quorum(n=4), "+1 1>1:0 1@0>1:1 1@0>1:2 1@99>1:0", "1 1 1 1", 0),
    ("nobody gets further ahead than s", Slack(s=2), "+1 +2 1>1:0 1>1:0 1 2>1:0,2:0", "", 0),
    ("whoever goes and comes again keeps its lead; at the clock of the slowest it would get s more",
     Slack(s=2), "+1 +2 1>1:0 1>1:0 -1 +1 1 2>1:0,2:0", "", 0),
    ("without slack all wait for the slowest", Slack(s=0), "+1 +2 +3 1 3 2>1:0,2:0,3:0", "", 0),
    ("whoever joins begins with the slowest and whoever goes holds nobody up",
     Slack(s=0), "+1 +2 2 1>1:0,2:0 2 1>1:0,2:0 2 1>1:0,2:0 +3 1 2 -3>1:0,2:0", "", 0),
    ("one that waits and is counted out need not wait any more", Slack(s=0), "+1 +2 1 -1>1:0 1>1:0", "", 0),
    ("with slack nobody waits for the dead and the dead for nobody", Slack(s=0), "+1 +2 +3 1 2 x2>2:0 x3>1:0", "", 0),
    ("one that dies before it arrives is in no step and holds none up", Barrier(), "+1 +2 +3 1 3 x2>1:0,3:0", "1,3", 0),
    ("one that dies after it has arrived is in no step that is decided later",
     Barrier(), "+1 +2 +2.1 +3 1 2 2.1 x2>2:X,2.1:X 3>1:0,3:0", "1,3", 0),
    ("a quorum gets smaller with those who die", Quorum(n=1), "+1 +2 +3 1>1:U 2>2:U x3 1?>1:0 2?>2:0", "1,2", 0),
    ("one that has no more blocks is not waited for", Barrier(), "+1 +2 1 -2>1:0", "1", 0),
    ("one that enters in the midst of a step is waited for", Barrier(), "+1 +2 1 +3 2 3>1:0,2:0,3:0", "1,2,3", 0),
    ("entering twice is entering once", Barrier(), "+1 +2 +1 1 2>1:0,2:0", "1,2", 0),
    ("leaving twice is leaving once", Barrier(), "+1 +2 -1 -1 2>2:0", "2", 0),
    ("the last one goes and nothing is decided", Barrier(), "+1 1>1:0 -1", "1", 0),
    ("what the last one left behind is a step of its own", Barrier(), "+1 +2 1 -1>1:0 -2", "1", 0),
    ("what the last one left behind, that a quorum had let pass, is a step of its own",
     Quorum(), "+1 +2 1>1:U -1 -2 1?>1:0", "1", 0),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "script", "steps", "dropped"), [pytest.param(*row, id=name) for name, *row in CASES])
async def test_who_waits_for_whom(gate: Gate, script: str, steps: str, dropped: int) -> None:
    """+1: replica 0 of node 1 takes part, -1: not any more, x1: node 1 is dead. 1.1: a gradient of its replica 1 has
    arrived, computed on the newest step; 1@0: on step 0; 1?: the one before is asked for again. Behind ``>`` is who hears
    what by that: how stale its gradient counted, L: that it was late, U: not decided yet, X: it is dead."""
    async with gated(gate) as g:
        waiting: list[tuple[str, Any]] = []
        sequences: dict[str, int] = {}
        for event, _, answers in (token.partition(">") for token in script.split()):
            kind, (at, _, step) = event[0], event.strip("+-x?").partition("@")
            node, replica = int(at.partition(".")[0]), int(at.partition(".")[2] or 0)
            if kind in "+-":
                g.attend((node, replica), present=kind == "+")
            elif kind == "x":
                g.keeper.forget(node)
            else:
                sequences[at] = sequences.get(at, 0) + (not event.endswith("?"))
                on = int(step) if step else g.keeper.step
                waiting.append((at, g.arrive(node, replica, sequence=sequences[at], step=on)))
            await settle()
            heard = sorted(f"{at}:{short(known(one))}" for at, one in waiting if known(one) is not None)
            waiting = [(at, one) for at, one in waiting if known(one) is None]
            assert heard == sorted(one for one in answers.split(",") if one), f"by {event}"
        made = [",".join(f"{node}" + (f".{replica}" if replica else "") for node, replica in step) for step in g.steps]
        assert (made, g.keeper.dropped) == (steps.split(), dropped)


def short(answer: Any) -> str:
    if answer == "cancelled":
        return "X"
    outcome, staleness = answer
    return {COUNTED: f"{staleness}", LATE: f"L{staleness}", UNDECIDED: "U"}[outcome]


# -- a barrier


async def test_steps_follow_each_other_on_every_shard_wherever_it_is() -> None:
    async with gated(Barrier(), ("a", "b", "a", "c"), step=7) as g:
        g.attend((1, 0), (2, 0))
        for k in range(3):
            assert await g.round(1, 2, sequence=k + 1, step=7 + k) == [(COUNTED, 0)] * 2
        assert g.steps == [[(1, 0), (2, 0)]] * 3
        assert [(at, one.step, one.shards) for at, one in g.shards.asked[:3]] == [("a", 7, [0, 2]), ("b", 7, [1]), ("c", 7, [3])]


async def test_what_arrives_while_a_step_is_applied_was_too_late_for_it() -> None:
    async with gated(Barrier(backups=1)) as g:
        g.attend((1, 0), (2, 0), (3, 0))
        g.shards.slow = {"a"}
        assert await g.round(1, 2) == [None, None]
        late, again = g.arrive(3), g.arrive(3)
        coming = g.keeper.attend(4, 0, True)
        await settle()
        # Told now, it would fetch what is late again, and push that, as long as the step takes.
        assert known(late) is known(again) is None
        assert coming is not None
        assert not coming.done()
        g.shards.waiting[0].set()
        await settle()
        assert known(late) == known(again) == known(g.arrive(3)) == (LATE, 1)
        assert coming.done()
        assert g.steps == [[(1, 0), (2, 0)]]


# -- a quorum


async def test_a_quorum_keeps_what_comes_while_a_step_is_applied_and_goes_on_with_it_at_once() -> None:
    async with gated(Quorum(n=1)) as g:
        g.attend((1, 0), (2, 0))
        g.shards.slow = {"a"}
        await g.round(1, 2)
        assert await g.round(2, 1, sequence=2) == [(UNDECIDED, 0), None]  # enough for the next: no more than that waits
        g.shards.slow.clear()
        g.shards.waiting[0].set()
        await settle()
        assert g.shards.history[0] == [[(1, 0, 1, 0), (2, 0, 1, 0)], [(2, 0, 2, 1), (1, 0, 2, 1)]]
        assert g.steps == [[(1, 0), (2, 0)], [(2, 0), (1, 0)]]


# -- slack


async def test_a_clock_that_is_told_again_is_the_same_clock() -> None:
    async with gated(Slack(s=1)) as g:
        g.attend((1, 0), (2, 0))
        for _ in range(3):
            assert known(g.arrive(1, sequence=1)) == (COUNTED, 0)
        first = g.arrive(1, sequence=2)
        assert g.arrive(1, sequence=2) is first  # the same wait
        g.arrive(2, sequence=1)
        assert known(first) == known(g.arrive(1, sequence=2)) == (COUNTED, 0)


# -- asked again


async def test_whoever_asks_again_waits_for_the_same_and_is_in_the_step_once() -> None:
    async with gated(Barrier()) as g:
        g.attend((1, 0), (2, 0))
        first = g.arrive(1)
        assert g.arrive(1) is first
        g.shards.slow = {"b"}
        g.arrive(2)
        await settle()
        assert g.arrive(1) is first  # while the step is applied
        g.shards.waiting[0].set()
        await settle()
        assert known(g.arrive(1)) == known(g.arrive(1)) == (COUNTED, 0)
        assert g.steps == [[(1, 0), (2, 0)]]


async def test_of_each_origin_some_outcomes_are_remembered_the_newest_ones() -> None:
    async with gated(Quorum(n=1)) as g:
        g.attend((1, 0))
        for k in range(_REMEMBERED + 5):
            await g.round(1, sequence=k + 1, step=k)
        assert list(g.keeper._outcomes[1, 0]) == list(range(6, _REMEMBERED + 6))


# -- coming and going


@pytest.mark.parametrize(
    ("gate", "shares"),
    [(Barrier(), [1, 3 / 4, 1, 2 / 3]), (Barrier(backups=1), [1, 2 / 3, 1, 1 / 2]), (Quorum(n=2), [1, 1, *[1 / 2] * 3, *[1] * 5])],
    ids=repr,
)  # fmt: skip
async def test_a_step_of_fewer_than_have_had_data_moves_by_its_share(gate: Gate, shares: list[float]) -> None:
    async with gated(gate, ["a"]) as g:
        g.attend((1, 0), (2, 0), (3, 0), (4, 0))
        await g.round(1, 2, 3, 4)
        first = g.keeper.step
        g.attend((4, 0), present=False)  # no more data
        await g.round(1, 2, 3, sequence=2, step=first)
        g.keeper.forget(4)  # dead: three are all there are
        await g.round(1, 2, 3, sequence=3, step=g.keeper.step)
        g.attend((3, 0), present=False)
        await g.round(1, 2, sequence=4, step=g.keeper.step)
        told = {commit.step: commit.share for _, commit in g.shards.asked}
        assert [told[step] for step in sorted(told)] == shares


async def test_one_that_enters_while_a_step_is_applied_is_in_the_next_one() -> None:
    async with gated(Barrier()) as g:
        g.attend((1, 0))
        g.shards.slow = {"a"}
        g.arrive(1)
        await settle()
        g.attend((2, 0))
        g.shards.slow.clear()
        g.shards.waiting[0].set()
        await settle()
        assert await g.round(1, sequence=2, step=1) == [None]
        assert await g.round(2, step=1) == [(COUNTED, 0)]
        assert g.steps == [[(1, 0)], [(1, 0), (2, 0)]]


# -- the end


async def test_closing_ends_all_waits() -> None:
    g = Gated(Barrier())
    g.attend((1, 0), (2, 0))
    g.shards.slow = {"a"}
    answers = [g.arrive(1), g.arrive(2)]
    await settle()
    answers.append(g.arrive(1, sequence=2, step=1))
    await g.keeper.close()
    assert [known(one) for one in answers] == ["cancelled"] * 3
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_ends_the_waits_of_those_that_are_ahead() -> None:
    g = Gated(Slack(s=0))
    g.attend((1, 0), (2, 0))
    waiting = g.arrive(1)
    await g.keeper.close()
    assert known(waiting) == "cancelled"


async def test_an_error_that_nobody_expects_is_told_by_tick() -> None:
    g = Gated(Barrier())
    g.attend((1, 0))
    g.shards.places[0] = "a"
    g.shards.clocks[0] = -1  # the fake server complains
    g.arrive(1)
    await settle()
    with pytest.raises(AssertionError, match="a step was left out"):
        g.keeper.tick()
    await g.keeper.close()


async def test_nothing_arrives_where_there_is_no_gate() -> None:
    async with gated(Open()) as one:
        with pytest.raises(RequestFailed, match="the scheme has no gate, nothing arrives at one") as raised:
            one.keeper.arrive(Arrive(1, 0, 1, 0))
        assert raised.value.code == Refusal.WRONG
