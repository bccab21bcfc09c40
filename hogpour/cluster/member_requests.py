"""What members ask of the coordinator and tell it, and how it is answered: a handler a message.

Each answers at once, but for those that wait for others: for an evaluation, at a gate, until a shard is elsewhere. They
take the time from a clock, which is made up in tests and in the simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import msgspec

from hogpour import __version__
from hogpour.cluster.coordinator import Coordinator
from hogpour.cluster.gatekeeper import MOST_REPLICAS
from hogpour.cluster.membership import MemberRecord
from hogpour.core.cluster_state import Totals
from hogpour.core.errors import ConfigError, Refusal, RequestFailed
from hogpour.core.node_id import display_id
from hogpour.core.shard_map import format_shards
from hogpour.data.identity import DataIdentity
from hogpour.net import address as addresses
from hogpour.net.requests import Handler, Reply
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.gate import UNDECIDED, Arrive, Arrived, Attend
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.join import Join, Joined, Leave, Ready
from hogpour.net.wire.lease import Lease, Leased
from hogpour.net.wire.reach import Unreachable
from hogpour.net.wire.status import Described, Status
from hogpour.net.wire.where import Map, Where

__all__ = ["MemberRequests"]

_LEAVE_S = 60.0
"""For the shards of a member that leaves to be with others. Then it may ask again."""

_VERSION = 40
"""Characters of what a member calls its version, that are kept."""

_WORDS = 200
"""Characters of what a member says of its data."""

_OK = Reply(Ok())


class MemberRequests:
    """Answers the members of one run, whose coordinator decides."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator, self._clock, self._log = coordinator, coordinator.clock, coordinator.log
        self._terms, self._members, self._stats = coordinator.terms, coordinator.members, coordinator.stats
        self._placement, self._gatekeeper = coordinator.placement, coordinator.gatekeeper
        self._desk, self._warm_start = coordinator.desk, coordinator.warm_start
        self._patience_s = coordinator.terms.give_up_s / 4  # whoever waits longer takes this node for dead

    def handlers(self, *, local: bool = False) -> dict[type[Message], Handler]:
        """Return what answers the messages.

        Args:
            local: for the home's requests to itself: its ``Join`` makes no new member, but names the home.
        """
        return {
            Join: self._join_home if local else self._join,
            Ready: self._ready,
            Heartbeat: self._beat,
            Lease: self._lease,
            Attend: self._attend,
            Arrive: self._arrive,
            Leave: self._leave,
            Where: self._where,
            Unreachable: self._unreachable,
            Status: self._status,
        }

    def _join_home(self, message: Join) -> Reply[Joined]:
        home = self._known(self._coordinator.home)
        home.name, home.address, home.version = message.name, message.address, message.version
        return _joined(home, self._coordinator)

    def _join(self, message: Join) -> Reply[Joined]:
        if self._coordinator.command != "run":
            why = self._coordinator.reason or self._coordinator.command
            if self._coordinator.command == "fail":
                raise RequestFailed(Refusal.WRONG, f"the run has failed: {why}")
            raise RequestFailed(Refusal.ENDED, f"the run has ended: {why}")
        if message.address:
            try:
                addresses.split(message.address)
            except ConfigError as error:
                raise RequestFailed(Refusal.WRONG, str(error)) from error
        now, there = self._clock(), self._members.at(message.address)
        if there is not None and (there.ready or there.node == self._coordinator.home):
            raise RequestFailed(Refusal.BUSY, f"node {display_id(there.node)} ({there.name}) serves at "
                                        f"{message.address} and was heard {now - there.heard:.1f} s ago")  # fmt: skip
        if there is not None:  # its answer was lost, and it asks again; or it was started anew before it was ready
            self._coordinator.remove(there)
        if self._members.full:
            raise RequestFailed(Refusal.BUSY, f"the cluster has {len(self._members)} nodes already")
        member = self._members.join(message.name, message.address, now)
        self._stats.open(member.node, self._desk.ledger.most_held)
        member.version = message.version[:_VERSION]
        other = member.version not in ("", __version__)
        runs = f"; it runs hogpour {member.version}, this node {__version__}" if other else ""
        self._log(f"{member} joined{runs}")
        return _joined(member, self._coordinator)

    def _ready(self, message: Ready) -> Reply[Ok]:
        member = self._known(message.node)
        terms = self._terms
        data = DataIdentity(message.data, message.facts[:_WORDS], message.source[-_WORDS:])
        text = ""
        if data.digest != terms.data.digest:
            text = f"{member} has other data than the cluster: {data.against(terms.data)}"
        elif message.spec != terms.spec:
            text = (f"{member} makes another model of the same job and data ({message.spec:.40} instead of "
                    f"{terms.spec}): install the version of hogpour, and of layers of your own, that the "
                    "first node has")  # fmt: skip
        if text:
            if not member.unfit:
                self._log(text)
            member.unfit = True
            raise RequestFailed(Refusal.WRONG, text)
        member.ready = True
        self._coordinator.choose_first()
        if member.address and member.node != self._coordinator.home:
            self._coordinator.issuer.serve(member.node, member.address)
            self._placement.serve(member.node, member.address)
        return _OK

    def _beat(self, message: Heartbeat) -> Reply[HeartbeatReply]:
        member = self._known(message.node)
        totals = Totals(**{name: getattr(message, name) for name in Totals.__dataclass_fields__})
        self._stats.note(member.node, totals, message.replicas)
        c, warming, pace = self._coordinator, self._warm_start.active, self._stats.pace(member.node)
        return Reply(HeartbeatReply(c.command, c.reason, c.map.epoch, warming, len(self._members), c.examples, pace))

    def _lease(self, message: Lease) -> Reply[Leased] | Awaitable[Reply[Leased]]:
        member = self._known(message.node)
        if not member.ready:
            raise RequestFailed(Refusal.WRONG, f"{member} asks for blocks and is not ready")
        self._stats.finish(member.node, self._desk.report(message))
        self._coordinator.overdue.finish(member.node, message.done)
        self._coordinator.look_for_end()
        if not self._coordinator.may_lease(member):
            return Reply(Leased([], True))
        if self._warm_start.holds(member.node):
            return Reply(Leased([], False))
        granted = self._desk.grant(message, self._patience_s, lambda: self._coordinator.may_lease(member))
        if not isinstance(granted, list):
            return self._granted(member, granted)
        self._stats.lease(member.node, map(self._desk.ledger.examples, granted))
        self._coordinator.overdue.lease(member.node, granted)
        return Reply(Leased(granted, False))

    async def _granted(self, member: MemberRecord, granted: Awaitable[list[int]]) -> Reply[Leased]:
        tickets = await granted
        self._coordinator.look_for_end()
        if self._members.get(member.node) is not member:
            raise RequestFailed(Refusal.FENCED, f"{member} was declared dead while it waited for blocks")
        self._stats.lease(member.node, map(self._desk.ledger.examples, tickets))
        self._coordinator.overdue.lease(member.node, tickets)
        return Reply(Leased(tickets, not self._coordinator.may_lease(member)))

    def _attend(self, message: Attend) -> Reply[Ok] | Awaitable[Reply[Ok]]:
        self._check_origin(self._known(message.node), message.replica)
        settled = self._gatekeeper.attend(message.node, message.replica, message.present)
        return _OK if settled is None else self._attended(settled)

    async def _attended(self, settled: asyncio.Future[None]) -> Reply[Ok]:
        await asyncio.wait([settled], timeout=self._patience_s)  # or else what it fetches is late, once
        return _OK

    def _check_origin(self, member: MemberRecord, replica: int) -> None:
        """Raise RequestFailed for what no replica says: others would wait for it."""
        if not member.ready or not 0 <= replica < self._gatekeeper.most_replicas:
            raise RequestFailed(Refusal.WRONG, f"{member} takes part in no gate as replica {replica}: expected "
                                f"a member that is ready, 0 to {MOST_REPLICAS - 1}, and a scheme with a gate")

    def _arrive(self, message: Arrive) -> Reply[Arrived] | Awaitable[Reply[Arrived]]:
        self._check_origin(self._known(message.node), message.replica)
        if message.sequence < 1 or not self._gatekeeper.possible(message.step):
            raise RequestFailed(Refusal.WRONG, f"gradient {message.sequence} of step {message.step} cannot have arrived"
                                f": the newest step is {self._gatekeeper.step}")  # fmt: skip
        answer = self._gatekeeper.arrive(message)
        return Reply(answer) if isinstance(answer, Arrived) else self._decided(answer)

    async def _decided(self, answer: asyncio.Future[Arrived]) -> Reply[Arrived]:
        """Wait for the gate, as long as others compute."""
        await asyncio.wait([answer], timeout=self._patience_s)
        if answer.cancelled():
            raise RequestFailed(Refusal.FENCED, "this node was declared dead while it waited at the gate")
        return Reply(answer.result() if answer.done() else Arrived(UNDECIDED, 0))

    def _leave(self, message: Leave) -> Reply[Ok] | Awaitable[Reply[Ok]]:
        if self._members.gone(message.node):
            return _OK  # it asks again: the answer was lost
        member = self._known(message.node)
        if message.reason and not member.leaving:  # else it asks again, and would be taken for a second one
            self._coordinator.doubt(member, message.reason)
        self._desk.take_back(member.node)
        if member.node == self._coordinator.home:
            return _OK  # it goes with its coordinator
        member.leaving = True
        self._coordinator.choose_first()
        if self._coordinator.may_go(member):
            return self._left(member)
        self._placement.leave(member.node)
        return self._see_off(member)

    async def _see_off(self, member: MemberRecord) -> Reply[Ok]:
        """Wait until a leaving member serves no shard."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                while self._members.get(member.node) is member and not self._coordinator.may_go(member):
                    await self._placement.changed()
        except TimeoutError:
            shards = format_shards(self._placement.shards_of(member.node))
            raise RequestFailed(Refusal.BUSY, f"{member} still serves {shards}") from None
        if self._members.get(member.node) is member:
            return self._left(member)
        if self._coordinator.command == "fail":  # because of this one
            raise RequestFailed(Refusal.WRONG, f"{member} fell silent while it was leaving")
        return _OK  # it had asked twice

    def _left(self, member: MemberRecord) -> Reply[Ok]:
        self._coordinator.remove(member)
        self._log(f"{member} left")
        return _OK

    def _where(self, message: Where) -> Reply[Map]:
        shards = self._coordinator.map
        shown = self._coordinator.issuer.credentials(message.node) if message.node else ()
        owners, addresses = list(shards.owners), list(shards.addresses)
        return Reply(Map(shards.epoch, list(shards.bounds), owners, addresses, *shown))

    def _unreachable(self, message: Unreachable) -> Reply[Ok]:
        member = self._known(message.node)
        if not self._placement.shun(message.server, message.node, f"cannot be reached by {member}"):
            raise RequestFailed(Refusal.WRONG, "the first node serves shards that nobody else has")
        return _OK

    def _status(self, message: Status) -> Reply[Described]:
        return Reply(Described(msgspec.json.encode(self._coordinator.state(self._clock()))))

    def _known(self, node: int) -> MemberRecord:
        """Return a member, which is alive since it was heard from."""
        member = self._members.beat(node, self._clock())
        if member is None:
            raise RequestFailed(Refusal.FENCED, f"node {display_id(node)} is no member of the cluster: it was silent "
                                                "for too long, left, or never joined")  # fmt: skip
        return member


def _joined(member: MemberRecord, coordinator: Coordinator) -> Reply[Joined]:
    t, issuer, node = coordinator.terms, coordinator.issuer, member.node
    return Reply(Joined(node, t.job, t.base, t.block_replicas, t.lease_s, t.give_up_s, __version__, issuer.key(node),
                        *issuer.credentials(node)))  # fmt: skip
