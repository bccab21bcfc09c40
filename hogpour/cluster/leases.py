"""The ledger of blocks: which tickets are free, who holds which on lease, how much is done.

Knows no nodes but their numbers, no messages and no time. A ticket is free, leased to exactly one member, or done; it
becomes done once, by the report of the member that holds it. What a dead member held is free again, and is given out
before anything new: its examples may be used a second time, which is counted and told, never hidden.

The one idea: tickets are handed out in order, so that three numbers' worth of memory would do if nobody ever died. What
is above ``next`` is free, what is below it and neither leased nor returned is done. Memory is bounded by what members
may hold, however many tickets there are.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hogpour.data.blocks import Blocks

__all__ = ["MOST_HELD", "EpochLedger", "LeaseLedger", "LedgerState"]

MOST_HELD = 1024
"""Tickets that one member may hold. More than any queue takes; a message that names them all is 9 kB."""


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Where a run is: what a snapshot keeps, and a resumed run begins with."""

    next: int = 0
    """The lowest ticket that was never handed out."""
    pending: tuple[int, ...] = ()
    """Tickets below ``next`` that are not done, ascending. They were handed out, so that some of their examples may
    have been used."""


class LeaseLedger(ABC):
    """Who does which block: ``EpochLedger``, where each is done once, and ``EvaluationLedger``, where it is done again
    in every evaluation.

    Attributes:
        done: tickets that are done, earlier runs included.
        finished: there is nothing left to do, now and later.
        examples_done: examples of all tickets that are done, earlier runs included.
        examples_repeated: examples of tickets that were handed out again because a member died, or left, or the run was
            resumed, in this run: whole tickets, though their holder had perhaps used none of it. So are copies.
    """

    def __init__(self, blocks: Blocks, done: int) -> None:
        self._blocks, self.done, self.finished = blocks, done, False
        self.examples_done = self.examples_repeated = 0
        self._held: dict[int, dict[int, None]] = {}  # member → tickets, in the order of granting

    @property
    def total(self) -> int:
        """Tickets of the whole run, at most."""
        return self._blocks.total

    @property
    def most_held(self) -> int:
        """Examples of the tickets that one member may hold, at most."""
        return MOST_HELD * self._blocks.block_size

    @property
    def leased(self) -> int:
        """Tickets that members hold."""
        return sum(len(tickets) for tickets in self._held.values())

    @property
    @abstractmethod
    def free(self) -> int:
        """Tickets that nobody holds and that are to be done."""

    def held(self, node: int) -> frozenset[int]:
        """Return the tickets that a member holds."""
        return frozenset(self._held.get(node, ()))

    @abstractmethod
    def grant(self, node: int, holds: Iterable[int], want: int, replicas: int = 0) -> list[int]:
        """Lease tickets to a member, or lease them to it again.

        Args:
            holds: what the member says that it holds. What it holds by this ledger, and does not name, was granted in
                an answer that it never got: that is granted first, again, so that a lost answer loses no ticket.
            want: further tickets that it has room for. Never exceeded, not by repeated ones either.
            replicas: that it computes with; where it holds fewer tickets, it may have copies of others'.

        Returns:
            At most ``want`` tickets. What was lost and finds no room stays leased to it and comes with a later answer.
        """

    @abstractmethod
    def finish(self, node: int, losses: Mapping[int, float]) -> int:
        """Note what a member reports as done; call it before ``grant`` where a message holds both.

        Only what it holds counts: a report that comes twice, or from a member whose tickets were taken back, changes
        nothing.

        Args:
            losses: ticket → sum of the losses of its examples, for evaluations.

        Returns:
            Examples that are done now and were not before.
        """

    @abstractmethod
    def take_back(self, node: int, tickets: Collection[int] | None = None) -> int:
        """Free what a member holds, because it died or goes; return the examples of it.

        Args:
            tickets: these only, because it is late with them; None: all. What it does of them counts no more.
        """

    @abstractmethod
    def state(self) -> LedgerState:
        """Return what a snapshot keeps.

        Read it before the shards are read: a ticket that is done by then is in the shards, whereas one that becomes
        done meanwhile is pending here and is used again, rather than lost.
        """

    @abstractmethod
    def examples(self, ticket: int) -> int:
        """Return how many examples a ticket stands for."""

    def _drop(self, node: int, tickets: Collection[int] | None) -> list[int]:
        """Let a member hold these no more, None: all; return what it held of them, in the order of granting."""
        mine = self._held.pop(node, {})
        dropped = [ticket for ticket in mine if tickets is None or ticket in tickets]
        self._keep(node, {ticket: None for ticket in mine if ticket not in dropped})
        return dropped

    def _keep(self, node: int, mine: dict[int, None]) -> None:
        """Note what a member holds."""
        if mine:
            self._held[node] = mine
        else:
            self._held.pop(node, None)


