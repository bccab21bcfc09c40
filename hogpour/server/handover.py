"""A node as a server of shards among others: it takes shards over, gives them up, and frees what others have.

Around ``ParameterServer``, which knows no peers. The coordinator's placement decides what is where: a shard is given up
to whoever shows a warrant, which is good for one move. It names the epoch of the map before that, and a shard that came
here by a later map, or stays by one, is not given up to it.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from functools import partial
from typing import Any

from hogpour.algos.exchange.base import Traffic
from hogpour.algos.schemes.base import Scheme
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.node_id import display_id
from hogpour.core.shard_map import ShardMap
from hogpour.net.credentials import warrant
from hogpour.net.requests import Handler, Reply, Requests
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.dump import Adopt, Dump, Dumped
from hogpour.net.wire.held import Held
from hogpour.net.wire.push import Push
from hogpour.server.server import ParameterServer
from hogpour.server.vector_ops import VectorOps

__all__ = ["ShardHost"]

_BRING_S = 30.0
"""How long another server may take to hand a shard over. The coordinator waits twice as long for the taker
(``placement``), and whoever is refused the shard meanwhile as long for a newer map (``client.coordinator_client``): so
it is the taker who gives up first and says so, and the source is asked to go on while the others still wait."""


class ShardHost:
    """The shards of one node.

    Args:
        scheme: how pushes are applied. Its kernels are compiled here, which may take seconds.
        reach: address → who answers there.

    Attributes:
        server: has the shards.
        address: at which the shard map names this node.
        map: the newest shard map that this node knows.
    """

    def __init__(self, scheme: Scheme, reach: Callable[[str], Requests]) -> None:
        choices = scheme.choices()
        self.server = ParameterServer(scheme.server_rule, choices.correction, choices.gate)
        summed = choices.exchange.traffic is Traffic.SUMMED
        self._vectors = VectorOps(self.server, 1 + len(scheme.server_rule.state)) if summed else None
        self.address = ""
        self.map: ShardMap | None = None
        self._reach = reach
        self._adopting: dict[int, asyncio.Lock] = {}
        self._key = b""
        self._since: dict[int, int] = {}  # shard → epoch of the map by which it is here

    @property
    def node(self) -> int:
        """Incarnation of this node."""
        return self.server.table.node

    def begin(self, node: int, key: bytes) -> None:
        """Say that this node has joined as an incarnation with a key; when it joins again, without any shard.

        A member that is declared dead while it serves ends the run. So one that comes back had none by the map; a shard
        that it was taking over went back to its source, and has been pushed to since.
        """
        if self.node:
            self.server.table.abandon()
        self.server.table.node, self._key = node, key

    def handlers(self) -> dict[type[Message], Handler]:
        """Return what answers requests for shards."""
        vectors = self._vectors.handlers() if self._vectors is not None else {}
        own = self.server.handlers()
        warranted: dict[type[Message], Handler] = {kind: partial(self._give, own[kind]) for kind in (Dump, Held)}
        return {**own, **vectors, **warranted, Adopt: self._adopt}

    def follow(self, shard_map: ShardMap) -> None:
        """Take in a map, and free the shards that others have for certain; one that is not newer says nothing of that:
        a shard may have come since, and be on its way to somebody else."""
        if self.map is not None and shard_map.epoch <= self.map.epoch:
            return
        self.map = shard_map
        for shard, owner in enumerate(shard_map.owners):
            if owner != self.node and not self.server.table.serves(shard):
                self.server.table.drop(shard)

    async def _adopt(self, adopt: Adopt) -> Reply[Ok]:
        """Take a shard over from another server, or go on serving it."""
        # One at a time: the request comes again when its connection breaks, and finds the work of the first one done.
        async with self._adopting.setdefault(adopt.shard, asyncio.Lock()):
            self._since[adopt.shard] = max(self._since.get(adopt.shard, 0), adopt.epoch + 1)
            if self.server.table.serves(adopt.shard):
                return Reply(Ok())
            if adopt.source == self.address:  # nobody has taken what this node gave up
                self.server.table.reopen(adopt.shard)
            else:
                await self._bring(adopt)
        return Reply(Ok())

    def _give(self, handler: Handler, message: Dump | Held) -> Any:
        """Answer whoever takes a shard over."""
        if message.warrant or isinstance(message, Held) or message.give_up:
            expected = warrant(self._key, message.shard, message.node, message.epoch)
            late = message.epoch < self._since.get(message.shard, 0)
            if late or not hmac.compare_digest(message.warrant, expected):
                raise RequestFailed(Refusal.WRONG, f"shard {message.shard}: is not to be given to node "
                                    f"{display_id(message.node)} by the map of epoch {message.epoch}")  # fmt: skip
        return handler(message)

    async def _bring(self, adopt: Adopt) -> None:
        """Have another server give up a shard, and serve it here."""
        shard, source = adopt.shard, adopt.source
        if self.map is None or not 0 <= shard < self.map.n_shards:
            raise RequestFailed(Refusal.BUSY, f"shard {shard}: this node does not know the shard map yet")
        part = self.map.range(shard)
        memory = memoryview(bytearray(self.server.table.dump_bytes(part.stop - part.start)))
        node = self.node
        dump = Dump(shard, True, node, adopt.epoch, adopt.warrant)
        try:
            answer = await self._dump(dump, memory, source)
            held = [await self._held(adopt, k, part.stop - part.start) for k in range(answer.held)]
        except PeerLost as error:
            raise RequestFailed(Refusal.BUSY, f"shard {shard}: {error}") from error
        if node != self.node:
            raise RequestFailed(Refusal.FENCED, f"shard {shard}: it came for node {display_id(node)}, which was "
                                                "declared dead")  # fmt: skip
        self.server.table.install(answer, memory, part.start, held)

    async def _dump(self, dump: Dump, memory: memoryview, source: str) -> Dumped:
        """Have a shard given up; raises PeerLost at once where no connection can be made: another taker may be able."""
        loop = asyncio.get_running_loop()
        deadline, requests = loop.time() + _BRING_S, self._reach(source)
        try:
            return await requests.request(dump, into=memory, deadline_s=_BRING_S, retry=False)
        except PeerLost as error:
            left_s = deadline - loop.time()
            if error.unheard or left_s <= 0:
                raise
        return await requests.request(dump, into=memory, deadline_s=left_s)

    async def _held(self, adopt: Adopt, number: int, size: int) -> tuple[Push, memoryview]:
        """Have another server, which has given a shard up, hand over a gradient that waits there."""
        memory = memoryview(bytearray(4 * size))
        asked = Held(adopt.shard, self.node, number, adopt.epoch, adopt.warrant)
        answer = await self._reach(adopt.source).request(asked, into=memory, deadline_s=_BRING_S)
        return answer.push, memory
