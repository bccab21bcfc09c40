"""The port that is listened on: one address, or all that this machine has, of both kinds; and what others may type."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from hogpour.core.errors import ResourceError
from hogpour.net.address import join

__all__ = ["open_port", "typed_elsewhere"]

_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses that are nobody's, beyond the default route."""


async def open_port(
    accept: Callable[[], asyncio.BaseProtocol], host: str, port: int, backlog: int
) -> tuple[asyncio.Server, str]:
    """Listen, and return the server and its host:port.

    Args:
        host: "*" or "::": all addresses, of IPv4 as well; where there is no IPv6, "*" is all of IPv4.
        port: 0 takes a free one.

    Raises:
        ResourceError: it cannot be opened.
    """
    loop = asyncio.get_running_loop()
    if host == "*":
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    try:
        if host == "::" and socket.has_dualstack_ipv6():  # event loops keep IPv4 off the sockets that they make
            both = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
            server = await loop.create_server(accept, sock=both, backlog=backlog)
        else:
            # No deadline: names are looked up, nothing else is waited for.
            server = await loop.create_server(accept, host, port, backlog=backlog)
    except OSError as error:
        raise ResourceError(_why_not(host, port, error)) from error
    return server, join(host, server.sockets[0].getsockname()[1])


def typed_elsewhere(port: int) -> str:
    """Return host:port by which other machines reach a port that is open on all addresses, as far as this one knows.

    It asks the routing table which address of its own leads to others; nothing is sent.
    """
    for family, far in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                return join(str(probe.getsockname()[0]), port)
        except OSError:
            continue  # no such route
    return join(os.uname().nodename, port)


def _why_not(host: str, port: int, error: OSError) -> str:
    """Say why a port cannot be opened, and by whom it is used if the machine tells."""
    address = join(host, port)
    if error.errno != errno.EADDRINUSE:
        return f"{address} cannot be opened: {error.strerror or error}"
    import psutil

    try:
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid is not None:
                return f"{address} is in use by process {found.pid} ({psutil.Process(found.pid).name()})"
    except psutil.Error:
        pass  # another user's: not told
    return f"{address} is in use"
