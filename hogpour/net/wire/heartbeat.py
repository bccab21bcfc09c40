"""Heartbeat of a member. It carries what the member has done, and the answer what it is to do."""

from __future__ import annotations

from hogpour.net.wire.base import Before, Message, Request

__all__ = ["Heartbeat", "HeartbeatReply"]


class HeartbeatReply(Message, frozen=True):
    """What the cluster is doing."""

    KIND = 35
    BODY_LIMIT = 8192

    command: str
    """``run``, ``finish`` (all examples are used), ``stop`` (somebody asked) or ``fail``."""
    reason: str
    """Why it fails, or what it waits for before it begins; one line."""
    map_epoch: int
    """Epoch of the shard map; ask with ``Where`` when it is a newer one than known."""
    warming: bool
    """Only one replica of the cluster computes yet."""
    nodes: int
    examples: int
    """Used by the whole cluster, unacknowledged ones included."""
    pace: float
    """Speed of a replica of this member, as a fraction of the fastest member's; 1 while that is not known."""


class Heartbeat(Request[HeartbeatReply], frozen=True):
    """Renew the lease and tell the totals of this incarnation."""

    KIND = 34
    BEFORE = Before.NO_MEMBERS

    node: int
    replicas: int
    """Replica processes that run."""
    examples: int
    """Examples that its replicas used."""
    right: int
    loss: float
    """Sum of the losses of these examples."""
    pushes: int
    """Pushes acknowledged, counted once for all shards."""
    staleness: float
    """Sum of the mean staleness over shards of each of these pushes."""
    dropped: int = 0
    """Pushes that came too late for their step, beside these."""
    waited_s: float = 0.0
    """Seconds that pushes waited at a gate, all together."""
    bytes: int = 0
    """Of parameters and gradients, sent to other nodes and fetched from them."""
