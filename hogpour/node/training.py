"""The training of one job on one machine, from compiled kernels to the written model: what a node does while it runs.

    compile here, once → orders to the replicas → watch: evaluate snapshots, write the model file now and then
    → reap the replicas → evaluate and write the model → say how it ended

In a cluster a ``ClusterRun`` stands beside it: it moves what replicas accrue, knows what others did, and says when all
is done. Where a run stands is then in snapshots of the shards, and the model file holds the model alone.

A model file is written only by a run that made a step, and only with parameters that were found good: finite, with a
finite loss. What was in the file before stays there otherwise.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hogpour.core.cluster_state import Totals
from hogpour.core.errors import ClusterFailed, HogpourError, ReplicaDied, ResourceError
from hogpour.core.job import Job, job_to_dict
from hogpour.core.kernels.vector import vector_copy
from hogpour.core.progress import Evaluation, Meter, Notice, Summary
from hogpour.data.blocks import Blocks
from hogpour.machine.precompile import rehearse
from hogpour.machine.prepare import Prepared
from hogpour.machine.replica import Orders
from hogpour.machine.supervisor import Supervisor
from hogpour.model import model_file
from hogpour.model.model import Model
from hogpour.model.training_state import TrainingState
from hogpour.node.cluster_run import ClusterRun
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import DIVERGED, Control
from hogpour.shm.doorbell import Doorbell
from hogpour.shm.params import params_finite

__all__ = ["Training"]

Outcome = Literal["finished", "stopped", "diverged", "failed"]

GRACE_S = 1.0
"""Time that replicas have to end their step after a stop; the rest of the 2 s that a stop may take is for the file."""

_SILENT_COMPILE_S = 0.8  # kernels that come from the cache are loaded within this time
_DEAF_S = 0.05  # after the doorbell rang: 20 looks at the clocks a second are enough
_STALLED_S = 10.0  # a replica that makes no step for so long is spoken of


class Training:
    """One run. The node makes it, awaits ``run`` once, and closes the segments afterwards.

    Args:
        fds: descriptors of the live segment and of the examples, as the replicas inherited them.
        notify: called with what a person wants to know.
        stop_asked: set by whoever wants the run to end.
        news: set here when there is something new to show.
        federation: this node's part in a cluster; None on a machine alone.
        wake_fds: of the bells of the replicas, as they inherited them; empty on a machine alone.
        rehearsing: runs every kernel once; None: ``rehearse``.
        saving: writes the model file; None: ``model_file.save``.

    Attributes:
        evaluation: the newest one; ``evaluation_told`` is False until somebody has shown it.
        final: the model at the end.
        summary: how the run ended; None before it did.
        working: the thread that compiles, while it does; nobody waits for it after a stop.
    """

    def __init__(
        self,
        job: Job,
        ready: Prepared,
        supervisor: Supervisor,
        bell: Doorbell,
        fds: tuple[int, int],
        *,
        replicas: int,
        threads: int,
        notify: Callable[[Notice], None],
        stop_asked: asyncio.Event,
        news: asyncio.Event,
        federation: ClusterRun | None = None,
        wake_fds: Sequence[int] = (),
        rehearsing: Callable[[Job, Prepared, int], None] | None = None,
        saving: Callable[[str, Model, TrainingState | None], None] | None = None,
    ) -> None:
        self._job, self._ready, self._supervisor, self._bell, self._fds = job, ready, supervisor, bell, fds
        self._replicas, self._threads, self._notify = replicas, threads, notify
        self._stop_asked, self._news, self._loop = stop_asked, news, asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._deaf: asyncio.TimerHandle | None = None
        live = ready.live.arrays
        self.control, self.clocks = Control(live["control"]), Clocks(live["counters"], live["sums"])
        self._blocks = Blocks(len(ready.examples.arrays["x"]), job.batch, ready.block_replicas, job.epochs,
                              job.algorithm.batch_blocks)  # fmt: skip
        self._federation, self._wake_fds = federation, wake_fds
        self._rehearse, self._save = rehearsing or rehearse, saving or model_file.save
        if federation is not None:
            self._before = federation.standing.before
        else:
            self._before = ready.state.examples if ready.state else 0
        self._first_ticket = ready.state.tickets if ready.state else 0
        self.meter = Meter(self._blocks.n, job.epochs, self._before)
        # Two models beside the live vector: the newest snapshot and the last good one; none is allocated later.
        self._snapshot, self._good = (
            Model(job, ready.network, live["params"].copy(), ready.encoding) for _ in range(2)
        )
        self._good_state: TrainingState | None = None
        self._is_good = False  # whether _good is a snapshot of this run
        self._look_s = 0.0  # seconds that the last evaluation took
        self._moves: dict[int, tuple[int, float]] = {}  # replica → steps, and when they were seen first
        self.evaluation: Evaluation | None = None
        self.evaluation_told = True
        self.final = self._good
        self.summary: Summary | None = None
        self.working: asyncio.Future[None] | None = None

    @property
    def epoch(self) -> float:
        """Passes over the training examples so far, earlier runs of a resumed job included."""
        return self.meter.epoch(self.examples)

    @property
    def examples(self) -> int:
        """Examples used in this run, by the whole cluster."""
        return self.clocks.examples if self._federation is None else self._federation.standing.examples

    @property
    def learnt(self) -> Totals:
        """What is known of them here: of all on the first node, of this node's own on another one."""
        clocks = self.clocks
        if self._federation is None:
            return Totals(clocks.examples, clocks.right, clocks.loss)
        return self._federation.standing.totals()

    async def run(self) -> None:
        """Train to the end; ``summary`` and ``final`` hold the result.

        Raises:
            ReplicaDied: a replica could not be kept running; what was trained is in the model file.
            ClusterFailed: the cluster cannot go on; what this node holds is in the model file.
            ConfigError, ResourceError: the first step fails.
        """
        outcome: Outcome
        failure: ReplicaDied | ClusterFailed | None = None
        fed = self._federation
        try:
            compiled = await self._compile()
            if not compiled and fed is not None:  # others may train already, and this node may serve shards
                await fed.wind_down()
                await fed.finish()
        except HogpourError as error:
            if fed is not None:
                await fed.give_up(error)
            raise
        if not compiled:
            await self._finish("stopped")
            return
        if self._federation is not None:
            self._federation.train(lambda: self._supervisor.alive)
        self._listen()
        runner = asyncio.create_task(self._supervisor.run(self._orders, self.clocks, self.control.stop))
        try:
            await self._watch(runner)
            if self._federation is not None and not self._federation.failed.done():
                await self._federation.wind_down()  # replicas end by themselves when they have pushed what they have
                await asyncio.wait([runner], timeout=GRACE_S)
            if not runner.done():
                self.control.stop()
                await self._supervisor.stop(GRACE_S)
            await runner  # ends with the processes
            if self._federation is not None:
                self._federation.moved()
                if self.control.command == DIVERGED:
                    await self._federation.give_up(HogpourError("the loss is not finite any more"), everywhere=True)
                else:
                    await self._federation.finish()
        except (ReplicaDied, ClusterFailed) as error:
            failure = error
            if self._federation is not None:
                await self._federation.give_up(error)
        finally:
            runner.cancel()
            self._stop_listening()
        if self.control.command == DIVERGED:
            outcome = "diverged"
        elif failure is not None:
            outcome = "failed"
        else:  # a stop may have come when nothing was left to do
            outcome = "finished" if self._all_used() else "stopped"
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
        began = self._loop.time()
        stop = asyncio.ensure_future(self._stop_asked.wait())
        self.working = self._loop.run_in_executor(None, self._rehearse, self._job, self._ready, self._threads)
        fed = self._federation
        awaited = [self.working, stop, *([fed.failed, fed.ended] if fed is not None else [])]
        try:
            await asyncio.wait(awaited, timeout=_SILENT_COMPILE_S, return_when=asyncio.FIRST_COMPLETED)
            if not any(one.done() for one in awaited):
                text = "compiling the kernels of this model; they are kept, and the next run starts at once"
                self._notify(Notice("compiling", text))
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if self.working.done():
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
        fed = self._federation
        ending = [runner, stop] if fed is None else [runner, stop, fed.failed, fed.ended]
        try:
            while not any(end.done() for end in ending):
                moved = asyncio.ensure_future(self._moved.wait())
                await asyncio.wait([*ending, moved], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
                self._moved.clear()
                if (began := self.clocks.began) is not None:
                    self.meter.begin(began)
                self._look_for_stalled(now())
                if work is not None:
                    if not work.done():
                        continue
                    self._settle(work)
                    work = None
                # Rarer as the run gets longer, and never more than a twentieth of one core's time.
                patience = max(0.25, self.meter.seconds(now()) / 10, 20 * self._look_s)
                due = int(self.epoch) > evaluated_epoch and (fed is None or fed.first)
                if due and now() - evaluated >= patience:
                    evaluated, evaluated_epoch = now(), int(self.epoch)
                    work = asyncio.ensure_future(asyncio.to_thread(self._look, runner.done, stop.done))
                elif fed is None and self._job.save and now() - saved >= self._job.save_every_s:
                    saved = now()
                    work = asyncio.ensure_future(asyncio.to_thread(self._save_live))
            if stop.done() and not runner.done() and fed is None:
                self.control.stop()  # before anything is waited for
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
        """Evaluate a snapshot on a thread; remember it as good where it is."""
        began = self._loop.time()
        state = self._state()
        vector_copy(self._snapshot.params, self._reached)
        if not params_finite(self._snapshot.params):
            return
        if self._ready.test is not None:
            evaluation = self._snapshot.evaluate(self._ready.test, lambda: not any(end() for end in ended))
            if evaluation is None or not np.isfinite(evaluation.loss):
                return
            self.evaluation, self.evaluation_told = evaluation, False
        self._snapshot, self._good, self._good_state, self._is_good = self._good, self._snapshot, state, True
        self._look_s = self._loop.time() - began
        self._loop.call_soon_threadsafe(self._news.set)

    @property
    def _reached(self) -> npt.NDArray[Any]:
        """Return what the run has come to: the live vector, but that of a batch method is of trials."""
        reached = self._federation.standing.reached if self._federation is not None else None
        return self._ready.live.arrays["params"] if reached is None else reached

    def _save_live(self) -> None:
        state = self._state()
        vector_copy(self._snapshot.params, self._ready.live.arrays["params"])
        if state is not None and state.steps > self._steps_before and params_finite(self._snapshot.params):
            self._save(self._job.save, self._snapshot, state)

    def _look_for_stalled(self, now: float) -> None:
        """Speak once of a replica that lives but makes no step: stopped by a signal, or starved."""
        fed = self._federation
        if fed is None and self.control.tickets_taken >= self._blocks.total:
            return
        for replica, steps in enumerate(self.clocks.steps.tolist()):
            seen, since = self._moves.get(replica, (-1, now))
            if steps != seen or (fed is not None and fed.waits(replica)):
                self._moves[replica] = (steps, now)
            elif steps and _STALLED_S <= now - since < np.inf:
                self._moves[replica] = (steps, np.inf)
                text = f"replica {replica} has made no step for {now - since:.0f} s: is its process stopped or starved?"
                self._notify(Notice("warning", text))

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def _steps_before(self) -> int:
        return self._ready.state.steps if self._ready.state else 0

    def _state(self) -> TrainingState | None:
        """Return where training stands; None in a cluster. Read before the parameters: what is counted is then in them.

        While replicas run, the parameters hold a little more than is counted, and a resumed run uses these examples
        twice; after they ended, the state is exact but for a batch that a killed replica used and did not count.
        """
        if self._federation is not None:
            return None
        live = self._ready.live
        # In this order a block that moves in between is seen twice, or not yet as taken; never neither.
        # Replicas also drew numbers behind the last block; a run with fewer epochs than before begins behind it.
        tickets = max(self._first_ticket, min(self.control.tickets_taken, self._blocks.total))
        waiting = [(int(t), int(p)) for t, p in live.arrays["pending"] if t >= 0]
        under_way = [self.clocks.unfinished(replica) for replica in range(self._replicas)]
        begun = {block[0]: block for block in [*waiting, *(block for block in under_way if block)]}
        names = [f.name for f in live.layout.fields]
        return TrainingState(
            tickets=tickets,
            pending=tuple(block for ticket, block in begun.items() if ticket < tickets),
            steps=int(self.clocks.steps.sum()),
            examples=self._before + self.clocks.examples,
            n=self._blocks.n,
            block_replicas=self._ready.block_replicas,
            rows={name: live.arrays[name].copy() for name in names[names.index("params") + 1 :]},
        )

    def _all_used(self) -> bool:
        if self._federation is not None:
            return self._federation.standing.complete
        state = self._state()
        assert state is not None
        return state.tickets >= self._blocks.total and not state.pending

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _finish(self, outcome: Outcome) -> None:
        """Evaluate what is left, write the model, say how it ended."""
        seconds = self.meter.seconds(self._loop.time())
        stepped = int(self.clocks.steps.sum()) > self._steps_before
        if self._federation is not None:
            stepped = self._federation.standing.stepped
        state: TrainingState | None = None
        written = False
        if stepped and outcome != "diverged":
            outcome = await asyncio.to_thread(self._take_final, outcome)
            state, written = self._state(), True
        if outcome == "diverged":
            state, self.final, written = self._good_state, self._good, self._is_good
        path = self._job.save
        if outcome == "failed" and self._federation is not None:
            path = path or self._federation.rescue
        written = written and bool(path)
        if written:
            await asyncio.to_thread(self._save, path, self.final, state)
        if written and outcome == "failed":
            self._notify(Notice("warning", f"what this node holds is in {path}"))
        if outcome == "diverged":
            self._notify(Notice("diverged", self._say_diverged(written)))
        examples, learnt, evaluation = self.examples, self.learnt, self.evaluation
        self.summary = Summary(
            outcome=outcome,
            examples=self._before + examples,
            seconds=seconds,
            rate=examples / seconds if seconds else 0.0,
            loss=evaluation.loss if evaluation else self._learnt_loss(learnt),
            accuracy=evaluation.accuracy if evaluation else None,
            epoch=self.epoch,
            restarts=self._supervisor.restarts,
            model=path if written else "",
            repeated=self._federation.standing.repeated if self._federation is not None else 0,
        )

    def _learnt_loss(self, learnt: Totals) -> float | None:
        """Return what a run without test examples came to; the losses of a batch method are of trials as well."""
        if self._federation is not None and (objective := self._federation.standing.objective) is not None:
            return objective
        return learnt.loss / learnt.examples if learnt.examples else None

    def _take_final(self, outcome: Outcome) -> Outcome:
        """Copy and judge the live vector, on a thread; what is not good makes the run a diverged one."""
        source = self._reached if outcome == "failed" else self._ready.live.arrays["params"]
        vector_copy(self._snapshot.params, source)
        if not params_finite(self._snapshot.params):
            return "diverged"
        if self._ready.test is not None:
            deadline = self._loop.time() + 0.5  # a stop must end soon; then the newest evaluation stands
            go_on = (lambda: True) if outcome == "finished" else (lambda: self._loop.time() < deadline)
            evaluation = self._snapshot.evaluate(self._ready.test, go_on)
            if evaluation is not None and not np.isfinite(evaluation.loss):
                return "diverged"
            self.evaluation, self.evaluation_told = evaluation or self.evaluation, False
        self.final = self._snapshot
        return outcome

    def _say_diverged(self, written: bool) -> str:
        if written:
            file = f"the last good model is in {self._job.save}"
        elif self._job.save:
            file = f"no snapshot of this run was good, {self._job.save} was not written"
        else:
            file = "the last good model is kept"
        return f"the loss is not finite any more at epoch {self.epoch:.2f}: {file}; a lower learning rate may help"

    # -- small parts --------------------------------------------------------------------------------------------------

    def _orders(self, replica: int) -> Orders:
        live, examples = self._ready.live.layout, self._ready.examples.layout
        return Orders(
            job=job_to_dict(self._job),
            input_shape=self._ready.examples.arrays["x"].shape[1:],
            replica=replica,
            replicas=self._replicas,
            block_replicas=self._ready.block_replicas,
            threads=self._threads,
            parent=os.getpid(),
            bell_fd=self._bell.ring_fd,
            wake_fd=self._wake_fds[replica] if self._wake_fds else -1,
            live_fd=self._fds[0],
            live=live.fields,
            live_size=live.size,
            data_fd=self._fds[1],
            data=examples.fields,
            data_size=examples.size,
        )

    def _listen(self) -> None:
        self._loop.add_reader(self._bell.listen_fd, self._rang)

    def _rang(self) -> None:
        """Hear the bell, then be deaf for a while: blocks may end every millisecond, and this core is a replica's."""
        self._bell.answer()
        if self._federation is not None:  # replicas may be waiting
            self._federation.moved()
            return
        self._moved.set()
        self._loop.remove_reader(self._bell.listen_fd)
        self._deaf = self._loop.call_later(_DEAF_S, self._listen)

    def _stop_listening(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
        self._loop.remove_reader(self._bell.listen_fd)
