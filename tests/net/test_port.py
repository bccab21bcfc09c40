"""Ports on all addresses of the machine, and what others may type."""

from __future__ import annotations

import errno
import socket

import pytest
from support.ends import TOKEN, Run, until
from support.strangers import Stranger

from hogpour.core.errors import ResourceError
from hogpour.net import port as module
from hogpour.net.listener import Listener
from hogpour.net.port import typed_elsewhere
from hogpour.net.staging import Staging


def listener_of(lines: list[str]) -> Listener:
    return Listener({}, TOKEN, staging=Staging(1), payload_limit=1, log=lines.append)


@pytest.mark.real
@pytest.mark.parametrize("host", ["*", "::"])
def test_all_addresses_are_those_of_both_kinds_and_strangers_are_named_by_their_own(run: Run, host: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")

    async def main() -> None:
        lines: list[str] = []
        listener = listener_of(lines)
        await listener.start(host, 0)
        assert listener.address.startswith("[::]:")
        for there, named in (("127.0.0.1", "127.0.0.1:"), ("[::1]", "::1:")):
            stranger = await Stranger.open(listener.address.replace("[::]", there))
            await stranger.close()
            await until(lambda: bool(lines))
            assert lines.pop().startswith(named)
        await listener.close()

    run(main())


@pytest.mark.real
def test_without_ipv6_all_addresses_are_those_of_ipv4(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)

    async def main() -> None:
        listener = listener_of([])
        await listener.start("*", 0)
        assert listener.address.startswith("0.0.0.0:")
        await listener.close()

    run(main())


@pytest.mark.real
def test_a_port_that_somebody_has_on_one_address_is_not_had_on_all(run: Run) -> None:
    async def main() -> None:
        listener = listener_of([])
        await listener.start("127.0.0.1", 0)
        with pytest.raises(ResourceError, match=" is in use by process "):
            await listener_of([]).start("*", int(listener.address.rpartition(":")[2]))
        await listener.close()

    run(main())


class Route:
    """A socket of a machine with routes of some kinds only."""

    def __init__(self, family: int, kind: int) -> None:
        self.family = family

    def __enter__(self) -> Route:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def connect(self, there: object) -> None:
        if self.family not in ROUTES:
            raise OSError(errno.ENETUNREACH, "no route")

    def getsockname(self) -> tuple[str, int]:
        return ROUTES[self.family], 1


ROUTES: dict[int, str] = {}


@pytest.mark.parametrize(
    ("routes", "address"),
    [
        ({socket.AF_INET: "10.0.0.5", socket.AF_INET6: "2001:db8::5"}, "10.0.0.5:7000"),
        ({socket.AF_INET6: "2001:db8::5"}, "[2001:db8::5]:7000"),
        ({}, None),
    ],
)
def test_others_are_told_an_address_that_leads_here(
    routes: dict[int, str], address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.socket, "socket", Route)
    ROUTES.clear()
    ROUTES.update(routes)
    assert typed_elsewhere(7000) == (address or f"{module.os.uname().nodename}:7000")
