"""Who is waited for in vain: what was begun, and is not done after several times as long as is usual.

That a process lives says nothing of what it does: it may be stopped, swapped out, or wait for a disk for ever. So what
is watched is what it has to do. Blocks are looked at when none is left that nobody has: before that, nobody waits for
them. Then those that are overdue are given to others, and whoever had them comes too late: a block is done once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from statistics import median_high

from hogpour.cluster.lease_desk import LeaseDesk
from hogpour.core.node_id import display_id

__all__ = ["AwakeClock", "OverdueBlocks", "StallLimit"]

_TIMES = 10
"""What is usual, for whoever is slower than others. A gate that goes on without them drops what they do."""

_TIMES_A_BLOCK = 3
"""The same for a block, whose time includes that in which it waited at its node behind others: nothing is lost where it
is done by others as well."""

_REMEMBERED = 64
"""Times that are a sample of what is usual."""


_ASLEEP_S = 1.0
"""Between two ticks; more is time in which this process stood still."""


class AwakeClock:
    """A clock without the time in which this process stood still: it cannot tell who did nothing meanwhile.

    Args:
        clock: with it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._looked, self._asleep_s = clock, clock(), 0.0

    def __call__(self) -> float:
        return self._clock() - self._asleep_s

    def tick(self, now: float) -> None:
        """Say that this process is awake; several times in a second."""
        self._asleep_s += max(0.0, now - self._looked - _ASLEEP_S)
        self._looked = now


class StallLimit:
    """How long somebody is waited for.

    Args:
        stall_s: at least.
        times: what is usual.
    """

    def __init__(self, stall_s: float, times: int = _TIMES) -> None:
        self._stall_s, self._times, self._took = stall_s, times, deque[float](maxlen=_REMEMBERED)

    def note(self, seconds: float) -> None:
        """Note how long somebody took."""
        self._took.append(seconds)

    @property
    def limit_s(self) -> float:
        """Seconds from which on somebody is waited for in vain. Where nobody has done anything yet, it may all take
        long."""
        return max(self._stall_s, self._times * (median_high(self._took) if self._took else self._stall_s))


class OverdueBlocks:
    """When blocks were leased, and which are out for too long.

    Args:
        desk: where members are given blocks.
        stall_s: as in ``StallLimit``.
        clock: the time.
        log: told who is late, a line each time.
    """

    def __init__(
        self, desk: LeaseDesk, stall_s: float, clock: Callable[[], float], log: Callable[[str], None]
    ) -> None:
        self._desk, self._ledger, self._patience = desk, desk.ledger, StallLimit(stall_s, _TIMES_A_BLOCK)
        self._clock, self._log = clock, log
        self._looked = clock()
        self._since: dict[int, dict[int, float]] = {}  # member → ticket → when

    def lease(self, node: int, tickets: Iterable[int]) -> None:
        """Note what a member was given."""
        self._since.setdefault(node, {}).update(dict.fromkeys(tickets, self._clock()))

    def finish(self, node: int, tickets: Iterable[int]) -> None:
        """Note what it has done."""
        now = self._clock()
        since = self._since.get(node, {})
        for ticket in tickets:
            if ticket in since:
                self._patience.note(now - since.pop(ticket))

    def forget(self, node: int) -> None:
        """Forget a member that is gone."""
        self._since.pop(node, None)

    def waited_for(self) -> list[tuple[int, float]]:
        """Return members whose blocks are all that is left to do, and for how long each has had one."""
        if self._ledger.free or self._ledger.finished or self._desk.ended:
            return []
        return [(node, max(ages.values())) for node in list(self._since) if (ages := self._ages(node))]

    def take_back(self, excused: Iterable[int]) -> None:
        """Give the blocks to others that are overdue. To be called several times in a second.

        Args:
            excused: members that wait for others: the time since the last call is not held against their blocks.
        """
        limit_s, now = self._patience.limit_s, self._clock()
        for node in excused:
            for ticket, at in self._since.get(node, {}).items():
                self._since[node][ticket] = min(now, at + now - self._looked)
        self._looked = now
        for node, seconds in self.waited_for():
            if seconds > limit_s:
                late = [ticket for ticket, age in self._ages(node).items() if age > limit_s]
                self._desk.take_back(node, late)
                what = f"{len(late)} blocks of node {display_id(node)} are not done after {seconds:.1f} s"
                self._log(f"{what}: others are given them too")

    def _ages(self, node: int) -> dict[int, float]:
        held, now = self._ledger.held(node), self._clock()  # an evaluation may be over meanwhile
        since = self._since[node] = {ticket: at for ticket, at in self._since[node].items() if ticket in held}
        return {ticket: now - at for ticket, at in since.items()}
