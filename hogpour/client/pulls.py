"""Pulls: each fetch of a shard is pulled towards, and what comes of it is pushed to that shard.

Nothing that replicas accrue leaves. Where one asks for parameters, all shards are pulled: a fetch lands, and what the
node has lost by it is pushed back, from memory of the path's own that is frozen until every shard has answered; the
next pull waits for that. Buffers that were sealed before carry tickets, and are given back then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.client.path import Parts, Path
from hogpour.client.routes import gather_all
from hogpour.net.wire.push import Push, Pushed
from hogpour.shm.accrual import Sealed

__all__ = ["Pulls"]


class Pulls(Path):
    """The path of exchanges that pull."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._back = np.zeros(parts.live["params"].size, np.float32)  # pushed after pulls
        self._replicas = len(parts.mailbox)
        self._number, self._carried = 0, list[Sealed]()  # pulls begun; buffers that are reported after the next one
        self._scale = 1.0  # of the newest buffer that a pull carried

    def poll(self, wishes: list[int]) -> None:
        self._carry(self._parts.buffers.take_up_all())
        if self._parts.landings.begin(wishes):
            self._parts.works.start(self._pull(wishes, self._parts.coordinator.node))

    def drop(self) -> None:
        carried, self._carried = self._carried, []
        for push in carried:
            self._parts.buffers.release(push, ())

    def _carry(self, due: list[Sealed]) -> None:
        for push in due:
            if push.steps:
                self._carried.append(push)
            else:
                self._parts.buffers.acknowledge(push, [])  # its tickets are told after those of the buffers before it

    async def _pull(self, wishes: list[int], node: int) -> None:
        """Pull all shards, push what comes of it, and report the buffers that are carried."""
        self._number += 1
        carried, self._carried = self._carried, []
        sequence, steps = self._number, max(1, sum(push.steps for push in carried))
        self._scale = carried[-1].scale if carried else self._scale
        velocities, ahead = self._ahead(self._scale)
        parts, missing = self._parts, self._parts.routes.map.n_shards

        async def pull(shard: int) -> Pushed:
            nonlocal missing
            part = parts.routes.map.range(shard)
            back = self._back[part]
            rows = [row[part] for row in velocities]
            await parts.fetches.fetch(
                shard,
                parts.coordinator.node,
                take=lambda params, fetched: parts.exchange.pull(params, fetched, back, rows, ahead),
            )
            missing -= 1
            if not missing:
                parts.landings.complete(wishes)
            return await self._push_back(shard, node, sequence, steps)

        # Where it is fenced, what is missing is asked for again when it has joined again.
        with parts.landings.ending(), self.unless_fenced(node, *carried):
            pulls = [parts.requests.start(pull(shard)) for shard in range(parts.routes.map.n_shards)]
            self._acknowledge(carried, await gather_all(pulls))

    def _acknowledge(self, carried: list[Sealed], answers: list[Pushed]) -> None:
        """Every shard has answered the push of a pull."""
        self._parts.buffers.count(answers)
        for push in carried:
            self._parts.buffers.release(push, push.tickets)

    async def _push_back(self, shard: int, node: int, sequence: int, steps: int) -> Pushed:
        """Push what came of the pull of a shard, as one replica more than there are; return the answer."""
        payload = self._back[self._parts.routes.map.range(shard)].data.cast("B")
        clock = self._parts.fetches.clocks[shard]
        sent = self._parts.sender.send(Push(shard, node, self._replicas, sequence, clock, steps, 1.0), payload)
        return sent if isinstance(sent, Pushed) else await sent

    def _ahead(self, lr_scale: float) -> tuple[list[npt.NDArray[Any]], float]:
        """Return what the live vector is ahead by: rows of all replicas, and times what."""
        named = self._parts.rule.ahead(lr_scale)
        if named is None:
            return [], 0.0
        row, ahead = named
        return [self._parts.live[f"{row}.{replica}"] for replica in range(self._replicas)], ahead
