"""Fetch changes: what a node does not have yet of the parameters of one shard."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hogpour.net.wire.base import Message, Request, Speaker
from hogpour.net.wire.numbers import Count, Difference, Incarnation, Index

__all__ = ["WHOLE", "Changes", "FetchChanges"]

WHOLE = -1
"""Number of elements where all are sent, in their order and without gaps."""


class Changes(Message, frozen=True):
    """The elements that changed; the payload is ``net.sparse_form``, or the whole shard."""

    KIND = 63
    PAYLOAD = True
    SHORTER = True

    shard: Index
    clock: Count
    """Updates that are in these parameters."""
    n_entries: Annotated[int, Meta(ge=WHOLE, lt=1 << 31)]
    n_bytes: Count
    """Of the payload."""


class FetchChanges(Request[Changes], frozen=True):
    """Ask a parameter server for what changed in a shard since a fetch of before."""

    KIND = 62
    SPEAKER = Speaker.NAMED

    shard: Index
    node: Incarnation
    """As in ``Fetch``."""
    since: Difference
    """Clock of the fetch of which the asker has the whole shard; -1: it has none."""
