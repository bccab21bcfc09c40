"""A node: one machine's replicas, its event loop, and the async API. The composition root.

The life of a run, in order: check the job → start replica processes, which import while the data is read on a thread →
lay out and fill the segments (``machine.prepare``) → train (``training``) → reap, write, close. Its beginning is in
``start``, shared with the simulator.

The order of the end, whatever it comes from (all is used, ``stop``, somebody fails), tested:

1. Nothing more is handed out. In a cluster the first node says so to all, and the queue of each node is emptied; on a
   machine alone that was asked to stop, the control word says so.
2. Replicas end: in a cluster after the blocks under way, alone after the step. Those that have not after
   ``training.GRACE_S`` are told to end after their step, and are killed after as long again.
3. In a cluster (``InCluster.finish``): what replicas accrued is pushed and their blocks are reported; the first node
   waits for the others and takes the last snapshot; each fetches the final parameters; those that joined leave.
4. The model is evaluated and written.
5. Replica processes that are left are killed and reaped.
6. The cluster is closed, in the order that ``Endpoint.close`` has.
7. Segments, descriptors and bells are closed.

A thread that reads data or compiles cannot be interrupted: nobody waits for it, and what it uses is closed when it
ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core import host, registry
from hogpour.core.cluster_state import ShardState
from hogpour.core.errors import ConfigError, HogpourError
from hogpour.core.job import Job, check_job
from hogpour.core.kernels.vector import vector_copy
from hogpour.core.progress import Notice, Progress, Summary
from hogpour.model.model import Model
from hogpour.net.token import without_nul
from hogpour.node.joining import CONNECTIONS
from hogpour.node.local_machine import LocalMachine
from hogpour.node.start import Opened, OpenedAlone, OpenedCluster, Resume, start_run
from hogpour.node.training import Training

__all__ = ["Node"]


class _Stage(IntEnum):
    """How far a node has come."""

    NEW, ENTERED = 0, 1
    ENDED = 2
    """Nothing changes any more: the replicas are gone, the model is final."""
    TOLD = 3
    """The same, and somebody has heard how it ended."""


class Node:
    """Trains a job on this machine. Use once, as ``async with Node(job) as node: async for progress in node: ...``.

    Args:
        job: what to train. None where another node is joined: the job comes from there.
        listen: host:port, port 0 for any. The first node of a cluster; with ``join``: serve shards as well.
        join: host:port of the first node of a cluster.
        token: what every node of the cluster must know, without a NUL; empty: nothing is asked.
        insecure: listen where other machines can connect, although there is no token.
        changes: fields of the job that the first node has said and that are others here: ``data``, ``base``,
            ``replicas``, ``save``. Where ``base`` is given, data of the first node's job are read below it only.
        allow_modules: modules and packages that the first node's job may have imported here, for layers of its own;
            importing runs them.
        join_s: seconds within which the first node must answer; connecting may take a tenth of it a round trip, at
            least a second.
        resume: go on from the job's model file; in a cluster, from the snapshot beside it. "auto": where there is one,
            else begin anew.
        every_s: longest time between two snapshots of the iteration.
        threads: kernel threads of each replica; 0: the cores shared out among the replicas.

    Attributes:
        tell: called with what a person wants to know before training has begun, when there are no snapshots to iterate
            over; None: the first one says it.
    """

    def __init__(
        self,
        job: Job | None = None,
        *,
        listen: str = "",
        join: str = "",
        token: bytes = b"",
        insecure: bool = False,
        changes: Mapping[str, Any] | None = None,
        allow_modules: Sequence[str] = (),
        join_s: float = 10.0,
        resume: Resume = False,
        every_s: float = 1.0,
        threads: int = 0,
    ) -> None:
        if job is not None:
            check_job(job, "a node")
        if (job is None) != bool(join):
            raise ConfigError("a node takes a job, or the address of a cluster to join, which has one; not both")
        self._job = job
        self._listen, self._join, self._token = listen, join, without_nul(token, "Node(token=...)")
        self._modules = registry.typed(tuple(allow_modules), tuple[str, ...], "allow_modules")
        self._join_s = registry.typed(join_s, float, "join_s")
        self._insecure, self._changes = insecure, dict(changes or {})
        if resume not in (True, False, "auto"):
            raise ConfigError(f'resume = {resume!r:.200}: expected True, False or "auto"')
        self._resume, self._every_s = resume, registry.typed(every_s, float, "every_s")
        self._notices: list[Notice] = []
        self.tell: Callable[[Notice], None] | None = None
        self._news, self._stop_asked = asyncio.Event(), asyncio.Event()
        self._stage = _Stage.NEW
        self._machine = LocalMachine(registry.typed(threads, int, "threads"), self._notify)
        self._opened: Opened = OpenedAlone()
        self._training: Training | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Node:
        """Check everything that can be wrong with the job, then let training begin in the background.

        Raises:
            InputError: the job, its data, its model file or the machine do not fit; nothing was written.
            Stopped: ``stop`` was called before training began.
        """
        if self._stage is not _Stage.NEW:
            raise HogpourError("a node runs once: make another Node of the same job")
        self._stage = _Stage.ENTERED
        self._opened = self._open()
        try:
            self._training = await start_run(
                self._machine, self._opened, self._job, changes=self._changes, resume=self._resume, notify=self._notify,
                stop_asked=self._stop_asked, news=self._news,
            )  # fmt: skip
        except BaseException:
            await self._reap()
            await self._opened.close()
            self._machine.close()
            raise
        self._task = asyncio.create_task(self._run(self._training))
        return self

    def _open(self) -> Opened:
        """Return what the job begins from: a machine alone, or the end of a cluster."""
        if self._job is not None and self._job.cluster.wait_for > 1 and not self._listen:
            raise ConfigError(f"cluster.wait_for = {self._job.cluster.wait_for}: nobody can join a node that does not "
                              "listen; give --listen, or leave it out")  # fmt: skip
        if self._job is None or self._job.algorithm.federated:
            return OpenedCluster(
                listen=self._listen, join=self._join, token=self._token, insecure=self._insecure, join_s=self._join_s,
                notify=self._notify, modules=self._modules, connections=host.connections(CONNECTIONS),
            )  # fmt: skip
        if self._listen:
            name = registry.describe(self._job.algorithm)["name"]
            raise ConfigError(f'--listen: algorithm.name = "{name}" trains on one machine; for several, set it to '
                              '"downpour"')  # fmt: skip
        return OpenedAlone()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop if the run has not ended, keep the model, and leave nothing behind.

        Raises:
            ReplicaDied, ResourceError: the run failed, and nobody has heard of it yet.
        """
        assert self._task is not None
        self.stop()
        try:
            await asyncio.wait([self._task])  # has deadlines of its own; a cancelled caller does not cancel the run
        finally:
            if not self._task.done():  # cancelled a second time: no time for anything but cleanliness
                self.kill()
                self._task.cancel()
                await asyncio.wait([self._task])
            if self._training is not None:
                self._training.backend.release()
            self._machine.close()
        if kind is None and self._stage is not _Stage.TOLD and not self._task.cancelled():
            self._task.result()

    def __aiter__(self) -> AsyncIterator[Progress]:
        return self._snapshots()

    async def wait(self) -> Summary:
        """Wait for the end of the run, as long as that takes, and say how it ended.

        Raises:
            ReplicaDied: a replica could not be kept running.
        """
        training, task = self._begun, self._task
        assert task is not None
        await asyncio.wait([task])
        self._stage = _Stage.TOLD
        task.result()
        assert training.summary is not None
        return training.summary

    async def model(self) -> Model:
        """Wait for the end of the run and return the trained model: the last good one where it diverged."""
        await self.wait()
        return self._begun.evaluator.final

    @property
    def job(self) -> Job:
        """What is trained; on a node that joins others, once it has joined."""
        return self._job if self._training is None and self._job is not None else self._begun.job

    @property
    def address(self) -> str:
        """host:port on which this node listens; empty: it does not."""
        return self._opened.address

    @property
    def summary(self) -> Summary | None:
        """How the run ended; None before it did."""
        return self._training.summary if self._training else None

    @property
    def working(self) -> bool:
        """Whether a thread still reads data or compiles, which nobody waits for after a stop."""
        compiling = self._training.working if self._training else None
        return any(work is not None and not work.done() for work in (self._machine.reading, compiling))

    def parameters(self) -> npt.NDArray[np.float32]:
        """Return a copy of the live vector as it is at this moment: (n,) float32; after the run, of the model."""
        training = self._begun
        if self._stage >= _Stage.ENDED:
            return training.evaluator.final.params.copy()
        live = training.ready.live.arrays["params"]
        copy = np.empty_like(live)
        vector_copy(copy, live)
        return copy

    @property
    def steps(self) -> int:
        """Gradients applied so far by all replicas, earlier runs of a resumed job included."""
        return int(self._training.clocks.steps.sum()) if self._training is not None else 0

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that run."""
        return self._machine.supervisor.pids

    @property
    def shards(self) -> tuple[ShardState, ...]:
        """How the shards are that this node serves, or were at the end; empty on a machine that trains without any."""
        return self._training.backend.stats.shards if self._training is not None else ()

    def stop(self) -> None:
        """Ask the run to end now, cleanly. Does nothing where it has ended."""
        self._stop_asked.set()

    def kill(self) -> None:
        """Kill the replicas at once, where there are any."""
        self._machine.supervisor.kill_all()

    @property
    def _begun(self) -> Training:
        if self._training is None:
            raise HogpourError("the node has not begun: use it as `async with Node(job) as node`")
        return self._training

    async def _run(self, training: Training) -> None:
        try:
            await training.run()
        finally:
            await self._machine.supervisor.stop(0.0)
            await self._opened.close()
            self._stage = _Stage.ENDED
            self._news.set()

    async def _snapshots(self) -> AsyncIterator[Progress]:
        training, task = self._begun, self._task
        assert task is not None
        stats = training.backend.stats
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._every_s)
            self._news.clear()
            ended = self._stage >= _Stage.ENDED
            notices, self._notices = tuple(self._notices), []
            new, training.evaluator.shown = not training.evaluator.shown, True
            yield training.meter.progress(
                asyncio.get_running_loop().time(), stats.examples, stats.totals().loss, learnt=stats.totals().examples,
                evaluation=training.evaluator.evaluation, new_evaluation=new, replicas=self._machine.supervisor.alive,
                computing=training.clocks.n_begun, notices=notices, cluster=stats.cluster(),
            )  # fmt: skip
            if ended:
                self._stage = _Stage.TOLD
                await task
                return

    async def _reap(self) -> None:
        """Kill and reap every replica, however often the caller is cancelled meanwhile: killed processes end soon."""
        reaping = asyncio.ensure_future(self._machine.supervisor.stop(0.0))
        while not reaping.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(reaping)
        reaping.result()

    def _notify(self, notice: Notice) -> None:
        if self._task is None and self.tell is not None:
            self.tell(notice)
            return
        self._notices.append(notice)
        self._news.set()
