"""A node: one machine's replicas, its event loop, and the async API. The composition root.

The life of a run, in order: check the job → start replica processes, which import while the data is read on a thread →
lay out and fill the segments (``preparation``) → train (``training``) → reap, write, close.

Shutdown order, tested: the control word says stop; replicas end after the step under way; those that have not after
``training.GRACE_S`` are killed; then the model is written; then descriptors are closed. A thread that reads data or
compiles cannot be interrupted: nobody waits for it, and what it uses is closed when it ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hogpour.core import host, registry
from hogpour.core.cluster_state import ShardState
from hogpour.core.errors import ConfigError, HogpourError, Stopped
from hogpour.core.job import Job
from hogpour.core.kernels.vector import vector_copy
from hogpour.core.progress import Notice, Progress, Summary
from hogpour.machine.prepare import Prepared, count_replicas, prepare
from hogpour.machine.supervisor import Supervisor
from hogpour.model import model_file
from hogpour.model.model import Model
from hogpour.node.backends import Alone, Backend, InCluster
from hogpour.node.cluster_run import ClusterRun
from hogpour.node.training import Training
from hogpour.shm.doorbell import Doorbell, ring
from hogpour.shm.segment import anonymous_file

__all__ = ["Node", "unless_stopped"]

_T = TypeVar("_T")

_STOPPED = "stopped before training began; nothing was written"


class Node:
    """Trains a job on this machine. Use once, as ``async with Node(job) as node: async for progress in node: ...``.

    Args:
        job: what to train. None where another node is joined: the job comes from there.
        listen: host:port, port 0 for any. The first node of a cluster; with ``join``: serve shards as well.
        join: host:port of the first node of a cluster.
        token: what every node of the cluster must know; empty: nothing is asked.
        insecure: listen where other machines can connect, although there is no token.
        changes: fields of the job that the first node has said and that are others here: ``data``, ``base``,
            ``replicas``, ``save``.
        join_s: seconds within which the first node must answer.
        resume: go on from the job's model file; in a cluster, from the snapshot beside it.
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
        join_s: float = 10.0,
        resume: bool = False,
        every_s: float = 1.0,
        threads: int = 0,
    ) -> None:
        if (job is None) != bool(join):
            raise ConfigError("a node takes a job, or the address of a cluster to join, which has one; not both")
        self._job = job
        self._listen, self._join, self._token, self._join_s = listen, join, token, join_s
        self._insecure, self._changes = insecure, dict(changes or {})
        self._federation: ClusterRun | None = None
        self._bells: list[Doorbell] = []
        self._resume, self._every_s, self._threads = resume, every_s, threads
        self._notices: list[Notice] = []
        self.tell: Callable[[Notice], None] | None = None
        self._news, self._stop_asked = asyncio.Event(), asyncio.Event()
        self._entered = self._supervised = self._ended = self._told = False
        self._reading: asyncio.Future[Prepared] | None = None
        self._training: Training | None = None
        self._task: asyncio.Task[None] | None = None
        self._steps = 0

    async def __aenter__(self) -> Node:
        """Check everything that can be wrong with the job, then let training begin in the background.

        Raises:
            InputError: the job, its data, its model file or the machine do not fit; nothing was written.
            Stopped: ``stop`` was called before training began.
        """
        if self._entered:
            raise HogpourError("a node runs once: make another Node of the same job")
        self._entered = True
        try:
            job = self._job = await unless_stopped(self._stop_asked, self._found())
            replicas = count_replicas(job)
            if job.save:
                model_file.check_writable(job.save)
        except BaseException:
            if self._federation is not None:
                await self._federation.close()
            raise
        if replicas > host.cores():
            text = f"run.replicas = {replicas} on {host.cores()} cores: replicas will wait for one another's core"
            self._notify(Notice("warning", text))
        # The sums of a batch method are to be the same bits for any number of replicas; BLAS adds in another order on
        # more threads.
        threads = self._threads or (1 if job.algorithm.batch_blocks else max(1, host.cores() // replicas))
        self._bell = Doorbell()
        self._bells = [Doorbell() for _ in range(replicas)] if self._federation is not None else []
        wake_fds = [bell.listen_fd for bell in self._bells]
        self._fds = (anonymous_file(), anonymous_file())
        self._supervisor = Supervisor(replicas, threads, (*self._fds, self._bell.ring_fd, *wake_fds), self._notify)
        self._supervised = True
        try:
            await self._supervisor.start()
            ready = await self._read(replicas)
            if self._federation is not None:
                beginning = self._federation.begin(job, ready, self._wake, self._resume)
                ready = await unless_stopped(self._stop_asked, beginning)
                backend: Backend = InCluster(self._federation, ready)
            else:
                backend = Alone(job, ready)
            self._training = Training(
                job,
                ready,
                self._supervisor,
                self._bell,
                self._fds,
                replicas=replicas,
                threads=threads,
                notify=self._notify,
                stop_asked=self._stop_asked,
                news=self._news,
                backend=backend,
                wake_fds=wake_fds,
            )
        except BaseException:
            await self._reap()
            if self._federation is not None:
                await self._federation.close()
            self._close()
            raise
        self._task = asyncio.create_task(self._run())
        return self

    async def _found(self) -> Job:
        """Become a part of a cluster, where there is one to be, and return the job."""
        if self._job is not None and not self._job.algorithm.federated:
            if self._listen:
                name = registry.describe(self._job.algorithm)["name"]
                raise ConfigError(f'--listen: algorithm.name = "{name}" trains on one machine; for several, set it to '
                                  '"downpour"')  # fmt: skip
            return self._job
        self._federation = ClusterRun(
            listen=self._listen,
            join=self._join,
            token=self._token,
            insecure=self._insecure,
            join_s=self._join_s,
            notify=self._notify,
        )
        await self._federation.open()
        if self._job is not None:
            return self._job
        return self._federation.job(self._changes)

    def _wake(self, replica: int) -> None:
        ring(self._bells[replica].ring_fd)

    async def _read(self, replicas: int) -> Prepared:
        """Prepare on a thread, until a stop is asked."""
        loop = asyncio.get_running_loop()
        joined = self._federation.joined if self._federation is not None else None
        block_replicas = joined.block_replicas if joined is not None else 0
        self._reading = loop.run_in_executor(
            None, prepare, self.job, replicas, self._resume, self._fds, block_replicas
        )
        stop = asyncio.ensure_future(self._stop_asked.wait())
        failed = [self._federation.failed] if self._federation is not None else []
        try:
            # asyncio.wait does not cancel what it waits for: the thread goes on, and its descriptors must stay open.
            await asyncio.wait([self._reading, stop, *failed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for failure in failed:
            if failure.done():
                failure.result()
        if self._stop_asked.is_set():
            raise Stopped(_STOPPED)
        return self._reading.result()

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
                self._supervisor.kill()
                self._task.cancel()
                await asyncio.wait([self._task])
            self._close()
        if kind is None and not self._told and not self._task.cancelled():
            self._task.result()

    def __aiter__(self) -> AsyncIterator[Progress]:
        return self._snapshots()

    async def wait(self) -> Summary:
        """Wait for the end of the run, as long as that takes, and say how it ended.

        Raises:
            ReplicaDied: a replica could not be kept running.
        """
        assert self._task is not None
        await asyncio.wait([self._task])
        self._told = True
        self._task.result()
        assert self.summary is not None
        return self.summary

    async def model(self) -> Model:
        """Wait for the end of the run and return the trained model: the last good one where it diverged."""
        await self.wait()
        assert self._training is not None
        return self._training.evaluator.final

    @property
    def job(self) -> Job:
        """What is trained; on a node that joins others, once it has joined."""
        assert self._job is not None, "the node has not joined yet"
        return self._job

    @property
    def address(self) -> str:
        """host:port on which this node listens; empty: it does not."""
        return self._federation.address if self._federation is not None else ""

    @property
    def summary(self) -> Summary | None:
        """How the run ended; None before it did."""
        return self._training.summary if self._training else None

    @property
    def working(self) -> bool:
        """Whether a thread still reads data or compiles, which nobody waits for after a stop."""
        compiling = self._training.working if self._training else None
        return any(work is not None and not work.done() for work in (self._reading, compiling))

    def parameters(self) -> npt.NDArray[np.float32]:
        """Return a copy of the live vector as it is at this moment: (n,) float32; after the run, of the model."""
        assert self._training is not None, "the node has not begun"
        if self._ended:
            return self._training.evaluator.final.params.copy()
        live = self._ready.live.arrays["params"]
        copy = np.empty_like(live)
        vector_copy(copy, live)
        return copy

    @property
    def steps(self) -> int:
        """Gradients applied so far by all replicas, earlier runs of a resumed job included."""
        if self._ended or self._training is None:
            return self._steps
        return int(self._training.clocks.steps.sum())

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that run."""
        return self._supervisor.pids

    @property
    def shards(self) -> tuple[ShardState, ...]:
        """How the shards are that this node serves, or were at the end; empty on a machine that trains without any."""
        return self._federation.shards if self._federation is not None else ()

    def stop(self) -> None:
        """Ask the run to end now, cleanly. Does nothing where it has ended."""
        self._stop_asked.set()

    def kill(self) -> None:
        """Kill the replicas at once, where there are any."""
        if self._supervised:
            self._supervisor.kill()

    @property
    def _ready(self) -> Prepared:
        assert self._reading is not None
        return self._reading.result()

    async def _run(self) -> None:
        assert self._training is not None
        try:
            await self._training.run()
        finally:
            await self._supervisor.stop(0.0)
            if self._federation is not None:
                await self._federation.close()
            self._steps = int(self._training.clocks.steps.sum())
            self._ended = True
            self._news.set()

    async def _snapshots(self) -> AsyncIterator[Progress]:
        assert self._task is not None
        assert self._training is not None
        training, stats = self._training, self._training.backend.stats
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._every_s)
            self._news.clear()
            ended = self._ended
            notices, self._notices = tuple(self._notices), []
            new, training.evaluator.shown = not training.evaluator.shown, True
            yield training.meter.progress(
                asyncio.get_running_loop().time(),
                stats.examples,
                stats.totals().loss,
                learnt=stats.totals().examples,
                evaluation=training.evaluator.evaluation,
                new_evaluation=new,
                replicas=self._supervisor.alive,
                computing=training.clocks.n_begun,
                notices=notices,
                cluster=stats.cluster(),
            )
            if ended:
                self._told = True
                await self._task
                return

    async def _reap(self) -> None:
        """Kill and reap every replica, however often the caller is cancelled meanwhile: killed processes end soon."""
        reaping = asyncio.ensure_future(self._supervisor.stop(0.0))
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

    def _close(self) -> None:
        """Close all descriptors, now or when the thread that fills the segments has ended."""

        def close(_: object = None) -> None:
            for fd in self._fds:
                os.close(fd)
            for bell in (self._bell, *self._bells):
                bell.close()

        if self._reading is not None and not self._reading.done():
            self._reading.add_done_callback(lambda work: (close(), work.cancelled() or work.exception()))
            return
        if self._training is not None:
            self._ready.live.release()
            self._ready.examples.release()
            self._training.clocks.detach()
            self._training.control.detach()
        close()


async def unless_stopped(asked: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T:
    """Do what others have to answer to, unless a stop is asked meanwhile.

    Raises:
        Stopped: it was.
    """
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(asked.wait())
    try:
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            raise Stopped(_STOPPED)
        return task.result()
    finally:
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])  # no deadline: a request that is cancelled ends
        if not task.cancelled():
            task.exception()  # a stop counts more
