"""The parameter client of one node: from accrual buffers to the shards, and from the shards to the live vector.

Replicas seal and ask through words in shared memory and ring; ``poll`` looks at the words and starts what is due. How
that goes is the path's business: ``pushes`` (what is accrued), ``pulls`` or ``block_sums``, perhaps behind a ``gate``.

What is frozen and until when: a sealed buffer until every shard has answered, then it is given back (``buffers``).
Fetches are in ``fetches``, and what is known of where shards are in ``routes``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from hogpour.algos.exchange.base import Traffic
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.schemes.base import Choices
from hogpour.client.block_sums import BlockSums
from hogpour.client.buffers import SealedBuffers
from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.client.fetches import Fetches, Landings
from hogpour.client.gate import Gated
from hogpour.client.path import Parts, Path
from hogpour.client.pulls import Pulls
from hogpour.client.pushes import AccruedPushes
from hogpour.client.routes import Routes, Sender
from hogpour.core.shard_map import ShardMap
from hogpour.data.blocks import Blocks
from hogpour.net.requests import Handler, Requests
from hogpour.net.staging import Staging
from hogpour.net.tasks import TaskSet
from hogpour.net.wire.base import Message
from hogpour.shm.mailbox import Mailbox

__all__ = ["ParameterClient"]

_PATHS: Mapping[Traffic, Callable[[Parts], Path]] = {
    Traffic.ACCRUED: AccruedPushes,
    Traffic.PULLED: Pulls,
    Traffic.SUMMED: BlockSums,
}


class ParameterClient:
    """Pushes and fetches for the replicas of one node.

    Args:
        live: arrays of the live segment, with those of ``replica_link.link_arrays``.
        choices: what is pushed and fetched, and whether that is decided on.
        rule: that replicas step by.
        blocks: how the examples are cut.
        shard_map: known at first.
        coordinator: who says where shards are, who takes part in steps, and which pushes count.
        reach: address → who answers there; "" is the coordinator's.
        own: what answers requests for the shards that this node serves itself.
        own_address: at which the shard map names this node; None where it serves none.
        wake: rings the bell of a replica.
        staging: where fetches land.
        patience_s: how long a shard may not answer before the run fails.
        sparse: whether gradients are mostly 0: then pushes and fetches leave out what is 0, or has not changed.

    Attributes:
        path: of what replicas push and fetch.
        buffers: what they sealed, and what became of it.
    """

    def __init__(
        self,
        live: Mapping[str, npt.NDArray[Any]],
        choices: Choices,
        rule: Optimiser,
        blocks: Blocks,
        shard_map: ShardMap,
        coordinator: CoordinatorClient,
        *,
        reach: Callable[[str], Requests],
        own: Mapping[type[Message], Handler],
        own_address: str | None,
        wake: Callable[[int], None],
        staging: Staging,
        patience_s: float,
        sparse: bool = False,
    ) -> None:
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._works, self._requests = TaskSet(self._break), TaskSet()
        self._mailbox, self._wake = Mailbox(live["mailbox"]), wake
        self._routes = Routes(
            shard_map, own_address, reach, coordinator.where, coordinator.unreachable, patience_s
        )
        self._fetches = Fetches(live["params"], self._routes, own, staging, choices.exchange.on_params, sparse)
        self._sender = Sender(self._routes, own, self._requests)
        self.buffers = SealedBuffers(live, self._mailbox, wake, coordinator.finished)
        self._landings = Landings(
            self._mailbox, self._fetches, coordinator, wake, self._works, self._requests, self.poll
        )
        parts = Parts(
            live, choices.exchange, rule, blocks, coordinator, self._mailbox, self._routes, self._fetches, self._sender,
            self.buffers, self._landings, self._works, self._requests, sparse,
        )  # fmt: skip
        path = _PATHS[choices.exchange.traffic](parts)
        self.path = Gated(path, parts, choices.gate) if choices.gate.closes else path

    @property
    def bytes_moved(self) -> int:
        """Bytes of parameters and gradients that went to other nodes and came from them."""
        return self._sender.bytes_sent + self._fetches.bytes_received

    async def land(self) -> None:
        """Fetch all shards and let the replicas know; returns when they are in the live vector."""
        await self._landings.land()

    def poll(self) -> None:
        """Start what is due; called when a replica rang. Cheap where nothing is."""
        self.path.poll(self._mailbox.wanted())

    def follow(self, shard_map: ShardMap) -> None:
        """Take in a map that may be newer."""
        self._routes.follow(shard_map)

    async def broken(self) -> None:
        """Wait, without a deadline, until something cannot go on; raises what it was."""
        await asyncio.shield(self._broken)

    async def drain(self) -> None:
        """Wait until everything that was started is answered; each part has a deadline of its own."""
        await self._works.join()

    async def close(self) -> None:
        """End at once what is in flight."""
        await self._works.cancel()
        await self._requests.cancel()  # of works that were cancelled before their first step
        self._broken.cancel()

    def drop_pushes(self) -> None:
        """Give every sealed buffer back unsent: this incarnation was declared dead, its blocks are others' now. What it
        was refused is asked for again."""
        for replica in range(len(self._mailbox)):
            for push in self.buffers.take_up(replica):
                self.buffers.release(push, ())
            self._wake(replica)
        self.path.drop()
        self.poll()

    def mark_all_absent(self) -> None:
        """Say that no replica takes part any more: all have ended. Those that wait for others still do."""
        for replica in range(len(self._mailbox)):
            self._mailbox.attend(replica, False)
        self.poll()

    def _break(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)
