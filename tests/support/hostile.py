"""A hostile member of a simulated cluster: it knows the token, has joined, and says what it likes in good form.

Every number of what it says is one of those that might matter there: of members, shards, steps, the ends of its range.
It does not use what a member may do to a run by itself (``docs/security.md``): it does not say that nobody can go on,
and pushes zeros, and what is not finite.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from hogpour.core.errors import HogpourError, LocalProtocolError, RequestFailed
from hogpour.net.peer import Peer
from hogpour.net.wire import answers
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch_changes import WHOLE
from hogpour.net.wire.heartbeat import Heartbeat
from hogpour.net.wire.identify import Identify
from hogpour.net.wire.join import Join, Joined, Leave, Ready
from hogpour.net.wire.push import Push
from hogpour.net.wire.status import Status
from hogpour.net.wire.where import Where
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.host import Host
from hogpour.sim.world.network import Conditions
from hogpour.sim.world.node_life import _TOKEN, PORT

__all__ = ["Hostile", "invade", "made"]

_NUMBERS = (-1, 0, 1, 2, 3, 5, 31, 1000, (1 << 31) - 1, 1 << 31, (1 << 53) - 1)
_PAUSE_S = 0.01
_OURS = {Identify, Join, Where, Status, Ready}
"""What it says by itself, in its place."""


class Hostile:
    """The member.

    Args:
        addresses: of those that it speaks to, the first node's first.
        rng: decides what it says.
        spec: fingerprint of the cluster's model.

    Attributes:
        addresses: of those that it speaks to, the first node's first.
        said, refused: messages by kind; of those, the refused ones by kind and code.
        others: numbers of other members.
    """

    def __init__(self, addresses: list[str], rng: np.random.Generator, spec: str) -> None:
        self._rng, self._spec = rng, spec
        self.addresses = addresses
        self._peers = [Peer(address, _TOKEN, nonce=rng.bytes) for address in addresses]
        self._places = ["", *addresses[1:]]
        self.joined: Joined | None = None
        self.others: list[int] = []
        self.said: Counter[str] = Counter()
        self.refused: Counter[tuple[str, str]] = Counter()

    async def join(self) -> int:
        """Become a member, once more if it was one."""
        self._peers[0].identity = None
        joined = self.joined = await self._peers[0].request(Join("hostile", ""), deadline_s=2.0)
        self.others = [*range(joined.node - joined.node % (1 << 20) + 1, joined.node)]
        await self.look()
        await self._peers[0].request(Ready(joined.node, self._spec, "simulated"), deadline_s=2.0)
        return joined.node

    async def look(self) -> None:
        """Learn who serves, and show everywhere who it is."""
        assert self.joined is not None
        self._show(self.joined)
        told = await self._peers[0].request(Where(self.joined.node), deadline_s=2.0)
        self._show(told)

    def _show(self, told: Any) -> None:
        assert self.joined is not None
        for place, peer in zip(self._places, self._peers, strict=True):
            if place in told.servers:
                peer.identity = Identify(self.joined.node, told.credentials[told.servers.index(place)])

    def identity(self, port: int) -> Identify | None:
        """Return what it shows at one of those; None where nothing is served."""
        return self._peers[port].identity

    async def say(self, port: int, message: Any, payload: bytes = b"") -> Message | str:
        """Say something to one of those; return the answer, or why there is none."""
        views = [memoryview(payload)] if payload else []
        self.said[type(message).__name__] += 1
        try:
            return await self._peers[port].request(message, views, deadline_s=1.0, retry=False)
        except RequestFailed as error:
            self.refused[type(message).__name__, error.code] += 1
            return error.code
        except LocalProtocolError:
            raise
        except HogpourError as error:
            return str(error)

    async def rage(self, until: Callable[[], bool], pause_s: float = 2 * _PAUSE_S) -> None:
        """Say one thing after the other until it is enough."""
        kinds = [kind for kind in answers() if kind not in _OURS]
        waiting: set[asyncio.Task[Any]] = set()
        while not until():
            await asyncio.sleep(pause_s * float(self._rng.random()))
            if self._rng.random() < 0.02:
                with suppress(HogpourError):
                    await (self.join() if self._rng.random() < 0.5 else self.look())
                continue
            kind = kinds[int(self._rng.integers(len(kinds)))]
            message = self.message(kind)
            size = int(self._rng.choice([0, 4, 64, 256, 320])) if kind.PAYLOAD else 0
            payload = (b"\0", b"\xff")[int(self._rng.integers(2))] * size
            port = int(self._rng.integers(len(self._peers)))
            task = asyncio.ensure_future(self.say(port, message, payload))
            waiting.add(task)
            task.add_done_callback(waiting.discard)

    def message(self, kind: type[Message]) -> Message:
        """Return a message of a kind, in good form; half of them in its own name."""
        assert self.joined is not None
        own = self.joined.node if self._rng.random() < 0.5 else None
        return made(kind, self._rng, [self.joined.node, *self.others], own)

    async def beat(self) -> None:
        """Stay a member."""
        while True:
            assert self.joined is not None
            await self.say(0, Heartbeat(self.joined.node, 1, 0, 0, 0.0, 0, 0.0))
            await asyncio.sleep(self.joined.lease_s / 6)


def made(kind: type[Message], rng: np.random.Generator, nodes: list[int], own: int | None = None) -> Message:
    """Return a message of a kind, in good form, with numbers that might matter.

    Args:
        nodes: numbers of members.
        own: of whom the message is; None: of anybody.
    """
    while True:
        fields = {name: _value(hint, rng, nodes) for name, hint in _fields(kind)}
        if "node" in fields and own is not None:
            fields["node"] = own
        if kind is Leave:
            fields["reason"] = ""
        if kind is Push and rng.random() < 0.5:
            fields["n_entries"] = WHOLE  # as most of a dense model are
        with suppress(msgspec.ValidationError):
            return msgspec.convert(msgspec.to_builtins(kind(**fields)), kind)


def _value(hint: Any, rng: np.random.Generator, nodes: list[int]) -> Any:
    """Return a value of a type; whether it is in its range is found out later."""
    origin, of = get_origin(hint), get_args(hint)
    if hasattr(hint, "__metadata__"):
        return _value(of[0], rng, nodes)
    if origin is list or origin is tuple:
        return [_value(of[0], rng, nodes) for _ in range(int(rng.integers(4)))] if Ellipsis in of or origin is list else [
            _value(one, rng, nodes) for one in of]  # fmt: skip
    if origin in (Literal, Union, UnionType):
        one = of[int(rng.integers(len(of)))]
        return one if origin is Literal else _value(one, rng, nodes)
    if hint is int:
        pool = [*_NUMBERS, *nodes]
        return pool[int(rng.integers(len(pool)))]
    if hint is float:
        return [0.0, 0.5, 1.0, 1e6, 1e30, float("inf"), float("nan")][int(rng.integers(7))]
    if hint is bool:
        return bool(rng.integers(2))
    if hint is str:
        return ["", "x", "10.0.0.0:7000", "10.0.0.1:7000", "10.9.9.9:1"][int(rng.integers(5))]
    if hint is bytes:
        return rng.bytes(int(rng.choice([0, 32])))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return list(hint)[int(rng.integers(len(hint)))]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint(**{name: _value(of, rng, nodes) for name, of in _fields(hint)})
    return None


@cache
def _fields(kind: type[msgspec.Struct]) -> list[tuple[str, Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return [(name, hints[name]) for name in kind.__struct_fields__]


def invade(
    simulation: Simulation, at_s: float, for_s: float, work: Callable[[Hostile], Any], seed: int = 0, number: int = 200
) -> Hostile:
    """Let a hostile member come to a simulated cluster that has not begun, and vanish after so long.

    Args:
        work: makes the coroutine of what it does.
        number: of its machine.
    """
    loop, network, scenario = simulation.loop, simulation.network, simulation.scenario
    names = [f"10.0.0.{number}" for number in range(scenario.serving + 1)]
    hostile = Hostile([f"{name}:{PORT}" for name in names], np.random.default_rng([seed, 7]), simulation.workload.network.spec.fingerprint)
    machine = network.add(number, f"10.0.0.{number}", Conditions(delay_s=scenario.link.delay_s))
    host = Host(number, machine.name)

    def begin() -> None:
        network.live(machine, host)
        loop.spawn(host, work(hostile))

    def end() -> None:
        network.die(machine, power=False)
        loop.kill(host)

    simulation._at(at_s, begin)
    simulation._at(at_s + for_s, end)
    return hostile
