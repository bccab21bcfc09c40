"""The coordinator: the role of the first node. Who belongs to the cluster, who trains on what, who serves which shard.

It answers messages, and ``tick`` does what is due; both take little time and wait for nobody. What has to wait (moving
shards, fencing the dead) is ``placement``. It does no file I/O, holds no vectors and sees no gradient: steady training
passes it by, but for a heartbeat and a few tickets now and then.

What it answers for: a ticket is held by one member, and is done once. A member that was silent for its lease is gone:
its tickets are given to others, its late words count for nothing, what it had done remains counted. If it served a
shard, a part of the model is gone with it: the run fails, on every node, and says with what to go on.

Handlers take the time from ``clock``, ``tick`` from its caller; in tests and in the simulator both are made up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.open import Open
from hogpour.cluster.gatekeeper import Gatekeeper
from hogpour.cluster.lease_desk import LeaseDesk
from hogpour.cluster.member_stats import MemberStats
from hogpour.cluster.membership import MemberRecord, Membership
from hogpour.cluster.placement import Placement
from hogpour.cluster.warm_start import WarmStart
from hogpour.core.cluster_state import ClusterState, MemberState, Totals
from hogpour.core.errors import ConfigError, Refusal, RequestFailed
from hogpour.core.node_id import spoken
from hogpour.core.shard_map import ShardMap, listed
from hogpour.net import address as addresses
from hogpour.net.requests import Handler, Reply, Requests
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.gate import UNDECIDED, Arrive, Arrived, Attend
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.join import Join, Joined, Leave, Ready
from hogpour.net.wire.lease import Lease, Leased
from hogpour.net.wire.status import Described, Status
from hogpour.net.wire.where import Map, Where

__all__ = ["Coordinator", "Terms"]

_MOST_REPLICAS = 1024
"""Replicas of a member that may take part in a gate."""

_LEAVE_S = 60.0
"""For the shards of a member that leaves to be with others. Then it may ask again."""

_RANK = {"run": 0, "finish": 1, "stop": 1, "fail": 2}  # of commands; only a higher one replaces another

_OK = Reply(Ok())


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the members of a cluster agree on."""

    job: bytes
    """The job's tables as JSON."""
    base: str
    """Folder that the job's data paths are relative to."""
    block_replicas: int
    """Decides the cutting of the examples into blocks."""
    spec: str
    """Fingerprint of the model; whoever has another one cannot be a member."""
    data: str
    """Digest of the training examples; the same."""
    lease_s: float
    """A member that was silent for so long is dead."""
    give_up_s: float
    """A member that the coordinator did not answer for so long ends."""
    warm_start_examples: int = 0
    """Only one replica of the cluster computes until so many examples were used; 0: not decided by examples."""
    warm_start_s: float = 0.0
    """The same in seconds since the first member was ready. With both, whichever comes first; with neither, all
    compute from the start."""


