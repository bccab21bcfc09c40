"""What the first node of a cluster does besides: cuts the parameters, keeps the ledger, coordinates, takes snapshots.

Made from a job and its prepared segments; afterwards ``federation`` treats the first node like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from hogpour.algos.downpour import Downpour
from hogpour.config import Job, job_to_dict
from hogpour.coordinator import Coordinator, Terms
from hogpour.net.requests import Requests
from hogpour.portions import Blocks
from hogpour.preparation import Prepared
from hogpour.server import Server
from hogpour.shards import cut
from hogpour.stats import Notice
from hogpour.tickets import Ledger

__all__ = ["Founding"]

_TICK_S = 0.1


class Founding:
    """The first node's own business.

    Attributes:
        coordinator: answers the members.
        ready: what the run begins with; as given, or as a snapshot says.
        before: examples that earlier runs of a resumed job used.
    """

    def __init__(self, coordinator: Coordinator, ready: Prepared, before: int) -> None:
        self.coordinator, self.ready, self.before = coordinator, ready, before

    @classmethod
    async def found(
        cls,
        job: Job,
        ready: Prepared,
        server: Server,
        reach: Callable[[str], Requests],
        notify: Callable[[Notice], None],
        *,
        resume: bool,
    ) -> Founding:
        """Let ``server`` serve all shards, and make the coordinator."""
        loop, params = asyncio.get_running_loop(), ready.live.arrays["params"]
        bounds = cut(params.size, job.cluster.shard_bytes)
        for shard in range(len(bounds) - 1):
            part = slice(bounds[shard], bounds[shard + 1])
            server.open(shard, params[part].copy(), start=part.start)
        blocks = Blocks(len(ready.examples.arrays["x"]), job.batch, ready.block_replicas, job.epochs)
        ledger = Ledger(blocks, job.seed)
        algorithm = job.algorithm
        warm = isinstance(algorithm, Downpour)
        terms = Terms(
            job=msgspec.json.encode(job_to_dict(job)),
            base=str(Path(job.base).resolve()),
            block_replicas=ready.block_replicas,
            spec=ready.network.spec.fingerprint,
            data=ready.digest,
            lease_s=job.cluster.lease_s,
            give_up_s=job.cluster.give_up_s,
            warm_start_examples=algorithm.warm_start_examples if warm else 0,
            warm_start_s=algorithm.warm_start_s if warm else 0.0,
        )
        coordinator = Coordinator(
            terms, ledger, bounds=bounds, peers=reach, clock=loop.time, log=lambda line: notify(Notice("member", line))
        )
        return cls(coordinator, ready, ledger.examples_done)

    async def run(self) -> None:
        """Tick, for ever; ended by the caller."""
        loop = asyncio.get_running_loop()
        while True:
            self.coordinator.tick(loop.time())
            await asyncio.sleep(_TICK_S)

    async def alone(self, patience_s: float) -> None:
        """Wait until all other members have left or are declared dead, or for ``patience_s``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while self.coordinator.nodes > 1 and loop.time() < deadline:
            await asyncio.sleep(_TICK_S)

    async def snapshot(self) -> None:
        """Take a snapshot of all shards."""

    async def close(self) -> None:
        """End what is under way."""
        await self.coordinator.close()
