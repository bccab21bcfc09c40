from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hogpour.cluster.leases import MOST_HELD, EpochLedger, LedgerState
from hogpour.data.blocks import Blocks

TEN = Blocks(n=1000, batch=100, replicas=1, epochs=1)  # ten tickets of 100 examples
NODES = st.integers(1, 4)


def size_of(blocks: Blocks, seed: int, ticket: int) -> int:
    epoch, _ = blocks.place(ticket)
    start, stop = blocks.range(ticket, blocks.epoch_order(seed, epoch))
    return stop - start


# -- one thing at a time


def test_tickets_are_granted_in_order_and_to_one_member_each() -> None:
    ledger = EpochLedger(TEN, 0)
    assert ledger.grant(1, [], 3) == [0, 1, 2]
    assert ledger.grant(2, [], 2) == [3, 4]
    assert ledger.grant(1, [0, 1, 2], 1) == [5]
    assert (ledger.free, ledger.leased, ledger.done) == (4, 6, 0)


def test_what_was_granted_in_a_lost_answer_is_granted_again() -> None:
    ledger = EpochLedger(TEN, 0)
    assert ledger.grant(1, [], 2) == [0, 1]
    assert ledger.grant(1, [], 2) == [0, 1]
    assert ledger.grant(1, [1], 2) == [0, 2]
    assert ledger.examples_repeated == 0


def test_no_grant_exceeds_the_room_of_the_member() -> None:
    """A queue of fixed size takes them: a repeated grant on top of a new one would not fit."""
    ledger = EpochLedger(TEN, 0)
    assert ledger.grant(1, [], 4) == [0, 1, 2, 3]
    assert ledger.grant(1, [], 3) == [0, 1, 2]
    assert ledger.grant(1, [0, 1, 2], 0) == []
    assert ledger.grant(1, [0, 1, 2], 1) == [3]
    assert ledger.grant(1, [0, 1, 2, 3], -1) == []


def test_a_member_holds_a_bounded_number_of_tickets() -> None:
    ledger = EpochLedger(Blocks(n=10_000, batch=1, replicas=2000, epochs=1), 0)
    granted = ledger.grant(1, [], 1 << 60)
    assert granted == list(range(MOST_HELD))
    assert ledger.grant(1, granted, 1) == []
    ledger.finish(1, [7])
    assert ledger.grant(1, granted, 5) == [MOST_HELD]


def test_a_ticket_is_done_by_the_report_of_its_holder_alone_and_once() -> None:
    ledger = EpochLedger(TEN, 0)
    ledger.grant(1, [], 2)
    assert ledger.finish(2, [0, 1]) == 0
    assert ledger.finish(1, [0, 5, -1, 99]) == 100
    assert ledger.finish(1, [0]) == 0
    assert (ledger.done, ledger.leased, ledger.examples_done) == (1, 1, 100)


def test_tickets_of_the_dead_go_first_and_are_counted_as_repeated() -> None:
    ledger = EpochLedger(TEN, 0)
    ledger.grant(1, [], 3)
    ledger.grant(2, [], 1)
    ledger.finish(1, [1])
    assert ledger.take_back(1) == 200
    assert ledger.take_back(1) == 0
    assert ledger.examples_repeated == 0  # not handed out again yet
    assert ledger.grant(2, [3], 3) == [0, 2, 4]
    assert ledger.examples_repeated == 200


def test_a_late_report_of_the_dead_does_not_count() -> None:
    ledger = EpochLedger(TEN, 0)
    ledger.grant(1, [], 1)
    ledger.take_back(1)
    assert ledger.finish(1, [0]) == 0
    ledger.grant(2, [], 1)
    assert ledger.finish(1, [0]) == 0
    assert ledger.finish(2, [0]) == 100


def test_it_is_finished_when_every_ticket_is_done_and_not_before() -> None:
    ledger = EpochLedger(TEN, 0)
    granted = ledger.grant(1, [], 100)
    assert granted == list(range(10))
    assert not ledger.finished
    ledger.finish(1, granted[1:])
    assert not ledger.finished
    assert ledger.grant(2, [], 1) == []
    ledger.finish(1, granted)
    assert ledger.finished
    assert ledger.examples_done == 1000
    assert EpochLedger(Blocks(n=1, batch=1, replicas=1, epochs=0), 0).finished


def test_a_resumed_run_begins_with_what_was_pending() -> None:
    ledger = EpochLedger(TEN, 0)
    ledger.grant(1, [], 3)
    ledger.grant(2, [], 2)
    ledger.finish(1, [1])
    ledger.take_back(2)
    assert ledger.state() == LedgerState(5, (0, 2, 3, 4))
    resumed = EpochLedger(TEN, 0, ledger.state())
    assert (resumed.done, resumed.free, resumed.leased, resumed.examples_done) == (1, 9, 0, 100)
    assert resumed.grant(1, [], 5) == [0, 2, 3, 4, 5]
    assert resumed.examples_repeated == 400
    assert EpochLedger(TEN, 0, LedgerState(5, (4, 2, 2, 3, 0))).grant(1, [], 5) == [0, 2, 3, 4, 5]


