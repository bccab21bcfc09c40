"""A node: one machine's replicas, its event loop, and the async API. The composition root.

The life of a run, in order: check the job → start replica processes, which import while the data is read → lay out and
fill the segments → compile the kernels here, once, so that no two processes compile at the same time → give orders →
watch, evaluate snapshots, write the model file now and then → reap the replicas → evaluate and write the model.

Shutdown order, tested: the control word says stop; replicas end after the step under way; those that have not after
``GRACE_S`` are killed; then the model is written; then descriptors are closed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hogpour import checkpoint, cpu
from hogpour.checkpoint import TrainingState
from hogpour.config import Job, job_to_dict
from hogpour.model import Model
from hogpour.portions import Blocks
from hogpour.preparation import Prepared, count_replicas, prepare
from hogpour.replica import Orders, Replica, live_layout
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import DIVERGED, STOP, Control
from hogpour.shm.doorbell import Doorbell
from hogpour.shm.params import params_copy, params_finite
from hogpour.shm.segment import Segment, anonymous_file
from hogpour.stats import Evaluation, Meter, Notice, Progress, Summary
from hogpour.supervisor import Supervisor

__all__ = ["Node"]

GRACE_S = 1.0
"""Time that replicas have to end their step after a stop; the rest of the 2 s that a stop may take is for the file."""

_SILENT_COMPILE_S = 0.8  # kernels that come from the cache are loaded within this time
_DEAF_S = 0.05  # after the doorbell rang: 20 looks at the clocks a second are enough


class Node:
    """Trains a job on this machine. Use as ``async with Node(job) as node: async for progress in node: ...``.

    Args:
        job: what to train.
        resume: go on from the job's model file.
        every_s: longest time between two snapshots of the iteration.
        threads: kernel threads of each replica; 0: the cores shared out among the replicas.

    Attributes:
        summary: how the run ended; None before it did.
    """

    def __init__(self, job: Job, *, resume: bool = False, every_s: float = 1.0, threads: int = 0) -> None:
        self.job = job
        self._resume, self._every_s, self._threads = resume, every_s, threads
        self._notices: list[Notice] = []
        self._news = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._moved = asyncio.Event()
        self._steps = 0
        self._look_s = 0.0  # seconds that the last evaluation took
        self._deaf: asyncio.TimerHandle | None = None
        self._evaluation: Evaluation | None = None
        self._evaluation_told = True
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._segments: list[Segment] = []
        self.summary: Summary | None = None

    async def __aenter__(self) -> Node:
        """Check everything that can be wrong with the job, then let training begin in the background.

        Raises:
            InputError: the job, its data, its model file or the machine do not fit; nothing was written.
        """
        job = self.job
        self._loop = asyncio.get_running_loop()
        self._replicas = count_replicas(job)
        if self._replicas > cpu.cores():
            text = f"run.replicas = {self._replicas} on {cpu.cores()} cores: replicas will wait for one another's core"
            self._notify(Notice("warning", text))
        self._threads = self._threads or max(1, cpu.cores() // self._replicas)
        if job.save:
            checkpoint.check_writable(job.save)
        self._bell = Doorbell()
        fds = (anonymous_file(), anonymous_file())
        self._supervisor = Supervisor(self._replicas, self._threads, (*fds, self._bell.ring_fd), self._notify)
        try:
            await self._supervisor.start()
            self._take(await asyncio.to_thread(prepare, job, self._replicas, self._resume, fds))
        except BaseException:
            await self._supervisor.stop(0.0)
            self._bell.close()
            for fd in fds:
                os.close(fd)
            raise
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop if the run has not ended, keep the model, and leave nothing behind."""
        assert self._task is not None
        self.stop()
        with suppress(Exception):
            await self._task  # has deadlines of its own; its error was raised by the iteration or by ``wait``
        self._close()

    def __aiter__(self) -> AsyncIterator[Progress]:
        return self._snapshots()

    async def wait(self) -> Summary:
        """Wait for the end of the run, as long as that takes, and say how it ended.

        Raises:
            ReplicaDied: a replica could not be kept running.
        """
        assert self._task is not None
        await asyncio.shield(self._task)
        assert self.summary is not None
        return self.summary

    async def model(self) -> Model:
        """Wait for the end of the run and return the trained model: the last good one where it diverged."""
        await self.wait()
        return self._final

    def parameters(self) -> npt.NDArray[np.float32]:
        """Return a copy of the live vector as it is at this moment: (n,) float32, see ``model`` for the spec."""
        live = self._live.arrays["params"]
        copy = np.empty_like(live)
        params_copy(live, copy)
        return copy

    @property
    def steps(self) -> int:
        """Gradients applied so far by all replicas, earlier runs of a resumed job included."""
        return self._steps if self._ended else int(self._clocks.steps.sum())

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that run."""
        return self._supervisor.pids

    def stop(self) -> None:
        """Ask the run to end now, cleanly. Does nothing where it has ended."""
        self._stop_asked.set()

    def kill(self) -> None:
        """Kill the replicas at once."""
        self._supervisor.kill()

    # -- before training --------------------------------------------------------------------------------------------

    def _take(self, ready: Prepared) -> None:
        self._network, self._test = ready.network, ready.test
        self._live, self._examples = ready.live, ready.examples
        self._segments += [self._live, self._examples]
        self._control = Control(self._live.arrays["control"])
        self._clocks = Clocks(self._live.arrays["counters"], self._live.arrays["sums"])
        self._block_replicas = ready.block_replicas
        self._blocks = Blocks(len(self._examples.arrays["x"]), self.job.batch, ready.block_replicas, self.job.epochs)
        self._before = ready.state.examples if ready.state else 0
        self._first_ticket = ready.state.tickets if ready.state else 0
        self._meter = Meter(self._blocks.n, self.job.epochs, self._before)
        # Two vectors beside the live one: the newest snapshot and the last good one; none is allocated later.
        params = self._live.arrays["params"]
        self._snapshot = Model(self.job, self._network, params.copy(), ready.encoding)
        self._good = Model(self.job, self._network, params.copy(), ready.encoding)
        self._final = self._good

    async def _compile(self) -> None:
        """Run every kernel once in this process, so that replicas find them compiled."""
        began = self._loop.time()
        work = asyncio.ensure_future(asyncio.to_thread(self._warm_up))
        done, _ = await asyncio.wait([work], timeout=_SILENT_COMPILE_S)
        if not done:
            text = "compiling the kernels of this model; they are kept, and the next run starts at once"
            self._notify(Notice("compiling", text))
            await asyncio.wait([work])  # a compiler ends
            self._notify(Notice("compiled", f"compiled in {self._loop.time() - began:.1f} s"))
        work.result()

    def _warm_up(self) -> None:
        layout = live_layout(self._network, self.job.algorithm.optimiser, 1, 0)
        live = layout.views(bytearray(layout.size))
        params_copy(self._live.arrays["params"], live["params"])
        x, y = self._examples.arrays["x"], self._examples.arrays["y"]
        few = min(len(x), self.job.batch)
        replica = Replica(
            self.job, self._network, live, x[:few], y[:few], 0, block_replicas=1, threads=self._threads
        )
        replica.step(np.arange(few), 0, few, 0)
        params_finite(live["params"])
        control = Control(live["control"])
        control.take_ticket()
        control.command = STOP
        if self._test is not None:
            self._snapshot.evaluate(self._test, _times(1))

    # -- training ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        outcome: Literal["finished", "stopped", "diverged"]
        try:
            await self._compile()
            runner = asyncio.create_task(self._supervisor.run(self._orders, self._clocks, self._say_stop))
            await self._watch(runner)
            if not runner.done():
                await self._supervisor.stop(GRACE_S)
            await runner  # ends with the processes
            if self._control.command == DIVERGED:
                outcome = "diverged"
            else:  # a stop may have come when nothing was left to do
                outcome = "finished" if self._all_used() else "stopped"
            await self._finish(outcome)
        finally:
            await self._supervisor.stop(0.0)
            self._ended = True
            self._news.set()

    async def _watch(self, runner: asyncio.Task[None]) -> None:
        """Evaluate snapshots and write the model file while replicas train, until they end or a stop is asked."""
        stop = asyncio.ensure_future(self._stop_asked.wait())
        now = self._loop.time
        self._listen()
        evaluated, evaluated_epoch, saved = now(), int(self._epoch), now()
        work: asyncio.Future[Any] | None = None
        while not runner.done() and not stop.done():
            moved = asyncio.ensure_future(self._moved.wait())
            await asyncio.wait([runner, stop, moved], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
            self._moved.clear()
            if (began := self._clocks.began) is not None:
                self._meter.begin(began)
            if work is not None and not work.done():
                continue
            # Rarer as the run gets longer, and never more than a twentieth of one core's time.
            patience = max(0.25, self._meter.seconds(now()) / 10, 20 * self._look_s)
            if int(self._epoch) > evaluated_epoch and now() - evaluated >= patience:
                evaluated, evaluated_epoch = now(), int(self._epoch)
                work = asyncio.ensure_future(asyncio.to_thread(self._look, runner.done, stop.done))
            elif self.job.save and now() - saved >= self.job.save_every_s:
                saved = now()
                work = asyncio.ensure_future(asyncio.to_thread(self._save_live))
        if stop.done() and not runner.done():
            self._say_stop()  # before anything is waited for
        stop.cancel()
        self._stop_listening()
        if work is not None:
            await asyncio.wait([work])  # ends within a batch: it asks whether to go on
            work.result()

    def _look(self, *ended: Callable[[], bool]) -> None:
        """Evaluate a snapshot on a thread; remember it as good where it is."""
        began = self._loop.time()
        params_copy(self._live.arrays["params"], self._snapshot.params)
        if not params_finite(self._snapshot.params):
            return
        if self._test is not None:
            evaluation = self._snapshot.evaluate(self._test, lambda: not any(end() for end in ended))
            if evaluation is None or not np.isfinite(evaluation.loss):
                return
            self._evaluation, self._evaluation_told = evaluation, False
        self._snapshot, self._good = self._good, self._snapshot
        self._look_s = self._loop.time() - began
        self._loop.call_soon_threadsafe(self._news.set)

    def _save_live(self) -> None:
        state = self._state()
        params_copy(self._live.arrays["params"], self._snapshot.params)
        if params_finite(self._snapshot.params):
            checkpoint.save(self.job.save, self._snapshot, state)

    def _state(self) -> TrainingState:
        """Return where training stands. Read before the parameters: what is counted is then in them.

        While replicas run, the parameters hold a little more than is counted, and a resumed run uses these examples
        twice; after they ended, the state is exact.
        """
        # Replicas also drew numbers behind the last block; a run with fewer epochs than before begins behind it.
        tickets = max(self._first_ticket, min(self._control.tickets_taken, self._blocks.total))
        under_way = [self._clocks.unfinished(replica) for replica in range(self._replicas)]
        waiting = [(int(t), int(p)) for t, p in self._live.arrays["pending"] if t >= 0]
        names = [f.name for f in self._live.layout.fields]
        return TrainingState(
            tickets=tickets,
            pending=tuple([block for block in under_way if block] + waiting),
            steps=int(self._clocks.steps.sum()),
            examples=self._before + self._clocks.examples,
            n=self._blocks.n,
            block_replicas=self._block_replicas,
            rows={name: self._live.arrays[name].copy() for name in names[names.index("params") + 1 :]},
        )

    async def _finish(self, outcome: Literal["finished", "stopped", "diverged"]) -> None:
        """Evaluate what is left, write the model, say how it ended."""
        seconds = self._meter.seconds(self._loop.time())
        await asyncio.to_thread(self._take_final, outcome)
        if self.job.save:
            state = None if outcome == "diverged" else self._state()
            await asyncio.to_thread(checkpoint.save, self.job.save, self._final, state)
        examples, evaluation, self._steps = self._clocks.examples, self._evaluation, int(self._clocks.steps.sum())
        if outcome == "diverged":
            file = f"the last good model is in {self.job.save}" if self.job.save else "the last good model is kept"
            text = f"the loss is not finite any more at epoch {self._epoch:.2f}: {file}; a lower learning rate may help"
            self._notify(Notice("diverged", text))
        self.summary = Summary(
            outcome=outcome,
            examples=self._before + examples,
            seconds=seconds,
            rate=examples / seconds if seconds else 0.0,
            loss=evaluation.loss if evaluation else (self._clocks.loss / examples if examples else None),
            accuracy=evaluation.accuracy if evaluation else None,
            epoch=self._epoch,
            restarts=self._supervisor.restarts,
            model=self.job.save,
        )

    def _take_final(self, outcome: str) -> None:
        if outcome == "diverged":
            self._final = self._good
            self._evaluation = self._final.evaluate(self._test) if self._test is not None else None
            return
        params_copy(self._live.arrays["params"], self._snapshot.params)
        self._final = self._snapshot
        if self._test is not None:
            deadline = self._loop.time() + 0.5  # a stop must end soon; then the newest evaluation stands
            go_on = (lambda: self._loop.time() < deadline) if outcome == "stopped" else (lambda: True)
            self._evaluation = self._final.evaluate(self._test, go_on) or self._evaluation
            self._evaluation_told = False

    # -- small parts ------------------------------------------------------------------------------------------------

    @property
    def _epoch(self) -> float:
        return self._meter.epoch(self._clocks.examples)

    async def _snapshots(self) -> AsyncIterator[Progress]:
        assert self._task is not None
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._every_s)
            self._news.clear()
            ended = self._ended
            notices, self._notices = tuple(self._notices), []
            new, self._evaluation_told = not self._evaluation_told, True
            yield self._meter.progress(
                self._loop.time(),
                self._clocks.examples,
                self._clocks.loss,
                evaluation=self._evaluation,
                new_evaluation=new,
                replicas=self._supervisor.alive,
                computing=self._clocks.n_begun,
                notices=notices,
            )
            if ended:
                await self._task
                return

    def _orders(self, replica: int) -> Orders:
        return Orders(
            job=job_to_dict(self.job),
            input_shape=self._examples.arrays["x"].shape[1:],
            replica=replica,
            replicas=self._replicas,
            block_replicas=self._block_replicas,
            threads=self._threads,
            parent=os.getpid(),
            bell_fd=self._bell.ring_fd,
            live_fd=self._live.fd,
            live=self._live.layout.fields,
            live_size=self._live.layout.size,
            data_fd=self._examples.fd,
            data=self._examples.layout.fields,
            data_size=self._examples.layout.size,
        )

    def _all_used(self) -> bool:
        state = self._state()
        return state.tickets >= self._blocks.total and not state.pending

    def _say_stop(self) -> None:
        if self._control.command != DIVERGED:
            self._control.command = STOP

    def _listen(self) -> None:
        self._loop.add_reader(self._bell.listen_fd, self._rang)

    def _rang(self) -> None:
        """Hear the bell, then be deaf for a while: blocks may end every millisecond, and this core is a replica's."""
        self._bell.answer()
        self._moved.set()
        self._loop.remove_reader(self._bell.listen_fd)
        self._deaf = self._loop.call_later(_DEAF_S, self._listen)

    def _stop_listening(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
        self._loop.remove_reader(self._bell.listen_fd)

    def _notify(self, notice: Notice) -> None:
        self._notices.append(notice)
        self._news.set()

    def _close(self) -> None:
        del self._live, self._examples, self._control, self._clocks  # views keep the memory mapped
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self._bell.close()


def _times(n: int) -> Callable[[], bool]:
    """Return a function that says True n times, then False."""
    answers = iter([True] * n)
    return partial(next, answers, False)
