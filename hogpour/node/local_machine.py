"""This machine, as a run uses it: replica processes, segments, bells, and the thread that reads the data.

A thread that reads data cannot be interrupted: nobody waits for it, and what it uses is closed when it ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hogpour.core import host
from hogpour.core.errors import Stopped
from hogpour.core.job import Job, job_to_dict
from hogpour.core.progress import Notice
from hogpour.machine.prepare import Prepared, count_replicas, prepare, rehearse
from hogpour.machine.replica_process import Orders
from hogpour.machine.supervisor import Supervisor
from hogpour.model import model_file, run_lock
from hogpour.model.disk import REAL
from hogpour.model.model import Model
from hogpour.model.snapshot import KEPT
from hogpour.model.training_state import TrainingState
from hogpour.node.training import STOPPED, Futures
from hogpour.server.change_log import rehearse_sparse
from hogpour.shm.doorbell import Doorbell, ring
from hogpour.shm.segment import anonymous_file

__all__ = ["LocalMachine"]


class LocalMachine:
    """The ``training.NodeMachine`` of a node.

    Args:
        threads: kernel threads of each replica; 0: the cores shared out among the replicas.
        notify: called with what a person wants to know.

    Attributes:
        supervisor: of the replica processes; of none before ``start``.
        reading: the thread that reads the data, once it does.
    """

    def __init__(self, threads: int, notify: Callable[[Notice], None]) -> None:
        self._threads, self._notify, self._replicas = threads, notify, 0
        self._bells: list[Doorbell] = []  # the node's, and those of its replicas where they wait for others
        self._fds: list[int] = []  # of the live segment and of the examples, as the replicas inherit them
        self.supervisor = Supervisor(0, threads, (), notify)
        self.reading: asyncio.Future[Prepared] | None = None
        self._lock: Path | None = None  # of the model file

    @property
    def bell(self) -> Doorbell:
        return self._bells[0]

    async def start(self, job: Job, in_cluster: bool) -> None:
        self._replicas = replicas = count_replicas(job)
        host.check_descriptors(replicas)
        if job.save:
            model_file.check_writable(job.save)
            self._lock_model(job.save)
        if replicas > host.cores():
            text = f"run.replicas = {replicas} on {host.cores()} cores: replicas will wait for one another's core"
            self._notify(Notice("warning", text))
        # The sums of a batch method are to be the same bits for any number of replicas; BLAS adds in another order on
        # more threads.
        self._threads = self._threads or (1 if job.algorithm.batch_blocks else max(1, host.cores() // replicas))
        self._bells = [Doorbell() for _ in range(1 + replicas * in_cluster)]
        self._fds = [anonymous_file(), anonymous_file()]
        inherited = (*self._fds, self.bell.ring_fd, *(bell.listen_fd for bell in self._bells[1:]))
        self.supervisor = Supervisor(replicas, self._threads, inherited, self._notify)
        await self.supervisor.start()

    async def prepare(
        self, job: Job, resume: bool, block_replicas: int, failures: Futures, stop_asked: asyncio.Event
    ) -> Prepared:
        live_fd, data_fd = self._fds
        self.reading = asyncio.get_running_loop().run_in_executor(
            None, prepare, job, self._replicas, resume, (live_fd, data_fd), block_replicas
        )
        stop = asyncio.ensure_future(stop_asked.wait())
        awaited: list[asyncio.Future[Any]] = [self.reading, stop, *failures]
        try:
            # asyncio.wait does not cancel what it waits for: the thread goes on, and its descriptors must stay open.
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for failure in failures:
            if failure.done():
                failure.result()
        if stop_asked.is_set():
            raise Stopped(STOPPED)
        ready = self.reading.result()
        host.give_memory_back()  # what reading took is up to three times the examples, and none of it comes again
        if job.save and (text := model_file.little_room(job.save, _bytes_of(job, ready, bool(block_replicas)))):
            self._notify(Notice("warning", text))
        return ready

    def orders(self, job: Job, ready: Prepared) -> Callable[[int], Orders]:
        live, examples = ready.live.layout, ready.examples.layout

        def order(replica: int) -> Orders:
            return Orders(
                job=job_to_dict(job), input_shape=ready.network.input_shape, replica=replica,
                replicas=self._replicas, block_replicas=ready.block_replicas, threads=self._threads, parent=os.getpid(),
                bell_fd=self.bell.ring_fd, wake_fd=self._bells[1 + replica].listen_fd if len(self._bells) > 1 else -1,
                live_fd=self._fds[0], live=live.fields, live_size=live.size, data_fd=self._fds[1], data=examples.fields,
                data_size=examples.size,
            )  # fmt: skip

        return order

    def wake(self, replica: int) -> None:
        ring(self._bells[1 + replica].ring_fd)

    def rehearse(self, job: Job, ready: Prepared) -> None:
        rehearse(job, ready, self._threads)
        if job.algorithm.federated and ready.network.spec.by_row:
            rehearse_sparse(job.algorithm.server_rule)

    def save(self, path: str, model: Model, state: TrainingState | None) -> None:
        model_file.save(path, model, state)

    def rescue(self, path: str, model: Model, state: TrainingState | None) -> str:
        return model_file.save_elsewhere(path, model, state)

    def close(self) -> None:
        """Let others have the model file, and close all descriptors, now or when the thread that fills the segments has
        ended."""
        if self._lock is not None:
            REAL.unlock(self._lock)

        def close(work: asyncio.Future[Prepared]) -> None:
            if not work.cancelled():
                work.exception()
            self._close()

        if self.reading is not None and not self.reading.done():
            self.reading.add_done_callback(close)
        else:
            self._close()

    def _lock_model(self, path: str) -> None:
        who = f"process {os.getpid()} on {os.uname().nodename}"
        self._lock = run_lock.take(Path(os.path.realpath(path)), who, REAL)
        if self._lock is None:
            text = f"model file {path}: cannot be locked on this file system: see that no other run writes it"
            self._notify(Notice("warning", text))

    def _close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        for bell in self._bells:
            bell.close()


def _bytes_of(job: Job, ready: Prepared, joined: bool) -> int:
    """Return what a run may have on the disk at a time: its model file, and the snapshots of a first node."""
    scheme, vectors = job.algorithm, 1
    if not scheme.federated:
        vectors += len(ready.live.layout.fields) - 1 - [f.name for f in ready.live.layout.fields].index("params")
    elif not joined:  # of snapshots, one is being written while others are kept
        vectors += (KEPT + 1) * (1 + len(scheme.server_rule.state))
    return 4 * ready.network.spec.n * vectors
