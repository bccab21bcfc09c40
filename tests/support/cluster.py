"""A cluster without nodes: parameter servers that only know which shards they have, and can be told to fail; and a
coordinator whose members are what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from hogpour.algos.gate.base import Gate
from hogpour.cluster.coordinator import Coordinator, Terms
from hogpour.cluster.lease_desk import LeaseDesk
from hogpour.cluster.leases import EpochLedger, LedgerState
from hogpour.cluster.member_requests import MemberRequests
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.data.blocks import Blocks
from hogpour.data.identity import DataIdentity
from hogpour.net.loopback import Loopback
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.dump import Adopt
from hogpour.net.wire.gate import Commit, Committed
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.join import Join, Joined, Ready
from hogpour.net.wire.lease import Lease, Leased
from hogpour.net.wire.reach import Knock
from hogpour.net.wire.status import Fence

TICK_S, LEASE_S = 0.125, 3.0
SECRET = b"of this run"


async def settle() -> None:
    """Let every task go on until it waits for something that does not come by itself."""
    for _ in range(50):
        await asyncio.sleep(0)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeServer:
    """Answers Adopt and Fence as a node does, and has nothing to apply a step to. A shard is *kept* when it was given up and nobody said that it is safe."""

    def __init__(self, world: World, address: str) -> None:
        self.world, self.address = world, address
        self.serves: set[int] = set()
        self.kept: set[int] = set()
        self.fenced: list[int] = []
        self.asked: list[Message] = []  # as it would be without a warrant
        self.warrants: list[tuple[int, bytes]] = []  # epoch and warrant of each Adopt
        self.dead = False  # nobody answers
        self.firewalled = False  # no connection is made
        self.deaf = False  # it does what it is asked, and the answer is lost
        self.refuses = False
        self.fence_error: RequestFailed | None = None
        self.gate: asyncio.Event | None = None  # wait for it in the midst of an Adopt: the source has given up
        self.gate_before = False  # wait for it at the beginning of an Adopt

    async def request(
        self,
        message: Message,
        payload: Sequence[memoryview] = (),
        *,
        into: memoryview | None = None,
        deadline_s: float,
        retry: bool = True,
    ) -> Message:
        assert 0 < deadline_s <= 60
        asked = Adopt(message.shard, message.source) if isinstance(message, Adopt) else message
        assert not retry or isinstance(message, Commit) or asked == Adopt(getattr(message, "shard", 0), self.address)
        self.asked.append(asked)
        if self.firewalled:
            raise PeerLost(self.address, "no connection within 1 s", unheard=True)
        if self.dead:
            raise PeerLost(self.address, "nobody answers")
        if isinstance(message, Commit):
            return Committed(message.shards)
        if isinstance(message, Adopt):
            self.warrants.append((message.epoch, message.warrant))
            await self._adopt(message)
        elif not isinstance(message, Knock):
            assert isinstance(message, Fence)
            if self.fence_error is not None:
                raise self.fence_error
            self.fenced.append(message.node)
        if self.deaf or self.dead:
            raise PeerLost(self.address, "no answer")
        return Ok()

    async def _adopt(self, adopt: Adopt) -> None:
        if adopt.shard in self.serves:
            return
        if adopt.source == self.address:
            if adopt.shard not in self.kept:
                raise RequestFailed(Refusal.WRONG, f"shard {adopt.shard} is not here")
            self.kept.remove(adopt.shard)
            self.serves.add(adopt.shard)
            return
        if self.gate is not None and self.gate_before:
            await self.gate.wait()
        if self.refuses:
            raise RequestFailed(Refusal.BUSY, "no memory")
        source = self.world[adopt.source]
        if source.dead:
            raise RequestFailed(Refusal.BUSY, f"{adopt.source} does not answer")
        if adopt.shard not in source.serves | source.kept:
            raise RequestFailed(Refusal.MOVED, f"{adopt.source} has no shard {adopt.shard}")
        source.serves.discard(adopt.shard)
        source.kept.add(adopt.shard)
        if self.gate is not None:
            await self.gate.wait()
        self.kept.discard(adopt.shard)  # an old copy, from when it was here before
        self.serves.add(adopt.shard)


class World(dict[str, FakeServer]):
    """Servers by address, made when they are asked for; that at "" begins with all shards."""

    def __init__(self, shards: int) -> None:
        super().__init__()
        self[""].serves = set(range(shards))

    def __missing__(self, address: str) -> FakeServer:
        self[address] = FakeServer(self, address)
        return self[address]

    def told(self, owners: Sequence[str]) -> None:
        """Say who has which shard, as a newer map does: what others kept of it is freed."""
        for address, server in self.items():
            server.kept = {shard for shard in server.kept if owners[shard] == address}


class Cluster:
    """A coordinator whose members are what the test says and whose servers are fakes."""

    def __init__(self, shards: int = 4, state: LedgerState | None = None, gate: Gate | None = None, **terms: Any) -> None:
        self.clock, self.world = Clock(), World(shards)
        self.lines: list[str] = []
        self.shown: list[tuple[int, list[str], list[bytes]]] = []  # by the home
        self.ledger = EpochLedger(Blocks(n=1000, batch=100, replicas=1, epochs=1), 0, state or LedgerState())
        self.coordinator = Coordinator(
            Terms(
                job=b"{}",
                base="/base",
                block_replicas=3,
                spec="model-a",
                data=DataIdentity("data-a", "9 examples", "a.csv"),
                lease_s=LEASE_S,
                **{"give_up_s": 10.0} | terms,
            ),
            LeaseDesk(self.ledger),
            bounds=tuple(100 * k for k in range(shards + 1)),
            peers=self.world.__getitem__,
            clock=self.clock,
            log=self.lines.append,
            secret=SECRET,
            identify=lambda *shown: self.shown.append(shown),
            gate=gate,
        )
        requests = MemberRequests(self.coordinator)
        self.remote, self.local = Loopback(requests.handlers()), Loopback(requests.handlers(local=True))
        self.silent: set[int] = set()

    async def ask(self, message: Message) -> Any:
        return await self.remote.request(message, deadline_s=1000.0)

    async def refused(self, message: Message) -> tuple[str, str]:
        with pytest.raises(RequestFailed) as caught:
            await self.ask(message)
        return caught.value.code, str(caught.value)

    async def begin(self) -> None:
        """What the first node does with itself."""
        joined = await self.local.request(Join("home", "10.0.0.1:7000", "1.0"), deadline_s=1.0)
        assert isinstance(joined, Joined)
        assert joined.node == self.coordinator.home == 1
        await self.ready(1)

    async def join(self, address: str = "") -> int:
        joined = await self.ask(Join("a name", address))
        await self.ready(joined.node)
        return joined.node

    async def ready(self, node: int) -> None:
        assert await self.ask(Ready(node, "model-a", "data-a")) == Ok()

    async def beat(self, node: int, examples: int = 0, **fields: Any) -> HeartbeatReply:
        given = {"replicas": 2, "right": 0, "loss": 0.0, "pushes": 0, "staleness": 0.0} | fields
        return await self.ask(Heartbeat(node=node, examples=examples, **given))

    async def lease(self, node: int, want: int = 0, holds: list[int] | None = None, done: list[int] | None = None) -> Leased:
        return await self.ask(Lease(node, holds or [], done or [], want))

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.now += TICK_S
            self.coordinator.tick(self.clock.now)
            await settle()

    async def live(self, seconds: float) -> None:
        """Let time pass in which all members beat but for the silent ones."""
        for _ in range(round(seconds / TICK_S)):
            state = self.coordinator.state(self.clock.now)
            for member in state.members:
                if member.node not in self.silent:
                    await self.beat(member.node, member.examples)
            await self.tick()
