"""A node's part in a cluster: what listens, serves shards, is a member, pushes and fetches, and perhaps coordinates.

``training`` runs the replicas and asks this for the rest. The first node coordinates (``founding``) and begins with
all shards; a node that joins and listens is given some of them; one that joins and does not listen only computes, and
may be killed at any time. A cluster of one is the same without a socket.

The life of it: ``open`` (listen, join) → ``begin`` (serve, become ready, the first fetch) → ``train`` (lease, push,
fetch, take snapshots) → ``wind_down`` → ``finish`` → ``close``. What cannot go on is told through ``failed``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from hogpour.client.client import ParameterClient
from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.core.cluster_state import ShardState
from hogpour.core.errors import ClusterFailed, ConfigError, HogpourError, PeerLost, Refusal, RequestFailed
from hogpour.core.job import Job, job_from
from hogpour.core.node_id import MOST_MEMBERS, display_id
from hogpour.core.progress import Notice
from hogpour.core.shard_map import LARGEST_SHARD_BYTES
from hogpour.data.blocks import Blocks
from hogpour.machine.prepare import Prepared
from hogpour.model.disk import REAL, Disk
from hogpour.net import address as addresses
from hogpour.net.listener import Listener
from hogpour.net.loopback import Loopback
from hogpour.net.peer import Peer
from hogpour.net.peers import PeerPool
from hogpour.net.requests import Handler, Reply
from hogpour.net.staging import Staging
from hogpour.net.token import check_address
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.dump import Dump
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.gate import Arrive, Attend, Commit
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.held import Held
from hogpour.net.wire.join import Join, Joined, Leave, Ready
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.operate import Operate, Sum
from hogpour.net.wire.push import Push
from hogpour.net.wire.status import Fence
from hogpour.net.wire.where import Where
from hogpour.node.first_node import FirstNode
from hogpour.node.run_stats import RunStats
from hogpour.server.handover import ShardHost
from hogpour.shm.clocks import Clocks
from hogpour.shm.mailbox import Mailbox
from hogpour.shm.queue import TicketQueue

__all__ = ["ClusterRun"]

_STAGING_BYTES = 32 << 20
"""For pushes that arrive and, apart, for fetches that land; more only where one shard needs it."""

_LEAVE_S = 1.0
"""For the leave of a node that cannot go on; one whose first node is gone waits in vain."""

_CONNECTIONS = 2 * MOST_MEMBERS + 64
"""To one node: every member has one for its heartbeats and one for parameters; and somebody may ask for the status."""

_OTHERS_S = 10.0
"""How long the first node waits at the end for the others to take their leave, at most."""


class ClusterRun:
    """The part of one node.

    Args:
        listen: host:port; empty: no port is opened.
        join: host:port of the first node; empty: this one is.
        token: of the cluster.
        insecure: other machines may connect although there is no token.
        join_s: how long the first node may take to answer at the beginning.
        notify: called with what a person wants to know.
        name: of this node, for people; empty: the host's and the process's.
        entropy: source of random bytes, for the proofs of the token and the number of the first incarnation.
        disk: where snapshots are.

    Attributes:
        address: where this node listens; empty where it does not.
        joined: the job and the rules of the cluster; None on the first node before ``begin``.
        stats: what was done, as far as this node has heard.
        failed: gets an exception when the cluster cannot go on.
        ended: done when the cluster has nothing left to do, or stops.
    """

    def __init__(
        self,
        *,
        listen: str,
        join: str,
        token: bytes,
        insecure: bool,
        join_s: float,
        notify: Callable[[Notice], None],
        name: str = "",
        entropy: Callable[[int], bytes] = os.urandom,
        disk: Disk = REAL,
    ) -> None:
        self._insecure, self._entropy, self._disk = insecure, entropy, disk
        self._listen, self._join, self._token, self._join_s, self._notify = listen, join, token, join_s, notify
        self._loop = asyncio.get_running_loop()
        self._name = name or f"{os.uname().nodename} process {os.getpid()}"
        self._handlers: dict[type[Message], Handler] = dict(_BEFORE)  # of others' requests
        self._own: dict[type[Message], Handler] = {}  # of this node's to itself
        self._neighbours = PeerPool(Loopback(self._own), join, token, entropy)
        self._listener: Listener | None = None
        self._control: Peer | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}  # in the order of their beginning
        self.stats = RunStats()
        self._serving: ShardHost | None = None
        self._member: CoordinatorClient | None = None
        self._link: ParameterClient | None = None
        self._founding: FirstNode | None = None
        self._model = ""  # the first node's model file
        self._leasing: asyncio.Task[None] | None = None
        self._relocating = self._left = False
        self._failed_at: float | None = None
        self.address = ""
        self.joined: Joined | None = None
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    @property
    def first(self) -> bool:
        """Whether this node coordinates."""
        return not self._join

    # -- the beginning ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listen, and join where there is somebody to join.

        Raises:
            ResourceError: the address cannot be listened on.
            ClusterFailed: nobody answers there, or does not want this node.
        """
        if self._listen:
            host, port = addresses.split(self._listen)
            check_address(host, bool(self._token), self._insecure)
            if self._join and host in ("0.0.0.0", "::"):
                raise ConfigError(f"--listen {self._listen}: others are told this address; name one that they reach")
            staging = Staging(_STAGING_BYTES)
            self._listener = Listener(
                self._handlers,
                self._token,
                staging=staging,
                payload_limit=LARGEST_SHARD_BYTES,
                log=self._log,
                max_connections=_CONNECTIONS,
                nonce=self._entropy,
            )
            await self._listener.start(host, port)
            self.address = self._neighbours.address = self._listener.address
            self._notify(Notice("listening", f"listening on {self.address}"))
        if self._join:
            # Apart from the parameters: behind a large push on a slow network, a heartbeat would come too late.
            self._control = Peer(self._join, self._token, nonce=self._entropy)
            self._member = CoordinatorClient(self._control, self._name, self.address, self._join)
            self._notify(Notice("joining", f"joining {self._join}"))
            try:
                self.joined = await self._member.join(self._join_s)
            except (PeerLost, RequestFailed) as error:
                raise ClusterFailed(f"--join {self._join}: {error}") from error
            self._notify(Notice("joined", f"joined {self._join} as node {display_id(self.joined.node)}"))
            self._spawn(self._member.beat(self.stats.beat, self._heard))
            self._spawn(self._member.rejoin(self._join_again))

    def job(self, changes: Mapping[str, Any]) -> Job:
        """Return the job of the cluster that was joined, with what is another here.

        Raises:
            ConfigError: it names a layer or loss that cannot be imported here, or its data have no name.
        """
        assert self.joined is not None
        tables = msgspec.json.decode(self.joined.job)
        if not tables.get("data") and "data" not in changes:  # they were given loaded
            raise ConfigError(f"--join {self._join}: the first node's data have no name here; give "
                              "changes={'data': ...} to Node(join=...)")  # fmt: skip
        job = job_from(tables, f"the job of {self._join}")
        self._model = job.save
        return replace(job, **{"base": self.joined.base, "save": "", **changes})

    async def begin(self, job: Job, ready: Prepared, wake: Callable[[int], None], resume: bool) -> Prepared:
        """Serve what is to be served, become ready, and fetch the parameters; replicas have no orders yet.

        Args:
            wake: rings the bell of a replica.
            resume: the first node goes on from the snapshot beside its model file.

        Returns:
            ``ready``, with what the snapshot says where there is one.

        Raises:
            InputError: the snapshot does not fit the job.
            ClusterFailed: the cluster's model or data are not this node's.
        """
        # The server's constructor compiles, which may take seconds.
        reach = self._neighbours.reach
        self._serving = await self._loop.run_in_executor(None, ShardHost, job.algorithm, reach)
        live = ready.live.arrays
        self.stats.all_examples = job.epochs * len(ready.examples.arrays["x"])
        if self.first:
            origin = await self._loop.run_in_executor(None, FirstNode.origin, job, ready, resume, self._disk)
            self._founding = FirstNode(
                job, ready, origin, self._serving.server, reach, self._notify, iterated=self.stats.on_iteration,
                entropy=self._entropy, disk=self._disk,
            )  # fmt: skip
            ready, self.stats.before = self._founding.ready, self._founding.before
            self.stats.coordinator = self._founding.coordinator
            self._handlers |= self._founding.requests.handlers()
            self._own |= self._founding.requests.handlers(local=True)
            self._member = CoordinatorClient(reach(""), self._name, self.address, self.address)
            self.joined = await self._member.join(self._join_s)
            self._spawn(self._member.beat(self.stats.beat, self._heard))
            self._spawn(self._founding.run())
        self._handlers |= self._serving.handlers()
        self._own |= self._serving.handlers()
        member, joined = self._member, self.joined
        assert member is not None
        assert joined is not None
        self.stats.member, self.stats.clocks = member, Clocks(live["counters"], live["sums"])
        self.stats.reached = self.stats.params = live["params"]
        self._queue, self._mailbox = TicketQueue(live["queue"], live["queue_ring"]), Mailbox(live["mailbox"])
        self._replicas = len(live["mailbox"])
        named = "" if self.first else self.address  # in the shard map
        self._serving.begin(member.node)
        self._serving.address = named
        try:
            shard_map = await self._guard(member.where())
            self._map = self._serving.map = shard_map
            await self._guard(member.ready(ready.network.spec.fingerprint, ready.digest))  # now it may be given shards
        except RequestFailed as error:
            raise ClusterFailed(f"--join {self._join}: {error}") from error
        self._link = ParameterClient(
            live,
            job.algorithm.choices(),
            job.algorithm.replica_rule,
            Blocks(len(ready.examples.arrays["x"]), job.batch, 1, job.epochs, job.algorithm.batch_blocks),
            shard_map,
            member,
            reach=reach,
            own=self._own,
            own_address=named if self.first or named else None,
            wake=wake,
            staging=Staging(_STAGING_BYTES),
            patience_s=joined.give_up_s,
        )
        self._wake, self.stats.link = wake, self._link
        self._hold()
        await self._guard(self._link.land())
        if not self.first:
            await self._guard(member.beat_once(self.stats.beat, self._heard))
            self.stats.before = member.beaten.examples if member.beaten is not None else 0
        return ready

    # -- training -----------------------------------------------------------------------------------------------------

    def train(self, alive: Callable[[], int]) -> None:
        """Lease portions from now on, push and fetch.

        Args:
            alive: how many replica processes run.
        """
        assert self._member is not None
        assert self._link is not None
        self.stats.alive = alive
        *others, leasing = self._link.lease(self._queue, self._wake_all)
        for work in others:
            self._spawn(work)
        self._leasing = self._spawn(leasing)
        if self._founding is not None:
            self._founding.train()
        self._spawn(self._link.broken())

    def waits(self, replica: int) -> bool:
        """Whether a replica waits for the link, for parameters or for blocks."""
        return bool(self._mailbox.waits_for(replica))

    def poll(self) -> None:
        """Look at what the replicas sealed, finished and ask for; called when one rang."""
        assert self._link is not None
        assert self._member is not None
        self._link.poll()
        if len(self._queue) < self._replicas:
            self._member.look()

    @property
    def shards(self) -> tuple[ShardState, ...]:
        """How the shards are that this node serves."""
        return self._serving.server.states() if self._serving is not None else ()

    @property
    def past_shards(self) -> tuple[ShardState, ...]:
        """How the shards were that this node has served and others have now."""
        return self._serving.server.past_states() if self._serving is not None else ()

    @property
    def rescue(self) -> str:
        """Name of the file for what this node holds, where the first node, which has one, is gone; else empty."""
        beaten = self._member.beaten if self._member is not None else None
        if self.first or not self._model or (beaten is not None and beaten.command == "fail"):
            return ""
        assert self._member is not None
        place = Path(self._model)
        return f"{place.stem}.node-{display_id(self._member.node)}{place.suffix}"

    # -- the end ------------------------------------------------------------------------------------------------------

    async def wind_down(self) -> None:
        """Give back what replicas have not begun, and let them end when they have finished their blocks."""
        if self._founding is not None:
            self._founding.coordinator.tick(self._loop.time())  # it may be finished, since a moment ago
            self._founding.coordinator.stop("the first node was asked to stop")
        if self._leasing is not None:
            self._leasing.cancel()
        self._queue.take_all()
        self._queue.close()
        self._wake_all()

    async def finish(self, reason: str = "") -> None:
        """Push and report the rest, wait for the others, take the last snapshot, fetch the final parameters, leave.

        Called when all replicas have ended. Raises ClusterFailed where that cannot be done.

        Args:
            reason: why nobody can go on; empty where the others can.
        """
        try:
            await self._finish(reason)
        except RequestFailed as error:
            raise ClusterFailed(str(error)) from error

    async def give_up(self, error: HogpourError, everywhere: bool = False) -> None:
        """Let the others know that this node cannot go on: all end with the first one; another one leaves.

        Args:
            everywhere: nobody can go on.
        """
        if self._founding is not None:
            self._founding.coordinator.fail(f"the first node cannot go on: {error}")
            self._failed_at = self._loop.time()
        elif not self.failed.done():
            with suppress(ClusterFailed):  # then the others find out
                await self.finish(str(error) if everywhere else "")

    async def _finish(self, reason: str) -> None:
        assert self._link is not None
        assert self._member is not None
        if self._leasing is not None:
            self._leasing.cancel()
        self._link.mark_all_absent()
        await self._guard(self._link.drain())
        await self._guard(self._member.report())
        if self._founding is not None:
            self._founding.coordinator.tick(self._loop.time())
        await self._guard(self._member.beat_once(self.stats.beat, self._heard))
        if self._founding is not None:
            await self._guard(self._founding.settled())
            await self._guard(self._founding.alone(_OTHERS_S))
            await self._guard(self._founding.snapshot())
        await self._guard(self._relocate())
        await self._guard(self._link.land())
        if self._founding is None:
            await self._guard(self._member.leave(reason, again=self._link.path.evaluation is not None))
            self._left = True

    async def close(self) -> None:
        """End everything at once; nothing is left open. What failed on the first node is told before."""
        if self._failed_at is not None:
            assert self._founding is not None
            await self._founding.told(self._failed_at)
        if self._join and self.joined is not None and not self._left:
            with suppress(HogpourError, TimeoutError):  # then it is missed when its lease ends
                async with asyncio.timeout(_LEAVE_S):
                    assert self._member is not None
                    await self._member.leave()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._link is not None:
            await self._link.close()
        if self._listener is not None:
            await self._listener.drain(0.5)
        if self._founding is not None:
            await self._founding.close()
        await self._neighbours.close()
        if self._control is not None:
            await self._control.close()
        for future in (self.failed, self.ended):
            if not future.cancel() and not future.cancelled():
                future.exception()  # whoever could be told was told

    # -- small parts --------------------------------------------------------------------------------------------------

    def _heard(self, beaten: HeartbeatReply) -> None:
        """Take in what the coordinator answered to a heartbeat."""
        if beaten.command == "fail" and not self.failed.done():
            self.failed.set_exception(ClusterFailed(beaten.reason))
        elif beaten.command != "run" and not self.ended.done():
            self.ended.set_result(None)
        self._hold()
        if self._link is not None and 0 < beaten.pace <= 1:
            self._mailbox.set_pace(beaten.pace)
        if self._link is not None and beaten.map_epoch > self._map.epoch and not self._relocating:
            self._relocating = True
            self._spawn(self._relocate())

    async def _relocate(self) -> None:
        """Learn who serves what, free the shards that others have, and wait no longer for those who have none now."""
        assert self._member is not None
        assert self._serving is not None
        assert self._link is not None
        try:
            shard_map = await self._member.where()
        finally:
            self._relocating = False
        before = self._map
        if shard_map.epoch <= before.epoch:  # another one of these was faster
            return
        self._map = shard_map
        self._link.follow(self._map)
        self._serving.follow(self._map)
        # They may have gone, and then nobody there would ever say that a shard has moved.
        await self._neighbours.forget(dict.fromkeys(a for a in before.addresses if a not in self._map.addresses))

    def _hold(self) -> None:
        """In a warm start one replica of the cluster computes: the first one of the first node."""
        beaten = self._member.beaten if self._member is not None else None
        if self._link is None or self._founding is None:
            return
        warming = self._founding.coordinator.warming if beaten is None else beaten.warming
        for replica in range(1, self._replicas):
            if self._mailbox.held(replica) != warming:
                self._mailbox.hold(replica, warming)
                self._wake(replica)

    def _join_again(self) -> None:
        """The old incarnation is dead: what it held is others', what it did is counted."""
        assert self._member is not None
        self._notify(Notice("warning", "was out of reach for longer than its lease; joined again as node "
                            f"{display_id(self._member.node)}, its unfinished portions are others' now"))  # fmt: skip
        if self._serving is not None:
            self._serving.begin(self._member.node)
        if self._link is not None:
            self.stats.begin_again()
            self._queue.take_all()
            self._link.drop_pushes()

    def _wake_all(self) -> None:
        for replica in range(self._replicas):
            if self._mailbox.waits_for(replica):
                self._wake(replica)

    async def _guard(self, work: Awaitable[Any]) -> Any:
        """Wait for something, unless the cluster fails meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task, self.failed], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.failed.result()
            return task.result()
        except PeerLost as error:
            raise self._failure(error) from error
        finally:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled() or (error := task.exception()) is None or self.failed.done():
            return
        if isinstance(error, HogpourError) and not isinstance(error, ClusterFailed):
            failure = self._failure(error)
            failure.__cause__ = error
            error = failure
        self.failed.set_exception(error)

    def _failure(self, error: HogpourError) -> ClusterFailed:
        """Say who it is that does not answer at an address."""
        for shard, address in enumerate(self._map.addresses if self._link is not None else ()):
            if isinstance(error, PeerLost) and error.address == (address or self._join):
                owner = display_id(self._map.owners[shard])
                who = f"node {owner}, which serves shards," if address else "the first node"
                return ClusterFailed(f"{who} does not answer: {error}")
        return ClusterFailed(str(error))

    def _log(self, line: str) -> None:
        self._notify(Notice("warning", line))


def _not_yet(*_: object) -> NoReturn:
    raise RequestFailed(Refusal.BUSY, "the first node still reads its data")


def _nothing_here(message: Message, *_: object) -> NoReturn:
    """Answer for a node that served here before, and died or left: whoever asks learns from the coordinator what is so.

    As for a message that nobody here knows, the asker would have ended its run.
    """
    raise RequestFailed(Refusal.MOVED, f"{type(message).__name__}: this node serves nothing yet")


def _nobody_known(message: Message) -> NoReturn:
    """Answer for a first node that was started anew, to members of its former life: they join again, and hear so."""
    raise RequestFailed(Refusal.FENCED, "this node has no members yet: it must be joined again")


def _agreed(message: Message) -> Reply[Ok]:
    """A node without shards applies nothing of anybody, and is told of the dead again when it is given some; whoever
    leaves a node without members has left."""
    return Reply(Ok())


_BEFORE: Mapping[type[Message], Handler] = {
    Join: _not_yet,
    Push: _nothing_here,
    Fetch: _nothing_here,
    Dump: _nothing_here,
    Held: _nothing_here,
    Commit: _nothing_here,
    Operate: _nothing_here,
    Sum: _nothing_here,
    Fence: _agreed,
    Leave: _agreed,
    Heartbeat: _nobody_known,
    Lease: _nobody_known,
    Attend: _nobody_known,
    Arrive: _nobody_known,
    Ready: _nobody_known,
    Where: _nobody_known,
}
"""What a node answers before it has begun."""
