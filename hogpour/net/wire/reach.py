"""Reach: whether one node can be reached by another. Heartbeats go one way only, and a firewall lets them through."""

from __future__ import annotations

from hogpour.net.wire.base import Before, Ok, Request, Speaker
from hogpour.net.wire.numbers import Incarnation

__all__ = ["Knock", "Unreachable"]


class Knock(Request[Ok], frozen=True):
    """Ask nothing: whoever answers can be reached."""

    KIND = 45
    BEFORE = Before.OK
    SPEAKER = Speaker.ANYBODY


class Unreachable(Request[Ok], frozen=True):
    """Tell the coordinator that a node which serves shards cannot be reached from here: they are given to others."""

    KIND = 46
    BEFORE = Before.NO_MEMBERS

    node: Incarnation
    """Who says so."""
    server: Incarnation
