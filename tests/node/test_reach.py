"""A node that would serve others at an address which only its own machine reaches is told so before it joins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hogpour.core.errors import ClusterFailed, ConfigError
from hogpour.node.joining import Endpoint

NAMES = {"here": ["127.0.1.1"], "both": ["127.0.1.1", "10.0.0.6"], "first": ["10.0.0.5"], "v6": ["::1"]}


class Names(asyncio.SelectorEventLoop):
    """A loop whose resolver knows a few machines, and whose network does not exist."""

    async def getaddrinfo(self, host: object, port: object, **more: object) -> list[tuple[Any, ...]]:
        return [(2, 1, 6, "", (address, port)) for address in NAMES[str(host)]]

    async def create_server(self, *rest: object, **more: object) -> Any:
        raise ClusterFailed("it would listen")


async def opened(listen: str, join: str) -> None:
    await Endpoint(listen=listen, join=join, token=b"t", insecure=False, join_s=1.0, notify=lambda _: None).open()


@pytest.mark.parametrize(
    ("listen", "join", "named"),
    [
        ("127.0.0.1:7001", "10.0.0.5:7000", "127.0.0.1"),
        ("[::1]:7001", "first:7000", "::1"),
        ("here:7001", "10.0.0.5:7000", "here is 127.0.1.1, which"),
        ("v6:7001", "first:7000", "v6 is ::1, which"),
    ],
)
def test_a_loopback_address_is_not_served_at_to_another_machine(listen: str, join: str, named: str) -> None:
    """Every member was told it, and those on other machines ended: "node 2, which serves shards, does not answer"."""
    with asyncio.Runner(loop_factory=Names) as runner, pytest.raises(ConfigError) as caught:
        runner.run(opened(listen, join))
    assert str(caught.value) == (f"--listen {listen}: {named} only this machine reaches, and --join {join} is another; name an "
                                 "address that the others reach, or leave it out: then this node computes only")  # fmt: skip


@pytest.mark.parametrize(
    ("listen", "join"),
    [("127.0.0.1:7001", "127.0.0.1:7000"), ("127.0.0.1:7001", "here:7000"), ("10.0.0.6:7001", "first:7000"),
     ("both:7001", "first:7000"), ("127.0.0.1:7000", "")],
)  # fmt: skip
def test_it_is_within_one_machine_and_so_is_any_that_others_may_reach(listen: str, join: str) -> None:
    with asyncio.Runner(loop_factory=Names) as runner, pytest.raises(ClusterFailed, match="it would listen"):
        runner.run(opened(listen, join))
