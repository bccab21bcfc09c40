"""Accrued pushes: what replicas have accrued goes to every shard, and a fetch of all shards follows where one asks.

For every shard a push leaves before the fetch that was asked for with it, and the pairs of all shards are in flight
together: while shard 1 is answered, shard 2 is still on its way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import numpy as np

from hogpour.client.path import Parts, Path
from hogpour.client.routes import Answer, collect
from hogpour.net.sparse_form import nonzeros
from hogpour.net.wire.operate import Sum
from hogpour.net.wire.push import Push, Pushed
from hogpour.shm.accrual import Sealed

__all__ = ["AccruedPushes", "Settle"]

Settle = Callable[[Sealed, list[Answer]], None]
"""Acknowledges a push, now or when the answers of its shards are there."""


class AccruedPushes(Path):
    """The path of exchanges that accrue.

    Args:
        message: makes the request that goes with a push to a shard; None: a ``Push``.
    """

    def __init__(self, parts: Parts, message: Callable[[Sealed, int], Push | Sum] | None = None) -> None:
        super().__init__(parts)
        self._message = message or self._push

    def poll(self, wishes: list[int]) -> None:
        self.start(self._parts.buffers.take_up_all(), wishes, self._settle)

    def start(self, due: list[Sealed], wishes: list[int], settle: Settle) -> None:
        """Push what is due to every shard, and fetch where a wish is not served.

        Args:
            settle: told of each push that has gradients.
        """
        parts = self._parts
        fetch = parts.landings.begin(wishes)
        if not due and not fetch:
            return
        pushes: list[list[Answer]] = [[] for _ in due]
        fetches: list[asyncio.Task[None] | None] = []
        # Tasks begin in this order, and a request is written before its first wait: push before fetch, shard by shard.
        for shard in range(parts.routes.map.n_shards):
            for push, answers in zip(due, pushes, strict=True):
                if push.steps:
                    answers.append(self._send(push, shard))
            if fetch:
                fetches.append(parts.landings.fetch(shard))
        for push, answers in zip(due, pushes, strict=True):
            if answers:
                settle(push, answers)
            else:
                parts.buffers.acknowledge(push, [])
        if fetch:
            parts.landings.finish(wishes, [part for part in fetches if part is not None])

    def _send(self, push: Sealed, shard: int) -> Answer:
        parts = self._parts
        payload, message = parts.buffers.payload(push, parts.routes.map.range(shard)), self._message(push, shard)
        if parts.sparse and isinstance(message, Push) and not parts.routes.leads_home(shard):
            form = nonzeros(np.frombuffer(payload, np.float32))
            if form is not None:
                message, payload = msgspec.structs.replace(message, n_entries=form[0]), form[1]
        return parts.sender.send(message, payload)

    def _push(self, push: Sealed, shard: int) -> Push:
        parts = self._parts
        clock, gradients = parts.landings.clocks_of(push)[shard], parts.exchange.gradients(push.steps)
        return Push(shard, parts.coordinator.node, push.replica, push.sequence, clock, gradients, push.scale)

    def _settle(self, push: Sealed, answers: list[Answer]) -> None:
        known = [answer for answer in answers if isinstance(answer, Pushed)]
        if len(known) == len(answers):
            self._parts.buffers.acknowledge(push, known)
        else:
            self._parts.works.start(self._acknowledge(push, answers, self._parts.coordinator.node))

    async def _acknowledge(self, push: Sealed, answers: list[Answer], node: int) -> None:
        with self.unless_fenced(node, push):
            self._parts.buffers.acknowledge(push, await collect(answers))
