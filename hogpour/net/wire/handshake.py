"""Mutual proof of the cluster's token, before anything else is accepted.

    connector → Hello(version, nonce_c)            acceptor → Challenge(nonce_s)
    connector → Proof(HMAC(token, "connector", nonce_c, nonce_s))
    acceptor  → Welcome(HMAC(token, "acceptor", nonce_c, nonce_s))

The connector proves first, so that a stranger who scans the port learns nothing that depends on the token. The token
itself never travels. What follows is neither encrypted nor signed: a network that others can write to needs a tunnel.
"""

from __future__ import annotations

from hogpour.net.wire.base import Message
from hogpour.net.wire.numbers import Index

__all__ = ["Challenge", "Hello", "Proof", "Welcome"]


class Hello(Message, frozen=True):
    """The first frame of a connection."""

    KIND = 10

    version: Index
    """``frame.VERSION`` of the connector."""
    nonce: bytes
    """32 random bytes."""


class Challenge(Message, frozen=True):
    """The answer to ``Hello``."""

    KIND = 11

    nonce: bytes
    """32 random bytes."""


class Proof(Message, frozen=True):
    """The connector knows the token."""

    KIND = 12

    mac: bytes
    """32 bytes, HMAC-SHA256."""


class Welcome(Message, frozen=True):
    """So does the acceptor; from here on, requests."""

    KIND = 13

    mac: bytes
    """32 bytes, HMAC-SHA256."""
