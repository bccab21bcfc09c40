"""One machine of the simulated cluster and the node that lives on it: what ``node.Node`` is in reality.

The composition root of a node in virtual time. Everything of the cluster is production code (``federation``, and all
behind it; ``training``, which runs a node from its first step to its last); made up are the memory, which is not
shared with other processes, the replicas (``replicas``) and the files.

A machine has several lives, one after the other: it is started, dies or ends, and may be started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from hogpour.core.errors import HogpourError, Stopped
from hogpour.core.progress import Notice, Summary
from hogpour.machine.replica import Replica
from hogpour.model.disk import Disk
from hogpour.model.model import Model
from hogpour.model.training_state import TrainingState
from hogpour.node.backends import InCluster
from hogpour.node.cluster_run import ClusterRun
from hogpour.node.node import unless_stopped
from hogpour.node.training import Training
from hogpour.sim.world.loop import Host, Loop
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
        material: what it trains.
        listen, join: see ``ClusterRun``.
        replicas: that it runs.
        entropy: source of random bytes.
        disk: of the machine, as this life sees it.
        compute_s: replica → how long its next gradient takes.
        resume: the first node goes on from its snapshot.
        heard: told each notice.

    Attributes:
        outcome: how it ended; ``running`` before it did.
        error: why it failed; empty where it did not.
        summary: of a run that ended in order.
        federation: the node's part in the cluster, once it has one.
        replicas: once they are made.
        training: once it began.
    """

    def __init__(
        self,
        loop: Loop,
        host: Host,
        material: Workload,
        *,
        listen: str,
        join: str,
        replicas: int,
        entropy: Callable[[int], bytes],
        disk: Disk,
        compute_s: Callable[[int], float],
        resume: bool,
        heard: Callable[[Notice], None],
    ) -> None:
        self.host, self.outcome, self.error = host, "running", ""
        self.outcome: Outcome
        self.summary: Summary | None = None
        self.federation: ClusterRun | None = None
        self.replicas: Replicas | None = None
        self.training: Training | None = None
        self._loop, self._material, self._listen, self._join = loop, material, listen, join
        self._n_replicas, self._entropy, self._disk, self._compute_s = replicas, entropy, disk, compute_s
        self._resume, self._heard = resume, heard
        self._stop: asyncio.Event | None = None
        self.task = loop.spawn(host, self._run())

    @property
    def first(self) -> bool:
        """Whether this is the first node of its cluster."""
        return not self._join

    def leave(self) -> None:
        """Ask the node to end, as Ctrl+C does."""
        if self._stop is not None:
            self._loop.call_on(self.host, self._loop.time(), self._stop.set)

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        try:
            await self._train()
        except Stopped:
            self.outcome = "stopped"
        except HogpourError as error:
            self.outcome, self.error = "failed", str(error)
        else:
            assert self.summary is not None
            self.outcome = self.summary.outcome

    async def _train(self) -> None:
        assert self._stop is not None
        federation = self.federation = ClusterRun(
            listen=self._listen,
            join=self._join,
            token=_TOKEN,
            insecure=False,
            join_s=10.0,
            notify=self._heard,
            name=self.host.name,
            entropy=self._entropy,
            disk=self._disk,
        )
        try:
            await unless_stopped(self._stop, federation.open())
            job, material = self._material.job, self._material
            if self._join:
                job = federation.job({"data": job.data, "base": job.base})
            joined = federation.joined
            ready = material.prepare(job, self._n_replicas, joined.block_replicas if joined is not None else 0)
            bell = Bell(self._loop)

            def make(number: int) -> Replica:
                return material.replica(
                    job,
                    material.network,
                    ready.live.arrays,
                    material.x,
                    material.y,
                    number,
                    block_replicas=ready.block_replicas,
                    on_block=bell.ring,
                    clock=self._loop.time,
                )

            replicas = self.replicas = Replicas(self._n_replicas, make, self._compute_s)
            ready = await unless_stopped(self._stop, federation.begin(job, ready, replicas.wake, self._resume))
            training = self.training = Training(
                job,
                ready,
                replicas,  # type: ignore[arg-type]
                bell,  # type: ignore[arg-type]
                (-1, -1),
                replicas=self._n_replicas,
                threads=1,
                notify=self._heard,
                stop_asked=self._stop,
                news=asyncio.Event(),
                backend=InCluster(federation, ready),
                rehearsing=lambda *_: None,  # once for all nodes, before virtual time began
                saving=self._save,
            )
            try:
                await training.run()
            finally:
                self.summary = training.summary
                await replicas.stop(0.0)
        finally:
            await federation.close()

    def _save(self, path: str, model: Model, state: TrainingState | None) -> None:
        """Keep no model file: what was trained is looked at where it is."""
