"""A cluster without nodes: parameter servers that only know which shards they have, and can be told to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.dump import Adopt
from hogpour.net.wire.status import Fence


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
    """Answers Adopt and Fence as a node does. A shard is *kept* when it was given up and nobody said that it is safe."""

    def __init__(self, world: World, address: str) -> None:
        self.world, self.address = world, address
        self.serves: set[int] = set()
        self.kept: set[int] = set()
        self.fenced: list[int] = []
        self.asked: list[Message] = []
        self.dead = False  # nobody answers
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
        assert retry
        self.asked.append(message)
        if self.dead:
            raise PeerLost(self.address, "nobody answers")
        if isinstance(message, Adopt):
            await self._adopt(message)
        else:
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
