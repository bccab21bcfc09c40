"""A node's part in a cluster that has begun: it serves shards, leases blocks, pushes and fetches.

``training`` runs the replicas and asks this for the rest. The first node coordinates (``first_node``) and begins with
all shards; a node that joins and listens is given some of them; one that joins and does not listen only computes, and
may be killed at any time. A cluster of one is the same without a socket.

The life of a node in a cluster, each stage with everything that it needs:

    endpoint = Endpoint(...)              await endpoint.open()      listen, join where there is somebody to join
    run = await InCluster.start(...)     serve, become ready, the first fetch
    run.train(...)                        lease, push, fetch; the first node takes snapshots
    await run.wind_down()                 lease nothing any more; replicas end
    await run.finish(...)                 push the rest, wait for the others, fetch the final parameters, leave
    await endpoint.close()                whatever was before

What cannot go on is told through ``endpoint.failed``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from hogpour.algos.exchange.base import Traffic
from hogpour.client.client import ParameterClient
from hogpour.core.errors import ClusterFailed, HogpourError, RequestFailed
from hogpour.core.job import Job
from hogpour.core.shard_map import ShardMap
from hogpour.machine.prepare import Prepared
from hogpour.net.staging import Staging
from hogpour.net.wire.heartbeat import HeartbeatReply
from hogpour.node.backends import Backend
from hogpour.node.first_node import FirstNode
from hogpour.node.joining import STAGING_BYTES, Endpoint, JoinedNode
from hogpour.node.shard_start import ShardStart
from hogpour.server.handover import ShardHost
from hogpour.shm.mailbox import BLOCKS, LANDING, Mailbox
from hogpour.shm.queue import TicketQueue

__all__ = ["InCluster"]


class InCluster(Backend):
    """The part of one node; made by ``start``.

    Args:
        endpoint: open.
        role: of this node; a member that is ready.
        host: of its shards.
        client: pushes and fetches for its replicas.
        queue, mailbox: of its replicas.
        wake: rings the bell of a replica.
        shard_map: the newest that is known.
    """

    keeps_state = False

    def __init__(
        self,
        endpoint: Endpoint,
        role: FirstNode | JoinedNode,
        host: ShardHost,
        client: ParameterClient,
        queue: TicketQueue,
        mailbox: Mailbox,
        wake: Callable[[int], None],
        shard_map: ShardMap,
        ready: Prepared,
    ) -> None:
        super().__init__(ready, endpoint.stats)
        self._endpoint, self._role, self._host, self._client = endpoint, role, host, client
        self._member, self._queue, self._mailbox, self._wake = role.member, queue, mailbox, wake
        self.ending, self.evaluates = (endpoint.failed, endpoint.ended), not endpoint.join
        self._map = shard_map
        self._leases: list[asyncio.Task[None]] = []  # that go on
        self._relocating = False
        endpoint.follow(shard_map)
        endpoint.closing.append(client.close)
        endpoint.heartbeat_hooks.append(self._on_heartbeat)
        endpoint.rejoin_hooks.append(self._on_rejoin)
        self._hold()

    @classmethod
    async def start(
        cls, endpoint: Endpoint, job: Job, ready: Prepared, wake: Callable[[int], None], resume: bool
    ) -> InCluster:
        """Serve what is to be served, become ready, and fetch the parameters; replicas have no orders yet.

        Whatever is raised, ``endpoint`` is to be closed.

        Args:
            wake: rings the bell of a replica.
            resume: the first node goes on from the snapshot beside its model file.

        Raises:
            InputError: the snapshot does not fit the job.
            ClusterFailed: the cluster's model or data are not this node's.
        """
        loop, reach, stats, role = asyncio.get_running_loop(), endpoint.peers.reach, endpoint.stats, endpoint.role
        endpoint.be_patient(job.cluster.connect_s)
        # The server's constructor compiles, which may take seconds.
        host = await loop.run_in_executor(None, ShardHost, job.algorithm, reach)
        stats.server, live = host.server, ready.live.arrays
        stats.all_examples = job.epochs * ready.n
        if not isinstance(role, JoinedNode):
            start = await loop.run_in_executor(None, ShardStart.read, job, ready, resume, endpoint.disk)
            role = endpoint.role = FirstNode(endpoint, job, ready, start, host.server)
            ready, stats.before, stats.coordinator = role.ready, role.before, role.coordinator
            home, requests = role.coordinator.home, role.requests
            endpoint.authority.begin(home, role.coordinator.issuer.key(home))
            endpoint.serve(requests.handlers(), requests.handlers(local=True))
            await role.member.join(endpoint.join_s)
            endpoint.tasks.start(role.member.beat(stats.beat, endpoint.on_heartbeat))
            endpoint.tasks.start(role.run())
        stats.member = member = role.member

        def begin() -> None:
            """Serve as the incarnation that this node is now."""
            assert member.joined is not None
            host.begin(member.node, member.joined.key)
            endpoint.authority.begin(member.node, member.joined.key)

        begin()
        endpoint.rejoin_hooks.append(begin)
        endpoint.serve(host.handlers(), host.handlers())
        host.address = named = endpoint.address if endpoint.join else ""  # in the shard map
        try:
            host.map = shard_map = await endpoint.guard(member.where())
            # Now it may be given shards.
            await endpoint.guard(member.ready(ready.network.spec.fingerprint, ready.identity))
            if isinstance(role, JoinedNode):
                role.begun = True
        except RequestFailed as error:
            endpoint.check_ended(error)
            raise ClusterFailed(f"--join {endpoint.join}: {error}") from error
        # What pulls draws all of a shard together at each fetch.
        accrues = job.algorithm.choices().exchange.traffic is Traffic.ACCRUED
        sparse = accrues and bool(ready.network.spec.by_row)
        stats.link = client = ParameterClient(
            live, job.algorithm.choices(), job.algorithm.replica_rule, ready.blocks(job), shard_map, member,
            reach=reach, own=endpoint.own, own_address=named if named or not endpoint.join else None, wake=wake,
            staging=Staging(STAGING_BYTES), patience_s=role.give_up_s, sparse=sparse,
        )  # fmt: skip
        queue, mailbox = TicketQueue(live["queue"], live["queue_ring"]), Mailbox(live["mailbox"])
        run = cls(endpoint, role, host, client, queue, mailbox, wake, shard_map, ready)
        await endpoint.guard(client.land())
        if endpoint.join:
            await endpoint.guard(member.beat_once(stats.beat, endpoint.on_heartbeat))
            stats.before = member.beaten.examples if member.beaten is not None else 0
        return run

    def train(self, alive: Callable[[], int]) -> None:
        """Lease blocks from now on, push and fetch."""
        self.stats.alive = alive
        works = self._client.path.lease(self._queue, self._wake_all)
        self._leases = [self._endpoint.tasks.start(work) for work in works][-1:]  # what is done is reported to the end
        self._role.train()
        self._endpoint.tasks.start(self._client.broken())

    def idle(self, replica: int) -> bool:
        waits, mailbox = self._mailbox.waits_for(replica), self._mailbox  # what has come it may not see: it is stopped
        landed = mailbox.landed(replica) >= mailbox.wanted()[replica]
        there = (LANDING if landed else 0) | (BLOCKS if len(self._queue) and not mailbox.held(replica) else 0)
        return bool(waits & ~there)

    def poll(self) -> bool:
        self._client.poll()
        if len(self._queue) < len(self._mailbox):
            self._member.look()
        return True

    @property
    def rescue(self) -> str:
        return self._role.rescue

    # -- the end; its order is in ``node``

    async def wind_down(self) -> bool:
        """Give back what replicas have not begun, and let them end when they have finished their blocks."""
        if self._endpoint.failed.done():
            return False
        self._role.stop()
        self._end_leases()
        self._queue.take_all()
        self._queue.close()
        self._wake_all()
        return True

    async def finish(self, *, diverged: bool) -> None:
        self.poll()
        if diverged:
            await self._give_up(HogpourError("the loss is not finite any more"), everywhere=True)
        else:
            await self._finish()

    async def give_up(self, error: HogpourError) -> None:
        await self._give_up(error, everywhere=False)

    async def _give_up(self, error: HogpourError, *, everywhere: bool) -> None:
        """Let the others know that this node cannot go on: all end with the first one; another one leaves, alone or,
        where nobody can go on, with a reason to end everywhere."""
        if not self._role.fail(error) and not self._endpoint.failed.done():
            with suppress(ClusterFailed):  # then the others find out
                await self._finish(str(error) if everywhere else "")

    async def _finish(self, reason: str = "") -> None:
        """Push and report the rest, wait for the others, take the last snapshot, fetch the final parameters, leave.

        Args:
            reason: why nobody can go on; empty where the others can.
        """
        guard = self._endpoint.guard
        self._end_leases()
        self._client.mark_all_absent()
        try:
            await guard(self._client.drain())
            await guard(self._member.report())
            self._role.tick()
            await guard(self._member.beat_once(self.stats.beat, self._endpoint.on_heartbeat))
            await self._role.conclude(guard)
            await guard(self._relocate())
            await guard(self._client.land())
            await self._role.leave(guard, reason, self._client.path.evaluation is not None)
        except RequestFailed as error:
            raise ClusterFailed(str(error)) from error

    # -- small parts --------------------------------------------------------------------------------------------------

    def _end_leases(self) -> None:
        for task in self._leases:
            task.cancel()

    def _on_heartbeat(self, reply: HeartbeatReply) -> None:
        """Take in what the coordinator answered to a heartbeat."""
        self._hold()
        if 0 < reply.pace <= 1:
            self._mailbox.set_pace(reply.pace)
        if reply.map_epoch > self._map.epoch and not self._relocating:
            self._relocating = True
            self._endpoint.tasks.start(self._relocate())

    async def _relocate(self) -> None:
        """Learn who serves what, free the shards that others have, and wait no longer for those who have none now."""
        try:
            shard_map = await self._member.where()
        finally:
            self._relocating = False
        before = self._map
        if shard_map.epoch <= before.epoch:  # another one of these was faster
            return
        self._map = shard_map
        for follower in (self._endpoint, self._client, self._host):
            follower.follow(shard_map)
        # They may have gone, and then nobody there would ever say that a shard has moved.
        await self._endpoint.peers.forget(dict.fromkeys(a for a in before.addresses if a not in shard_map.addresses))

    def _hold(self) -> None:
        """In a warm start one replica of the cluster computes: the first one of the first node."""
        for replica in range(1, len(self._mailbox)):
            if self._mailbox.held(replica) != self._role.warming:
                self._mailbox.hold(replica, self._role.warming)
                self._wake(replica)

    def _on_rejoin(self) -> None:
        """This node is a new incarnation."""
        self.stats.begin_again()
        self._queue.take_all()
        self._client.drop_pushes()

    def _wake_all(self) -> None:
        for replica in range(len(self._mailbox)):
            if self._mailbox.waits_for(replica):
                self._wake(replica)
