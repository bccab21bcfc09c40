"""Connections cut at random bytes a thousand times: no acknowledged push is lost, none is applied twice, and what is
fetched is a state that the shard was in. Real sockets, real servers; between them a relay that cuts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

from hogpour.algos.optim.sgd import Sgd
from hogpour.net import peer as peer_file
from hogpour.net.listener import Listener
from hogpour.net.peer import Peer
from hogpour.net.staging import Staging
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Push, Pushed
from hogpour.server import dedup
from hogpour.server.server import ParameterServer

TOKEN = b"of tests, and of nobody else"
SIZES = (16, 1000, 12_000)
"""Elements of the shards: within one read of the connection, behind its header, in many reads."""

CUTS = 1000


class Relay:
    """Stands between peers and a server, and cuts each connection after a random number of bytes in either direction.

    Args:
        address: of the server.
        budget: bytes that a connection lives for; None: for ever.
    """

    def __init__(self, address: str, budget: Callable[[], int | None]) -> None:
        self.cuts, self.budget = 0, budget
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.halves: set[Half] = set()

    async def start(self) -> str:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Half(self, None), self.host, 0)
        return f"{self.host}:{self.server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self.server.close()
        while self.halves:
            for half in list(self.halves):
                half.cut()
            await asyncio.sleep(0)
        await self.server.wait_closed()


class Half(asyncio.Protocol):
    """One side of a connection through a relay; the accepted one opens the other."""

    def __init__(self, relay: Relay, other: Half | None) -> None:
        self.relay, self.other, self.transport = relay, other, None
        self.early: list[bytes] = []
        self.gone = False
        self.opening: asyncio.Task[Any] | None = None
        self.left = relay.budget() if other is None else None  # bytes of both directions

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.relay.halves.add(self)
        if self.other is None:
            loop = asyncio.get_running_loop()
            make = partial(Half, self.relay, self)
            self.opening = loop.create_task(loop.create_connection(make, self.relay.host, self.relay.port))
            self.opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        elif self.other.gone:
            self.cut()
        else:
            self.other.other = self
            early, self.other.early = self.other.early, []
            for data in early:
                transport.write(data)

    def data_received(self, data: bytes) -> None:
        first = self if self.opening is not None else self.other
        assert first is not None
        if first.left is not None:
            rest, first.left = data[: first.left], first.left - len(data)
            if first.left <= 0:
                self.relay.cuts += not first.gone
                self.pass_on(rest)
                self.cut()
                return
        self.pass_on(data)

    def pass_on(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        elif not self.other.gone:
            self.other.transport.write(data)

    def cut(self) -> None:
        """End both connections at once. What the kernel has of them still arrives, or does not."""
        for half in (self, self.other):
            if half is not None and not half.gone:
                half.gone = True
                if half.transport is not None:
                    half.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.relay.halves.discard(self)
        if self.opening is not None:
            self.opening.cancel()
        self.cut()


@dataclass(frozen=True, slots=True)
class Recorded(Sgd):
    """SGD that remembers every state of every shard, by its size and its clock."""

    states: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def apply(self, params, grad, state, *, lr_scale, t):  # type: ignore[no-untyped-def]
        Sgd.apply(self, params, grad, state, lr_scale=lr_scale, t=t)
        self.states[params.size, t] = digest(params)


def digest(params: np.ndarray[Any, Any]) -> bytes:
    return hashlib.blake2b(params, digest_size=16).digest()


class Cluster:
    """One server, clients that push whole numbers and fetch, each through its relay, and what must come out."""

    def __init__(self, seed: int, clients: int = 3, cuts: int = CUTS) -> None:
        self.rng, self.clients, self.most = np.random.default_rng(seed), clients, cuts
        self.optimiser = Recorded(1.0)
        self.server = ParameterServer(self.optimiser, inline_elements=10_000)  # the largest shard is served by threads
        self.acknowledged = [np.zeros(size) for size in SIZES]
        self.relays: list[Relay] = []
        self.fetched = 0

    @property
    def cuts(self) -> int:
        return sum(relay.cuts for relay in self.relays)

    def budget(self) -> int | None:
        """The next connection's: most die young, some live for a few requests, one in ten ends in its handshake."""
        if self.cuts >= self.most:
            return None
        return int(self.rng.integers(1, 300)) if self.rng.random() < 0.1 else 1 + int(self.rng.exponential(80_000))

    async def run(self) -> None:
        for shard, size in enumerate(SIZES):
            self.server.table.open(shard, np.zeros(size, np.float32))
            self.optimiser.states[size, 0] = digest(np.zeros(size, np.float32))
        lines: list[str] = []
        handlers = self.server.handlers()
        async with AsyncExitStack() as stack:
            listener = Listener(handlers, TOKEN, staging=Staging(1 << 20), payload_limit=1 << 20, log=lines.append)
            await listener.start("127.0.0.1", 0)
            stack.push_async_callback(listener.close)
            async with asyncio.TaskGroup() as group:
                for client in range(self.clients):
                    relay = Relay(listener.address, self.budget)
                    self.relays.append(relay)
                    address = await relay.start()
                    stack.push_async_callback(relay.close)
                    peer = Peer(address, TOKEN)
                    stack.push_async_callback(peer.close)
                    for shard in range(len(SIZES)):
                        group.create_task(self.push(peer, client, shard))
                        group.create_task(self.fetch(peer, shard))

    async def push(self, peer: Peer, client: int, shard: int) -> None:
        """Push until enough was cut; several at a time, as replicas do."""
        sequence = 0
        while self.cuts < self.most:
            grads = [self.rng.integers(-8, 9, SIZES[shard]).astype(np.float32) for _ in range(3)]
            pushes = [Push(shard, 1 + client, 0, sequence + k, 0, 1, 1.0) for k in (1, 2, 3)]
            sequence += 3
            answers = await asyncio.gather(*(
                peer.request(push, [memoryview(grad)], deadline_s=15.0) for push, grad in zip(pushes, grads)
            ))  # fmt: skip
            for answer, grad in zip(answers, grads):
                assert isinstance(answer, Pushed)
                self.acknowledged[shard] -= grad

    async def fetch(self, peer: Peer, shard: int) -> None:
        """Fetch all the time: whatever arrives is the shard as it was at the clock that came with it."""
        params, newest = np.empty(SIZES[shard], np.float32), 0
        while self.cuts < self.most:
            params[:] = np.nan
            answer = await peer.request(Fetch(shard, 1), into=memoryview(params), deadline_s=15.0)
            assert isinstance(answer, Fetched)
            assert digest(params) == self.optimiser.states[params.size, answer.clock]
            self.fetched += 1
            assert answer.clock >= newest
            newest = answer.clock


