"""Heartbeat of a member. It carries what the member has done, and the answer what it is to do."""

from __future__ import annotations

from typing import Literal

from hogpour.net.wire.base import Before, Message, Request
from hogpour.net.wire.numbers import Count, Fraction, Incarnation, Index, Nonnegative

__all__ = ["Heartbeat", "HeartbeatReply"]


class HeartbeatReply(Message, frozen=True):
    """What the cluster is doing."""

    KIND = 35
    BODY_LIMIT = 8192

    command: Literal["run", "finish", "stop", "fail"]
    """``finish``: all examples are used; ``stop``: somebody asked."""
    reason: str
    """Why it fails, or what it waits for before it begins; one line."""
    map_epoch: Count
    """Epoch of the shard map; ask with ``Where`` when it is a newer one than known."""
    warming: bool
    """Only one replica of the cluster computes yet."""
    nodes: Index
    examples: Count
    """Used by the whole cluster, unacknowledged ones included."""
    pace: Fraction
    """Speed of a replica of this member, as a fraction of the fastest member's; 1 while that is not known."""


class Heartbeat(Request[HeartbeatReply], frozen=True):
    """Renew the lease and tell the totals of this incarnation."""

    KIND = 34
    BEFORE = Before.NO_MEMBERS

    node: Incarnation
    replicas: Index
    """Replica processes that run."""
    examples: Count
    """Examples that its replicas used."""
    right: Count
    loss: float
    """Sum of the losses of these examples; not finite where training diverges."""
    pushes: Count
    """Pushes acknowledged, counted once for all shards."""
    staleness: Nonnegative
    """Sum of the mean staleness over shards of each of these pushes."""
    dropped: Count = 0
    """Pushes that came too late for their step, beside these."""
    waited_s: Nonnegative = 0.0
    """Seconds that pushes waited at a gate, all together."""
    bytes: Count = 0
    """Of parameters and gradients, sent to other nodes and fetched from them."""
