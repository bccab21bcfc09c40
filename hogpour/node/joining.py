"""A node's end of its cluster: the port where it listens, its connections, and its joining of others.

What a node is in the cluster besides is its ``Role``: a ``JoinedNode`` from when it has joined, a ``FirstNode``
(``first_node``) from when it has begun.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hogpour import __version__
from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.core.errors import ClusterFailed, ConfigError, HogpourError, PeerLost, Refusal, RequestFailed, Stopped
from hogpour.core.job import DataConfig, Job, job_from
from hogpour.core.node_id import MOST_MEMBERS, display_id
from hogpour.core.progress import Notice
from hogpour.core.registry import Modules
from hogpour.core.shard_map import LARGEST_SHARD_BYTES, ShardMap
from hogpour.core.text import printable
from hogpour.model.disk import REAL, Disk
from hogpour.net import address as addresses
from hogpour.net.authority import Authority
from hogpour.net.json_text import read_json
from hogpour.net.listener import Listener
from hogpour.net.loopback import Loopback
from hogpour.net.peers import PeerPool
from hogpour.net.port import typed_elsewhere
from hogpour.net.requests import Handler, Reply
from hogpour.net.staging import Staging
from hogpour.net.tasks import TaskSet
from hogpour.net.token import check_address
from hogpour.net.transport import loopback_of
from hogpour.net.wire import answers
from hogpour.net.wire.base import Before, Message, Ok
from hogpour.net.wire.heartbeat import HeartbeatReply
from hogpour.net.wire.join import Joined
from hogpour.node.job_files import files_of, kept_below
from hogpour.node.role import Guard, Role
from hogpour.node.run_stats import RunStats
from hogpour.node.silence import FirstNodeWatch

__all__ = ["BEFORE", "CONNECTIONS", "STAGING_BYTES", "Endpoint", "JoinedNode"]

STAGING_BYTES = 32 << 20
"""For pushes that arrive and, apart, for fetches that land; more only where one shard needs it."""

_LEAVE_S = 1.0
"""For the leave of a node that cannot go on; one whose first node is gone waits in vain."""

_LATE = "the run ended before this node was ready"

_CONNECT_S = 1.0
"""For a round trip while a connection is made, before the job of the cluster is known; at least."""

CONNECTIONS = 2 * MOST_MEMBERS + 64
"""To one node: every member has one for its heartbeats and one for parameters; and somebody may ask for the status."""

_T = TypeVar("_T")

class JoinedNode(Role):
    """A member of somebody else's cluster.

    Args:
        member: has joined.
        joined: the job and the rules of the cluster.
        first: host:port of the first node.
        notify: called with what a person wants to know.

    Attributes:
        silence: speaks of that of the first node.
        begun: it has said that it has the data and the model.
    """

    def __init__(
        self, member: CoordinatorClient, joined: Joined, first: str, notify: Callable[[Notice], None]
    ) -> None:
        self.silence = FirstNodeWatch(first, joined.lease_s, joined.give_up_s, notify)
        self.member, self.block_replicas, self.give_up_s = member, joined.block_replicas, joined.give_up_s
        self._joined, self._first = joined, first
        self._model = ""  # the first node's model file
        self.begun = self._left = False

    def job(self, changes: Mapping[str, Any], modules: Modules = ()) -> Job:
        """Return the job of the cluster, with what is another here.

        Args:
            changes: a ``base`` is the folder that its data are below, wherever the first node has them.
            modules: that it may have imported.

        Raises:
            ConfigError: it names code that may not or cannot be imported here, its data have no name, or they are not
                below ``base``.
            RemoteProtocolError: it is no job.
        """
        tables = read_json(self._joined.job, dict[str, Any], f"the job of {self._first}")
        if not tables.get("data") and "data" not in changes:  # they were given loaded
            raise ConfigError(f"--join {self._first}: the first node's data have no name here; give "
                              "changes={'data': ...} to Node(join=...)")  # fmt: skip
        job = job_from(tables, f"the job of {self._first}", modules)
        self._model = job.save
        if "base" in changes and "data" not in changes and isinstance(job.data, DataConfig):
            job = replace(job, data=kept_below(changes["base"], job.data))
        return replace(job, **{"base": self._joined.base, "save": "", **changes})

    @property
    def rescue(self) -> str:
        beaten = self.member.beaten
        if not self._model or (beaten is not None and beaten.command == "fail"):
            return ""
        place = Path(self._model)
        return f"{place.stem}.node-{display_id(self.member.node)}{place.suffix}"

    def fail(self, error: HogpourError) -> bool:
        self.silence.stop()  # it is not waited for any more
        return False

    async def leave(self, guard: Guard, reason: str, again: bool) -> None:
        await guard(self.member.leave(reason, again=again))
        self._left = True
        self.silence.stop()

    async def part(self) -> None:
        if not self._left:
            with suppress(HogpourError, TimeoutError):  # then it is missed when its lease ends
                async with asyncio.timeout(_LEAVE_S):
                    await self.member.leave()

    async def close(self) -> None:
        self.silence.stop()


def _answer_before(message: Message, *_: object) -> Reply[Ok]:
    """Answer before this node has begun, as the message says: see ``wire.base.Before``."""
    if message.BEFORE is Before.OK:
        return Reply(Ok())
    code, text = message.BEFORE.value
    raise RequestFailed(code, text.format(type(message).__name__))


BEFORE: Mapping[type[Message], Handler] = dict.fromkeys(answers(), _answer_before)


class Endpoint:
    """A node's end of a cluster. ``open`` it, perhaps have an ``InCluster`` begin on it, and ``close`` it in any case.

    Args:
        listen: host:port; empty: no port is opened.
        join: host:port of the first node; empty: this one is.
        token: of the cluster.
        insecure: other machines may connect although there is no token.
        join_s: how long the first node may take to answer at the beginning; a round trip while a connection is made, a
            tenth of it (see ``Peer``).
        notify: called with what a person wants to know.
        modules: that the job of the first node may have imported; see ``registry.find``.
        name: of this node, for people; empty: the host's and the process's.
        entropy: source of random bytes, for the proofs of the token and the number of the first incarnation.
        disk, connections: where snapshots are; that others may have to this node.

    Attributes:
        address: where this node listens; empty where it does not.
        role: of this node.
        stats: what was done, as far as this node has heard.
        tasks: what goes on by itself; one that fails is the end of the run.
        own: answers this node's requests to itself.
        authority: knows who may ask what of this node.
        failed: gets an exception when the cluster cannot go on.
        ended: done when the cluster has nothing left to do, or stops.
        servers: address → who serves shards there, to name those who do not answer.
        heartbeat_hooks, rejoin_hooks: called with what the coordinator answers to a heartbeat; when this node has
            joined again, as a new incarnation.
        closing: what ``close`` ends between the tasks and the port.
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
        modules: Modules = (),
        name: str = "",
        entropy: Callable[[int], bytes] = os.urandom,
        disk: Disk = REAL,
        connections: int = CONNECTIONS,
    ) -> None:
        self._listen, self._token, self._insecure, self._modules = listen, token, insecure, modules
        self._connections = connections
        self.join, self.join_s, self.notify, self.entropy, self.disk = join, join_s, notify, entropy, disk
        self.name = name or f"{os.uname().nodename} process {os.getpid()}"
        self._handlers: dict[type[Message], Handler] = dict(BEFORE)
        self.own: dict[type[Message], Handler] = {}
        self.authority = Authority()
        self.peers = PeerPool(Loopback(self.own), join, token, entropy, max(_CONNECT_S, join_s / 10))
        self._listener: Listener | None = None
        self.tasks = TaskSet(self._on_error)
        self.stats, self.role, self.address, self._waiting_for = RunStats(), Role(), "", ""
        self.servers: dict[str, int] = {}
        self.heartbeat_hooks: list[Callable[[HeartbeatReply], None]] = []
        self.rejoin_hooks: list[Callable[[], None]] = []
        self.closing: list[Callable[[], Awaitable[None]]] = []
        loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    @property
    def block_replicas(self) -> int:
        """Decides the cutting into blocks, as the cluster has it; 0: it is this node's to say."""
        return self.role.block_replicas if isinstance(self.role, JoinedNode) else 0

    @property
    def transferring(self) -> bool:
        """Whether something is on its way from or to others that have connected to this node."""
        return self._listener is not None and self._listener.transferring

    async def open(self) -> None:
        """Listen, and join where there is somebody to join.

        Raises:
            ResourceError: the address cannot be listened on.
            ClusterFailed: nobody answers there, or does not want this node.
            Stopped: the run is over.
        """
        if self._listen:
            host, port = addresses.split(self._listen)
            check_address(host, bool(self._token), self._insecure)
            if self.join and addresses.is_everywhere(host):
                raise ConfigError(f"--listen {self._listen}: others are told this address; name one that they reach")
            await self._check_reach(host)
            self._listener = Listener(
                self._handlers, self._token, authority=self.authority, staging=Staging(STAGING_BYTES),
                payload_limit=LARGEST_SHARD_BYTES, log=lambda line: self.notify(Notice("warning", line)),
                max_connections=self._connections, nonce=self.entropy,
            )  # fmt: skip
            await self._listener.start(host, port)
            self.address = self.peers.address = self._listener.address
            elsewhere = ""
            if addresses.is_everywhere(host):
                elsewhere = f"; others: --join {typed_elsewhere(addresses.split(self.address)[1])}"
            self.notify(Notice("listening", f"listening on {self.address}{elsewhere}"))
        if self.join:
            apart = self.peers.apart()
            member = CoordinatorClient(apart, self.name, self.address, self.join, self.peers.identify)
            self.notify(Notice("joining", f"joining {self.join}"))
            try:
                joined = await member.join(self.join_s)
            except (PeerLost, RequestFailed) as error:
                self.check_ended(error)
                nobody = os.strerror(errno.ECONNREFUSED).lower() in str(error)
                hint = "; nobody listens there: the run has not begun, or it has ended" if nobody else ""
                raise ClusterFailed(f"--join {self.join}: {error}{hint}") from error
            self.role = JoinedNode(member, joined, self.join, self.notify)
            self.heartbeat_hooks.append(self.role.silence.hear)
            self.notify(Notice("joined", f"joined {self.join} as node {display_id(joined.node)}"))
            if joined.version not in ("", __version__):
                self.notify(Notice("warning", f"the first node runs hogpour {joined.version:.40}, this node "
                                   f"{__version__}: results may be others; install the same"))  # fmt: skip
            self.tasks.start(member.beat(self.stats.beat, self.on_heartbeat))
            self.tasks.start(member.rejoin(lambda: self._on_rejoin(member)))

    def check_ended(self, error: HogpourError) -> None:
        """Raise Stopped where this is the refusal of a run that is over: who joined late has failed in nothing."""
        if isinstance(error, RequestFailed) and error.code == Refusal.ENDED:
            raise Stopped(_LATE) from error

    async def _check_reach(self, host: str) -> None:
        """Refuse to serve others at an address that only this machine reaches."""
        here = await loopback_of(host) if self.join else ""
        if here and not await loopback_of(addresses.split(self.join)[0]):
            named = f"{host} is {here}, which" if here != host else here
            raise ConfigError(f"--listen {self._listen}: {named} only this machine reaches, and --join {self.join} is "
                              "another; name an address that the others reach, or leave it out: then this node "
                              "computes only")  # fmt: skip

    def job(self, changes: Mapping[str, Any]) -> Job:
        """Return the job of the cluster that was joined; see ``JoinedNode.job``."""
        assert isinstance(self.role, JoinedNode), "the first node has a job"
        job = self.role.job(changes, self._modules)
        for path in files_of(job):
            self.notify(Notice("reading", f"reading {printable(str(path))}"))
        return job

    def serve(self, handlers: Mapping[type[Message], Handler], own: Mapping[type[Message], Handler]) -> None:
        """Answer these requests of others, and of this node to itself."""
        self._handlers |= handlers
        self.own |= own

    def be_patient(self, connect_s: float) -> None:
        """Let a round trip take so long while a connection is made, to others or by them, unless more is allowed."""
        self.peers.connect_s = max(self.peers.connect_s, connect_s)
        if self._listener is not None:
            self._listener.handshake_s = max(self._listener.handshake_s, 2 * self.peers.connect_s)

    def follow(self, shard_map: ShardMap) -> None:
        """Take in who serves where."""
        owners = zip(shard_map.addresses, shard_map.owners, strict=True)
        self.servers = {address or self.join: owner for address, owner in owners}

    async def guard(self, work: Awaitable[_T]) -> _T:
        """Wait for something, unless the cluster fails meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            either: list[asyncio.Future[Any]] = [task, self.failed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.failed.result()
            return task.result()
        except PeerLost as error:
            raise self._failure(error) from error
        finally:
            task.cancel()

    def on_heartbeat(self, reply: HeartbeatReply) -> None:
        """Take in what the coordinator answered to a heartbeat."""
        if reply.command == "fail" and not self.failed.done():
            self.failed.set_exception(ClusterFailed(reply.reason))
        elif reply.command in ("finish", "stop") and isinstance(self.role, JoinedNode) and not self.role.begun:
            if not self.failed.done():
                self.failed.set_exception(Stopped(_LATE))
        elif reply.command != "run" and not self.ended.done():
            self.ended.set_result(None)
        elif reply.command == "run" and reply.reason != self._waiting_for:
            self._waiting_for = reply.reason
            if reply.reason:
                self.notify(Notice("waiting", reply.reason))
        for hook in self.heartbeat_hooks:
            hook(reply)

    async def close(self) -> None:
        """End everything at once; nothing is left open. In this order:

        1. The last word: the others hear of what failed on the first node; another one leaves, if it has not.
        2. Heartbeats, leases and whatever else goes on by itself.
        3. Pushes and fetches.
        4. The port, when those who asked are answered, half a second later at most.
        5. The coordinator.
        6. The connections to others.
        """
        await self.role.part()
        await self.tasks.cancel()
        for close in self.closing:
            await close()
        if self._listener is not None:
            await self._listener.drain(0.5)
        await self.role.close()
        await self.peers.close()
        for future in (self.failed, self.ended):
            if not future.cancel() and not future.cancelled():
                future.exception()  # whoever could be told was told

    def _on_rejoin(self, member: CoordinatorClient) -> None:
        """The old incarnation is dead: what it held is others', what it did is counted."""
        self.notify(Notice("warning", "was out of reach for longer than its lease; joined again as node "
                           f"{display_id(member.node)}, its unfinished blocks are others' now"))  # fmt: skip
        for hook in self.rejoin_hooks:
            hook()

    def _on_error(self, error: BaseException) -> None:
        """A task has failed."""
        if self.failed.done():
            return
        if isinstance(error, HogpourError) and not isinstance(error, ClusterFailed):
            failure = self._failure(error)
            failure.__cause__ = error
            error = failure
        self.failed.set_exception(error)

    def _failure(self, error: HogpourError) -> ClusterFailed:
        """Say who it is that does not answer at an address."""
        if not isinstance(error, PeerLost) or error.address not in self.servers:
            return ClusterFailed(str(error))
        owner = display_id(self.servers[error.address])
        who = "the first node" if error.address == self.join else f"node {owner}, which serves shards,"
        return ClusterFailed(f"{who} does not answer: {error}")
