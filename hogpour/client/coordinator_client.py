"""A node as a member of its cluster: joins, beats, leases blocks and reports them, joins again when it was forgotten.

Knows the coordinator by its messages only, and of the replicas only the queue of tickets. The same code runs on the
first node, whose coordinator is reached without a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any

from hogpour import __version__
from hogpour.core.errors import ClusterFailed, PeerLost, Refusal, RequestFailed
from hogpour.core.node_id import same_run
from hogpour.core.shard_map import ShardMap
from hogpour.data.identity import DataIdentity
from hogpour.net.requests import Requests
from hogpour.net.watch import Patience
from hogpour.net.wire.base import Answer, Request
from hogpour.net.wire.gate import Arrive, Arrived, Attend
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.join import Join, Joined, Leave, Ready
from hogpour.net.wire.lease import Lease, Leased
from hogpour.net.wire.reach import Unreachable
from hogpour.net.wire.where import Map, Where
from hogpour.shm.queue import ROOM, TicketQueue, leased_ticket, ticket_of

__all__ = ["CoordinatorClient"]

_BEATS_A_LEASE = 6
_BUSY_S = 0.25
"""Between two tries to join a first node that still reads its data."""

_EMPTY_S = 0.05
"""Between two questions of a node that was granted nothing: others hold what is left, and may yet die."""

_EMPTY_EACH_S = 0.002
"""The same for each node, where that is longer: the coordinator of 200 that wait for a warm start was asked 4,000 times
a second, and is now 500 times, however many they are."""

_REPORT_S = 0.01
"""Between two reports of blocks of a batch method, where the next lease takes them along: of blocks that take 2.5 ms,
reporting one by one was a third of the work of the node's own process."""

_MOVE_S = 60.0
"""How long a shard may be with nobody: as long as the coordinator waits for the taker, and twice as long as the taker
waits for the source, so that there is time to let the source go on."""

_LEAVE_S = 90.0
"""Longer than the coordinator waits for shards to be with others, so that it is who says that they are not."""


