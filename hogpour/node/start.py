"""The start of a run, the same for a node and for one of a simulated cluster, whose machine is another one.

    open, alone or in a cluster → the job → replica processes, which import while the data are read
    → what the run begins with → the backend: in a cluster, this node's part begins → ``Training``

Whoever calls ``start_run`` ends what was begun, whatever it raises: the machine's replicas first, then ``opened``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from os.path import exists
from typing import Any, Literal, TypeVar

from hogpour.core.errors import Stopped
from hogpour.core.job import Job
from hogpour.core.progress import Notice
from hogpour.machine.prepare import Prepared
from hogpour.model import snapshot
from hogpour.node.backends import Alone, Backend
from hogpour.node.cluster_run import InCluster
from hogpour.node.joining import Endpoint
from hogpour.node.training import STOPPED, Futures, NodeMachine, Training

__all__ = ["Opened", "OpenedAlone", "OpenedCluster", "Resume", "start_run", "unless_stopped"]

_T = TypeVar("_T")


class OpenedAlone:
    """A machine without a cluster, before its run begins: there is nothing to open."""

    address, block_replicas, in_cluster = "", 0, False
    failures: Futures = ()

    async def open(self) -> None:
        pass

    def job(self, changes: Mapping[str, Any]) -> Job:
        raise AssertionError("there is nobody to have a job from")

    def has_before(self, job: Job) -> bool:
        """Whether there is something to go on from."""
        return exists(job.save)

    async def begin(self, job: Job, ready: Prepared, wake: Callable[[int], None], resume: bool) -> Backend:
        return Alone(job, ready)

    async def close(self) -> None:
        pass


class OpenedCluster(Endpoint):
    """A node's end of a cluster, before its run begins and until it is closed."""

    in_cluster = True

    @property
    def failures(self) -> Futures:
        """Done when the cluster cannot go on."""
        return (self.failed,)

    def has_before(self, job: Job) -> bool:
        return snapshot.any_complete(snapshot.folder_beside(job.save), self.disk)

    async def begin(self, job: Job, ready: Prepared, wake: Callable[[int], None], resume: bool) -> Backend:
        """Take part; see ``InCluster.start``."""
        return await InCluster.start(self, job, ready, wake, resume)


Opened = OpenedAlone | OpenedCluster
Resume = bool | Literal["auto"]


async def start_run(
    machine: NodeMachine,
    opened: Opened,
    job: Job | None,
    *,
    changes: Mapping[str, Any],
    resume: Resume,
    notify: Callable[[Notice], None],
    stop_asked: asyncio.Event,
    news: asyncio.Event,
) -> Training:
    """Bring a node to where its training begins.

    Args:
        opened: not open yet.
        job: None: that of the cluster that is joined, with these ``changes``.
        resume: go on from the model file, in a cluster from the snapshot beside it; auto: if there is one.
        notify, stop_asked, news: see ``Training``.

    Raises:
        InputError: the job, its data, its model file or the machine do not fit; nothing was written.
        ClusterFailed: the cluster does not want this node, or cannot go on.
        Stopped: a stop was asked before.
    """
    await unless_stopped(stop_asked, opened.open())
    job = opened.job(changes) if job is None else job
    await machine.start(job, opened.in_cluster)
    goes_on = resume is True
    if resume == "auto":  # of a job without a model file it is an error
        goes_on = not job.save or await asyncio.to_thread(opened.has_before, job)
        if not goes_on:
            notify(Notice("snapshot", f"nothing to go on from at {job.save}: a new run"))
    ready = await machine.prepare(job, goes_on, opened.block_replicas, opened.failures, stop_asked)
    if ready.changed:
        notify(Notice("warning", ready.changed))
    backend = await unless_stopped(stop_asked, opened.begin(job, ready, machine.wake, goes_on))
    return Training(job, machine, backend, notify=notify, stop_asked=stop_asked, news=news)


async def unless_stopped(asked: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T:
    """Do what others have to answer to, unless a stop is asked meanwhile.

    Raises:
        Stopped: it was.
    """
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(asked.wait())
    try:
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            raise Stopped(STOPPED)
        return task.result()
    finally:
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])  # no deadline: a request that is cancelled ends
        if not task.cancelled():
            task.exception()  # a stop counts more
