"""Membership: who belongs to the cluster, as which incarnation, until when. Pure; the time is an argument.

A member lives as long as it is heard from at least once in every ``lease_s``. Each joining gets a number that no other
ever had, also where the same process joins again: what a number says, pushes or reports after it was declared dead is
told from what its successor does by the number alone. So nobody keeps a list of the dead: a number that was issued
and is no member's is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hogpour.core.node_id import MOST_MEMBERS, display_id

__all__ = ["MemberRecord", "Membership"]


@dataclass(slots=True)
class MemberRecord:
    """One incarnation. ``Membership`` makes and times it; whoever asked for it may set the rest."""

    node: int
    """Its number."""
    name: str
    """For people."""
    address: str
    """host:port on which it serves shards; empty: none."""
    heard: float
    """When it was last heard from."""
    until: float
    """When it is dead unless it is heard from; infinite for a member that lives as long as its coordinator."""
    ready: bool = False
    """It has the data and the model of the cluster."""
    leaving: bool = False
    """It has asked to go."""
    unfit: bool = False
    """It has other data or another model, which was logged."""
    version: str = ""
    """Of hogpour, as it says; for people."""

    def __str__(self) -> str:
        return f"node {display_id(self.node)} ({self.address or self.name})"


class Membership:
    """The members of one cluster.

    Args:
        lease_s: a member that was silent for so long is dead. At least twice the time between two heartbeats.
        first: number of the first incarnation; see ``core.node_id.first_node``.

    Attributes:
        next: number of the next incarnation.
    """

    def __init__(self, lease_s: float, first: int = 1) -> None:
        if not lease_s > 0:
            raise ValueError(f"membership: lease of {lease_s} s, expected above 0")
        if first < 1:
            raise ValueError(f"membership: first incarnation {first}, expected at least 1")
        self.lease_s, self.next = lease_s, first
        self._first = first
        self._members: dict[int, MemberRecord] = {}
        self._looked: float | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[MemberRecord]:
        """Iterate over the members by number. Members may go meanwhile."""
        return iter(list(self._members.values()))

    @property
    def full(self) -> bool:
        """Whether nobody else can join."""
        return len(self._members) >= MOST_MEMBERS

    def get(self, node: int) -> MemberRecord | None:
        """Return a member; None where the number is no member's (any more)."""
        return self._members.get(node)

    def gone(self, node: int) -> bool:
        """Return whether a number was a member's and is not any more."""
        return self._first <= node < self.next and node not in self._members

    def at(self, address: str) -> MemberRecord | None:
        """Return the member that serves at an address."""
        return next((member for member in self if address and member.address == address), None)

    def join(self, name: str, address: str, now: float, *, for_ever: bool = False) -> MemberRecord:
        """Take somebody in as a new incarnation; not where ``full``.

        Args:
            for_ever: its lease never ends.
        """
        assert not self.full, f"membership: {len(self)} members already"
        member = MemberRecord(self.next, name, address, now, math.inf if for_ever else now + self.lease_s)
        self._members[member.node] = member
        self.next += 1
        return member

    def beat(self, node: int, now: float) -> MemberRecord | None:
        """Renew the lease of a member and return it; None where the number is no member's.

        A lease that is over is renewed too, unless ``expire`` has said so: until then nothing was taken from it.
        """
        member = self._members.get(node)
        if member is not None:
            member.heard = now
            member.until = max(member.until, now + self.lease_s)
        return member

    def end_lease(self, node: int) -> None:
        """Say that a member is of no use, though it can be heard: dead at the next look, unless it speaks before."""
        if node in self._members:
            self._members[node].until = -math.inf

    def leave(self, node: int) -> MemberRecord | None:
        """Remove a member and return it; None where it is gone already."""
        return self._members.pop(node, None)

    def expire(self, now: float) -> list[MemberRecord]:
        """Remove and return the members whose lease is over, by number. To be called several times in a lease.

        Where nobody looked for half a lease, this process itself was asleep or held up: heartbeats lie unread, and it
        cannot tell who was silent. Then every lease begins anew.
        """
        slept = self._looked is not None and now - self._looked > self.lease_s / 2
        self._looked = now
        if slept:
            for member in self:
                member.until = max(member.until, now + self.lease_s)
        return [self._members.pop(member.node) for member in self if member.until <= now]
