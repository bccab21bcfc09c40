"""The snapshots of a cluster, which its first node takes while training goes on: every shard, wherever it is served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.client.routes import ask_shard
from hogpour.cluster.coordinator import Coordinator
from hogpour.cluster.evaluations import LbfgsDriver
from hogpour.core.errors import ClusterFailed, ResourceError
from hogpour.core.job import Job
from hogpour.core.node_id import run_name
from hogpour.core.progress import Notice
from hogpour.core.shard_map import ShardMap
from hogpour.machine.prepare import Prepared
from hogpour.model import snapshot
from hogpour.model.description import Description
from hogpour.model.training_state import TrainingState
from hogpour.net.watch import Patience
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.node.joining import Endpoint
from hogpour.shm.params import params_finite

__all__ = ["Snapshots"]

_AGAIN_S = 0.1
"""Between two requests for a shard that is on its way to another server."""

_MOVE_S = 60.0
"""How long a shard that is wanted for a snapshot may be with nobody, as for those who push (``coordinator_client``)."""


class Snapshots:
    """Those of one run; there are none where its job has no model file.

    Args:
        endpoint: of the first node.
        ready: what the run began with.
        coordinator: knows what is done and where shards are, and is told which snapshot is the newest.
        driver: of a batch method; None: there is none.
        clocks: of the shards at the beginning.
        before: that from which the run goes on; None: it is a new one. Its first snapshot is due as soon as there is
            something in it: whoever resumes must not go on from what an earlier run left beside the model file.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        job: Job,
        ready: Prepared,
        coordinator: Coordinator,
        driver: LbfgsDriver | None,
        *,
        clocks: list[int],
        before: snapshot.Snapshot | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._job, self._ready, self._coordinator, self._driver = job, ready, coordinator, driver
        self._reach, self._notify = endpoint.peers.reach, endpoint.notify
        names = tuple(row.name for row in job.algorithm.server_rule.state)
        run = (before.meta.run if before is not None else "") or run_name(coordinator.home)
        description = Description(job, ready.network, ready.encoding)
        self._meta = snapshot.Meta(description, coordinator.map.bounds, names, run)
        self._writer = snapshot.Writer(snapshot.folder_beside(job.save), endpoint.disk) if job.save else None
        self._writing = asyncio.Lock()
        self._saved = self._loop.time()
        self._saving: asyncio.Task[None] | None = None
        # Examples and clocks of the newest snapshot, or of the beginning, which needs none.
        self._newest = (coordinator.ledger.examples_done, clocks)
        self._fresh, self._finite = before is None, True

    def tick(self, now: float) -> None:
        """Begin one where it is due; raises what the one before it failed with."""
        if self._saving is not None and self._saving.done():
            self._saving.result()
            self._saving, self._saved = None, now
        first = self._fresh and self._coordinator.stats.totals.pushes > 0
        if self._saving is None and (first or now - self._saved >= self._job.save_every_s):
            self._fresh = False
            self._saving = self._loop.create_task(self.take())

    async def close(self) -> None:
        """End the one under way."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.wait([self._saving])

    async def take(self) -> None:
        """Write a snapshot of all shards, one after the other, while training goes on; steps that a gate decides wait.

        A disk that does not take it, or numbers that are not finite, are spoken of, and no reason to end the run. None
        is kept that says the same as the one before: that would only push out an older one.

        Raises:
            PeerLost, RequestFailed: a shard cannot be read.
        """
        if self._writer is None:
            return
        writer, driver, coordinator = self._writer, self._driver, self._coordinator
        # Between two steps of a gate all shards are at one clock, between two iterations they hold the same point.
        # Otherwise nobody ever holds this.
        async with self._writing, coordinator.gatekeeper.still if driver is None else driver.still:
            if driver is not None and driver.desk.failed:
                return
            # Read first: what the ledger calls done is acknowledged, and so in the shards that are read after this.
            ledger, examples = coordinator.ledger.state(), coordinator.ledger.examples_done
            try:
                await self._on_thread(writer.begin, self._meta)
                clocks = await self._write_all(writer)
                if clocks is None or (examples, clocks) == self._newest:
                    await self._on_thread(writer.abandon)
                    return
                state = TrainingState(
                    tickets=ledger.next, pending=tuple((ticket, 0) for ticket in ledger.pending), steps=max(clocks),
                    examples=examples, n=self._ready.n, block_replicas=self._ready.block_replicas,
                    start=driver.newest.state if driver is not None and driver.newest else None,
                )  # fmt: skip
                folder = await self._on_thread(writer.commit, state)
            except ResourceError as error:
                self._notify(Notice("warning", str(error)))
                return
            except BaseException:
                writer.abandon()
                raise
            self._newest = (examples, clocks)
        coordinator.snapshot = str(folder)

    async def _write_all(self, writer: snapshot.Writer) -> list[int] | None:
        """Bring all shards to the disk; return their clocks, or None where one holds what no run can go on from."""
        clocks = []
        for shard in range(len(self._meta.bounds) - 1):
            size, vectors = self._meta.bounds[shard + 1] - self._meta.bounds[shard], 1 + len(self._meta.rows)
            memory = np.empty((vectors, size), np.float32)
            clock = await self._read(shard, memory)
            if not await self._on_thread(params_finite, memory.reshape(-1)):
                if self._finite:
                    self._notify(Notice("warning", f"shard {shard} holds numbers that are not finite: no snapshot is "
                                        "written of them, the older ones are kept"))  # fmt: skip
                self._finite = False
                return None
            await self._on_thread(writer.shard, shard, memory[0], list(memory[1:]), clock)
            clocks.append(clock)
        return clocks

    async def _read(self, shard: int, memory: npt.NDArray[np.float32]) -> int:
        """Read a shard from whoever serves it, and return its clock.

        Args:
            memory: (vectors, n) float32; its parameters and its optimiser's rows are written there.
        """
        give_up_s, into = self._job.cluster.give_up_s, memory.data.cast("B")
        patience = Patience(_MOVE_S, self._loop.time())

        def ask(address: str) -> Awaitable[Dumped]:
            return self._reach(address).request(Dump(shard, False), into=into, deadline_s=give_up_s)

        async def wait(_: ShardMap) -> None:
            """Wait a moment for a shard that is on its way to somebody else."""
            if patience.over(self._loop.time()):
                raise ClusterFailed(f"shard {shard} was not to be found for a snapshot within {_MOVE_S:g} s")
            await asyncio.sleep(_AGAIN_S)

        async def complain(server: int) -> bool:
            return self._coordinator.placement.shun(
                server, self._coordinator.home, "cannot be reached by the first node"
            )

        return (await ask_shard(shard, lambda: self._coordinator.map, ask, wait, complain, give_up_s)).clock

    async def _on_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        """Run what waits for the disk; when the caller is cancelled, it still ends before the files are left alone."""
        running = self._loop.run_in_executor(None, work, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise
