"""Who answers at an address: this node itself, or a peer that is made when it is first asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from hogpour.net.peer import Peer
from hogpour.net.requests import Requests
from hogpour.net.wire.identify import Identify

__all__ = ["PeerPool"]


class PeerPool:
    """The other nodes as one node reaches them, and itself.

    Args:
        own: answers this node's requests to itself.
        first: address of the first node, which shard maps do not name; empty: this is the first node.
        token: of the cluster.
        entropy: source of random bytes.
        connect_s: see ``Peer``.

    Attributes:
        address: where this node listens; empty where it does not.
        connect_s: of connections that are to come.
    """

    def __init__(
        self, own: Requests, first: str, token: bytes, entropy: Callable[[int], bytes] = os.urandom,
        connect_s: float = 1.0,
    ) -> None:  # fmt: skip
        self.address, self.connect_s = "", connect_s
        self._own, self._first, self._token, self._entropy = own, first, token, entropy
        self._peers: dict[str, Peer] = {}
        self._apart: list[Peer] = []
        self._identities: dict[str, Identify] = {}

    def reach(self, address: str) -> Requests:
        """Return who answers at an address of the shard map; empty: the first node."""
        named = address or self._first
        return self._peer(named) if named and named != self.address else self._own

    def apart(self) -> Peer:
        """Return one more connection to the first node: behind a large push on a slow network, a heartbeat would come
        too late."""
        self._apart.append(self._new(self._first))
        return self._apart[-1]

    def identify(self, node: int, servers: Sequence[str], credentials: Sequence[bytes]) -> None:
        """Speak as this incarnation from now on; nothing changes where nothing is to be shown.

        Args:
            servers: addresses, as ``reach`` takes them.
            credentials: what is shown at each.
        """
        said = {at or self._first: Identify(node, shown) for at, shown in zip(servers, credentials)}
        self._identities = said or self._identities
        for peer in (*self._peers.values(), *self._apart):
            peer.identity = said.get(peer.address, peer.identity)

    async def forget(self, addresses: Iterable[str]) -> None:
        """Close the connections to these: what waits there fails at once."""
        for address in addresses:
            if address in self._peers:
                await self._peers.pop(address).close()

    async def close(self) -> None:
        """Close all connections."""
        await self.forget(list(self._peers))
        for peer in self._apart:
            await peer.close()

    def _peer(self, address: str) -> Peer:
        if address not in self._peers:
            self._peers[address] = self._new(address)
        return self._peers[address]

    def _new(self, address: str) -> Peer:
        peer = Peer(address, self._token, connect_s=self.connect_s, nonce=self._entropy)
        peer.identity = self._identities.get(address)
        return peer
