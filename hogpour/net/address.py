"""Addresses as people write them: host:port, with an IPv6 host in brackets."""

from __future__ import annotations

from hogpour.core.errors import ConfigError

__all__ = ["is_everywhere", "join", "split"]


def split(address: str) -> tuple[str, int]:
    """Return host and port of ``"host:port"`` or ``"[::1]:port"``.

    Raises:
        ConfigError: it is not written so.
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
        raise ConfigError(f"address {address!r}: expected host:port, for example 10.0.0.2:7000 or [::1]:7000")
    if int(port) > 65535:
        raise ConfigError(f"address {address!r}: port {port} is above 65535")
    return bare, int(port)


def is_everywhere(host: str) -> bool:
    """Return whether a host that is listened on means all addresses of the machine, and is none to connect to."""
    return host in ("*", "::", "0.0.0.0")


def join(host: str, port: int) -> str:
    """Return ``"host:port"``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
