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
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hogpour import checkpoint, cpu
from hogpour.checkpoint import TrainingState
from hogpour.config import DataConfig, Job, job_to_dict
from hogpour.data import Data, load
from hogpour.errors import ConfigError, LayoutError
from hogpour.layers.sequential import Network
from hogpour.model import Model
from hogpour.portions import Blocks, generator
from hogpour.replica import Orders, Replica, live_layout, network_of
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import DIVERGED, STOP, Control
from hogpour.shm.doorbell import Doorbell
from hogpour.shm.layout import Layout
from hogpour.shm.params import params_copy, params_finite
from hogpour.shm.segment import Segment, anonymous_file
from hogpour.supervisor import Supervisor
from hogpour.stats import Evaluation, Meter, Notice, Progress, Summary

__all__ = ["Node"]

GRACE_S = 1.0
"""Time that replicas have to end their step after a stop; the rest of the 2 s that a stop may take is for the file."""

_SILENT_COMPILE_S = 0.8  # kernels that come from the cache are loaded within this time
_DEAF_S = 0.05  # after the doorbell rang: 20 looks at the clocks a second are enough
_PARAMS = 5  # first number of the key of the stream that the initial parameters are drawn from


class Node:
    """Trains a job on this machine. Use as ``async with Node(job) as node: async for progress in node: ...``.

    Args:
        job: what to train.
        resume: go on from the job's model file.
        every_s: longest time between two snapshots of the iteration.

    Attributes:
        summary: how the run ended; None before it did.
    """

    def __init__(self, job: Job, *, resume: bool = False, every_s: float = 1.0) -> None:
        self.job = job
        self._resume, self._every_s = resume, every_s
        self._notices: list[Notice] = []
        self._news = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._moved = asyncio.Event()
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
        one = _fits_one(job)
        self._replicas = job.replicas or (1 if one else cpu.cores())
        try:
            job.algorithm.check_replicas(self._replicas)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if self._replicas > cpu.cores():
            text = f"run.replicas = {self._replicas} on {cpu.cores()} cores: replicas will wait for one another's core"
            self._notify(Notice("warning", text))
        self._threads = max(1, cpu.cores() // self._replicas)
        if job.save:
            checkpoint.check_writable(job.save)
        self._bell = Doorbell()
        fds = (anonymous_file(), anonymous_file())
        self._supervisor = Supervisor(self._replicas, self._threads, (*fds, self._bell.ring_fd), self._notify)
        try:
            await self._supervisor.start()
            await asyncio.to_thread(self._prepare, fds)
        except BaseException:
            await self._supervisor.stop(0.0)
            self._close()
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

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that run."""
        return self._supervisor.pids

    def stop(self) -> None:
        """Ask the run to end now, cleanly. Does nothing where it has ended."""
        self._stop_asked.set()
        self._news.set()

    def kill(self) -> None:
        """Kill the replicas at once."""
        self._supervisor.kill()

    # -- before training --------------------------------------------------------------------------------------------

    def _prepare(self, fds: tuple[int, int]) -> None:
        """Read the data, bind the model, fill the segments. Runs on a thread of its own."""
        job = self.job
        data = _load(job)
        self._network = network_of(job, data.train.x.shape[1:])
        _check_outputs(job, self._network, data)
        state = self._resumed(self._network, data)
        n = len(data.train.x)
        self._block_replicas = state.block_replicas if state else self._replicas
        self._blocks = Blocks(n, job.batch, self._block_replicas, job.epochs)
        self._before = state.examples if state else 0
        pending = state.pending if state else ()
        layout = live_layout(self._network, job.algorithm.optimiser, self._replicas, len(pending))
        self._live = Segment.create(layout, f"the live vector of {self._network.spec.n} parameters", fds[0])
        self._segments.append(self._live)
        self._control = Control(self._live.arrays["control"])
        self._clocks = Clocks(self._live.arrays["counters"], self._live.arrays["sums"])
        params = self._live.arrays["params"]
        if state:
            params[...] = self._resumed_params
            for name, row in state.rows.items():
                self._live.arrays[name][...] = row
            self._live.arrays["pending"][...] = np.array(pending, np.int64).reshape(-1, 2)
            self._control.tickets_taken = state.tickets
            self._clocks.set_steps(state.steps)
        else:
            self._network.init(params, generator(job.seed, _PARAMS))
        self._examples = _fill_data(data, fds[1])
        self._segments.append(self._examples)
        self._test = data.test
        # Three vectors beside the live one: the newest snapshot, the last good one, and none is allocated later.
        self._snapshot = Model(job, self._network, params.copy(), data.encoding)
        self._good = Model(job, self._network, params.copy(), data.encoding)
        self._final = self._good
        self._meter = Meter(n, job.epochs, self._before)

    def _resumed(self, network: Network, data: Data) -> TrainingState | None:
        if not self._resume:
            return None
        path, optimiser = self.job.save, self.job.algorithm.optimiser
        if not path:
            raise ConfigError("--resume: run.model is empty, expected the path of a model file")
        model, state = checkpoint.load(path)
        if model.network.spec != network.spec:
            raise LayoutError(f"model file {path}: {_first_difference(model.network, network)}")
        if state is None:
            raise LayoutError(f"model file {path}: has no training state (its run diverged, or it was exported)")
        if (state.n, model.job.batch) != (len(data.train.x), self.job.batch):
            raise LayoutError(f"model file {path}: was trained on {state.n} examples in batches of {model.job.batch}, "
                              f"the job has {len(data.train.x)} in batches of {self.job.batch}")  # fmt: skip
        wanted = {f.name for f in live_layout(network, optimiser, self._replicas, 0).fields}
        rows = dict(state.rows)
        for name in list(rows):
            if name not in wanted and name.rpartition(".")[2].isdigit():
                del rows[name]  # of a replica that this run does not have
        if {name.partition(".")[0] for name in state.rows} != {row.name for row in optimiser.state}:
            raise LayoutError(f"model file {path}: holds optimiser rows {sorted(state.rows) or 'of sgd'}, "
                              f"the job's optimiser needs {[row.name for row in optimiser.state] or 'none'}")  # fmt: skip
        self._resumed_params = model.params
        return TrainingState(state.tickets, state.pending, state.steps, state.examples, state.n, state.block_replicas,
                             rows)  # fmt: skip

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
        Control(live["control"]).take_ticket()
        if self._test is not None:
            self._snapshot.evaluate(self._test, _times(1))

    # -- training ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        outcome: Literal["finished", "stopped", "diverged"]
        try:
            await self._compile()
            self._meter.begin(self._loop.time())
            runner = asyncio.create_task(self._supervisor.run(self._orders, self._clocks, self._say_stop))
            await self._watch(runner)
            stopped = self._stop_asked.is_set() and not runner.done()
            if stopped:
                self._say_stop()
                await self._supervisor.stop(GRACE_S)
            await runner  # ends with the processes
            diverged = self._control.command == DIVERGED
            outcome = "diverged" if diverged else "stopped" if stopped else "finished"
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
            await asyncio.wait([runner, stop, moved], timeout=1.0)
            moved.cancel()
            self._moved.clear()
            if work is not None and not work.done():
                continue
            # Rarer as the run gets longer: an evaluation a second at first, later every tenth of the time so far.
            patience = max(1.0, self._meter.seconds(now()) / 10)
            if int(self._epoch) > evaluated_epoch and now() - evaluated >= patience:
                evaluated, evaluated_epoch = now(), int(self._epoch)
                work = asyncio.ensure_future(asyncio.to_thread(self._look, runner.done, stop.done))
            elif self.job.save and now() - saved >= self.job.save_every_s:
                saved = now()
                work = asyncio.ensure_future(asyncio.to_thread(self._save_live))
        stop.cancel()
        self._loop.remove_reader(self._bell.listen_fd)
        if work is not None:
            await asyncio.wait([work])  # ends within a batch: it asks whether to go on
            work.result()

    def _look(self, *ended: Callable[[], bool]) -> None:
        """Evaluate a snapshot on a thread; remember it as good where it is."""
        params_copy(self._live.arrays["params"], self._snapshot.params)
        if not params_finite(self._snapshot.params):
            return
        if self._test is not None:
            evaluation = self._snapshot.evaluate(self._test, lambda: not any(end() for end in ended))
            if evaluation is None or not np.isfinite(evaluation.loss):
                return
            self._evaluation, self._evaluation_told = evaluation, False
        self._snapshot, self._good = self._good, self._snapshot
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
        tickets = min(self._control.tickets_taken, self._blocks.total)
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
        examples, evaluation = self._clocks.examples, self._evaluation
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
        if not self._ended:
            self._loop.call_later(_DEAF_S, self._listen)

    def _notify(self, notice: Notice) -> None:
        self._notices.append(notice)
        self._news.set()

    def _close(self) -> None:
        for segment in self._segments:
            segment.close()
        self._bell.close()


def _fits_one(job: Job) -> bool:
    try:
        job.algorithm.check_replicas(2)
    except ValueError:
        return True
    return False


def _load(job: Job) -> Data:
    if not isinstance(job.data, DataConfig):
        return job.data
    c = job.data
    return load(
        c.train,
        c.test or None,
        base=Path(job.base),
        format=c.format,
        scale=c.scale,
        label=c.label,
        ignore=c.ignore,
        validation=c.validation,
        n_features=c.n_features,
        targets=job.loss.targets,
        seed=job.seed,
    )


def _check_outputs(job: Job, network: Network, data: Data) -> None:
    train, loss = data.train, type(job.loss).__name__
    labels = job.loss.targets == "labels"
    n = train.n_labels if labels else (train.y.shape[1] if train.y.ndim == 2 else 1)
    fitting = job.loss.n_outputs(n)
    if network.output_shape[0] not in fitting:
        last = network.stages[-1].name
        raise ConfigError(
            f"model: layer {last}: gives {network.output_shape[0]} scores, {loss} needs "
            f"{' or '.join(map(str, fitting))} for the {n} {job.loss.targets} of {train.source}"
        )


def _fill_data(data: Data, fd: int) -> Segment:
    x, y = data.train.x, data.train.y
    layout = Layout.pack([("x", x.shape, x.dtype), ("y", y.shape, y.dtype)])
    segment = Segment.create(layout, f"the {len(x)} examples of {data.train.source}", fd)
    segment.arrays["x"][...] = x
    segment.arrays["y"][...] = y
    return segment


def _first_difference(stored: Network, wanted: Network) -> str:
    for a, b in zip(stored.spec.tensors, wanted.spec.tensors, strict=False):
        if a != b:
            return f"holds {a.name} {a.shape} where the job has {b.name} {b.shape}"
    return f"holds {len(stored.spec.tensors)} tensors, the job has {len(wanted.spec.tensors)}"


def _times(n: int) -> Callable[[], bool]:
    """Return a function that says True n times, then False."""
    answers = iter([True] * n)
    return partial(next, answers, False)