@pytest.fixture(params=["asyncio", "uvloop"])
def run(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine to its end, on a loop of its own. Peers wait for a moment only before they connect again."""
    monkeypatch.setattr(peer_file, "FIRST_PAUSE_S", 0.0005)
    monkeypatch.setattr(peer_file, "LONGEST_PAUSE_S", 0.002)
    factory = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else None

    def runs(main: Coroutine[Any, Any, None]) -> None:
        complaints: list[dict[str, Any]] = []

        async def limited() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
            async with asyncio.timeout(60):
                await main

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(limited())
        assert complaints == []
        assert [record.getMessage() for record in caplog.records] == []

    return runs


def differences(cluster: Cluster) -> int:
    """Elements of all shards that are not the sum of what was acknowledged."""
    shards = cluster.server.table._shards
    return sum(int(np.sum(shards[k].params != expected)) for k, expected in enumerate(cluster.acknowledged))


@pytest.mark.slow
@pytest.mark.real
def test_a_thousand_cuts_lose_no_acknowledged_push_and_apply_none_twice(run: Any) -> None:
    cluster = Cluster(seed=1)
    run(cluster.run())
    assert cluster.cuts >= CUTS
    assert differences(cluster) == 0
    states = cluster.server.table.states()
    assert sum(state.repeated for state in states) > 20, "no push was ever repeated: what is tested here?"
    assert cluster.fetched > 100
    assert all(state.origins == 3 for state in states)
    assert cluster.server._copies.used_bytes == 0
    assert not any(vector.readers for shard in cluster.server.table._shards.values() for vector in shard.vectors)


@pytest.mark.slow
@pytest.mark.real
def test_without_windows_a_hundred_cuts_apply_pushes_twice(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above fails when what it is about is switched off."""
    monkeypatch.setattr(dedup.PushDedup, "repeats", lambda self, node, replica, sequence: False)
    cluster = Cluster(seed=1, cuts=100)
    run(cluster.run())
    assert differences(cluster) > 0