class CoordinatorClient:
    """The membership of one node.

    Args:
        coordinator: who answers there.
        name: of this node, for people.
        address: host:port on which it serves shards; empty: it serves none.
        where: address of the coordinator, for people.
        identify: told what this node shows where, as its newest incarnation; see ``PeerPool.identify``.

    Attributes:
        joined: what the coordinator said at the (last) joining.
        beaten: its newest answer to a heartbeat.
    """

    def __init__(
        self,
        coordinator: Requests,
        name: str,
        address: str,
        where: str,
        identify: Callable[[int, Sequence[str], Sequence[bytes]], None],
    ) -> None:
        self._coordinator, self._name, self._address, self._where = coordinator, name, address, where
        self._identify = identify
        self._spec, self._data = "", DataIdentity("")
        self._held: set[int] = set()
        self._done: dict[int, float] = {}  # finished ticket → its loss, which only batch methods read
        self._reportable = asyncio.Event()
        self._asking = False  # for blocks, of a coordinator that answers when it has some; one lease at a time does
        self._reported_s = 0.0
        self._lease_number = 0  # of this incarnation; see shm.queue
        self._wish = asyncio.Event()
        self._fenced = asyncio.Event()
        self._leaving = False
        self._node = 0
        self.joined: Joined | None = None
        self.beaten: HeartbeatReply | None = None

    @property
    def node(self) -> int:
        """Incarnation, in the run that was joined first: what is said or pushed under it, no other run takes."""
        assert self._node, "not joined yet"
        return self._node

    async def join(self, patience_s: float) -> Joined:
        """Become a member.

        Raises:
            PeerLost: nobody answered within ``patience_s``.
            RequestFailed: the coordinator does not want this node.
        """
        loop = asyncio.get_running_loop()
        deadline, left = loop.time() + patience_s, patience_s
        while True:
            try:
                answer = await self._coordinator.request(Join(self._name, self._address, __version__), deadline_s=left)
            except RequestFailed as error:
                if error.code != Refusal.BUSY or deadline - loop.time() < 2 * _BUSY_S:
                    raise
                await asyncio.sleep(_BUSY_S)
                left = deadline - loop.time()
                continue
            self.joined = answer
            if not self._node or same_run(self._node, answer.node):
                self._node = answer.node
                self._identify(answer.node, answer.servers, answer.credentials)
            return answer

    async def ready(self, spec: str, data: DataIdentity) -> None:
        """Say that this node can compute. Raises RequestFailed where its model or its data are others."""
        self._spec, self._data = spec, data
        node = self.node
        try:
            await self._ask(Ready(node, spec, data.digest, data.facts, data.source))
        except RequestFailed as error:
            if error.code != Refusal.FENCED:
                raise
            self.fence(node)  # whoever joins again says this again

    async def where(self, older_than: int = -1) -> ShardMap:
        """Return the shard map, waiting until there is one of a later epoch than ``older_than``.

        A shard that is given up is with nobody until it is moved, which takes as long as the network needs for it; that
        the coordinator lives is known from its answers.

        Raises:
            ClusterFailed: the coordinator is gone, or lets a shard be with nobody for too long.
        """
        assert self.joined is not None
        loop = asyncio.get_running_loop()
        patience = Patience(_MOVE_S, loop.time())
        while True:
            node = self.node
            answer = await self._ask(Where(node))
            if node == self.node:
                self._identify(node, answer.servers, answer.credentials)
            if answer.epoch > older_than:
                return _map_of(answer, self._where)
            if patience.over(loop.time()):
                raise ClusterFailed(f"a shard is not where the map of epoch {older_than} says, and after "
                                    f"{_MOVE_S:g} s there is no newer map")  # fmt: skip
            await asyncio.sleep(_EMPTY_S)

    async def unreachable(self, server: int) -> bool:
        """Say that a node which serves shards cannot be reached from here; return whether others are to have them.

        Raises:
            ClusterFailed: the coordinator is gone.
        """
        try:
            await self._ask(Unreachable(self.node, server))
        except RequestFailed:  # there is nobody else, or this node was declared dead
            return False
        return True

    async def leave(self, reason: str = "", *, again: bool = False) -> None:
        """Go: blocks and shards are given to others. Nobody who has given up the cluster needs this.

        Shards take as long as the network needs for them; that the coordinator lives is known from its heartbeats.

        Args:
            reason: why nobody can go on; empty where the others can.
            again: shards may not move for long, and it is asked as often as that takes (batch methods: between two
                iterations).
        """
        assert self.joined is not None
        self._leaving = True
        while True:
            try:
                await self._ask(Leave(self.joined.node, reason), _LEAVE_S)
                return
            except RequestFailed as error:
                if error.code == Refusal.FENCED:
                    return  # it is no member any more, or the first node began again meanwhile
                if error.code != Refusal.BUSY or not again:
                    raise

    # -- the gate

    async def attend(self, node: int, replica: int, present: bool) -> None:
        """Say that a replica takes part, or does not any more.

        Raises:
            RequestFailed: ``fenced``: incarnation ``node`` was declared dead.
            ClusterFailed: the coordinator is gone.
        """
        await self._ask(Attend(node, replica, present))

    async def arrive(self, arrive: Arrive) -> Arrived:
        """Say that every shard has a gradient, and return what is known of it; as ``attend``."""
        return await self._ask(arrive)

    # -- blocks

    def finished(self, tickets: tuple[int, ...], losses: Sequence[float] = ()) -> None:
        """Note blocks, as words of the queue, whose every gradient is acknowledged; the next lease reports them.

        Those of an earlier lease are not: pushes of them may have been refused. They are done when they are done again.

        Args:
            losses: batch methods: the loss of each.
        """
        for leased, loss in zip_longest(tickets, losses, fillvalue=0.0):
            ticket = ticket_of(int(leased))
            if leased == leased_ticket(ticket, self._lease_number) and ticket in self._held:
                self._held.discard(ticket)
                self._done[ticket] = loss
                self._wish.set()
        # Who waits for blocks waits, perhaps, for the last ones to be done, or for copies of these.
        if self._done and (self._asking or asyncio.get_running_loop().time() >= self._reported_s + _REPORT_S):
            self._reportable.set()

    def look(self) -> None:
        """Look at the queue now; called when a replica rang."""
        self._wish.set()

    def fence(self, node: int) -> None:
        """Say that incarnation ``node`` of this node was declared dead."""
        # News of an earlier one comes late; and whoever leaves is no member soon, as it has asked for.
        if node == self.node and not self._leaving:
            self._fenced.set()

    async def lease(
        self,
        queue: TicketQueue,
        stock: int,
        wake: Callable[[], None],
        prepare: Callable[[list[int]], Awaitable[None]] | None = None,
        replicas: int = 0,
    ) -> None:
        """Keep the queue filled and report what is done, until there will be no more tickets.

        The coordinator of a batch method answers when it has some; ``report_each`` says meanwhile what is done.

        Args:
            stock: tickets that the queue should hold.
            wake: called when there is something to take, or there will not be.
            prepare: batch methods: awaited with tickets before they are in the queue.
            replicas: batch methods: of this node.
        """
        stock = min(stock, ROOM)  # of a node with very many replicas
        while not queue.closed:
            self._wish.clear()
            want = max(0, stock - len(queue))
            answer = None
            if want > stock // 2 or (self._done and prepare is None):
                answer = await self._lease(want, replicas)
            if answer is not None:
                if prepare is not None and answer.tickets:
                    number = self._lease_number
                    await prepare(answer.tickets)
                    if number != self._lease_number:  # it has joined again meanwhile
                        continue
                queue.put([leased_ticket(ticket, self._lease_number) for ticket in answer.tickets])
                if answer.finished:
                    queue.close()
                wake()
                if answer.tickets or answer.finished or prepare is not None:
                    continue
            # Until a replica rang; while the queue is empty not for long, since others may die.
            empty_s = max(_EMPTY_S, _EMPTY_EACH_S * (self.beaten.nodes if self.beaten is not None else 1))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wish.wait(), None if len(queue) else empty_s)

    async def report_each(self) -> None:
        """Report what is done soon, unless the next lease does; for ever, which the caller ends."""
        while True:
            await self._reportable.wait()
            self._reportable.clear()
            await self.report()

    async def report(self) -> None:
        """Report all that is done, and ask for nothing."""
        while self._done and await self._lease(0) is not None:
            pass

    async def _lease(self, want: int, replicas: int = 0) -> Leased | None:
        done, node = sorted(self._done)[:1024], self.node
        losses = [self._done[ticket] for ticket in done]
        self._reported_s = asyncio.get_running_loop().time()
        if want:
            self._asking = True
        try:
            # Where the coordinator answers when it has some, it takes its time: not that of this node's patience.
            patience_s = 1.25 * self.joined.give_up_s if replicas and self.joined is not None else 0.0
            answer = await self._ask(Lease(node, sorted(self._held), done, want, losses, replicas), patience_s)
        except RequestFailed as error:
            if error.code != Refusal.FENCED:
                raise
            self.fence(node)
            return None
        finally:
            if want:
                self._asking = False
        if node != self.node:  # it has joined again meanwhile, and what was granted to the old one is others'
            return None
        for ticket in done:
            self._done.pop(ticket, None)  # it may have been reported twice at a time
        self._held.update(answer.tickets)
        return answer

    # -- heartbeats

    async def beat(self, totals: Callable[[], dict[str, Any]], heard: Callable[[HeartbeatReply], None]) -> None:
        """Beat for ever, which the caller ends.

        Args:
            totals: the fields of ``Heartbeat`` besides ``node``.
            heard: told each answer.

        Raises:
            ClusterFailed: the coordinator is gone.
        """
        assert self.joined is not None
        every_s = self.joined.lease_s / _BEATS_A_LEASE
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + every_s
            await self.beat_once(totals, heard)
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def beat_once(self, totals: Callable[[], dict[str, Any]], heard: Callable[[HeartbeatReply], None]) -> None:
        """Beat now; as ``beat``."""
        node = self.node
        try:
            answer = await self._ask(Heartbeat(node, **totals()))
        except RequestFailed as error:
            if error.code != Refusal.FENCED:
                raise
            self.fence(node)
        else:
            self.beaten = answer
            heard(answer)

    async def rejoin(self, again: Callable[[], None]) -> None:
        """Wait until this incarnation is fenced, then join as a new one; for ever, which the caller ends.

        Args:
            again: called when the old incarnation is given up and the new one has joined, before it is ready.

        Raises:
            ClusterFailed: the first node was started anew. Shards, map and blocks that this node knows are of the
                run before, perhaps of another job, and must not get into the new one.
        """
        assert self.joined is not None
        while True:
            await self._fenced.wait()
            await self.join(self.joined.give_up_s)
            if self.node != self.joined.node:
                raise ClusterFailed(f"the first node, {self._where}, was started anew: what this node did belongs to "
                                    "the run before; start this node again")  # fmt: skip
            self._lease_number += 1
            self._held.clear()
            self._done.clear()
            self._fenced.clear()
            again()
            self._wish.set()  # the queue was emptied, perhaps
            if self._spec:
                await self.ready(self._spec, self._data)

    async def _ask(self, message: Request[Answer], patience_s: float = 0.0) -> Answer:
        assert self.joined is not None
        try:
            return await self._coordinator.request(message, deadline_s=patience_s or self.joined.give_up_s)
        except PeerLost as error:
            raise ClusterFailed(f"the first node, {self._where}, does not answer: {error}") from error


def _map_of(answer: Map, first: str) -> ShardMap:
    try:
        return ShardMap(answer.epoch, tuple(answer.bounds), tuple(answer.owners), tuple(answer.addresses))
    except ValueError as error:
        raise ClusterFailed(f"the first node, {first}, sent no map of the shards: {error}") from error
