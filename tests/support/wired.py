"""Three simulated machines, and who lives there."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from hogpour.sim.world.host import Host
from hogpour.sim.world.loop import BEGIN_S, Loop
from hogpour.sim.world.network import Conditions, SimulatedNetwork, SimulatedServer

__all__ = ["FAR", "RESET", "TOKEN", "End", "Wired", "error_of", "system_error"]

FAR = Conditions(delay_s=0.1, bandwidth=0)


TOKEN = b"of tests, and of nobody else"


class End(asyncio.Protocol):
    """One end of a connection: it notes what happens to it, and when, and answers with what it is told to."""

    stream: Any

    def __init__(self, wired: Wired) -> None:
        self.wired = wired
        self.seen: list[tuple[float, str]] = []
        self.got = b""
        self.echo = self.stays = False

    def note(self, what: str) -> None:
        self.seen.append((self.wired.now, what))

    def connection_made(self, transport: Any) -> None:
        self.stream = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.note(f"{len(data)} bytes")
        if self.echo:
            self.stream.write(data)

    def eof_received(self) -> bool:
        self.note("eof")
        return self.stays

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note("lost" if exc is None else f"lost: {exc}")


class NamingLoop(Loop):
    """A loop whose machines are addressed by their names; those of whole simulations have numbers."""

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return [(None, None, 0, "", (host, port))]


class Wired:
    """Three machines on a loop, and who lives there."""

    def __init__(self, conditions: dict[str, Conditions] | None = None, seed: int = 0, **settings: Any) -> None:
        self.loop = NamingLoop(np.random.default_rng(0))
        self.network = SimulatedNetwork(self.loop, np.random.default_rng(seed), **settings)
        given = {"a": FAR, "b": FAR, "c": FAR} | (conditions or {})
        self.machines = {name: self.network.add(k + 1, name, given[name]) for k, name in enumerate(given)}
        self.hosts: dict[str, Host] = {}
        self.accepted: list[End] = []
        self.servers: dict[str, SimulatedServer] = {}
        for name in self.machines:
            self.start(name)
        for name in ("b", "c"):
            self.servers[name] = self.run(name, self.loop.create_server(self.accept, name, 7))

    @property
    def now(self) -> float:
        return round(self.loop.time() - BEGIN_S, 6)

    def accept(self) -> End:
        self.accepted.append(End(self))
        return self.accepted[-1]

    def start(self, name: str) -> None:
        """Let somebody live on a machine."""
        host = self.hosts[name] = Host(self.machines[name].number, name)
        self.network.live(self.machines[name], host)

    def kill(self, name: str, *, power: bool = False) -> None:
        """End whoever lives on a machine."""
        self.network.die(self.machines[name], power=power)
        self.loop.kill(self.hosts[name])

    def run(self, name: str, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on a machine and return its result."""
        task = self.loop.spawn(self.hosts[name], work)
        self.loop.run(task.done)
        return task.result()

    def at(self, at_s: float, name: str, work: Callable[..., object], *arguments: Any) -> None:
        """Do something on a machine, or "outside", at a time since the beginning."""
        host = self.hosts.get(name, self.loop.outside)
        self.loop.call_on(host, BEGIN_S + at_s, work, *arguments)

    def do(self, name: str, work: Callable[..., object], *arguments: Any) -> None:
        """Do something there now."""
        self.at(self.now, name, work, *arguments)
        self.go(0.0)

    def go(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that is due then."""
        over: list[bool] = []
        self.loop.call_on(self.loop.outside, self.loop.time() + seconds + 1e-9, over.append, True)
        self.loop.run(lambda: bool(over))
        assert self.loop.errors == []

    def connect(self, name: str = "a", to: str = "b") -> tuple[End, End]:
        """Connect two machines; forget what was seen of it."""
        _, here = self.run(name, self.loop.create_connection(lambda: End(self), to, 7))
        there = self.accepted[-1]
        here.seen.clear()
        there.seen.clear()
        return here, there


def error_of(wired: Wired, to: str, port: int = 7) -> tuple[float, str]:
    """Why a connection from a cannot be made, and when that is known."""
    with pytest.raises(OSError) as caught:
        wired.run("a", wired.loop.create_connection(lambda: End(wired), to, port))
    return wired.now, str(caught.value)


def system_error(number: int) -> str:
    return f"[Errno {number}] {os.strerror(number)}"


RESET = f"lost: {system_error(errno.ECONNRESET)}"
