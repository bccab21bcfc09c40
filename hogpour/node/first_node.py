"""What the first node of a cluster does besides: it begins with all shards, coordinates and takes snapshots.

Made from a job and its prepared segments; otherwise an ``InCluster`` treats the first node like any other.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import msgspec

from hogpour.algos.lbfgs.commands import Iteration
from hogpour.algos.schemes.downpour import Downpour
from hogpour.algos.schemes.sandblaster import Sandblaster, penalty, rules
from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.cluster.coordinator import Coordinator, Terms
from hogpour.cluster.evaluations import LbfgsDriver
from hogpour.cluster.lease_desk import LeaseDesk
from hogpour.cluster.leases import EpochLedger
from hogpour.cluster.member_requests import MemberRequests
from hogpour.core.errors import HogpourError
from hogpour.core.job import Job, job_to_dict
from hogpour.core.node_id import first_node
from hogpour.core.progress import Notice
from hogpour.core.text import encodable
from hogpour.data.blocks import Blocks
from hogpour.machine.prepare import Prepared
from hogpour.net.watch import Patience
from hogpour.node.joining import Endpoint
from hogpour.node.role import Guard, Role
from hogpour.node.shard_start import ShardStart
from hogpour.node.snapshots import Snapshots
from hogpour.server.server import ParameterServer

__all__ = ["FirstNode"]

_TICK_S = 0.1

_OTHERS_S = 10.0
"""How long the first node waits at the end for the others to take their leave; ``give_up_s``, where that is longer."""

_LATE_S = 1.0
"""For those who wait to join a run that turns out to be finished: four of their tries."""


class FirstNode(Role):
    """The first node's own business.

    Args:
        endpoint: of this node; its ``stats`` are told each iteration of a batch method, whose point is that of its
            newest evaluation.
        ready: what the run begins with.
        start: what the shards begin with; its vectors belong to the server from now on.
        server: of this node; serves all shards from the beginning.

    Attributes:
        coordinator: decides.
        requests: answers the members.
        member: this node as one of them.
        ready: with the cutting into blocks of the snapshot, where there is one.
        before: examples that earlier runs used.
        snapshots: of this run.
        give_up_s: how long a node may not answer.
    """

    def __init__(
        self, endpoint: Endpoint, job: Job, ready: Prepared, start: ShardStart, server: ParameterServer
    ) -> None:
        self._reach, self._notify, self._stats = endpoint.peers.reach, endpoint.notify, endpoint.stats
        self._endpoint = endpoint
        self._lease_s, self.give_up_s = job.cluster.lease_s, job.cluster.give_up_s
        self._loop = asyncio.get_running_loop()
        if start.stored is not None:
            ready = replace(ready, block_replicas=start.stored.state.block_replicas)
        self.ready, blocks = ready, ready.blocks(job)
        clocks = [clock for _, _, clock in start.shards]
        self._driver: LbfgsDriver | None = None
        if isinstance(job.algorithm, Sandblaster):
            self._driver = self._make_driver(job.algorithm, blocks, start)
            desk: LeaseDesk = self._driver.desk
            # A snapshot may be of a run that ended in the middle of an evaluation. The one that is made again has the
            # same number, and a node that lands at that clock would take it for fetched.
            clocks = [self._driver.desk.ledger.evaluation] * len(clocks)
        else:
            desk = LeaseDesk(EpochLedger(blocks, job.seed, start.ledger(blocks)))
        self.before, self._over = desk.ledger.examples_done, desk.ledger.finished
        for shard, (params, rows, _) in enumerate(start.shards):
            server.table.open(shard, params, rows, start=start.bounds[shard], clock=clocks[shard])
        warm = job.algorithm if isinstance(job.algorithm, Downpour) else Downpour()
        terms = Terms(
            job=msgspec.json.encode(job_to_dict(job)), base=encodable(os.path.abspath(job.base)),
            block_replicas=ready.block_replicas, spec=ready.network.spec.fingerprint, data=ready.identity,
            lease_s=job.cluster.lease_s, give_up_s=job.cluster.give_up_s, warm_start_examples=warm.warm_start_examples,
            warm_start_s=warm.warm_start_s, stall_s=job.cluster.stall_s, wait_for=job.cluster.wait_for,
            wait_for_s=job.cluster.wait_for_s,
        )  # fmt: skip
        self.coordinator = Coordinator(
            terms, desk, bounds=start.bounds, peers=self._reach, clock=self._loop.time, log=self._log,
            first_node=first_node(endpoint.entropy(4)), secret=endpoint.entropy(32), identify=endpoint.peers.identify,
            gate=job.algorithm.choices().gate, step=start.shards[0][2],
            still=self._driver.still if self._driver is not None else None,
        )  # fmt: skip
        self.requests = MemberRequests(self.coordinator)
        self.member = CoordinatorClient(
            self._reach(""), endpoint.name, endpoint.address, endpoint.address, endpoint.peers.identify
        )
        if warm.n_push > 2 * warm.n_fetch:
            text = (f"n_push = {warm.n_push} is well above n_fetch = {warm.n_fetch}: a push then acts like one step at "
                    f"up to {warm.n_push} times the learning rate")  # fmt: skip
            self._notify(Notice("warning", text))
        self.snapshots = Snapshots(
            endpoint, job, ready, self.coordinator, self._driver, clocks=clocks, before=start.stored
        )
        self._driving: asyncio.Task[None] | None = None
        self._trains = False
        self._failed_at: float | None = None
        if (stored := start.stored) is not None:
            self.coordinator.snapshot = str(stored.folder)
            for notice in stored.notices:
                self._notify(notice)
            of = f" of run {stored.meta.run}" if stored.meta.run else ""
            self._notify(Notice("snapshot", f"going on from snapshot {stored.folder}{of}: epoch "
                                f"{self.before / ready.n:.2f}, {self.before:,} examples"))  # fmt: skip

    async def run(self) -> None:
        """Tick, and take a snapshot now and then; for ever, ended by the caller."""
        try:
            while True:
                now = self._loop.time()
                self.coordinator.tick(now)
                self._drive()
                if self._driving is not None and self._driving.done():
                    self._driving.result()  # a bug, which all members are told of
                self.snapshots.tick(now)
                await asyncio.sleep(_TICK_S)
        finally:
            await self.snapshots.close()

    @property
    def warming(self) -> bool:
        beaten = self.member.beaten
        return self.coordinator.warm_start.active if beaten is None else beaten.warming

    def train(self) -> None:
        self._trains = True
        self._drive()

    def _drive(self) -> None:
        """Begin with L-BFGS, where that is the method, when all are there who are waited for."""
        if self._driver is not None and self._driving is None and self._trains and not self.coordinator.muster.waiting:
            self._driving = self._loop.create_task(self._driver.run(self.coordinator.home))

    def tick(self) -> None:
        self.coordinator.tick(self._loop.time())

    def stop(self) -> None:
        self.tick()  # it may be finished, since a moment ago
        self.coordinator.stop("the first node was asked to stop")

    def fail(self, error: HogpourError) -> bool:
        self.coordinator.fail(f"the first node cannot go on: {error}")
        self._failed_at = self._loop.time()
        return True

    async def conclude(self, guard: Guard) -> None:
        await guard(self._wait_for_driver())
        await guard(self._wait_for_others())
        await guard(self.snapshots.take())

    async def part(self) -> None:
        """Wait until all other members have heard that the run failed, if it did and they are alive."""
        if self._failed_at is not None:
            left = self._failed_at + self._lease_s / 2 - self._loop.time()
            if len(self.coordinator.members) > 1 and left > 0:
                await asyncio.sleep(left)  # three heartbeats

    async def close(self) -> None:
        if self._driving is not None and not self._driving.done():
            self._driving.cancel()
            await asyncio.wait([self._driving])  # no deadline: a request that is cancelled ends
        await self.coordinator.close()

    async def _wait_for_driver(self) -> None:
        """Wait until the shards hold what the run came to; raises what went wrong in a batch method: a bug."""
        if self._driver is not None and self._driving is not None:
            self._driver.desk.end()
            await self._driving  # no deadline: each of its requests has one

    async def _wait_for_others(self) -> None:
        """Wait until all other members have left or are declared dead: those that read their data still hear that it is
        over, and so do those that come while a run that was finished before is over at once."""
        if self._over:
            await asyncio.sleep(_LATE_S)
        patience: Patience | None = None
        while len(self.coordinator.members) > 1:  # members are polled anyway
            if patience is None or self._endpoint.transferring:  # what they push and fetch may take any time
                patience = Patience(max(_OTHERS_S, self.give_up_s), self._loop.time())
            if patience.over(self._loop.time()):
                return
            await asyncio.sleep(_TICK_S)

    def _make_driver(self, scheme: Sandblaster, blocks: Blocks, start: ShardStart) -> LbfgsDriver:
        point, said = start.resume_point(scheme)
        if said:
            text = f"the objective is another one ({'; '.join(said)}): iterations and evaluations are counted anew"
            self._notify(Notice("warning", text))
        return LbfgsDriver(
            blocks, rules(scheme, self.ready.network.spec), penalty(scheme, self.ready.network.spec),
            copies=scheme.copies, share=scheme.subset, seconds=scheme.seconds, shard_map=lambda: self.coordinator.map,
            peers=self._reach, log=self._log, fail=lambda reason: self.coordinator.fail(reason),
            on_iteration=self._on_iteration, start=point,
        )  # fmt: skip

    def _on_iteration(self, iteration: Iteration) -> None:
        text = (f"iteration {iteration.number}: objective {iteration.value:.8g}, largest gradient "
                f"{iteration.gradient:.3g}, step {iteration.step:.3g}")  # fmt: skip
        self._notify(Notice("iteration", text))
        self._stats.on_iteration(iteration)

    def _log(self, line: str) -> None:
        self._notify(Notice("member", line))
