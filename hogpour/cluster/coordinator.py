"""The coordinator: the role of the first node. Who belongs to the cluster, who trains on what, who serves which shard.

``tick`` does what is due, takes little time and waits for nobody. What has to wait (moving shards, fencing the dead) is
``placement``; what members ask and say is ``member_requests``. It does no file I/O, holds no vectors and sees no
gradient: steady training passes it by, but for a heartbeat and a few tickets now and then.

What it answers for: a ticket is held by one member, and is done once. A member that was silent for its lease is gone:
its tickets are given to others, its late words count for nothing, what it had done remains counted. If it served a
shard, a part of the model is gone with it: the run fails, on every node, and says with what to go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.open import Open
from hogpour.cluster.gatekeeper import Gatekeeper
from hogpour.cluster.lead_gatekeeper import LeadGatekeeper
from hogpour.cluster.lease_desk import LeaseDesk
from hogpour.cluster.member_stats import MemberStats
from hogpour.cluster.membership import MemberRecord, Membership
from hogpour.cluster.muster import Muster
from hogpour.cluster.overdue import AwakeClock, OverdueBlocks
from hogpour.cluster.placement import Placement
from hogpour.cluster.step_gatekeeper import StepGatekeeper
from hogpour.cluster.waiting import Waiting
from hogpour.cluster.warm_start import WarmStart
from hogpour.core.cluster_state import ClusterState, MemberState
from hogpour.core.node_id import display_id
from hogpour.core.shard_map import ShardMap, format_shards
from hogpour.data.identity import DataIdentity
from hogpour.net.credentials import Issuer
from hogpour.net.requests import Requests

__all__ = ["Coordinator", "Terms", "keeper_of"]

_RANK = {"run": 0, "finish": 1, "stop": 1, "fail": 2}  # of commands; only a higher one replaces another


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
    data: DataIdentity
    """Of the training examples; the same."""
    lease_s: float
    """A member that was silent for so long is dead."""
    give_up_s: float
    """A member that the coordinator did not answer for so long ends."""
    warm_start_examples: int = 0
    """Only one replica of the cluster computes until so many examples were used; 0: not decided by examples."""
    warm_start_s: float = 0.0
    """The same in seconds since the first member was ready. With both, whichever comes first; with neither, all
    compute from the start."""
    stall_s: float = 10.0
    """A gate goes on without whoever does nothing for so long, and others get its blocks; see ``StallLimit``."""
    wait_for: int = 1
    """Members that must be ready before anybody computes."""
    wait_for_s: float = 600.0
    """For so long, at most."""


class Coordinator:
    """Coordinates one run.

    Args:
        terms: what members agree on.
        desk: where members are given blocks; a resumed run's ledger begins where its snapshot was.
        bounds: of the shards, from ``shard_map.cut``. The coordinator's own node, the home, serves all at first.
        peers: whom to ask at an address; empty: this node itself.
        clock: the time, the same that ``tick`` is called with.
        log: told what happened, a line each time.
        secret, identify: see ``credentials.Issuer``.
        first_node: number of the home's incarnation; see ``core.node_id.first_node``.
        gate: which gradients count, and who waits for whom.
        step: clock of the shards at the beginning, where the gate makes steps.
        still: held while shards must not move.

    Attributes:
        members, stats: who belongs to the cluster, the home included, and what each of them did.
        issuer: of what members show to each other.
        placement: keeps each shard with one member.
        desk: where members are given blocks.
        muster: who must be there first.
        warm_start: who computes at the beginning.
        home: incarnation of the coordinator's own node. It lives as long as the coordinator.
        snapshot: what to resume from if a member dies that serves a shard; the node keeps it up to date.
        gatekeeper: keeps the gate.
        overdue: has an eye on blocks that take too long.
        waiting: who waits for whom.
        ledger: for snapshots: read its ``state`` before the shards are read.
        command: run; finish: every example is used; stop: somebody asked; fail: it cannot go on.
        reason: why it stops or fails; what it waits for before it begins; else empty.
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
        secret: bytes,
        identify: Callable[[int, list[str], list[bytes]], None] = lambda *_: None,
        first_node: int = 1,
        gate: Gate | None = None,
        step: int = 0,
        still: asyncio.Lock | None = None,
    ) -> None:
        self.terms, self.ledger, self.desk = terms, desk.ledger, desk
        self.snapshot, self.reason = "", ""
        self.command: Literal["run", "finish", "stop", "fail"] = "run"
        self.warm_start = WarmStart(terms.warm_start_examples, terms.warm_start_s)
        self.muster, desk.waiting = Muster(terms.wait_for, terms.wait_for_s, clock()), terms.wait_for > 1
        self.clock, self.log = clock, log
        self._awake = AwakeClock(clock)
        self.members = Membership(terms.lease_s, first_node)
        self.home = self.members.join("", "", clock(), for_ever=True).node
        self.stats = MemberStats(clock())
        self.stats.open(self.home, self.ledger.most_held)
        count = len(bounds) - 1
        shards = ShardMap(1, bounds, (self.home,) * count, ("",) * count)
        self.issuer = Issuer(secret, self.home, identify)
        self.placement = Placement(
            shards, peers=peers, log=log, fail=self.fail, bury=self.members.end_lease, warrant=self.issuer.warrant,
            still=still,
        )
        gate = gate or Open()
        self.gatekeeper = keeper_of(gate)(
            gate, step, shard_map=lambda: self.map, peers=peers, log=log, fail=self.fail,
            clock=self._awake, stall_s=terms.stall_s, complete=self._complete,
        )  # fmt: skip
        self.overdue = OverdueBlocks(desk, terms.stall_s, self._awake, log)
        self.waiting = Waiting(self.gatekeeper, self.overdue, lambda: [
            member.node for member in self._able if not self.ledger.held(member.node)
        ])  # fmt: skip
        self._before = self.ledger.examples_done
        self._witnesses: set[int] = set()  # who took part when one said first that nobody can go on

    def tick(self, now: float) -> None:
        """Do what is due. To be called several times in a second."""
        self._awake.tick(now)
        for member in self.members.expire(now):
            self._bury(member, now)
        self._look_for_others(now)
        if self.warm_start.ends(self.examples, now):
            self.log("warm start is over: all replicas compute")
        self.look_for_end()
        self.stats.measure(now)
        self.overdue.take_back(self.gatekeeper.held_up())
        self.placement.tick()
        self.gatekeeper.tick()

    def stop(self, reason: str) -> None:
        """End the run on every node, cleanly."""
        self._end("stop", reason)

    def fail(self, reason: str) -> None:
        """End the run on every node, as one that cannot go on. Replaces a finish or a stop that is under way."""
        self._end("fail", reason)

    def doubt(self, member: MemberRecord, reason: str) -> None:
        """Take in that a member leaves because, as it says, nobody can go on: its loss is not finite.

        Servers apply nothing that is not finite, so of one alone it may be the memory that is bad, and the others go
        on. A second of those who were there then ends the run on every node, and so does the first where there is
        nobody else. One that came later may be the first on its machine again, and leaves alone as well.
        """
        last = member.node in self._witnesses or self._able == [member]
        (self.fail if last else self.log)(f"{member} cannot go on: {reason}")
        self._witnesses = self._witnesses or {other.node for other in self._able}

    async def close(self) -> None:
        """Drop what is under way; the last thing to be called."""
        await self.gatekeeper.close()
        await self.placement.close()

    @property
    def map(self) -> ShardMap:
        """The newest shard map."""
        return self.placement.map

    @property
    def examples(self) -> int:
        """Examples used by the cluster, acknowledged or not, earlier runs included."""
        return self._before + self.stats.examples

    def state(self, now: float) -> ClusterState:
        """Return what the cluster is doing."""
        totals, shards = self.stats.totals, Counter(self.map.owners)
        return ClusterState(
            command=self.command, reason=self.reason, warming=self.warm_start.active,
            members=tuple(self._member_state(member, now, shards[member.node]) for member in self.members),
            epoch=self.map.epoch, bounds=self.map.bounds, owners=tuple(display_id(owner) for owner in self.map.owners),
            tickets_done=self.ledger.done, tickets_leased=self.ledger.leased, tickets_free=self.ledger.free,
            examples_done=self.ledger.examples_done, examples_repeated=self.ledger.examples_repeated,
            rate=self.stats.rate, examples=totals.examples,
            loss=totals.loss / totals.examples if totals.examples else None, right=totals.right, pushes=totals.pushes,
            mean_staleness=totals.mean_staleness, dropped=totals.dropped, mean_wait_s=totals.mean_wait_s,
            bytes_per_example=totals.bytes_per_example, waits_for=self.waiting.list(),
        )  # fmt: skip

    def look_for_end(self) -> None:
        """End a run that is finished: now, not at the next tick. Whoever is told so asks next whether it was all."""
        if self.ledger.finished:
            self._end("finish", "")

    def may_lease(self, member: MemberRecord) -> bool:
        """Return whether a member may still be given blocks."""
        known = self.members.get(member.node) is member
        return self.command == "run" and not self.desk.ended and not member.leaving and known

    def may_go(self, member: MemberRecord) -> bool:
        """Return whether a member that leaves may do so: it serves no shard, or nobody needs it any more."""
        return self.command == "fail" or not self.placement.shards_of(member.node)

    @property
    def _able(self) -> list[MemberRecord]:
        """Members that can compute."""
        return [member for member in self.members if member.ready and not member.leaving]

    def _look_for_others(self, now: float) -> None:
        """Begin when enough members have replicas that wait for blocks, or give them up."""
        if not self.muster.waiting or self.command != "run":
            return
        ready = sum(self.stats[member.node].replicas > 0 for member in self._able)
        if self.muster.ends(ready):
            self.reason, self.desk.waiting = "", False
            self.choose_first()
            self.log(f"{ready} nodes are ready: training begins")
        elif failure := self.muster.failure(ready, now):
            self.fail(failure)
        else:
            self.reason = self.muster.state(ready)

    def _complete(self, present: int) -> bool:
        """Return whether a first step may be made where so many origins take part: all replicas do that could, if
        members were waited for; there may be no block for one of them."""
        if self.terms.wait_for == 1 or self.command != "run" or not self.ledger.free:
            return True
        return present >= sum(self.stats[member.node].replicas for member in self._able)

    def _bury(self, member: MemberRecord, now: float) -> None:
        """Account for a member that is dead."""
        examples = self.desk.take_back(member.node)
        if lost := self.remove(member):
            go_on = f"go on with --resume from {self.snapshot}" if self.snapshot else "there is no snapshot yet"
            self.fail(f"{member} is gone; it served {format_shards(lost)}; {go_on}")
        self.log(f"{member} is gone: silent for {now - member.heard:.1f} s; {examples} examples are given to others")

    def remove(self, member: MemberRecord) -> list[int]:
        """Forget a member that holds no ticket, but for what it did. Returns the shards that are lost with it."""
        self.members.leave(member.node)
        self.issuer.gone(member.node, member.address)
        self.stats.close(member.node)
        self.gatekeeper.forget(member.node)
        self.overdue.forget(member.node)
        lost = self.placement.gone(member.node)
        self.choose_first()
        return lost

    def choose_first(self) -> None:
        """See to it that somebody computes in a warm start."""
        if not self.muster.waiting:
            self.warm_start.choose([member.node for member in self._able], self.clock())

    def _end(self, command: Literal["finish", "stop", "fail"], reason: str) -> None:
        if _RANK[command] > _RANK[self.command]:
            self.command, self.reason = command, reason
            self.placement.spreading = False
            self.desk.end(failed=command == "fail")
            self.placement.wake()

    def _member_state(self, member: MemberRecord, now: float, shards: int) -> MemberState:
        account = self.stats[member.node]
        return MemberState(
            node=display_id(member.node), name=member.name, address=member.address,
            phase="leaving" if member.leaving else "ready" if member.ready else "loading", replicas=account.replicas,
            examples=account.totals.examples, rate=account.rate, silent_s=now - member.heard, shards=shards,
            tickets=len(self.ledger.held(member.node)), version=member.version,
        )  # fmt: skip


def keeper_of(gate: Gate) -> type[Gatekeeper]:
    """Return the class that keeps such a gate."""
    if gate.holds:
        return StepGatekeeper
    return LeadGatekeeper if gate.closes else Gatekeeper