class Coordinator:
    """Coordinates one run.

    Args:
        terms: what members agree on.
        desk: where members are given blocks; a resumed run's ledger begins where its snapshot was.
        bounds: of the shards, from ``shards.cut``. The coordinator's own node, the home, serves all of them at first.
        peers: whom to ask at an address; empty: this node itself.
        clock: the time, the same that ``tick`` is called with.
        log: told what happened, a line each time.
        first_node: number of the home's incarnation; see ``membership.first_node``.
        gate: which gradients count, and who waits for whom.
        step: clock of the shards at the beginning, where the gate makes steps.
        still: held while shards must not move.

    Attributes:
        home: incarnation of the coordinator's own node. It lives as long as the coordinator.
        snapshot: what to resume from if a member dies that serves a shard; the node keeps it up to date.
        gatekeeper: keeps the gate.
        ledger: for snapshots: read its ``state`` before the shards are read.
        command: run; finish: every example is used; stop: somebody asked; fail: it cannot go on.
        reason: why it stops or fails.
    """

    def __init__(
        self,
        terms: Terms,
        desk: LeaseDesk,
        *,
        bounds: tuple[int, ...],
        peers: Callable[[str], Requests],
        clock: Callable[[], float],
        log: Callable[[str], None],
        first_node: int = 1,
        gate: Gate | None = None,
        step: int = 0,
        still: asyncio.Lock | None = None,
    ) -> None:
        self.terms, self.ledger, self._desk = terms, desk.ledger, desk
        self.snapshot, self.reason = "", ""
        self.command: Literal["run", "finish", "stop", "fail"] = "run"
        self._warm_start = WarmStart(terms.warm_start_examples, terms.warm_start_s)
        self._clock, self._log = clock, log
        self._patience_s = terms.give_up_s / 4  # whoever waits longer for an answer takes this node for dead
        self._members = Membership(terms.lease_s, first_node)
        self.home = self._members.join("", "", clock(), for_ever=True).node
        self._accounts = MemberStats(clock())
        self._accounts.open(self.home)
        count = len(bounds) - 1
        shards = ShardMap(1, bounds, (self.home,) * count, ("",) * count)
        self._placement = Placement(shards, peers=peers, log=log, fail=self.fail, still=still)
        self.gatekeeper = Gatekeeper(
            gate if gate is not None else Open(), step, shard_map=lambda: self.map, peers=peers, log=log, fail=self.fail
        )
        self._gated = gate is not None and gate.closes
        self._before = self.ledger.examples_done

    # -- for the node

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
            Status: self._status,
        }

    def tick(self, now: float) -> None:
        """Do what is due. To be called several times in a second."""
        for member in self._members.expire(now):
            self._bury(member, now)
        if self._warm_start.ends(self.examples, now):
            self._log("warm start is over: all replicas compute")
        self._look_for_end()
        self._accounts.measure(now)
        self._placement.tick()
        self.gatekeeper.tick()

    def stop(self, reason: str) -> None:
        """End the run on every node, cleanly."""
        self._end("stop", reason)

    def fail(self, reason: str) -> None:
        """End the run on every node, as one that cannot go on. Replaces a finish or a stop that is under way."""
        self._end("fail", reason)

    async def close(self) -> None:
        """Drop what is under way; the last thing to be called."""
        await self.gatekeeper.close()
        await self._placement.close()

    @property
    def map(self) -> ShardMap:
        """The newest shard map."""
        return self._placement.map

    @property
    def warming(self) -> bool:
        """Only one replica of the cluster computes yet."""
        return self._warm_start.active

    @property
    def nodes(self) -> int:
        """Members, the home included."""
        return len(self._members)

    @property
    def replicas(self) -> int:
        """Replica processes of all members, as of their last heartbeats."""
        return self._accounts.replicas

    @property
    def able(self) -> int:
        """Members that have the data and the model, the home included."""
        return sum(member.ready for member in self._members)

    @property
    def totals(self) -> Totals:
        """What all members did in this run, those that are gone included."""
        return self._accounts.totals

    @property
    def examples(self) -> int:
        """Examples used by the cluster, acknowledged or not, earlier runs included."""
        return self._before + self._accounts.examples

    def state(self, now: float) -> ClusterState:
        """Return what the cluster is doing."""
        totals, shards = self.totals, Counter(self.map.owners)
        return ClusterState(
            command=self.command,
            reason=self.reason,
            warming=self.warming,
            members=tuple(self._member_state(member, now, shards[member.node]) for member in self._members),
            epoch=self.map.epoch,
            bounds=self.map.bounds,
            owners=tuple(spoken(owner) for owner in self.map.owners),
            tickets_done=self.ledger.done,
            tickets_leased=self.ledger.leased,
            tickets_free=self.ledger.free,
            examples_done=self.ledger.examples_done,
            examples_repeated=self.ledger.examples_repeated,
            rate=self._accounts.rate,
            examples=totals.examples,
            loss=totals.loss / totals.examples if totals.examples else None,
            right=totals.right,
            pushes=totals.pushes,
            mean_staleness=totals.mean_staleness,
            dropped=totals.dropped,
            mean_wait_s=totals.mean_wait_s,
            bytes_per_example=totals.bytes_per_example,
        )

    # -- messages; each handler answers at once, but for a Leave that has shards to hand over

    def _join_home(self, message: Join) -> Reply[Joined]:
        home = self._known(self.home)
        home.name, home.address = message.name, message.address
        return self._joined(home)

    def _join(self, message: Join) -> Reply[Joined]:
        if self.command != "run":
            raise RequestFailed(Refusal.ENDED, f"the run has ended: {self.reason or self.command}")
        if message.address:
            try:
                addresses.split(message.address)
            except ConfigError as error:
                raise RequestFailed(Refusal.WRONG, str(error)) from error
        now, there = self._clock(), self._members.at(message.address)
        if there is not None and (there.ready or there.node == self.home):
            raise RequestFailed(Refusal.BUSY, f"node {spoken(there.node)} ({there.name}) serves at {message.address} "
                                        f"and was heard {now - there.heard:.1f} s ago")  # fmt: skip
        if there is not None:  # its answer was lost, and it asks again; or it was started anew before it was ready
            self._remove(there)
        if self._members.full:
            raise RequestFailed(Refusal.BUSY, f"the cluster has {self.nodes} nodes already")
        member = self._members.join(message.name, message.address, now)
        self._accounts.open(member.node)
        self._log(f"{_named(member)} joined")
        return self._joined(member)

    def _joined(self, member: MemberRecord) -> Reply[Joined]:
        t = self.terms
        return Reply(Joined(member.node, t.job, t.base, t.block_replicas, t.lease_s, t.give_up_s))

    def _ready(self, message: Ready) -> Reply[Ok]:
        member = self._known(message.node)
        for what, got, expected in (("model", message.spec, self.terms.spec), ("data", message.data, self.terms.data)):
            if got != expected:
                text = f"{_named(member)} has another {what} than the cluster: got {got!r}, expected {expected!r}"
                self._log(text)
                raise RequestFailed(Refusal.WRONG, text)
        member.ready = True
        self._choose_first()
        if member.address and member.node != self.home:
            self._placement.serve(member.node, member.address)
        return _OK

    def _beat(self, message: Heartbeat) -> Reply[HeartbeatReply]:
        member = self._known(message.node)
        totals = Totals(**{name: getattr(message, name) for name in Totals.__dataclass_fields__})
        self._accounts.note(member.node, totals, message.replicas)
        epoch = self.map.epoch
        pace = self._accounts.pace(member.node)
        return Reply(HeartbeatReply(self.command, self.reason, epoch, self.warming, self.nodes, self.examples, pace))

    def _lease(self, message: Lease) -> Reply[Leased] | Awaitable[Reply[Leased]]:
        member = self._known(message.node)
        if not member.ready:
            raise RequestFailed(Refusal.WRONG, f"{_named(member)} asks for portions and is not ready")
        if message.want < 0:
            raise RequestFailed(Refusal.WRONG, f"{_named(member)} asks for {message.want} portions")
        self._accounts.finish(member.node, self._desk.report(message))
        self._look_for_end()
        if not self._leases(member):
            return Reply(Leased([], True))
        if self._warm_start.holds(member.node):
            return Reply(Leased([], False))
        granted = self._desk.grant(message, self._patience_s, lambda: self._leases(member))
        return Reply(Leased(granted, False)) if isinstance(granted, list) else self._granted(member, granted)

    async def _granted(self, member: MemberRecord, granted: Awaitable[list[int]]) -> Reply[Leased]:
        tickets = await granted
        self._look_for_end()
        if self._members.get(member.node) is not member:
            raise RequestFailed(Refusal.FENCED, f"{_named(member)} was declared dead while it waited for portions")
        return Reply(Leased(tickets, not self._leases(member)))

    def _look_for_end(self) -> None:
        """End a run that is finished: now, not at the next tick. Whoever is told so asks next whether it was all."""
        if self.ledger.finished:
            self._end("finish", "")

    def _leases(self, member: MemberRecord) -> bool:
        """Whether a member may still be given portions."""
        known = self._members.get(member.node) is member
        return self.command == "run" and not self._desk.ended and not member.leaving and known

    def _attend(self, message: Attend) -> Reply[Ok] | Awaitable[Reply[Ok]]:
        self._check_origin(self._known(message.node), message.replica)
        settled = self.gatekeeper.attend(message.node, message.replica, message.present)
        return _OK if settled is None else self._attended(settled)

    async def _attended(self, settled: asyncio.Future[None]) -> Reply[Ok]:
        await asyncio.wait([settled], timeout=self._patience_s)  # or else what it fetches is late, once
        return _OK

    def _check_origin(self, member: MemberRecord, replica: int) -> None:
        """Raise RequestFailed for what no replica says: others would wait for it."""
        if not member.ready or not 0 <= replica < _MOST_REPLICAS or not self._gated:
            raise RequestFailed(Refusal.WRONG, f"{_named(member)} takes part in no gate as replica {replica}: expected "
                                f"a member that is ready, 0 to {_MOST_REPLICAS - 1}, and a scheme with a gate")

    def _arrive(self, message: Arrive) -> Reply[Arrived] | Awaitable[Reply[Arrived]]:
        self._check_origin(self._known(message.node), message.replica)
        if message.sequence < 1 or not self.gatekeeper.possible(message.step):
            raise RequestFailed(Refusal.WRONG, f"gradient {message.sequence} of step {message.step} cannot have arrived"
                                f": the newest step is {self.gatekeeper.step}")  # fmt: skip
        answer = self.gatekeeper.arrive(message)
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
        if message.reason:
            self.fail(f"{_named(member)} cannot go on: {message.reason}")
        self._desk.take_back(member.node)
        if member.node == self.home:
            return _OK  # it goes with its coordinator
        member.leaving = True
        self._choose_first()
        if self._may_go(member):
            return self._left(member)
        self._placement.leave(member.node)
        return self._see_off(member)

    async def _see_off(self, member: MemberRecord) -> Reply[Ok]:
        """Wait until a leaving member serves no shard."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                while self._members.get(member.node) is member and not self._may_go(member):
                    await self._placement.changed()
        except TimeoutError:
            shards = listed(self._placement.shards_of(member.node))
            raise RequestFailed(Refusal.BUSY, f"{_named(member)} still serves {shards}") from None
        if self._members.get(member.node) is member:
            return self._left(member)
        if self.command == "fail":  # because of this one
            raise RequestFailed(Refusal.FENCED, f"{_named(member)} fell silent while it was leaving")
        return _OK  # it had asked twice

    def _where(self, message: Where) -> Reply[Map]:
        shards = self.map
        return Reply(Map(shards.epoch, list(shards.bounds), list(shards.owners), list(shards.addresses)))

    def _status(self, message: Status) -> Reply[Described]:
        return Reply(Described(msgspec.json.encode(self.state(self._clock()))))

    # -- decisions

    def _known(self, node: int) -> MemberRecord:
        """Return a member, which is alive since it was heard from."""
        member = self._members.beat(node, self._clock())
        if member is None:
            raise RequestFailed(Refusal.FENCED, f"node {spoken(node)} is no member of the cluster: it was silent for "
                                                "too long, left, or never joined")  # fmt: skip
        return member

    def _may_go(self, member: MemberRecord) -> bool:
        return self.command == "fail" or not self._placement.shards_of(member.node)

    def _left(self, member: MemberRecord) -> Reply[Ok]:
        self._remove(member)
        self._log(f"{_named(member)} left")
        return _OK

    def _bury(self, member: MemberRecord, now: float) -> None:
        """Account for a member that is dead."""
        examples = self._desk.take_back(member.node)
        lost = self._remove(member)
        if lost:
            go_on = f"go on with --resume from {self.snapshot}" if self.snapshot else "there is no snapshot yet"
            self.fail(f"{_named(member)} is gone; it served {listed(lost)}; {go_on}")
        silent_s = now - member.heard
        self._log(f"{_named(member)} is gone: silent for {silent_s:.1f} s; {examples} examples are given to others")

    def _remove(self, member: MemberRecord) -> list[int]:
        """Forget a member that holds no ticket, but for what it did. Returns the shards that are lost with it."""
        self._members.leave(member.node)
        self._accounts.close(member.node)
        self.gatekeeper.forget(member.node)
        lost = self._placement.gone(member.node)
        self._choose_first()
        return lost

    def _choose_first(self) -> None:
        """See to it that somebody computes in a warm start."""
        able = [member.node for member in self._members if member.ready and not member.leaving]
        self._warm_start.choose(able, self._clock())

    def _end(self, command: Literal["finish", "stop", "fail"], reason: str) -> None:
        if _RANK[command] > _RANK[self.command]:
            self.command, self.reason = command, reason
            self._placement.spreading = False
            self._desk.end(failed=command == "fail")
            self._placement.wake()

    def _member_state(self, member: MemberRecord, now: float, shards: int) -> MemberState:
        account = self._accounts[member.node]
        return MemberState(
            node=spoken(member.node),
            name=member.name,
            address=member.address,
            phase="leaving" if member.leaving else "ready" if member.ready else "loading",
            replicas=account.replicas,
            examples=account.totals.examples,
            rate=account.rate,
            silent_s=now - member.heard,
            shards=shards,
            tickets=len(self.ledger.held(member.node)),
        )


def _named(member: MemberRecord) -> str:
    return f"node {spoken(member.node)} ({member.address or member.name})"
