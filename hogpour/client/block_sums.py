"""Sums of blocks to the shards, and the trial point of each evaluation back, once (batch methods).

What is pushed is a sum that shards count by its block, whoever sends it. The parameters are fetched with the first
block of an evaluation, before any replica is given one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from hogpour.client.path import Parts, Path
from hogpour.client.pushes import AccruedPushes
from hogpour.net.wire.operate import Sum
from hogpour.shm.accrual import Sealed
from hogpour.shm.queue import TicketQueue, ticket_of

__all__ = ["BlockSums"]

_STOCK_A_REPLICA = 4
"""Blocks kept ready for each replica: one may take a millisecond. With 1, an iteration of one replica on Fashion-MNIST
took 116 ms, with 4 it took 89."""


class BlockSums(Path):
    """The path of batch methods.

    Attributes:
        fetches: of the whole vector.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._pushes = AccruedPushes(parts, self._message)
        self.fetches = 0

    @property
    def evaluation(self) -> int:  # type: ignore[override]
        """Return that which the live vector is of; 0 before the first."""
        return min(self._parts.fetches.clocks)

    def poll(self, wishes: list[int]) -> None:
        self._pushes.poll(wishes)

    def lease(self, queue: TicketQueue, wake: Callable[[], None]) -> list[Coroutine[Any, Any, None]]:
        coordinator, replicas = self._parts.coordinator, len(self._parts.mailbox)
        # What a slow node has ready, others copy at the end; and what is done is reported while a lease is waited for.
        stock = _STOCK_A_REPLICA * replicas
        return [coordinator.report_each(), coordinator.lease(queue, stock, wake, self.prepare, replicas)]

    async def prepare(self, tickets: list[int]) -> None:
        """Fetch what these blocks are computed on, if it is not there."""
        wanted = max((self._parts.blocks.place(ticket)[0] for ticket in tickets), default=0)
        if self.evaluation >= wanted:
            return
        await self._parts.landings.land()
        self.fetches += 1
        # A block of an older evaluation is over then, and its sum, of whatever parameters, is refused by every shard.
        self._parts.mailbox.set_evaluation(self.evaluation)

    def _message(self, push: Sealed, shard: int) -> Sum:
        # Its ticket is named twice where a replica was killed between the two stores of a seal.
        evaluation, block = self._parts.blocks.place(ticket_of(push.tickets[-1]))
        return Sum(shard, self._parts.coordinator.node, evaluation, block)
