"""The witness's invariants of leases: who holds a ticket, and what is done.

    leases  a block is held by one member; it is done once, and what is done is in the shards
    once    no ticket is in the shards more often than it was given out
    kept    when a run has finished, every ticket is in the shards
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from hogpour.cluster.leases import EpochLedger
from hogpour.core.node_id import display_id
from hogpour.sim.checks.probes import Look

__all__ = ["LeaseInvariants"]


class LeaseInvariants:
    """Invariants of the leases of one simulation.

    Args:
        say: writes a violation down.
        counts: ticket → how often each batch of it is in the shards, and how often it came too late; None where
            batches cannot be counted.
    """

    def __init__(
        self, say: Callable[[str], None], counts: Callable[[int], tuple[list[int], list[int]]] | None
    ) -> None:
        self._say, self._counts = say, counts
        self._granted: dict[int, int] = {}  # ticket → how often it was given out
        self._holders: dict[int, int] = {}
        self._done: set[int] = set()

    def begin(self, fresh: bool) -> None:
        """A first node begins; ``fresh``: nothing of the runs before is in the shards."""
        self._holders.clear()
        self._done.clear()
        if fresh:
            self._granted.clear()

    def end(self, total: int) -> None:
        """A run of this many tickets says that every example was used."""
        for ticket in range(total):
            counts, least = self._least(ticket)
            if least < 1:
                self._say(f"kept: the run has finished, and ticket {ticket} is in the shards {counts} times")
            if max(counts, default=0) > max(1, self._granted.get(ticket, 0)):
                self._say(f"once: ticket {ticket} was given out {self._granted.get(ticket, 0)} times and is in the "
                          f"shards {counts} times")  # fmt: skip

    def on_grant(self, ledger: EpochLedger, node: int, holds: Any, want: int) -> Look:
        """A member asks for tickets."""
        del ledger, holds
        granted: list[int] = yield
        if len(granted) > max(0, want):
            self._say(f"leases: node {display_id(node)} asked for {want} tickets and was granted {len(granted)}")
        for ticket in granted:
            holder = self._holders.get(ticket)
            if holder is None:
                self._granted[ticket] = self._granted.get(ticket, 0) + 1
            elif holder != node:
                self._say(f"leases: ticket {ticket} is granted to node {display_id(node)}, and node "
                          f"{display_id(holder)} holds it")  # fmt: skip
            if ticket in self._done:
                self._say(f"leases: ticket {ticket} is granted, and done")
            self._holders[ticket] = node

    def on_finish(self, ledger: EpochLedger, node: int, tickets: Iterable[int]) -> Look:
        """A member reports tickets."""
        mine = [ticket for ticket in dict.fromkeys(tickets) if self._holders.get(ticket) == node]
        before = ledger.done
        yield
        if ledger.done - before != len(mine):
            self._say(f"leases: {ledger.done - before} tickets became done, of {len(mine)} that node "
                      f"{display_id(node)} held and reported")  # fmt: skip
        for ticket in mine:
            del self._holders[ticket]
            self._done.add(ticket)
            counts, least = self._least(ticket)
            if least < 1:
                self._say(f"leases: ticket {ticket} is done, and in the shards {counts} times")

    def on_take_back(self, ledger: EpochLedger, node: int, tickets: Collection[int] | None = None) -> None:
        """A member is gone, or late, and its tickets are taken back."""
        del ledger
        held = [ticket for ticket, holder in self._holders.items() if holder == node]
        for ticket in held if tickets is None else tickets:
            del self._holders[ticket]

    def _least(self, ticket: int) -> tuple[list[int], int]:
        """Return how often each batch of a ticket is in the shards, and how often the one was used that was used
        least: it is in the shards, or came too late for its step. Where nothing is counted: none, and once."""
        if self._counts is None:
            return [], 1
        counts, dropped = self._counts(ticket)
        return counts, min(map(sum, zip(counts, dropped, strict=True)), default=0)
