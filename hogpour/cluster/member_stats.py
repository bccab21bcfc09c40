"""What the members of a cluster say that they did, added up. Pure; the time is an argument.

A member tells totals, never differences, so that a heartbeat that is lost or comes twice changes nothing. What a member
did remains counted when it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hogpour.core.cluster_state import Totals

__all__ = ["Account", "MemberStats"]

_LEAST_PACE = 0.125

_RATE_S = 1.0
"""Rates are measured over at least so long."""

_FRESH = 0.2
"""Of a speed, the part that is new: a heartbeat more or less in a second must not change a round."""


@dataclass(slots=True)
class Account:
    """What one member says of itself."""

    totals: Totals
    finished: int = 0
    """Examples of the blocks that it has finished. A heartbeat later than that, it says of itself that it used them;
    one that dies in between does not."""
    leased: int = 0
    """Examples of the blocks that it was given, and of those that it may have held when it joined again: it cannot have
    used more."""
    replicas: int = 0
    rate: float = 0.0
    """Examples per second of late."""
    examples_then: int = 0
    """When the rate was last measured."""
    work: float = 0.0
    """Examples of a replica of late: a mean of what was heard at a time, to which the newest contributes most."""
    work_s: float = 0.0
    """Seconds that these took: the same mean."""
    heard: int = 0
    """Examples when new ones were heard of for the last time; 0: never."""
    heard_at: float = 0.0
    """When that was."""

    @property
    def speed(self) -> float:
        """Examples per second of a replica; 0: not known."""
        return self.work / self.work_s if self.work_s else 0.0

    def hear(self, now: float) -> None:
        """Measure the work of replicas from one time that there is news of it to the next, since a step may be long;
        the first step is not measured, because nobody knows when it began."""
        new, seconds = self.totals.examples - self.heard, now - self.heard_at
        if not new or not self.replicas:
            return
        if self.heard:
            fresh = _FRESH if self.work_s else 1.0
            self.work += fresh * (new / self.replicas - self.work)
            self.work_s += fresh * (seconds - self.work_s)
        self.heard, self.heard_at = self.totals.examples, now


class MemberStats:
    """The accounts of all members.

    Args:
        now: when the first rates begin.

    Attributes:
        examples: used by all members that ever were. Kept up at each word, since each answer names it.
        rate: examples per second of late, of all.
    """

    def __init__(self, now: float) -> None:
        self.examples, self.rate = 0, 0.0
        self._accounts: dict[int, Account] = {}
        self._past = Totals()  # of members that are gone
        self._measured_at, self._examples_then = now, 0

    def __getitem__(self, node: int) -> Account:
        return self._accounts[node]

    @property
    def totals(self) -> Totals:
        """What all members that ever were did."""
        return sum((account.totals for account in self._accounts.values()), self._past)

    @property
    def replicas(self) -> int:
        """Replica processes of all members."""
        return sum(account.replicas for account in self._accounts.values())

    def open(self, node: int, before: int) -> None:
        """Begin an account.

        Args:
            before: examples of the blocks that the same node may have been given when it was another member.
        """
        self._accounts[node] = Account(Totals(), leased=before)

    def close(self, node: int) -> None:
        """Keep what a member did, and forget the member."""
        account = self._accounts.pop(node)
        unsaid = max(0, account.finished - account.totals.examples)
        self._past += account.totals + Totals(examples=unsaid)
        self.examples += unsaid

    def lease(self, node: int, examples: Iterable[int]) -> None:
        """Note what a member was given to do: the examples of each block."""
        self._accounts[node].leased += sum(examples)

    def note(self, node: int, totals: Totals, replicas: int) -> None:
        """Take in what a member says, unless it said that earlier and was overtaken: totals do not shrink. Of examples
        it is believed what it was given, no more."""
        account = self._accounts[node]
        examples = min(totals.examples, account.leased)
        totals = replace(totals, examples=examples, right=min(totals.right, examples))
        if totals.examples >= account.totals.examples and totals.pushes >= account.totals.pushes:
            self.examples += totals.examples - account.totals.examples
            account.totals, account.replicas = totals, replicas

    def finish(self, node: int, examples: int) -> None:
        """Count blocks that a member has finished."""
        self._accounts[node].finished += examples

    def pace(self, node: int) -> float:
        """Return how fast a member's replicas are, as a fraction of the fastest member's; 1 while that is not known.
        Never below 1/8: speed includes what a replica waits, and shorter rounds wait more."""
        speed = self._accounts[node].speed
        fastest = max(account.speed for account in self._accounts.values())
        return max(_LEAST_PACE, speed / fastest) if speed else 1.0

    def measure(self, now: float) -> None:
        """Turn totals into rates, where it is time; to be called more often than that."""
        seconds = now - self._measured_at
        if seconds < _RATE_S:
            return
        for account in self._accounts.values():
            account.rate = (account.totals.examples - account.examples_then) / seconds
            account.examples_then = account.totals.examples
            account.hear(now)
        self.rate = (self.examples - self._examples_then) / seconds
        self._measured_at, self._examples_then = now, self.examples
