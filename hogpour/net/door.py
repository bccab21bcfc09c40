"""The door: connections that have not proven the token. Places are few, and shared by where they come from.

A stranger who connects often takes the places of its own connections only; many who connect from many places take a
random one, so that whoever is far, and needs long for its proof, keeps a chance.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Door", "source_of"]

_T = TypeVar("_T", bound=Hashable)


class Door(Generic[_T]):
    """Who stands there.

    Args:
        entropy: source of random bytes.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._source: dict[_T, str] = {}
        self._there: dict[str, dict[_T, None]] = {}  # source → who, in the order of their coming

    def __len__(self) -> int:
        return len(self._source)

    def __contains__(self, who: _T) -> bool:
        return who in self._source

    def enter(self, who: _T, source: str) -> None:
        """Let somebody stand there."""
        self._source[who] = source
        self._there.setdefault(source, {})[who] = None

    def leave(self, who: _T) -> None:
        """Let somebody go, if it is there."""
        source = self._source.pop(who, None)
        if source is not None:
            del self._there[source][who]
            if not self._there[source]:
                del self._there[source]

    def drop(self) -> _T:
        """Return a random one of those who share a source with the most others; it has left. Not where nobody is."""
        most = max(map(len, self._there.values()))
        those = [who for there in self._there.values() if len(there) == most for who in there]
        chosen = those[int.from_bytes(self._entropy(8)) % len(those)]
        self.leave(chosen)
        return chosen


def source_of(host: str) -> str:
    """Return where a host connects from: its address, of IPv6 the network of 64 bits, all of which one machine has."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))
