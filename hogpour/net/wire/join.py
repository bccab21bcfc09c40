"""Join: a node becomes a member, gets the job, says when it is ready, and leaves."""

from __future__ import annotations

import msgspec

from hogpour.net.wire.base import Before, Message, Ok, Request, Speaker
from hogpour.net.wire.numbers import Incarnation, Ordinal, Seconds

__all__ = ["Join", "Joined", "Leave", "Ready"]


class Joined(Message, frozen=True):
    """The asker is a member as long as its heartbeats come."""

    KIND = 31
    BODY_LIMIT = 4 << 20

    node: Incarnation
    """Its incarnation: a number that no other member ever had."""
    job: bytes
    """The job's tables as JSON: data, never code."""
    base: str
    """Folder of the first node that the job's data paths are relative to."""
    block_replicas: Ordinal
    """Decides the cutting of the examples into blocks; the same on every node."""
    lease_s: Seconds
    """Without a heartbeat for so long a member is declared dead."""
    give_up_s: Seconds
    """Without an answer of the coordinator for so long a member ends."""
    version: str = ""
    """``hogpour.__version__`` of the first node; empty: it does not say."""
    key: bytes = b""
    """By it the asker tells who speaks to it; see ``net.credentials``."""
    servers: list[str] = msgspec.field(default_factory=list)
    credentials: list[bytes] = msgspec.field(default_factory=list)
    """What the asker shows at each of these addresses, as shard maps name them."""


class Join(Request[Joined], frozen=True):
    """Ask the coordinator to become a member."""

    KIND = 30
    SPEAKER = Speaker.ANYBODY
    BEFORE = Before.READING

    name: str
    """For people: host name and process id."""
    address: str
    """host:port on which this node serves shards; empty: it only computes."""
    version: str = ""
    """``hogpour.__version__``; empty: it does not say."""


class Ready(Request[Ok], frozen=True):
    """The member has read the data and bound the model; answered with ``Ok``, or ``Failed`` where they are others."""

    KIND = 32
    BEFORE = Before.NO_MEMBERS
    BODY_LIMIT = 4096

    node: Incarnation
    spec: str
    """``Spec.fingerprint`` of the model."""
    data: str
    """Digest of the training examples."""
    facts: str = ""
    """What they are, for people."""
    source: str = ""
    """Their file, for people."""


class Leave(Request[Ok], frozen=True):
    """The member goes; its unfinished blocks are given to others. Answered with ``Ok`` when its shards, if it has
    any, are with others."""

    KIND = 33
    BEFORE = Before.OK
    BODY_LIMIT = 4096

    node: Incarnation
    reason: str = ""
    """Why nobody can go on; empty where the others can."""
