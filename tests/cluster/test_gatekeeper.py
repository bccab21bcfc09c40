"""The gatekeeper, with servers that know only their clocks: what makes a step, who waits, and what deaths do to both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.cluster import settle

from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.gate.slack import Slack
from hogpour.cluster import step_gatekeeper
from hogpour.cluster.coordinator import keeper_of
from hogpour.cluster.gatekeeper import MOST_REPLICAS
from hogpour.cluster.step_gatekeeper import _REMEMBERED, MOST_WAITING
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.net import frame
from hogpour.net.wire.base import Message
from hogpour.net.wire.gate import COUNTED, LATE, UNDECIDED, Arrive, Arrived, Commit, Committed, Counted

Origin = tuple[int, int]

STALL_S = 5.0


class Shards:
    """Servers that apply steps: a shard has a clock and, for each step, the gradients that were summed."""

    def __init__(self, places: Sequence[str], step: int = 0) -> None:
        self.clocks = [step] * len(places)
        self.places = list(places)  # where they really are
        self.history: list[list[list[tuple[int, int, int, int]]]] = [[] for _ in places]
        self.map = self._named()
        self.asked: list[tuple[str, Commit]] = []
        self.dead: set[str] = set()  # nobody answers there
        self.deaf: set[str] = set()  # what is asked there is done, and the answer is lost
        self.refusal: RequestFailed | None = None
        self.waiting: list[asyncio.Event] = []
        self.lacks: tuple[int, ...] = ()  # nodes of which no gradient is there, whatever they say
        self.slow: set[str] = set()  # they answer when the test says so

    def _named(self, epoch: int = 1) -> ShardMap:
        count = len(self.places)
        return ShardMap(epoch, tuple(16 * k for k in range(count + 1)), (1,) * count, tuple(self.places))

    def move(self, shard: int, address: str, *, known: bool = True) -> None:
        self.places[shard] = address
        if known:
            self.tell()

    def tell(self) -> None:
        """Let the coordinator have the newest map."""
        self.map = self._named(self.map.epoch + 1)

    def at(self, address: str) -> At:
        return At(self, address)


class At:
    def __init__(self, shards: Shards, address: str) -> None:
        self.shards, self.address = shards, address

    async def request(self, message: Message, payload: Sequence[memoryview] = (), *, into: memoryview | None = None,
                      deadline_s: float, retry: bool = True) -> Message:  # fmt: skip
        assert isinstance(message, Commit)
        assert 0 < deadline_s <= 60
        assert retry
        shards = self.shards
        shards.asked.append((self.address, message))
        if self.address in shards.slow:
            shards.waiting.append(asyncio.Event())
            await shards.waiting[-1].wait()
        if shards.refusal is not None:
            raise shards.refusal
        if self.address in shards.dead:
            raise PeerLost(self.address, "nobody answers")
        done = []
        for shard in message.shards:
            if shards.places[shard] != self.address:
                continue
            assert shards.clocks[shard] >= message.step, "a step was left out"
            if shards.clocks[shard] == message.step:
                shards.clocks[shard] += 1
                what = [(one.node, one.replica, one.sequence, one.staleness) for one in message.counted]
                shards.history[shard].append(what)
            done.append(shard)
        if self.address in shards.deaf:
            raise PeerLost(self.address, "no answer")
        return Committed(done, shards.lacks)


class Gated:
    """A gatekeeper and who asks it."""

    def __init__(self, gate: Gate, places: Sequence[str] = ("a", "b"), *, step: int = 0) -> None:
        self.shards = Shards(places, step)
        self.said: list[str] = []
        self.failed: list[str] = []
        self.now = 1000.0
        self.keeper: Any = keeper_of(gate)(
            gate, step, shard_map=lambda: self.shards.map, peers=self.shards.at, log=self.said.append,
            fail=self.failed.append, clock=lambda: self.now, stall_s=STALL_S,
        )  # fmt: skip

    def attend(self, *origins: Origin, present: bool = True) -> None:
        for node, replica in origins:
            self.keeper.attend(node, replica, present)

    def arrive(self, node: int, replica: int = 0, *, sequence: int = 1, step: int = 0) -> Any:
        return self.keeper.arrive(Arrive(node, replica, sequence, step))

    async def round(self, *nodes: int, sequence: int = 1, step: int = 0) -> list[Any]:
        """Have gradients of nodes arrive in this order; what is known of them when nothing more happens."""
        answers = [self.arrive(node, sequence=sequence, step=step) for node in nodes]
        await settle()
        return [known(answer) for answer in answers]

    @property
    def steps(self) -> list[list[Origin]]:
        """Of whom the steps are, in the order of their sums; alike on all shards."""
        assert all(one == self.shards.history[0] for one in self.shards.history)
        assert self.shards.clocks == [self.keeper.step] * len(self.shards.clocks)
        return [[(node, replica) for node, replica, _, _ in step] for step in self.shards.history[0]]


def known(answer: Any) -> Any:
    """What an origin knows: outcome and staleness; None: it waits."""
    if isinstance(answer, Arrived):
        return answer.outcome, answer.staleness
    if answer.cancelled():
        return "cancelled"
    return known(answer.result()) if answer.done() else None


@asynccontextmanager
async def gated(gate: Gate, places: Sequence[str] = ("a", "b"), **more: Any) -> AsyncIterator[Gated]:
    """A gatekeeper that leaves no task behind."""
    one = Gated(gate, places, **more)
    try:
        yield one
        one.keeper.tick()
    finally:
        await one.keeper.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}


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
