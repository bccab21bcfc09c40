"""What the first node of a cluster does besides: cuts the parameters, keeps the ledger, coordinates, takes snapshots.

Made from a job and its prepared segments; afterwards ``federation`` treats the first node like any other.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.commands import Iteration
from hogpour.algos.schemes.downpour import Downpour
from hogpour.algos.schemes.sandblaster import Sandblaster, penalty, rules
from hogpour.client.routes import ask_shard
from hogpour.cluster.coordinator import Coordinator, Terms
from hogpour.cluster.evaluations import LbfgsDriver
from hogpour.cluster.lease_desk import LeaseDesk
from hogpour.cluster.leases import EpochLedger, LedgerState
from hogpour.cluster.member_requests import MemberRequests
from hogpour.core.errors import ClusterFailed, LayoutError, ResourceError
from hogpour.core.job import Job, job_to_dict
from hogpour.core.node_id import first_node
from hogpour.core.progress import Notice
from hogpour.core.shard_map import ShardMap, cut
from hogpour.data.blocks import Blocks
from hogpour.machine.prepare import Prepared
from hogpour.model import snapshot
from hogpour.model.description import Description
from hogpour.model.disk import REAL, Disk
from hogpour.model.training_state import TrainingState
from hogpour.net.requests import Requests
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.server.server import ParameterServer
from hogpour.shm.params import params_finite

__all__ = ["FirstNode", "ShardStart"]

_TICK_S = 0.1

_MOVE_S = 60.0
"""How long a shard that is wanted for a snapshot may be with nobody, as for those who push (``member``)."""

_OBJECTIVE = ("l2", "l2_tensors", "l1", "l1_tensors")
"""Of sandblaster's fields, those that say what is minimised."""

