"""The simulated network: machines, what lies between them, and what goes wrong there.

Every machine has one interface. What leaves it goes out one piece after the other at its bandwidth, whichever
connection it belongs to, travels for the delay of both ends and an exponential jitter, and comes in at the bandwidth of
the other one. Pieces of one connection stay in order. (The incoming side is given away when a piece is sent, not when
it arrives: where delays differ much, one that is sent later and would arrive earlier waits for the other. With one
event for a piece instead of two, that is what is paid.)

A partition loses nothing: TCP sends again what was not acknowledged, and what was under way arrives when the link is up
again and the sender's next try comes, each twice as long after the one before. That is the business of the systems: it
goes on when the process that wrote has closed the connection, or is dead. A machine without power says nothing; when it
is back, it knows nothing of its old connections and resets them as soon as somebody tries again.

``stream`` has the ends of a connection.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hogpour.sim.world.host import Host
from hogpour.sim.world.loop import Loop
from hogpour.sim.world.stream import Stream

__all__ = ["Conditions", "Machine", "SimulatedNetwork", "SimulatedServer"]

_FIRST_PORT = 49152

_RETRY_S = 0.2
"""TCP's first time-out on a fast network; each further one is twice as long."""

_LONGEST_RETRY_S = 120.0

_SYN_RETRY_S = 1.0
"""The first time-out of a connection that is being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What one machine's way into the network is like."""

    delay_s: float = 0.0002
    """Seconds from it to the middle of the network and back from there, halved: two of these are one way."""
    jitter_s: float = 0.0
    """Mean of an exponential addition to each piece's way."""
    bandwidth: float = 125e6
    """Bytes a second, in each direction; 0: no limit."""


class Machine:
    """A machine in the network, whoever lives on it.

    Attributes:
        host: the life that runs there; None where the process, or the machine, is not there.
        powered: False: it says nothing at all.
        firewalls: numbers of machines from which no connection is let in; empty: from none. By a number of its own.
        bytes_in, bytes_out: that its interface carried.
    """

    __slots__ = ("bytes_in", "bytes_out", "conditions", "down_free", "firewalls", "host", "name", "next_port", "number",
                 "powered", "servers", "side", "streams", "up_free")  # fmt: skip

    def __init__(self, number: int, name: str, conditions: Conditions) -> None:
        self.number, self.name, self.conditions = number, name, conditions
        self.host: Host | None = None
        self.powered = True
        self.firewalls: dict[int, frozenset[int]] = {}
        self.side = 0  # of the partition that is in force
        self.up_free = self.down_free = 0.0
        self.bytes_in = self.bytes_out = 0
        self.servers: dict[int, SimulatedServer] = {}
        self.streams: dict[Stream, None] = {}
        self.next_port = _FIRST_PORT


class SimulatedServer:
    """What ``create_server`` returns.

    Attributes:
        sockets: itself, which knows its address as a socket would.
    """

    def __init__(self, machine: Machine, host: Host, port: int, factory: Callable[[], Any]) -> None:
        self.machine, self.host, self.port, self.factory = machine, host, port, factory
        self.sockets: tuple[SimulatedServer, ...] = (self,)

    def getsockname(self) -> tuple[str, int]:
        """Return host and port."""
        return self.machine.name, self.port

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self.machine.servers.get(self.port) is self

    def close(self) -> None:
        """Accept nothing more."""
        if self.is_serving() and self.host.alive:
            del self.machine.servers[self.port]
            self.sockets = ()

    async def wait_closed(self) -> None:
        """Return at once: connections are their owners'."""


