"""Addresses as people write them: host:port, with an IPv6 host in brackets."""

from __future__ import annotations

from hogpour.core.errors import ConfigError

__all__ = ["is_everywhere", "join", "split"]


_LONGEST = 253
"""Characters of a host's name."""


def split(address: str) -> tuple[str, int]:
    """Return host and port of ``"host:port"`` or ``"[::1]:port"``.

    Raises:
        ConfigError: it is not written so.
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
        raise ConfigError(f"address {address!r:.100}: expected host:port, for example 10.0.0.2:7000 or [::1]:7000")
    if len(port) > 9 or int(port) > 65535:
        raise ConfigError(f"address {address!r:.100}: port {port:.20} is above 65535")
    try:
        named = bare.isprintable() and " " not in bare and len(bare.encode("idna")) <= _LONGEST
    except UnicodeError:  # a label is empty or too long; resolvers raise this too, and it is no OSError
        named = False
    if not named:
        raise ConfigError(f"address {address!r:.100}: {bare!r:.100} is not the name of a host")
    return bare, int(port)


def is_everywhere(host: str) -> bool:
    """Return whether a host that is listened on means all addresses of the machine, and is none to connect to."""
    return host in ("*", "::", "0.0.0.0")


def join(host: str, port: int) -> str:
    """Return ``"host:port"``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
