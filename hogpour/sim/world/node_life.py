"""One machine of the simulated cluster and the node that lives on it: what ``node.Node`` is in reality.

Everything is production code, from the start of a run (``node.start``) to its end, but for the ``SimulatedMachine``:
made up are the memory, which is not shared with other processes, the replicas (``replicas``) and the files.

A machine has several lives, one after the other: it is started, dies or ends, and may be started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from hogpour.core.errors import HogpourError, ResourceError, Stopped
from hogpour.core.job import Job
from hogpour.core.progress import Notice, Summary
from hogpour.machine.prepare import Prepared
from hogpour.machine.replica import Replica
from hogpour.model import run_lock
from hogpour.model.model import Model
from hogpour.model.training_state import TrainingState
from hogpour.node.start import OpenedCluster, start_run
from hogpour.node.training import STOPPED, Futures, Training
from hogpour.sim.world.disk import SimulatedDisk
from hogpour.sim.world.host import Host
from hogpour.sim.world.loop import Loop
from hogpour.sim.world.replicas import Bell, Replicas
from hogpour.sim.world.workload import Workload

__all__ = ["PORT", "NodeLife"]

PORT = 7000

Outcome = Literal["running", "finished", "stopped", "diverged", "failed", "died"]


_TOKEN = b"of this simulation"
"""Nobody else is there to know it."""


class NodeLife:
    """One life of a node, from its start to its end.

    Args:
        loop, host: on which it lives.
        workload: what it trains.
        listen, join: see ``joining.Endpoint``.
        replicas: that it runs.
        entropy: source of random bytes.
        disk: of the machine, as this life sees it.
        compute_s: replica → how long its next gradient takes.
        read_s: how long it reads its data.
        resume: the first node goes on from its snapshot.
        on_notice: called with each notice.

    Attributes:
        outcome: how it ended; ``running`` before it did.
        error: why it failed; empty where it did not.
        endpoint: the node's end of the cluster, once it has one.
        replicas: once they are made.
        disk: as above.
        training: once it began.
    """

    def __init__(
        self,
        loop: Loop,
        host: Host,
        workload: Workload,
        *,
        listen: str,
        join: str,
        replicas: int,
        entropy: Callable[[int], bytes],
        disk: SimulatedDisk,
        compute_s: Callable[[int], float],
        read_s: float,
        resume: bool,
        on_notice: Callable[[Notice], None],
    ) -> None:
        self.outcome: Outcome = "running"
        self.host, self.error = host, ""
        self.endpoint: OpenedCluster | None = None
        self.replicas: Replicas | None = None
        self.training: Training | None = None
        self.workload, self.n_replicas, self.compute_s, self.disk = workload, replicas, compute_s, disk
        self._loop, self._listen, self._join, self._entropy = loop, listen, join, entropy
        self.read_s, self._resume, self._notify = read_s, resume, on_notice
        self._stop: asyncio.Event | None = None
        self.task = loop.spawn(host, self._run())

    @property
    def first(self) -> bool:
        """Whether this is the first node of its cluster."""
        return not self._join

    @property
    def summary(self) -> Summary | None:
        """Of a run that ended; also of one that failed in the end."""
        return self.training.summary if self.training is not None else None

    def leave(self) -> None:
        """Ask the node to end, as Ctrl+C does."""
        if self._stop is not None:
            self._loop.call_on(self.host, self._loop.time(), self._stop.set)

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        try:
            await self._train(self._stop)
        except Stopped:
            self.outcome = "stopped"
        except HogpourError as error:
            self.outcome, self.error = "failed", str(error)
        else:
            summary = self.summary
            assert summary is not None
            self.outcome = summary.outcome

    async def _train(self, stop: asyncio.Event) -> None:
        endpoint = self.endpoint = OpenedCluster(
            listen=self._listen,
            join=self._join,
            token=_TOKEN,
            insecure=False,
            join_s=10 * self.workload.job.cluster.connect_s,
            notify=self._notify,
            modules=None,  # the job is of whoever simulates
            name=self.host.name,
            entropy=self._entropy,
            disk=self.disk,
        )
        workload, machine = self.workload, SimulatedMachine(self)
        try:
            try:
                training = self.training = await start_run(
                    machine,
                    endpoint,
                    None if self._join else workload.job,
                    changes={"data": workload.job.data, "base": workload.job.base},
                    resume=self._resume,
                    notify=self._notify,
                    stop_asked=stop,
                    news=asyncio.Event(),
                )
                await training.run()
            finally:
                await machine.supervisor.stop(0.0)
        finally:
            await endpoint.close()


class SimulatedMachine:
    """The ``training.NodeMachine`` of one life."""

    def __init__(self, life: NodeLife) -> None:
        self._life, loop = life, asyncio.get_running_loop()
        self.supervisor, self.bell = Replicas(life.n_replicas, life.compute_s), Bell(loop)

    async def start(self, job: Job, in_cluster: bool) -> None:
        """Lock the model file; replicas are no processes here."""
        if job.save:
            run_lock.take(Path(job.save), self._life.host.name, self._life.disk)

    async def prepare(
        self, job: Job, resume: bool, block_replicas: int, failures: Futures, stop_asked: asyncio.Event
    ) -> Prepared:
        if self._life.read_s:
            stop = asyncio.ensure_future(stop_asked.wait())
            ended: list[asyncio.Future[Any]] = [stop, *failures]
            await asyncio.wait(ended, timeout=self._life.read_s, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            for failure in failures:
                if failure.done():
                    failure.result()
            if stop_asked.is_set():
                raise Stopped(STOPPED)
        self._life.replicas = self.supervisor
        return self._life.workload.prepare(job, self._life.n_replicas, block_replicas)

    def wake(self, replica: int) -> None:
        self.supervisor.wake(replica)

    def orders(self, job: Job, ready: Prepared) -> Callable[[int], Replica]:
        """Return what makes the replica of a number, on the memory that its predecessor left."""
        workload = self._life.workload
        return lambda number: workload.replica(
            job,
            workload.network,
            ready.live.arrays,
            workload.x,
            workload.y,
            number,
            block_replicas=ready.block_replicas,
            on_block=self.bell.ring,
            clock=asyncio.get_running_loop().time,
        )

    def rehearse(self, job: Job, ready: Prepared) -> None:
        """Nothing: it was done once for all nodes, before virtual time began."""

    def save(self, path: str, model: Model, state: TrainingState | None) -> None:
        """Keep no model file: what was trained is looked at where it is. But the disk may not take one."""
        try:
            self._life.disk.platter.check_room(Path(path))
        except OSError as error:
            raise ResourceError(f"model file {path}: cannot be written: {error.strerror}") from error

    def rescue(self, path: str, model: Model, state: TrainingState | None) -> str:
        """Say that another disk has it."""
        return f"/temporary/{path}"