@given(
    st.builds(Blocks, n=st.integers(1, 60), batch=st.integers(1, 7), replicas=st.integers(1, 3), epochs=st.integers(1, 3)),
    st.integers(0, 5),
    st.data(),
)
def test_examples_are_counted_exactly_wherever_the_short_block_lies(blocks: Blocks, seed: int, data: st.DataObject) -> None:
    ledger = EpochLedger(blocks, seed)
    assert [ledger.examples(t) for t in range(blocks.total)] == [size_of(blocks, seed, t) for t in range(blocks.total)]
    first = data.draw(st.integers(0, blocks.total))
    assert EpochLedger(blocks, seed, LedgerState(first)).examples_done == sum(size_of(blocks, seed, t) for t in range(first))


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (LedgerState(11), "ledger: next ticket 11, expected 0 to 10"),
        (LedgerState(-1), "ledger: next ticket -1, expected 0 to 10"),
        (LedgerState(5, (2, 5)), "ledger: pending tickets 2 to 5, expected 0 to 4"),
        (LedgerState(5, (-1, 2)), "ledger: pending tickets -1 to 2, expected 0 to 4"),
    ],
)
def test_a_state_that_does_not_fit_the_run_is_refused(state: LedgerState, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        EpochLedger(TEN, 0, state)


def test_memory_does_not_grow_with_the_number_of_tickets() -> None:
    ledger = EpochLedger(Blocks(n=8, batch=1, replicas=1, epochs=500), 0)
    while granted := ledger.grant(1, [], 4):
        assert ledger.finish(1, granted) == len(granted)
        assert ledger.state() == LedgerState(ledger.done, ())
        assert not ledger._held
    assert ledger.finished
    assert not ledger._held
    assert not ledger._returned


# -- anything in any order


class LedgerMachine(RuleBasedStateMachine):
    """A ledger beside members with minds of their own: answers get lost, reports repeat, the dead go on talking."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = Blocks(n=37, batch=3, replicas=1, epochs=2)
        self.ledger = EpochLedger(self.blocks, 5)
        self.knows: dict[int, set[int]] = {node: set() for node in range(1, 5)}  # what a member thinks that it holds
        self.leased: dict[int, int] = {}  # ticket -> node, the truth
        self.done: list[int] = []
        self.handed_out: set[int] = set()
        self.done_here = self.repeated = 0

    @rule(node=NODES, want=st.integers(-1, 7), lost=st.booleans())
    def lease(self, node: int, want: int, lost: bool) -> None:
        before = {t for t, n in self.leased.items() if n == node}
        granted = self.ledger.grant(node, sorted(self.knows[node]), want)
        assert len(granted) == len(set(granted)) <= max(0, want)
        fresh = [t for t in granted if t not in before]
        assert granted == sorted(before - self.knows[node])[: max(0, want)] + fresh
        free = sorted(set(range(self.blocks.total)) - set(self.done) - set(self.leased))
        assert fresh == free[: len(fresh)]
        assert len(granted) == max(0, want) or len(fresh) == len(free)
        for ticket in fresh:
            self.leased[ticket] = node
            self.repeated += size_of(self.blocks, 5, ticket) * (ticket in self.handed_out)
            self.handed_out.add(ticket)
        if not lost:
            self.knows[node].update(granted)

    @rule(node=NODES, data=st.data())
    def report(self, node: int, data: st.DataObject) -> None:
        """Some that it holds or held, some that it never did."""
        named = data.draw(st.sets(st.integers(-1, self.blocks.total), max_size=6))
        named |= set(data.draw(st.lists(st.sampled_from(sorted(self.knows[node]) or [0]), max_size=6)))
        new = [t for t in named if self.leased.get(t) == node]
        assert self.ledger.finish(node, sorted(named)) == sum(size_of(self.blocks, 5, t) for t in new)
        for ticket in new:
            del self.leased[ticket]
            self.done.append(ticket)
        self.knows[node] -= named

    @rule(node=NODES, knows=st.booleans())
    def die(self, node: int, knows: bool) -> None:
        back = [t for t, n in self.leased.items() if n == node]
        assert self.ledger.take_back(node) == sum(size_of(self.blocks, 5, t) for t in back)
        self.leased = {t: n for t, n in self.leased.items() if n != node}
        if knows:  # otherwise it goes on reporting what it held
            self.knows[node] = set()

    @precondition(lambda self: self.handed_out)
    @rule()
    def resume(self) -> None:
        """From a snapshot, with members who know nothing."""
        state = self.ledger.state()
        assert state.pending == tuple(sorted(self.handed_out - set(self.done)))
        self.ledger = EpochLedger(self.blocks, 5, state)
        self.leased, self.knows = {}, {node: set() for node in self.knows}
        self.repeated = 0

    @invariant()
    def adds_up(self) -> None:
        ledger = self.ledger
        assert sorted(self.done) == sorted(set(self.done)), "done twice"
        assert (ledger.done, ledger.leased) == (len(self.done), len(self.leased))
        assert ledger.done + ledger.leased + ledger.free == ledger.total
        for node in self.knows:
            assert ledger.held(node) == {t for t, n in self.leased.items() if n == node}
        assert ledger.examples_done == sum(size_of(self.blocks, 5, t) for t in self.done)
        assert ledger.examples_repeated == self.repeated
        assert ledger.finished == (len(self.done) == self.blocks.total)

    def teardown(self) -> None:
        """Whatever happened, those who are left can finish: no ticket is lost."""
        for node in self.knows:
            self.ledger.take_back(node)
        while granted := self.ledger.grant(9, [], 5):
            self.ledger.finish(9, granted)
        assert self.ledger.finished
        assert self.ledger.examples_done == self.blocks.n * self.blocks.epochs


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=30)
TestLedger.pytestmark = [pytest.mark.slow]
