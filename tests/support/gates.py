"""A gatekeeper with servers that know only their clocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from support.cluster import settle

from hogpour.algos.gate.base import Gate
from hogpour.cluster.coordinator import keeper_of
from hogpour.core.errors import PeerLost, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.net.wire.base import Message
from hogpour.net.wire.gate import Arrive, Arrived, Commit, Committed

Origin = tuple[int, int]

STALL_S = 5.0


class Shards:
    """Servers that apply steps: a shard has a clock and, for each step, the gradients that were summed."""

    def __init__(self, places: Sequence[str], step: int = 0) -> None:
        self.clocks = [step] * len(places)
        self.places = list(places)  # where they really are
        self.history: list[list[list[tuple[int, int, int, int]]]] = [[] for _ in places]
        self.map = self._named()
        self.asked: list[tuple[str, Commit]] = []
        self.dead: set[str] = set()  # nobody answers there
        self.deaf: set[str] = set()  # what is asked there is done, and the answer is lost
        self.refusal: RequestFailed | None = None
        self.waiting: list[asyncio.Event] = []
        self.lacks: tuple[int, ...] = ()  # nodes of which no gradient is there, whatever they say
        self.slow: set[str] = set()  # they answer when the test says so

    def _named(self, epoch: int = 1) -> ShardMap:
        count = len(self.places)
        return ShardMap(epoch, tuple(16 * k for k in range(count + 1)), (1,) * count, tuple(self.places))

    def move(self, shard: int, address: str, *, known: bool = True) -> None:
        self.places[shard] = address
        if known:
            self.tell()

    def tell(self) -> None:
        """Let the coordinator have the newest map."""
        self.map = self._named(self.map.epoch + 1)

    def at(self, address: str) -> At:
        return At(self, address)


class At:
    def __init__(self, shards: Shards, address: str) -> None:
        self.shards, self.address = shards, address

    async def request(self, message: Message, payload: Sequence[memoryview] = (), *, into: memoryview | None = None,
                      deadline_s: float, retry: bool = True) -> Message:  # fmt: skip
        assert isinstance(message, Commit)
        assert 0 < deadline_s <= 60
        assert retry
        shards = self.shards
        shards.asked.append((self.address, message))
        if self.address in shards.slow:
            shards.waiting.append(asyncio.Event())
            await shards.waiting[-1].wait()
        if shards.refusal is not None:
            raise shards.refusal
        if self.address in shards.dead:
            raise PeerLost(self.address, "nobody answers")
        done = []
        for shard in message.shards:
            if shards.places[shard] != self.address:
                continue
            assert shards.clocks[shard] >= message.step, "a step was left out"
            if shards.clocks[shard] == message.step:
                shards.clocks[shard] += 1
                what = [(one.node, one.replica, one.sequence, one.staleness) for one in message.counted]
                shards.history[shard].append(what)
            done.append(shard)
        if self.address in shards.deaf:
            raise PeerLost(self.address, "no answer")
        return Committed(done, shards.lacks)


class Gated:
    """A gatekeeper and who asks it."""

    def __init__(self, gate: Gate, places: Sequence[str] = ("a", "b"), *, step: int = 0) -> None:
        self.shards = Shards(places, step)
        self.said: list[str] = []
        self.failed: list[str] = []
        self.now = 1000.0
        self.keeper: Any = keeper_of(gate)(
            gate, step, shard_map=lambda: self.shards.map, peers=self.shards.at, log=self.said.append,
            fail=self.failed.append, clock=lambda: self.now, stall_s=STALL_S,
        )  # fmt: skip

    def attend(self, *origins: Origin, present: bool = True) -> None:
        for node, replica in origins:
            self.keeper.attend(node, replica, present)

    def arrive(self, node: int, replica: int = 0, *, sequence: int = 1, step: int = 0) -> Any:
        return self.keeper.arrive(Arrive(node, replica, sequence, step))

    async def round(self, *nodes: int, sequence: int = 1, step: int = 0) -> list[Any]:
        """Have gradients of nodes arrive in this order; what is known of them when nothing more happens."""
        answers = [self.arrive(node, sequence=sequence, step=step) for node in nodes]
        await settle()
        return [known(answer) for answer in answers]

    @property
    def steps(self) -> list[list[Origin]]:
        """Of whom the steps are, in the order of their sums; alike on all shards."""
        assert all(one == self.shards.history[0] for one in self.shards.history)
        assert self.shards.clocks == [self.keeper.step] * len(self.shards.clocks)
        return [[(node, replica) for node, replica, _, _ in step] for step in self.shards.history[0]]


def known(answer: Any) -> Any:
    """What an origin knows: outcome and staleness; None: it waits."""
    if isinstance(answer, Arrived):
        return answer.outcome, answer.staleness
    if answer.cancelled():
        return "cancelled"
    return known(answer.result()) if answer.done() else None


@asynccontextmanager
async def gated(gate: Gate, places: Sequence[str] = ("a", "b"), **more: Any) -> AsyncIterator[Gated]:
    """A gatekeeper that leaves no task behind."""
    one = Gated(gate, places, **more)
    try:
        yield one
        one.keeper.tick()
    finally:
        await one.keeper.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