_NAMED = 4
"""Optimiser rows that an error names."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ShardStart:
    """What the shards begin with."""

    stored: snapshot.Snapshot | None
    """Where the run goes on; None: it is a new one."""
    bounds: tuple[int, ...]
    """(shards + 1,) of the shards in the vector."""
    shards: tuple[tuple[Floats, list[Floats], int], ...]
    """Parameters, optimiser rows and clock of each."""


class FirstNode:
    """The first node's own business.

    Args:
        ready: what the run begins with.
        origin: from ``FirstNode.origin``; its vectors belong to the server from now on.
        server: of this node; serves all shards from the beginning.
        reach: address → who answers there.
        notify: called with what a person wants to know.
        iterated: batch methods: called with each iteration, whose point is that of its newest evaluation.
        entropy: source of random bytes.
        disk: where snapshots are.

    Attributes:
        coordinator: decides.
        requests: answers the members.
        ready: with the cutting into blocks of the snapshot, where there is one.
        before: examples that earlier runs used.
    """

    def __init__(
        self,
        job: Job,
        ready: Prepared,
        origin: ShardStart,
        server: ParameterServer,
        reach: Callable[[str], Requests],
        notify: Callable[[Notice], None],
        *,
        iterated: Callable[[Iteration], None],
        entropy: Callable[[int], bytes] = os.urandom,
        disk: Disk = REAL,
    ) -> None:
        self._job, self._reach, self._notify, self._iterated = job, reach, notify, iterated
        self._loop = asyncio.get_running_loop()
        stored, bounds = origin.stored, origin.bounds
        if stored is not None:
            ready = replace(ready, block_replicas=stored.state.block_replicas)
        self.ready = ready
        self._n = len(ready.examples.arrays["x"])
        blocks = Blocks(self._n, job.batch, ready.block_replicas, job.epochs, job.algorithm.batch_blocks)
        self._batches = self._make_batches(job, blocks, stored) if isinstance(job.algorithm, Sandblaster) else None
        if self._batches is not None:
            desk: LeaseDesk = self._batches.desk
        else:
            where = _ledger_state(stored.state, blocks) if stored is not None else LedgerState()
            desk = LeaseDesk(EpochLedger(blocks, job.seed, where))
        self.before = desk.ledger.examples_done
        clocks = [clock for _, _, clock in origin.shards]
        if self._batches is not None:
            # A snapshot may be of a run that ended in the middle of an evaluation. The one that is made again has the
            # same number, and a node that lands at that clock would take it for fetched.
            clocks = [self._batches.desk.ledger.evaluation] * len(clocks)
        for shard, (params, rows, _) in enumerate(origin.shards):
            server.open(shard, params, rows, start=bounds[shard], clock=clocks[shard])
        gate = job.algorithm.choices().gate
        warm = job.algorithm if isinstance(job.algorithm, Downpour) else Downpour()
        terms = Terms(
            job=msgspec.json.encode(job_to_dict(job)),
            base=os.path.abspath(job.base),
            block_replicas=ready.block_replicas,
            spec=ready.network.spec.fingerprint,
            data=ready.digest,
            lease_s=job.cluster.lease_s,
            give_up_s=job.cluster.give_up_s,
            warm_start_examples=warm.warm_start_examples,
            warm_start_s=warm.warm_start_s,
        )
        self.coordinator = Coordinator(
            terms,
            desk,
            bounds=bounds,
            peers=reach,
            clock=self._loop.time,
            log=lambda line: notify(Notice("member", line)),
            first_node=first_node(entropy(4)),
            gate=gate,
            step=origin.shards[0][2],
            still=self._batches.still if self._batches is not None else None,
        )
        self.requests = MemberRequests(self.coordinator)
        names = tuple(row.name for row in job.algorithm.server_rule.state)
        self._meta = snapshot.Meta(Description(job, ready.network, ready.encoding), bounds, names)
        if warm.n_push > 2 * warm.n_fetch:
            notify(Notice("warning", f"n_push = {warm.n_push} is well above n_fetch = {warm.n_fetch}: a push then acts "
                          f"like one step at up to {warm.n_push} times the learning rate"))  # fmt: skip
        self._writer = snapshot.Writer(snapshot.folder_beside(job.save), disk) if job.save else None
        self._writing = asyncio.Lock()
        self._driving: asyncio.Task[None] | None = None
        # Examples and clocks of the newest snapshot, or of the beginning, which needs none.
        self._newest = (self.before, clocks)
        self._fresh, self._finite = stored is None, True
        if stored is not None:
            self.coordinator.snapshot = str(stored.folder)
            for notice in stored.notices:
                notify(notice)
            notify(Notice("snapshot", f"going on from snapshot {stored.folder}: epoch {self.before / self._n:.2f}, "
                          f"{self.before:,} examples"))  # fmt: skip

    @staticmethod
    def origin(job: Job, ready: Prepared, resume: bool, disk: Disk = REAL) -> ShardStart:
        """Return what the shards of a run begin with. Copies the whole model or reads it: call it on a thread.

        Args:
            resume: go on from the newest snapshot beside the job's model file.

        Raises:
            LayoutError: there is none that can be used, or it is of another job.
        """
        stored = FirstNode._stored(job, ready, disk) if resume else None
        params, names = ready.live.arrays["params"], [row.name for row in job.algorithm.server_rule.state]
        bounds = cut(params.size, job.cluster.shard_bytes)
        shards: list[tuple[Floats, list[Floats], int]] = []
        for start, stop in pairwise(bounds):
            own, rows, clock = params[start:stop].copy(), [np.zeros(stop - start, np.float32) for _ in names], 0
            if stored is not None:
                clock = stored.fill(own, dict(zip(names, rows, strict=True)), start=start)
            shards.append((own, rows, clock))
        if job.algorithm.choices().gate.holds:  # the clock counts steps of all shards; a run without a gate had others
            newest = max(clock for _, _, clock in shards)
            shards = [(own, rows, newest) for own, rows, _ in shards]
        return ShardStart(stored, bounds, tuple(shards))

    @staticmethod
    def _stored(job: Job, ready: Prepared, disk: Disk) -> snapshot.Snapshot:
        """Return the newest snapshot, checked."""
        if not job.save:
            raise LayoutError("--resume: run.model is empty, and snapshots lie beside the model file")
        stored = snapshot.read(snapshot.folder_beside(job.save), disk)
        meta, what = stored.meta, f"snapshot {stored.folder}"
        was, wanted = meta.description, Description(job, ready.network, ready.encoding)
        if was.network.spec.fingerprint != ready.network.spec.fingerprint:
            raise LayoutError(f"{what}: of a model {was.network.spec.fingerprint}, the job's layers make "
                              f"{ready.network.spec.fingerprint}")  # fmt: skip
        was.check_same(what, stored.state.n, wanted, len(ready.examples.arrays["x"]))
        rows = {row.name for row in job.algorithm.server_rule.state}
        before, now = was.job.algorithm, job.algorithm
        if set(meta.rows) != rows and isinstance(before, Sandblaster) and isinstance(now, Sandblaster):
            raise LayoutError(f"{what}: of algorithm.memory = {before.memory} and l1 = {before.l1:g}; memory = "
                              f"{now.memory} and l1 = {now.l1:g} need other vectors: set them back, or begin anew "
                              "without --resume")  # fmt: skip
        if set(meta.rows) != rows:
            raise LayoutError(f"{what}: holds optimiser rows {_few(meta.rows)}; the job's optimiser needs {_few(rows)}")
        return stored

    async def run(self) -> None:
        """Tick, and take a snapshot now and then; for ever, ended by the caller.

        The first one of a new run is due as soon as there is something in it: whoever resumes must not go on from what
        an earlier run left beside the model file.
        """
        saved, saving = self._loop.time(), None
        try:
            while True:
                now = self._loop.time()
                self.coordinator.tick(now)
                if self._driving is not None and self._driving.done():
                    self._driving.result()  # a bug, which all members are told of
                if saving is not None and saving.done():
                    saving.result()
                    saving, saved = None, now
                first = self._fresh and self.coordinator.totals.pushes > 0
                if saving is None and (first or now - saved >= self._job.save_every_s):
                    self._fresh = False
                    saving = self._loop.create_task(self.snapshot())
                await asyncio.sleep(_TICK_S)
        finally:
            if saving is not None:
                saving.cancel()
                await asyncio.wait([saving])

    def _make_batches(self, job: Job, blocks: Blocks, stored: snapshot.Snapshot | None) -> LbfgsDriver:
        scheme = job.algorithm
        assert isinstance(scheme, Sandblaster)
        start = None
        if stored is not None and isinstance(before := stored.meta.description.job.algorithm, Sandblaster):
            # Of another objective, value and gradient mean nothing: it begins anew, at the same point.
            changed = {name: (getattr(before, name), getattr(scheme, name)) for name in _OBJECTIVE}
            said = [f"{name} = {a!r}, now {b!r}" for name, (a, b) in changed.items() if a != b]
            start = None if said else stored.state.start
            if said:
                text = f"the objective is another one ({'; '.join(said)}): iterations and evaluations are counted anew"
                self._notify(Notice("warning", text))
        return LbfgsDriver(
            blocks,
            rules(scheme, self.ready.network.spec),
            penalty(scheme, self.ready.network.spec),
            copies=scheme.copies,
            share=scheme.subset,
            seconds=scheme.seconds,
            shard_map=lambda: self.coordinator.map,
            peers=self._reach,
            log=lambda line: self._notify(Notice("member", line)),
            fail=lambda reason: self.coordinator.fail(reason),
            on_iteration=self._told_iteration,
            start=start,
        )

    def _told_iteration(self, iteration: Iteration) -> None:
        text = (f"iteration {iteration.number}: objective {iteration.value:.8g}, largest gradient "
                f"{iteration.gradient:.3g}, step {iteration.step:.3g}")  # fmt: skip
        self._notify(Notice("iteration", text))
        self._iterated(iteration)

    def train(self) -> None:
        """Begin with what the coordinator drives, now that replicas run."""
        if self._batches is not None:
            self._driving = self._loop.create_task(self._batches.run(self.coordinator.home))

    async def settled(self) -> None:
        """Wait until the shards hold what the run came to; raises what went wrong in a batch method: a bug."""
        if self._driving is not None:
            self._batches.desk.end()  # type: ignore[union-attr]
            await self._driving  # no deadline: each of its requests has one

    async def alone(self, patience_s: float) -> None:
        """Wait until all other members that could compute have left or are declared dead, or for ``patience_s``."""
        deadline = self._loop.time() + patience_s
        while self.coordinator.able > 1 and self._loop.time() < deadline:  # noqa: ASYNC110 (members are polled anyway)
            await asyncio.sleep(_TICK_S)

    async def told(self, since: float) -> None:
        """Wait until all other members have heard that the run failed at ``since``, if they are alive."""
        left = since + self._job.cluster.lease_s / 2 - self._loop.time()
        if self.coordinator.nodes > 1 and left > 0:
            await asyncio.sleep(left)  # three heartbeats

    async def snapshot(self) -> None:
        """Write a snapshot of all shards, one after the other, while training goes on; steps that a gate decides wait.

        A disk that does not take it, or numbers that are not finite, are spoken of, and no reason to end the run. None
        is kept that says the same as the one before: that would only push out an older one.

        Raises:
            PeerLost, RequestFailed: a shard cannot be read.
        """
        if self._writer is None:
            return
        # Between two steps of a gate all shards are at one clock, between two iterations they hold the same point.
        # Otherwise nobody ever holds this.
        still = self.coordinator.gatekeeper.still if self._batches is None else self._batches.still
        async with self._writing, still:
            if self._batches is not None and self._batches.desk.failed:
                return
            # Read first: what the ledger calls done is acknowledged, and so in the shards that are read after this.
            ledger, examples = self.coordinator.ledger.state(), self.coordinator.ledger.examples_done
            try:
                await self._on_thread(self._writer.begin, self._meta)
                clocks = await self._write_all()
                if clocks is None or (examples, clocks) == self._newest:
                    await self._on_thread(self._writer.abandon)
                    return
                state = TrainingState(
                    tickets=ledger.next,
                    pending=tuple((ticket, 0) for ticket in ledger.pending),
                    steps=max(clocks),
                    examples=examples,
                    n=self._n,
                    block_replicas=self.ready.block_replicas,
                    start=self._batches.newest.state if self._batches is not None and self._batches.newest else None,
                )
                folder = await self._on_thread(self._writer.commit, state)
            except ResourceError as error:
                self._notify(Notice("warning", str(error)))
                return
            except BaseException:
                self._writer.abandon()
                raise
            self._newest = (examples, clocks)
        self.coordinator.snapshot = str(folder)

    async def _write_all(self) -> list[int] | None:
        """Bring all shards to the disk; return their clocks, or None where one is of no use."""
        clocks = []
        for shard in range(len(self._meta.bounds) - 1):
            clock = await self._write(shard)
            if clock is None:
                return None
            clocks.append(clock)
        return clocks

    async def _write(self, shard: int) -> int | None:
        """Bring one shard to the disk; return its clock, or None where it holds what no run can go on from."""
        assert self._writer is not None
        size, vectors = self._meta.bounds[shard + 1] - self._meta.bounds[shard], 1 + len(self._meta.rows)
        memory = np.empty((vectors, size), np.float32)
        deadline, give_up_s = self._loop.time() + _MOVE_S, self._job.cluster.give_up_s

        def ask(address: str) -> Awaitable[Dumped]:
            into = memoryview(memory).cast("B")
            return self._reach(address).request(Dump(shard, False), into=into, deadline_s=give_up_s)

        async def wait(_: ShardMap) -> None:
            """Wait a moment for a shard that is on its way to somebody else."""
            if self._loop.time() > deadline:
                raise ClusterFailed(f"shard {shard} was not to be found for a snapshot within {_MOVE_S:g} s")
            await asyncio.sleep(_TICK_S)

        answer = await ask_shard(shard, lambda: self.coordinator.map, ask, wait, give_up_s)
        if not await self._on_thread(params_finite, memory.reshape(-1)):
            if self._finite:
                self._notify(Notice("warning", f"shard {shard} holds numbers that are not finite: no snapshot is "
                                    "written of them, the older ones are kept"))  # fmt: skip
            self._finite = False
            return None
        await self._on_thread(self._writer.shard, shard, memory[0], list(memory[1:]), answer.clock)
        return answer.clock

    async def close(self) -> None:
        """End what is under way."""
        if self._driving is not None and not self._driving.done():
            self._driving.cancel()
            await asyncio.wait([self._driving])  # no deadline: a request that is cancelled ends
        await self.coordinator.close()

    async def _on_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        """Run what waits for the disk; when the caller is cancelled, it still ends before the files are left alone."""
        running = self._loop.run_in_executor(None, work, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


def _few(rows: Collection[str]) -> str:
    """Name rows; a batch method may have two hundred."""
    names = sorted(rows)
    rest = f" and {len(names) - _NAMED} others" if len(names) > _NAMED + 1 else ""
    return ", ".join(names[:_NAMED] if rest else names) + rest or "none"


def _ledger_state(state: TrainingState, blocks: Blocks) -> LedgerState:
    """Return where the ledger begins; a run with fewer epochs than before may begin behind its end."""
    return LedgerState(min(state.tickets, blocks.total), tuple(t for t, _ in state.pending if t < blocks.total))
