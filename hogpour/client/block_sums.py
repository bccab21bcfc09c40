"""The link of a node in a batch method: sums of blocks to the shards, the trial point of each evaluation back, once.

As ``link``, but for when it fetches: with the first block of an evaluation, before any replica is given one; and for
what it pushes: a sum that shards count by its block, whoever sends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hogpour.client.client import ParameterClient
from hogpour.data.blocks import Blocks
from hogpour.net.wire.operate import Sum
from hogpour.shm.accrual import Sealed
from hogpour.shm.queue import ticket_of

__all__ = ["BlockSums"]


class BlockSums(ParameterClient):
    """Pushes and fetches for the replicas of one node.

    Args:
        blocks: how the examples are cut.
        done: told the words of blocks whose sum every shard has, and the losses of each.
        others: those of ``ParameterClient``.

    Attributes:
        fetches: of the whole vector.
    """

    def __init__(
        self, *arguments: Any, blocks: Blocks, done: Callable[[tuple[int, ...], list[float]], None], **others: Any
    ) -> None:
        super().__init__(*arguments, done=self._told, **others)
        self._blocks, self._tell_done = blocks, done
        self._losses: dict[int, float] = {}  # of words whose sums are on their way
        self.fetches = 0

    @property
    def evaluation(self) -> int:
        """Return that which the live vector is of; 0 before the first."""
        return min(self._fetches.clocks)

    async def prepare(self, tickets: list[int]) -> None:
        """Fetch what these blocks are computed on, if it is not there."""
        wanted = max((self._blocks.place(ticket)[0] for ticket in tickets), default=0)
        if self.evaluation >= wanted:
            return
        await self.land()
        self.fetches += 1
        # A block of an older evaluation is over then, and its sum, of whatever parameters, is refused by every shard.
        self._mailbox.set_evaluation(self.evaluation)

    def _message(self, push: Sealed, shard: int) -> Sum:
        word = push.tickets[-1]  # named twice where a replica was killed between the two stores of a seal
        evaluation, block = self._blocks.place(ticket_of(word))
        self._losses[word] = push.loss
        return Sum(shard, self.node, evaluation, block)

    def _told(self, words: tuple[int, ...]) -> None:
        self._tell_done(words, [self._losses.pop(word, math.nan) for word in words])
