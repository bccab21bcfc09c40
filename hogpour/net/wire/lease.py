"""Lease: blocks of the training examples, handed out for as long as the member lives.

A block goes by its ticket (``data.blocks``). The member names what it holds in every request, so that an answer that
was lost on the way costs nothing: what the coordinator thinks it holds, and it does not, is granted again.
"""

from __future__ import annotations

import msgspec

from hogpour.net.wire.base import Before, Message, Request
from hogpour.net.wire.numbers import Count, Incarnation, Index

__all__ = ["Lease", "Leased"]


class Leased(Message, frozen=True):
    """The tickets that the member holds from now on besides those it named."""

    KIND = 37
    BODY_LIMIT = 1 << 16

    tickets: list[Count]
    finished: bool
    """There will be no more: every example of every epoch is used, or the run is being stopped."""


class Lease(Request[Leased], frozen=True):
    """Report finished tickets and ask for more."""

    KIND = 36
    BEFORE = Before.NO_MEMBERS
    BODY_LIMIT = 1 << 16

    node: Incarnation
    holds: list[Count]
    """Tickets that it was granted and has not reported as done."""
    done: list[Count]
    """Tickets whose every gradient was acknowledged by the shards; named until the coordinator has answered."""
    want: Index
    """Further tickets that it can use."""
    losses: list[float] = msgspec.field(default_factory=list)
    """Batch methods: the sum of the losses of each ticket of ``done``, NaN where it was not computed; else empty."""
    replicas: Index = 0
    """Batch methods: that it computes with. Where it holds fewer tickets it may be given copies of others'."""
