"""What the coordinator gives members so that each of them knows who speaks to it. Pure.

The token says who belongs to a cluster, and is everybody's. Besides, a run has a secret that only its first node knows:

    key of b               HMAC(secret, b)                       b's own; it tells by it who speaks to b
    credential of a at b   HMAC(key of b, a)                     a shows it to b, and nobody else would believe it
    warrant                HMAC(key of b, shard, a, epoch)       a may take that shard over from b

So no server can speak as another member to a third one, and nobody but the first node as the coordinator. What is shown
travels in clear, as everything does.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

__all__ = ["Issuer", "credential", "warrant"]


def credential(key: bytes, node: int) -> bytes:
    """Return what node ``node`` shows to the one whose key that is."""
    return _mac(key, f"node {node}")


def warrant(key: bytes, shard: int, node: int, epoch: int) -> bytes:
    """Return what node ``node`` shows for a shard that is served by the one whose key that is.

    Args:
        epoch: of the shard map that the shard is moved by; see ``server.handover``.
    """
    return _mac(key, f"shard {shard} node {node} epoch {epoch}")


class Issuer:
    """Gives out keys, credentials and warrants of one run.

    Args:
        secret: 32 random bytes, known to nobody else.
        home: incarnation of the coordinator's own node; the shard map names no address of it.
        identify: told what the home shows where; see ``PeerPool.identify``.
    """

    def __init__(
        self, secret: bytes, home: int, identify: Callable[[int, list[str], list[bytes]], None] = lambda *_: None
    ) -> None:
        self._secret, self._home, self._identify = secret, home, identify
        self._places = {"": home}

    def serve(self, node: int, address: str) -> None:
        """Say who may serve shards at an address."""
        self._places[address] = node
        self._identify(self._home, *self.credentials(self._home))

    def gone(self, node: int, address: str) -> None:
        """Say that a member is no more."""
        if self._places.get(address) == node:
            del self._places[address]

    def key(self, node: int) -> bytes:
        """Return the key of a node."""
        return _mac(self._secret, f"key {node}")

    def credentials(self, node: int) -> tuple[list[str], list[bytes]]:
        """Return addresses that somebody serves at, and what a node shows at each."""
        return list(self._places), [credential(self.key(there), node) for there in self._places.values()]

    def warrant(self, shard: int, source: int, taker: int, epoch: int) -> bytes:
        """Return what ``taker`` shows to ``source`` to take a shard over."""
        return warrant(self.key(source), shard, taker, epoch)


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