class EpochLedger(LeaseLedger):
    """The tickets of one run.

    Args:
        blocks: what a ticket stands for.
        seed: of the run; decides which ticket of an epoch is the short one.
        state: of an earlier run of the same blocks and seed that this one goes on with.
    """

    def __init__(self, blocks: Blocks, seed: int, state: LedgerState = LedgerState()) -> None:
        pending = sorted(set(state.pending))
        if not 0 <= state.next <= blocks.total:
            raise ValueError(f"ledger: next ticket {state.next}, expected 0 to {blocks.total}")
        if pending and not 0 <= pending[0] <= pending[-1] < state.next:
            raise ValueError(f"ledger: pending tickets {pending[0]} to {pending[-1]}, expected 0 to {state.next - 1}")
        super().__init__(blocks, state.next - len(pending))
        self.finished = self.done == self.total
        self._seed = seed
        self._next = state.next
        self._returned = pending  # a heap; a sorted list is one
        self.examples_done = self._examples_below(state.next) - sum(self.examples(ticket) for ticket in pending)

    @property
    def free(self) -> int:
        return self.total - self._next + len(self._returned)

    def grant(self, node: int, holds: Iterable[int], want: int, replicas: int = 0) -> list[int]:
        mine = self._held.get(node, {})
        granted = sorted(mine.keys() - set(holds))[: max(0, want)]
        for _ in range(min(want - len(granted), MOST_HELD - len(mine), self.free)):
            ticket = self._take()
            mine[ticket] = None
            granted.append(ticket)
        self._keep(node, mine)
        return granted

    def finish(self, node: int, losses: Iterable[int]) -> int:
        mine, examples = self._held.get(node, {}), 0
        for ticket in mine.keys() & set(losses):
            del mine[ticket]
            examples += self.examples(ticket)
            self.done += 1
        self._keep(node, mine)
        self.examples_done += examples
        self.finished = self.done == self.total
        return examples

    def take_back(self, node: int, tickets: Collection[int] | None = None) -> int:
        tickets = self._drop(node, tickets)
        for ticket in tickets:
            heapq.heappush(self._returned, ticket)
        return sum(self.examples(ticket) for ticket in tickets)

    def state(self) -> LedgerState:
        return LedgerState(self._next, tuple(sorted(set(self._returned).union(*self._held.values()))))

    def examples(self, ticket: int) -> int:
        epoch, rank = self._blocks.place(ticket)
        size = _short_size(self._blocks)
        if size == self._blocks.block_size or rank != _short_rank(self._blocks, self._seed, epoch):
            return self._blocks.block_size
        return size

    def _take(self) -> int:
        """Take the lowest free ticket. What was returned lies below ``next``, all of it."""
        if self._returned:
            ticket = heapq.heappop(self._returned)
            self.examples_repeated += self.examples(ticket)
            return ticket
        self._next += 1
        return self._next - 1

    def _examples_below(self, ticket: int) -> int:
        """Return the examples of all tickets from 0 up to, not including, this one."""
        blocks = self._blocks
        epoch, ranks = blocks.place(ticket)
        missing = blocks.block_size - _short_size(blocks) if ranks else 0
        missing = missing if ranks > _short_rank(blocks, self._seed, epoch) else 0
        return epoch * blocks.n + ranks * blocks.block_size - missing


def _short_size(blocks: Blocks) -> int:
    """Examples in the last block."""
    return blocks.n - (blocks.n_blocks - 1) * blocks.block_size


@lru_cache(maxsize=16)
def _short_rank(blocks: Blocks, seed: int, epoch: int) -> int:
    """When the last block of the examples is used in an epoch. Remembered: tickets of few epochs are under way."""
    return int(np.argmax(blocks.epoch_order(seed, epoch)))
