"""A parameter client with the words of its replicas, and shards that answer when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from support.cluster import settle

from hogpour.algos.exchange.accrue import Accrue
from hogpour.algos.exchange.base import Exchange
from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.open import Open
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.algos.schemes.base import Choices
from hogpour.client.client import ParameterClient
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.data.blocks import Blocks
from hogpour.machine.replica_link import link_arrays
from hogpour.net.staging import Staging
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.fetch_changes import Changes, FetchChanges
from hogpour.net.wire.gate import Arrive, Arrived
from hogpour.net.wire.push import Outcome, Push, Pushed
from hogpour.shm.accrual import Accrual
from hogpour.shm.layout import Layout
from hogpour.shm.mailbox import Mailbox

__all__ = ["SIZE", "Asked", "At", "Node"]

SIZE = 16  # of a shard


class Asked:
    """One request, and whoever waits for its answer."""

    def __init__(self, at: str, message: Any, payload: Sequence[memoryview], into: memoryview | None) -> None:
        self.at, self.message, self.payload, self.into = at, message, payload, into
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.before = self.bytes

    @property
    def bytes(self) -> bytes:
        return b"".join(self.payload)

    @property
    def floats(self) -> list[float]:
        return sorted(set(np.frombuffer(self.bytes, np.float32).tolist()))

    def pushed(self, clock: int = 1, staleness: int = 0, outcome: Outcome = Outcome.APPLIED) -> None:
        assert isinstance(self.message, Push)
        assert self.bytes == self.before, "the memory of a push has changed before it was answered"
        self.future.set_result(Pushed(self.message.shard, clock, staleness, outcome))

    def fetched(self, clock: int, value: float) -> None:
        assert isinstance(self.message, Fetch)
        assert self.into is not None
        np.frombuffer(self.into, np.float32)[:] = value
        self.future.set_result(Fetched(self.message.shard, clock))

    def changed(self, clock: int, n_entries: int, payload: bytes, n_bytes: int = -1) -> None:
        assert isinstance(self.message, FetchChanges)
        assert self.into is not None
        self.into[: len(payload)] = payload
        self.future.set_result(Changes(self.message.shard, clock, n_entries, len(payload) if n_bytes < 0 else n_bytes))

    def failed(self, code: Refusal) -> None:
        self.future.set_exception(RequestFailed(code, "as the test says"))

    def lost(self) -> None:
        self.future.set_exception(PeerLost(self.at, "as the test says"))


class Node:
    """A client with the words of its replicas, and nobody around it."""

    def __init__(self, shards: int = 3, replicas: int = 1, *, own: dict[type[Message], Any] | None = None,
                 own_address: str | None = None, staging: int = 1 << 20, gate: Gate | None = None,
                 exchange: Exchange | None = None, rule: Optimiser | None = None, sparse: bool = False) -> None:  # fmt: skip
        n, rule = SIZE * shards, rule or Sgd(0.1)
        rows = [(f"{row.name}.{replica}", (n,), np.float32) for row in rule.state for replica in range(replicas)]
        layout = Layout.pack([("params", (n,), np.float32), *rows, *link_arrays(n, replicas)])
        self.live = layout.views(bytearray(layout.size))
        self.accruals = [Accrual(*(self.live[k][r] for k in ("accrual", "accrual_tickets", "accrued"))) for r in range(replicas)]
        self.landing = Mailbox(self.live["mailbox"])
        self.asked: list[Asked] = []
        self.woken: list[int] = []
        self.done: list[tuple[int, ...]] = []
        self.fenced: list[int] = []
        self.map = ShardMap(1, tuple(SIZE * k for k in range(shards + 1)), (1,) * shards, tuple("abcdef"[:shards]))
        self.relocations: list[tuple[int, asyncio.Future[ShardMap]]] = []
        self.staging = Staging(staging)
        self.attended: list[tuple[int, int, bool]] = []
        self.arrivals: list[tuple[Arrive, asyncio.Future[Arrived]]] = []
        self.node = 7
        self.link = ParameterClient(
            self.live, Choices(exchange or Accrue(1, 1), gate=gate or Open()), rule, Blocks(100, 10, 1, 1), self.map,
            self,  # type: ignore[arg-type]  # what it says to the coordinator is kept here
            reach=lambda address: At(self, address), own=own or {}, own_address=own_address, wake=self.woken.append,
            staging=self.staging, patience_s=10.0, sparse=sparse,
        )  # fmt: skip

    def finished(self, tickets: tuple[int, ...], losses: Sequence[float]) -> None:
        assert len(losses) == len(tickets)
        self.done.append(tickets)

    def fence(self, node: int) -> None:
        self.fenced.append(node)

    async def attend(self, node: int, replica: int, present: bool) -> None:
        self.attended.append((node, replica, present))

    async def arrive(self, arrive: Arrive) -> Arrived:
        self.arrivals.append((arrive, asyncio.get_running_loop().create_future()))
        return await self.arrivals[-1][1]

    async def unreachable(self, server: int) -> bool:
        return False

    async def where(self, epoch: int) -> ShardMap:
        self.relocations.append((epoch, asyncio.get_running_loop().create_future()))
        return await self.relocations[-1][1]

    def seal(self, replica: int = 0, value: float = 1.0, *, steps: int = 1, scale: float = 1.0, tickets: Sequence[int] = ()) -> None:
        """What a replica does that accrues gradients and seals."""
        accrual = self.accruals[replica]
        assert accrual.free
        accrual.begin(self.landing.number(replica))
        accrual.buffer[:] = value
        for _ in range(steps):
            accrual.added(scale)
        for ticket in tickets:
            accrual.finish(ticket)
        accrual.seal()

    def step(self, replica: int = 0, value: float = 1.0, **more: Any) -> None:
        """What a replica does with n_push = n_fetch = 1."""
        self.seal(replica, value, **more)
        self.landing.want(replica)
        self.link.poll()

    def open(self, kind: type[Message]) -> list[Asked]:
        """The requests of a kind that are not answered, in the order of their sending."""
        return [asked for asked in self.asked if isinstance(asked.message, kind) and not asked.future.done()]

    async def land(self, clock: int = 0, value: float = 0.0) -> None:
        """The first fetch."""
        landing = asyncio.ensure_future(self.link.land())
        await settle()
        await self.fetch(clock, value)
        await landing
        self.asked.clear()
        self.woken.clear()

    async def land_slowly(self) -> None:
        """The same where staging is short."""
        landing = asyncio.ensure_future(self.link.land())
        while not landing.done():
            await settle()
            await self.fetch(0, 0.0)
        self.asked.clear()

    async def fetch(self, clock: int, value: float) -> None:
        for asked in self.open(Fetch):
            asked.fetched(clock, value)
        await settle()

    async def push(self, staleness: int = 0, outcome: Outcome = Outcome.APPLIED) -> None:
        for asked in self.open(Push):
            asked.pushed(staleness=staleness, outcome=outcome)
        await settle()

    @property
    def landed(self) -> list[int]:
        return [self.landing.landed(replica) for replica in range(len(self.accruals))]


class At:
    """Who answers at an address: the request is on its way before this first waits, as with a peer."""

    def __init__(self, node: Node, address: str) -> None:
        self.node, self.address = node, address

    async def request(self, message: Message, payload: Sequence[memoryview] = (), *, into: memoryview | None = None,
                      deadline_s: float, retry: bool = True) -> Message:  # fmt: skip
        assert deadline_s == 10.0
        assert retry
        asked = Asked(self.address, message, payload, into)
        self.node.asked.append(asked)
        return await asked.future