class SimulatedNetwork:
    """All machines and connections.

    Args:
        loop: whose network this is.
        rng: draws jitter, where reads are split, what of a broken connection still arrives.
        window_bytes: what a connection takes that its reader has not read.
        split_reads: hand what arrives to the reader in random pieces.
        weigh: how many bytes a write stands for; None: those that it has.
        look_up_s: how long a resolver takes.

    Attributes:
        connected: connections made so far.
        resets: that were broken here.
    """

    def __init__(
        self,
        loop: Loop,
        rng: np.random.Generator,
        *,
        window_bytes: int = 1 << 18,
        split_reads: bool = False,
        weigh: Callable[[bytes | memoryview], int] | None = None,
        look_up_s: float = 0.0,
    ) -> None:
        self.look_up_s = look_up_s
        self.loop, self.rng, self.window_bytes = loop, rng, window_bytes
        self.split_reads, self.weigh = split_reads, weigh
        self.connected = self.resets = 0
        self.holding: dict[Stream, None] = {}  # streams with pieces that found no way
        self._machines: dict[str, Machine] = {}
        self._draws: dict[str, list[float]] = {}
        loop.network, loop.getaddrinfo = self, self.look_up

    def add(self, number: int, name: str, conditions: Conditions) -> Machine:
        """Connect a machine."""
        machine = self._machines[name] = Machine(number, name, conditions)
        return machine

    # -- what goes wrong

    def cut(self, machines: Iterable[Machine], side: int) -> None:
        """Put machines on a side of a partition; those of another side do not reach them. 0 is the side of all."""
        for machine in machines:
            machine.side = side

    def heal(self) -> None:
        """Let go its way what found none, and finds one now."""
        for stream in list(self.holding):
            stream.heal()

    def reset(self, machine: Machine, which: int) -> bool:
        """Break one of a machine's connections for both ends; return whether there was one."""
        streams = [stream for stream in machine.streams if stream.established]
        if not streams:
            return False
        stream = streams[which % len(streams)]
        self.resets += 1
        self.loop.trace.note("reset", self.loop.time(), stream.number)
        error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        for end in (stream, stream.other):
            end.break_in_midst(error)
        return True

    def live(self, machine: Machine, host: Host) -> None:
        """Say who lives on a machine from now on."""
        machine.host, machine.powered = host, True
        self.heal()

    def die(self, machine: Machine, *, power: bool) -> None:
        """End what lives on a machine: its system closes the connections of a killed process, or nobody does."""
        machine.host, machine.powered = None, not power
        machine.servers.clear()
        streams = list(machine.streams)
        machine.streams.clear()
        for stream in streams:
            stream.die(power=power)
        if power:
            for stream in list(self.holding):
                stream.forget(machine)

    # -- what the loop asks

    def listen(self, host: Host, factory: Callable[[], Any], name: str | None, port: int | None) -> SimulatedServer:
        """Open a port on the machine of a host."""
        machine = self._machines[host.name]
        if name not in (machine.name, "0.0.0.0", "127.0.0.1", "", None):
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        if not port:
            port = self._port(machine)
        if port in machine.servers:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        server = machine.servers[port] = SimulatedServer(machine, host, port, factory)
        return server

    async def look_up(self, name: str, port: int | None, **_: Any) -> list[tuple[Any, ...]]:
        """See ``getaddrinfo``: here a name is its own address."""
        await asyncio.sleep(self.look_up_s)
        return [(0, 0, 0, "", (name, port))]

    async def connect(self, host: Host, factory: Callable[[], Any], name: str, port: int) -> tuple[Any, Any]:
        """Make a connection: a round trip, after which the connecting end is told; the accepting one was on the way."""
        machine, target = self._machines[host.name], self._machines.get(name)
        if target is None:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        answer: asyncio.Future[Stream | None] = self.loop.create_future()
        self._knock(host, machine, target, port, answer, _SYN_RETRY_S)
        try:
            accepted = await answer  # no deadline: the caller has one, as with a real network
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and (made := answer.result()) is not None:
                made.other.abort()
            raise
        if accepted is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        protocol = factory()
        accepted.other.begin(protocol)
        return accepted.other, protocol

    def _knock(self, host: Host, machine: Machine, target: Machine, port: int, answer: Any, wait_s: float) -> None:
        """Send the first packet of a connection, again and again until it arrives or nobody waits any more."""
        loop = self.loop
        if answer.done():
            return
        if self.admits(machine, target):
            loop.call_on(loop.outside, loop.time() + self.delay(machine, target), self._arrive, host, machine, target,
                         port, answer, loop.time(), wait_s)  # fmt: skip
        else:
            loop.call_on(host, loop.time() + wait_s, self._knock, host, machine, target, port, answer, 2 * wait_s)

    def _arrive(
        self, host: Host, machine: Machine, target: Machine, port: int, answer: Any, sent: float, wait_s: float
    ) -> None:
        if answer.done() or not host.alive:
            return
        loop = self.loop
        if not target.powered or not self.admits(machine, target):
            loop.call_on(host, sent + wait_s, self._knock, host, machine, target, port, answer, 2 * wait_s)
            return
        back = loop.time() + self.delay(target, machine)
        server = target.servers.get(port)
        if server is None:
            loop.call_on(host, back, _tell, answer, None)
            return
        self.connected += 1
        names = ((machine.name, self._port(machine)), (target.name, port))
        here = Stream(self, 2 * self.connected, machine, host, names)
        there = Stream(self, 2 * self.connected + 1, target, server.host, names[::-1])
        here.other, there.other = there, here
        loop.trace.note("connected", loop.time(), machine.number, target.number)
        loop.call_on(server.host, loop.time(), lambda: there.begin(server.factory()))
        loop.call_on(host, back, self._welcome, there, answer)

    def _welcome(self, there: Stream, answer: Any) -> None:
        if answer.done():  # the caller has given up meanwhile: its system resets what it knows nothing of
            there.other.abort()
        else:
            answer.set_result(there)

    def admits(self, machine: Machine, target: Machine) -> bool:
        """Whether the first packet of a connection gets from one machine to another."""
        shut = [sources for sources in target.firewalls.values() if not sources or machine.number in sources]
        return not shut and self.reaches(machine, target)

    # -- what streams ask

    def reaches(self, machine: Machine, target: Machine) -> bool:
        """Whether no partition is between two machines."""
        return machine.side == target.side

    def delay(self, machine: Machine, target: Machine) -> float:
        """Return how long the way takes now."""
        a, b = machine.conditions, target.conditions
        jitter = a.jitter_s + b.jitter_s
        return (a.delay_s + b.delay_s) / 2 + (jitter * self.draw("exponential") if jitter else 0.0)

    def carry(self, machine: Machine, target: Machine, n_bytes: int) -> float:
        """Take a piece from one interface to another; return when all of it is there."""
        begins = gone = self.loop.time()
        machine.bytes_out += n_bytes
        target.bytes_in += n_bytes
        if bandwidth := machine.conditions.bandwidth:
            begins = max(begins, machine.up_free)
            gone = machine.up_free = begins + n_bytes / bandwidth
        delay = self.delay(machine, target)
        there = gone + delay
        if bandwidth := target.conditions.bandwidth:  # which takes it in while it comes, but perhaps slower
            there = target.down_free = max(there, max(begins + delay, target.down_free) + n_bytes / bandwidth)
        return there

    def draw(self, kind: str) -> float:
        """Return a random number of mean 1 ("exponential"), or from 0 up to 1 ("random")."""
        drawn = self._draws.get(kind)
        if not drawn:
            source = self.rng.exponential if kind == "exponential" else self.rng.random
            drawn = self._draws[kind] = source(size=1024).tolist()
        return drawn.pop()

    def retry_s(self, silent_s: float) -> float:
        """Return how long after the end of a partition a sender tries again that had waited for so long."""
        tried, pause = 0.0, _RETRY_S
        while tried < silent_s:
            tried += pause
            pause = min(2 * pause, _LONGEST_RETRY_S)
        return tried - silent_s

    def _port(self, machine: Machine) -> int:
        """Return a port of a machine where nobody listens."""
        while True:
            machine.next_port = machine.next_port + 1 if machine.next_port < 65535 else _FIRST_PORT
            if machine.next_port not in machine.servers:
                return machine.next_port


def _tell(answer: Any, stream: Stream | None) -> None:
    if not answer.done():
        answer.set_result(stream)
