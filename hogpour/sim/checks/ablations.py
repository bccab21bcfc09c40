"""Safeguards that can be switched off, to show that the sweep notices: without one, the seed that it names fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from hogpour.algos.exchange.elastic import Elastic
from hogpour.client import coordinator_client
from hogpour.client.block_sums import BlockSums
from hogpour.client.buffers import SealedBuffers
from hogpour.client.client import ParameterClient
from hogpour.client.fetches import Fetches, Landings
from hogpour.client.pulls import Pulls
from hogpour.cluster import every_shard
from hogpour.cluster.coordinator import Coordinator
from hogpour.cluster.evaluation_ledger import EvaluationLedger
from hogpour.cluster.gatekeeper import Gatekeeper
from hogpour.cluster.lead_gatekeeper import LeadGatekeeper
from hogpour.cluster.leases import EpochLedger
from hogpour.cluster.membership import Membership
from hogpour.cluster.overdue import OverdueBlocks
from hogpour.cluster.placement import Placement
from hogpour.cluster.step_gatekeeper import StepGatekeeper
from hogpour.machine.replica_link import PulledLink
from hogpour.model import run_lock
from hogpour.net.authority import Authority
from hogpour.net.peer import Peer
from hogpour.net.wire.dump import Adopt
from hogpour.net.wire.gate import Committed
from hogpour.net.wire.join import Join
from hogpour.node import joining
from hogpour.node.training import Training
from hogpour.server.copies import Replaced
from hogpour.server.dedup import PushDedup
from hogpour.server.fetch_history import FetchHistory
from hogpour.server.handover import ShardHost
from hogpour.server.shard import Shard
from hogpour.server.shard_table import ShardTable
from hogpour.server.vector_ops import VectorOps
from hogpour.shm.accrual import Accrual, Sealed
from hogpour.sim.checks.ablation import Ablation
from hogpour.sim.checks.link_ablations import LINKS

__all__ = ["ABLATIONS"]


def _no_deadline(request: Any) -> Any:
    async def patient(self: Peer, message: Any, payload: Any = (), **named: Any) -> Any:
        return await request(self, message, payload, **named | {"deadline_s": 1e9})

    return patient


def _no_retry(request: Any) -> Any:
    async def once(self: Peer, message: Any, payload: Any = (), **named: Any) -> Any:
        return await request(self, message, payload, **named | {"retry": False})

    return once


def _no_second_grant(grant: Any) -> Any:
    return lambda self, node, holds, want: grant(self, node, self.held(node), want)


def _no_order(_: Any) -> Any:
    def release(self: SealedBuffers, push: Any, tickets: tuple[int, ...]) -> None:
        self.free(push)
        self._open[push.replica].pop(push.sequence, None)
        self._finished(tickets, [])

    return release


def _no_renewal(_: Any) -> Any:
    def beat(self: Membership, node: int, now: float) -> Any:
        found = self._members.get(node)
        if found is not None:
            found.heard = now
        return found

    return beat


def _no_way_back(_: Any) -> Any:
    async def bring_back(self: Placement, move: Any) -> bool:
        self._move = None
        return False

    return bring_back


def _newest_fetch(params_of: Any) -> Any:
    def newest(self: FetchHistory, node: int, clock: int) -> Any:
        return params_of(self, node, max(self._held.get(node, ()), default=clock))

    return newest


def _held_by_nobody(bring: Any) -> Any:
    async def bring_nothing(self: ShardHost, adopt: Adopt) -> None:
        await bring(self, adopt)
        pending = self.server.table._shards[adopt.shard].pending
        pending.free({push.node for push, _ in pending}, lambda _: False)

    return bring_nothing


def _told_once(ask: Any) -> Any:
    async def once(requests: Any, message: Any, *rest: Any) -> Any:
        await ask(requests, message, *rest)
        return Committed(message.shards)

    return once


def _never_late(arrive: Any) -> Any:
    return lambda self, what: arrive(self, msgspec.structs.replace(what, step=self.step))


def _keeps_what_it_gives(pull: Any) -> Any:
    def kept(self: Elastic, params: Any, fetched: Any, push: Any, velocities: Any, ahead: float) -> None:
        before = params.copy()
        pull(self, params, fetched, push, velocities, ahead)
        params[...] = before

    return kept


def _begins_again(complete: Any) -> Any:
    def begun_again(self: Landings, wishes: list[int]) -> None:
        complete(self, wishes)
        self._under_way = False

    return begun_again


def _told_at_once(_: Any) -> Any:
    def carry(self: Pulls, due: list[Sealed]) -> None:
        for push in due:
            self._parts.buffers.acknowledge(push, [])

    return carry


def _not_waited_for(_: Any) -> Any:
    async def drain(self: ParameterClient) -> None:
        del self

    return drain


def _took_what_came(_: Any) -> Any:
    async def fetch_other(self: Fetches, message: Any, target: Any, requests: Any, take: Any) -> Any:
        place = await self._stage(target.nbytes)
        try:
            return await requests.request(message, into=place, deadline_s=self._routes.patience_s)
        finally:
            await self._take(target, place, take)
            self._staging.give(place)

    return fetch_other


def _adds_again(begin_sum: Any) -> Any:
    def again(self: VectorOps, shard: Shard, message: Any, payload: Any) -> Any:
        if shard.sums is not None:
            shard.sums.blocks.discard(message.block)
        return begin_sum(self, shard, message, payload)

    return again


def _adds_what_is_old(begin_sum: Any) -> Any:
    def old(self: VectorOps, shard: Shard, message: Any, payload: Any) -> Any:
        now = max(message.evaluation, shard.sums.number if shard.sums is not None else 0)
        return begin_sum(self, shard, msgspec.structs.replace(message, evaluation=now), payload)

    return old


def _moves_at_once(move_shards: Any) -> Any:
    async def at_once(self: Placement) -> None:
        self.still = asyncio.Lock()
        await move_shards(self)

    return at_once


def _stays_out(move: Any) -> Any:
    def stay_out(self: Gatekeeper, origin: Any) -> None:
        if origin not in self._stalled:
            move(self, origin)

    return stay_out


def _not_kept(_: Any) -> Any:
    async def save_final(self: Training, path: str, state: Any) -> None:
        self._machine.save(path, self.evaluator.final, state)

    return save_final


def _any_point(_: Any) -> Any:
    async def prepare(self: BlockSums, tickets: list[int]) -> None:
        if not self.evaluation:
            await self._parts.landings.land()
        self._parts.mailbox.set_evaluation(self._parts.blocks.place(tickets[-1])[0])

    return prepare


STALL = Ablation(
    "no gate waits for a replica that stands still", Gatekeeper, "tick", lambda _: lambda *_: None,
    144, "ends: ",
)
OVERDUE = Ablation(
    "blocks that a replica keeps for too long are given to others",
    OverdueBlocks, "take_back", lambda _: lambda *_: None, 5, "ends: ",
)
SPEAKER = Ablation(  # alone it fails no seed, whose nodes are honest: see tests/sim/test_hostile.py
    "nobody speaks as another node", Authority, "admit", lambda _: lambda self, message, caller: message, 54, "kept: "
)

ABLATIONS: Mapping[str, Ablation] = {
    "window": Ablation(
        "a push that comes again is applied once", PushDedup, "repeats", lambda _: lambda *_: False, 13, "once: ",
    ),
    "lease": Ablation(
        "a silent member is declared dead, and others get its blocks", Membership, "expire",
        lambda _: lambda *_: [], 109, "ends: ",
    ),
    "renewal": Ablation(
        "a member that is heard from is not declared dead", Membership, "beat", _no_renewal, 17, "calm: ",
    ),
    "fence": Ablation(
        "nothing of a member that was declared dead is applied any more",
        ShardTable, "forget", lambda _: lambda *_: None,
        14, "fenced: ",
    ),
    "run": Ablation(
        "nothing of a run before this one is applied",
        ShardTable, "check_member", lambda _: lambda *_: None, 54, "kept: ", (SPEAKER,),
    ),
    "attempt": Ablation(
        "a block is done when it was done under the lease that holds it", coordinator_client, "leased_ticket",
        lambda _: lambda ticket, lease: ticket, 1087, "leases: ",
    ),
    "frozen push": Ablation(
        "an accrual buffer is not written before its push is answered", Accrual, "free",
        lambda _: property(lambda self: True), 179, "whole: ",
    ),
    "frozen fetch": Ablation(
        "a shard's array is not written while somebody reads it",
        Shard, "thaw", lambda _: lambda *_: Replaced(), 17, "whole: ",
    ),
    "deadline": Ablation(
        "nobody waits for ever for an answer", Peer, "request", _no_deadline, 2, "ends: ",
    ),
    "retry": Ablation(
        "what was asked on a connection that broke is asked again", Peer, "request", _no_retry, 162, "ends: ",
    ),
    **LINKS,
    "second grant": Ablation(
        "tickets whose grant was lost on the way are granted again",
        EpochLedger, "grant", _no_second_grant, 75, "ends: ", (OVERDUE,),
    ),
    "order": Ablation(
        "a block is reported when every push with gradients of it is acknowledged",
        SealedBuffers, "release", _no_order, 9,
        "leases: ",
    ),
    "way back": Ablation(
        "a shard that its taker did not get is served by its source again", Placement, "_bring_back", _no_way_back, 336,
        "ends: ",
    ),
    "stale": Ablation(
        "a node that was declared dead serves none of what it had before",
        ShardTable, "abandon", lambda _: lambda *_: None,
        13710, "once: ",
    ),
    "before": Ablation(
        "a node that comes back where it served says that it serves nothing yet", joining, "BEFORE",
        lambda before: {Join: before[Join]}, 449, "ends: ",
    ),
    "origins": Ablation(
        "what a shard remembers of a node goes with the node", FetchHistory, "forget", lambda _: lambda *_: None, 7,
        "origins: ",
    ),
    "own fetch": Ablation(
        "a late gradient is amended by the parameters that it was computed on",
        FetchHistory, "params_of", _newest_fetch, 15,
        "origins: ",
    ),
    "presence": Ablation(
        "no gate waits for a member that is dead or has left", Gatekeeper, "forget", lambda _: lambda *_: None, 112,
        "ends: ", (STALL,),
    ),
    "slack": Ablation(
        "nobody gets further ahead of the slowest than s", LeadGatekeeper, "_may_go", lambda _: lambda *_: True, 44,
        "gates: ",
    ),
    "stall": STALL,
    "back": Ablation(
        "a replica that stood still takes part again when it moves", Gatekeeper, "_move", _stays_out, 24, "gates: ",
    ),
    "overdue": OVERDUE,
    "retire": Ablation(
        "no gate waits for replicas that have ended",
        ParameterClient, "mark_all_absent", lambda _: lambda *_: None, 460, "ends: ", (STALL,),
    ),
    "held": Ablation(
        "gradients that wait for their step move with their shard", ShardHost, "_bring", _held_by_nobody, 52, "there: ",
    ),
    "told again": Ablation(
        "a step is told again until every shard has it", every_shard, "_ask", _told_once, 868, "kept: ",
    ),
    "share": Ablation(
        "a step of fewer than have had data moves by its share", StepGatekeeper, "_share", lambda _: lambda *_: 1.0, 20,
        "gates: ",
    ),
    "late": Ablation(
        "a gradient of an earlier step is dropped where late ones are", StepGatekeeper, "arrive", _never_late, 52,
        "there: ",
    ),
    "handing over": Ablation(
        "a member that leaves stays until its shards are with others", Coordinator, "may_go",
        lambda _: lambda *_: True, 9, "ends: ",
    ),
    "pull": Ablation(
        "what a pull gives the servers is taken from the node", Elastic, "pull", _keeps_what_it_gives, 18, "kept: ",
    ),
    "added": Ablation(
        "servers add what a pull gives them, by whatever rule nodes step", Elastic, "server_rule",
        lambda _: lambda self, optimiser: optimiser, 41, "kept: ",
    ),
    "frozen pull": Ablation(
        "no pull begins before all shards have answered what the one before it gave them", Landings, "complete",
        _begins_again, 11, "whole: ",
    ),
    "riding": Ablation(
        "a block is reported when every shard has what the pull after its steps took",
        Pulls, "_carry", _told_at_once,
        18, "leases: ",
    ),
    "rounds": Ablation(
        "a replica steps on when its node has been pulled",
        PulledLink, "_pulled", lambda _: lambda _: 0, 11, "rounds: ",
    ),
    "drain": Ablation(
        "a node that ends waits until what was taken from it is in the shards",
        ParameterClient, "drain", _not_waited_for, 3561,
        "kept: ",
    ),
    "landed whole": Ablation(
        "a node is pulled by parameters that have arrived, once", Fetches, "_fetch_other", _took_what_came, 38,
        "kept: ",
    ),
    "sum once": Ablation(
        "a shard adds the gradient of a block once", VectorOps, "_begin_sum", _adds_again, 43, "once: ",
    ),
    "sum of now": Ablation(
        "a shard adds no gradient of an earlier evaluation", VectorOps, "_begin_sum", _adds_what_is_old, 103, "bits: ",
    ),
    "given again": Ablation(
        "blocks of a dead member are given to others",
        EvaluationLedger, "take_back", lambda _: lambda *_: 0, 3, "ends: ",
    ),
    "its point": Ablation(
        "a block is computed at the point of its evaluation", BlockSums, "prepare", _any_point, 3, "bits: ",
    ),
    "lock": Ablation(
        "one run at a time writes into a folder", run_lock, "take", lambda _: lambda *_: None, 26, "alone: ",
    ),
    "elsewhere": Ablation(
        "a model that its place does not take is kept elsewhere", Training, "_save_final", _not_kept, 106, "ends: ",
    ),
    "still": Ablation(
        "shards move between two iterations only", Placement, "_move_shards", _moves_at_once, 103, "kept: ",
    ),
}  # fmt: skip
