"""Status: what the cluster is doing, for ``python -m hogpour status``."""

from __future__ import annotations

from hogpour.net.wire.base import Before, Message, Ok, Request, Speaker
from hogpour.net.wire.numbers import Incarnation

__all__ = ["Described", "Fence", "Report", "Reported", "Status"]


class Described(Message, frozen=True):
    """The state as a JSON text, see ``core.cluster_state.ClusterState``."""

    KIND = 41
    BODY_LIMIT = 4 << 20

    state: bytes


class Status(Request[Described], frozen=True):
    """Ask the coordinator for the state of the cluster."""

    KIND = 40
    SPEAKER = Speaker.ANYBODY
    BEFORE = Before.UNKNOWN


class Reported(Message, frozen=True):
    """Its shards as a JSON text, see ``core.cluster_state.ShardState``."""

    KIND = 43
    BODY_LIMIT = 4 << 20

    shards: bytes


class Report(Request[Reported], frozen=True):
    """Ask a parameter server how its shards are."""

    KIND = 42
    SPEAKER = Speaker.ANYBODY
    BEFORE = Before.UNKNOWN


class Fence(Request[Ok], frozen=True):
    """Tell a parameter server that an incarnation was declared dead: what it still pushes is refused."""

    KIND = 44
    SPEAKER = Speaker.COORDINATOR
    BEFORE = Before.OK

    node: Incarnation
