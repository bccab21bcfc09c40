"""Identify: who speaks on a connection. Said before what names a node is asked there, and again when it is another."""

from __future__ import annotations

from hogpour.net.wire.base import Before, Ok, Request, Speaker
from hogpour.net.wire.numbers import Incarnation

__all__ = ["Identify"]


class Identify(Request[Ok], frozen=True):
    """Speak as a member from now on. Answered with ``Ok`` in any case: whether it is believed shows in what follows."""

    KIND = 14
    BEFORE = Before.OK
    SPEAKER = Speaker.ANYBODY

    node: Incarnation
    credential: bytes
    """See ``net.credentials``."""
