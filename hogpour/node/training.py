"""The training of one job on one machine, from compiled kernels to the written model: what a node does while it runs.

    compile here, once → orders to the replicas → watch: evaluate snapshots, write the model file now and then
    → reap the replicas → evaluate and write the model → say how it ended

Whether the machine trains alone or in a cluster is its backend's business (``backends``).

A model file is written only by a run that made a step, and only with parameters that were found good: finite, with a
finite loss. What was in the file before stays there otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

from hogpour.core.errors import ClusterFailed, HogpourError, ModelNotSaved, ReplicaDied, ResourceError
from hogpour.core.job import Job
from hogpour.core.kernels.jit import compilations
from hogpour.core.progress import Meter, Notice, Summary
from hogpour.machine.prepare import Prepared
from hogpour.model.model import Model
from hogpour.model.training_state import TrainingState
from hogpour.node.backends import Backend
from hogpour.node.evaluator import Evaluator, Floats
from hogpour.node.stalled import StalledReplicas
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import DIVERGED

__all__ = ["STOPPED", "Crew", "NodeBell", "NodeMachine", "Training"]

Futures = Sequence[asyncio.Future[None]]
Outcome = Literal["finished", "stopped", "diverged", "failed"]

STOPPED = "stopped before training began; nothing was written"

GRACE_S = 1.0
"""Time that replicas have to end their step after a stop; the rest of the 2 s that a stop may take is for the file."""

_SILENT_COMPILE_S = 0.8  # is not spoken of
_LARGE_FEATURE = 10.0  # beyond it, scaling is worth a word where a run diverges
_DEAF_S = 0.05  # after the doorbell rang: 20 looks at the clocks a second are enough
_KEEP_TRYING_S, _AGAIN_S = 10.0, 1.0  # to write the model of a run that nobody asked to stop
_LAST_LOOK_S = 0.5  # for the evaluation of a run that was stopped


class Crew(Protocol):
    """The replicas of a machine: ``supervisor.Supervisor``, which says what this does, or ``sim.world.replicas``."""

    restarts: int

    @property
    def alive(self) -> int: ...
    async def run(self, orders: Callable[[int], Any], clocks: Clocks, stop_others: Callable[[], None], /) -> None: ...
    async def stop(self, grace_s: float) -> None: ...
    def lives(self, replica: int, /) -> bool: ...
    def kill(self, replica: int, /) -> object: ...


class NodeBell(Protocol):
    """What replicas ring: ``doorbell.Doorbell``, or ``sim.world.replicas``."""

    @property
    def listen_fd(self) -> Any: ...
    def answer(self) -> None: ...


class NodeMachine(Protocol):
    """What a run uses of the machine that it is on: a ``local_machine.LocalMachine``, or a simulated one."""

    @property
    def supervisor(self) -> Crew: ...
    @property
    def bell(self) -> NodeBell: ...
    async def start(self, job: Job, in_cluster: bool) -> None:
        """Check what can be wrong with the machine, and start the replicas; first. Raises InputError."""

    async def prepare(
        self, job: Job, resume: bool, block_replicas: int, failures: Futures, stop_asked: asyncio.Event
    ) -> Prepared:
        """Return what the run begins with. Raises Stopped, or what a failure is, where that comes first."""

    def wake(self, replica: int) -> None:
        """Ring the bell of a replica."""

    def orders(self, job: Job, ready: Prepared) -> Callable[[int], Any]:
        """Return what says what a replica is told, for ``Crew.run``."""

    def rehearse(self, job: Job, ready: Prepared) -> None:
        """Run every kernel once, on a thread. Raises ConfigError or ResourceError."""

    def save(self, path: str, model: Model, state: TrainingState | None) -> None:
        """Write the model file, on a thread. Raises ResourceError."""

    def rescue(self, path: str, model: Model, state: TrainingState | None) -> str:
        """As ``save``, but in another folder; return the path."""


class Training:
    """One run. The node makes it, awaits ``run`` once, and has the backend release the segments afterwards.

    Args:
        notify: called with what a person wants to know.
        stop_asked: set by whoever wants the run to end.
        news: set here when there is something new to show.

    Attributes:
        job: what is trained.
        ready: what the run began with.
        backend: what stands behind it.
        evaluator: has the newest evaluation, and the model at the end.
        summary: how the run ended; None before it did.
        working: the thread that compiles, while it does; nobody waits for it after a stop.
    """

    def __init__(
        self,
        job: Job,
        machine: NodeMachine,
        backend: Backend,
        *,
        notify: Callable[[Notice], None],
        stop_asked: asyncio.Event,
        news: asyncio.Event,
    ) -> None:
        self.job, self.backend = job, backend
        self.ready = ready = backend.ready
        self._machine, self._supervisor, self._bell = machine, machine.supervisor, machine.bell
        self._notify = notify
        self._stop_asked, self._news, self._loop = stop_asked, news, asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._deaf: asyncio.TimerHandle | None = None
        self.control, self.clocks = backend.control, backend.clocks
        self.meter = Meter(ready.n, job.epochs, backend.stats.before)
        self.evaluator = Evaluator(job, ready, self._loop.time)
        self._stalled = StalledReplicas(job.cluster.stall_s, machine.supervisor, backend, notify, self._loop.time())
        self.summary: Summary | None = None
        self.working: asyncio.Future[None] | None = None

    @property
    def epoch(self) -> float:
        """Passes over the training examples so far, earlier runs of a resumed job included."""
        return self.meter.epoch(self.backend.stats.examples)

    async def run(self) -> None:
        """Train to the end; ``summary`` and ``final`` hold the result.

        Raises:
            ReplicaDied: a replica could not be kept running; what was trained is in the model file.
            ClusterFailed: the cluster cannot go on; what this node holds is in the model file.
            ConfigError, ResourceError: the first step fails.
            ModelNotSaved: the model file could not be written.
        """
        outcome: Outcome
        failure: ReplicaDied | ClusterFailed | None = None
        backend = self.backend
        try:
            compiled = await self._compile()
            if not compiled:  # others may train already, and this node may serve shards
                await backend.wind_down()
                await backend.finish(diverged=False)
        except HogpourError as error:
            await backend.give_up(error)
            raise
        if not compiled:
            await self._finish("stopped")
            return
        backend.train(lambda: self._supervisor.alive)
        self._listen()
        orders = self._machine.orders(self.job, self.ready)
        runner = asyncio.create_task(self._supervisor.run(orders, self.clocks, self.control.stop))
        try:
            await self._watch(runner)
            if await backend.wind_down():
                await asyncio.wait([runner], timeout=GRACE_S)
            if not runner.done():
                self.control.stop()
                await self._supervisor.stop(GRACE_S)
            await runner  # ends with the processes
            await backend.finish(diverged=self.control.command == DIVERGED)
        except (ReplicaDied, ClusterFailed) as error:
            failure = error
            await backend.give_up(error)
        finally:
            runner.cancel()
            self._stop_listening()
        if self.control.command == DIVERGED:
            outcome = "diverged"
        elif failure is not None:
            outcome = "failed"
        else:  # a stop may have come when nothing was left to do
            outcome = "finished" if backend.stats.complete else "stopped"
        try:
            await self._finish(outcome)
        except ResourceError as error:
            if failure is None:
                raise
            self._notify(Notice("warning", str(error)))
        if failure is not None:
            raise failure

    # -- compiling ----------------------------------------------------------------------------------------------------

    async def _compile(self) -> bool:
        """Run every kernel once in this process, so that replicas find them compiled; False where a stop came."""
        began, before, told = self._loop.time(), compilations(), False
        stop = asyncio.ensure_future(self._stop_asked.wait())
        self.working = self._loop.run_in_executor(None, self._machine.rehearse, self.job, self.ready)
        awaited: list[asyncio.Future[Any]] = [self.working, stop, *self.backend.ending]
        try:
            while not any(one.done() for one in awaited):
                timeout = None if told else _SILENT_COMPILE_S
                ended, _ = await asyncio.wait(awaited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not ended and not told and compilations() > before:
                    told = True
                    text = "compiling the kernels of this model; they are kept, and the next run starts at once"
                    self._notify(Notice("compiling", text))
            if told and self.working.done():
                self._notify(Notice("compiled", f"compiled in {self._loop.time() - began:.1f} s"))
        finally:
            stop.cancel()
            if not self.working.done():  # a compiler cannot be interrupted; its error interests nobody any more
                self.working.add_done_callback(lambda work: work.cancelled() or work.exception())
        if not self.working.done():
            return False
        self.working.result()
        return not self._stop_asked.is_set()

    # -- training -----------------------------------------------------------------------------------------------------

    async def _watch(self, runner: asyncio.Task[None]) -> None:
        """Evaluate snapshots and write the model file while replicas train, until they end or a stop is asked."""
        stop = asyncio.ensure_future(self._stop_asked.wait())
        now = self._loop.time
        evaluated, evaluated_epoch, saved = now(), int(self.epoch), now()
        work: asyncio.Future[None] | None = None
        ending: list[asyncio.Future[Any]] = [runner, stop, *self.backend.ending]
        try:
            while not any(end.done() for end in ending):
                moved = asyncio.ensure_future(self._moved.wait())
                await asyncio.wait([*ending, moved], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
                self._moved.clear()
                if (began := self.clocks.began) is not None:
                    self.meter.begin(began)
                self._stalled.look(now(), self.meter.seconds(now()))
                if work is not None:
                    if not work.done():
                        continue
                    self._settle(work)
                    work = None
                # Rarer as the run gets longer, and never more than a twentieth of one core's time.
                patience = max(0.25, self.meter.seconds(now()) / 10, 20 * self.evaluator.took_s)
                due = int(self.epoch) > evaluated_epoch and self.backend.evaluates
                if due and now() - evaluated >= patience:
                    evaluated, evaluated_epoch = now(), int(self.epoch)
                    work = asyncio.ensure_future(asyncio.to_thread(self._look, runner.done, stop.done))
                elif self.backend.keeps_state and self.job.save and now() - saved >= self.job.save_every_s:
                    saved = now()
                    work = asyncio.ensure_future(asyncio.to_thread(self._save_live))
            if stop.done() and not runner.done():
                self.backend.stop()  # before anything is waited for
        finally:
            stop.cancel()
        if work is not None:
            await asyncio.wait([work])  # ends within a batch: it asks whether to go on
            self._settle(work)

    def _settle(self, work: asyncio.Future[None]) -> None:
        """A snapshot that could not be written is no reason to end a run; the last one will be tried again."""
        try:
            work.result()
        except HogpourError as error:
            self._notify(Notice("warning", str(error)))

    def _look(self, *ended: Callable[[], bool]) -> None:
        """Evaluate a snapshot, on a thread."""
        state, reached = self.backend.state(), self.backend.stats.reached
        if self.evaluator.look(reached, state, lambda: not any(end() for end in ended)):
            self._loop.call_soon_threadsafe(self._news.set)

    def _save_live(self) -> None:
        state, stepped = self.backend.state(), self.backend.stats.stepped
        model = self.evaluator.take(self.ready.live.arrays["params"])
        if stepped and model is not None:
            self._machine.save(self.job.save, model, state)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _finish(self, outcome: Outcome) -> None:
        """Evaluate what is left, write the model, say how it ended."""
        seconds, evaluator, stats = self.meter.seconds(self._loop.time()), self.evaluator, self.backend.stats
        state: TrainingState | None = None
        written = False
        if stats.stepped and outcome != "diverged":
            source = stats.reached if outcome == "failed" else self.ready.live.arrays["params"]
            if await asyncio.to_thread(self._take_final, source, outcome == "finished"):
                state, written = self.backend.state(), True
            else:
                outcome = "diverged"
        if outcome == "diverged":
            state, evaluator.final, written = evaluator.good_state, evaluator.good, evaluator.found_good
        path = self.job.save
        if outcome == "failed":
            path = path or self.backend.rescue
        written = written and bool(path)
        if written:
            await self._save_final(path, state)
        if written and outcome == "failed":
            self._notify(Notice("warning", f"what this node holds is in {path}"))
        if outcome == "diverged":
            self._notify(Notice("diverged", self._say_diverged(written)))
        examples, learnt, evaluation, loss = stats.examples, stats.totals(), evaluator.evaluation, stats.objective
        if loss is None and learnt.examples:  # but those of a batch method are of trials as well
            loss = learnt.loss / learnt.examples
        self.summary = Summary(
            outcome=outcome, examples=stats.before + examples, seconds=seconds,
            rate=examples / seconds if seconds else 0.0, loss=evaluation.loss if evaluation else loss,
            accuracy=evaluation.accuracy if evaluation else None, epoch=self.epoch, restarts=self._supervisor.restarts,
            model=path if written else "", repeated=stats.repeated,
        )  # fmt: skip

    async def _save_final(self, path: str, state: TrainingState | None) -> None:
        """Write the model; where it is not taken, again for a while, then elsewhere: no run is lost for that.

        Raises:
            ModelNotSaved: it is not in its place; the message says where it is.
        """
        deadline, told = self._loop.time() + _KEEP_TRYING_S, False
        while True:
            try:
                return await asyncio.to_thread(self._machine.save, path, self.evaluator.final, state)
            except ResourceError as error:
                failure = error
            if self._stop_asked.is_set() or self._loop.time() >= deadline:
                break
            if not told:
                self._notify(Notice("warning", f"{failure}; tried again for {_KEEP_TRYING_S:g} s, then elsewhere"))
            told = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), _AGAIN_S)
        try:
            text = f"it is in {await asyncio.to_thread(self._machine.rescue, path, self.evaluator.final, state)}"
        except ResourceError as second:
            text = f"nor could one elsewhere: {second}"
        raise ModelNotSaved(f"{failure}; {text}") from failure

    def _take_final(self, source: Floats, whole: bool) -> bool:
        """Judge the parameters at the end, on a thread: a stop must end soon, and then the newest evaluation stands."""
        deadline = self._loop.time() + _LAST_LOOK_S
        return self.evaluator.take_final(source, lambda: whole or self._loop.time() < deadline)

    def _say_diverged(self, written: bool) -> str:
        if written:
            file = f"the last good model is in {self.job.save}"
        elif self.job.save:
            file = f"no snapshot of this run was good, {self.job.save} was not written"
        else:
            file = "the last good model is kept"
        hint, arrays = "a lower learning rate may help", self.ready.examples.arrays
        x = arrays["x"] if "x" in arrays else arrays["values"]
        if x.size and self.ready.encoding.scaling.kind == "none" and (most := max(x.max(), -x.min())) > _LARGE_FEATURE:
            scale = "standard" if "x" in arrays else "unit"
            hint += f', or data.scale = "{scale}": features are as large as {most:.3g}'
        return f"the loss is not finite any more at epoch {self.epoch:.2f}: {file}; {hint}"

    # -- small parts --------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._loop.add_reader(self._bell.listen_fd, self._rang)

    def _rang(self) -> None:
        """Hear the bell, then be deaf for a while: blocks may end every millisecond, and this core is a replica's."""
        self._bell.answer()
        if self.backend.poll():
            return
        self._moved.set()
        self._loop.remove_reader(self._bell.listen_fd)
        self._deaf = self._loop.call_later(_DEAF_S, self._listen)

    def _stop_listening(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
        self._loop.remove_reader(self._bell.listen_fd)
