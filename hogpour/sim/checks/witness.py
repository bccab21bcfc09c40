"""The witness: what must hold at every step of every run, whatever dies, is cut off, or comes late.

It looks at production objects from outside, at the places where something becomes true: a push is applied or
acknowledged, a block is granted or done, a map is made, a vector is handed out. What it watches is the table in
``Witness.__enter__``. For each it keeps accounts of its own, by other means than the code that it watches, and writes
down where the two disagree: what is promised of pushes, leases, gates, pulls and evaluations is in the files of
invariants beside this one, and here

    whole           what a server hands out does not change under the reader
    maps            epochs grow, and all who know an epoch know the same map
    calm            where nothing was disturbed, nobody is declared dead, and there is progress (``stalls``)

A death may take what it takes: blocks that are given out again are used twice at most as often as they were given
out, and a snapshot's successor begins where the snapshot was.

While a witness looks, the classes that it looks at are replaced for the whole process: one simulation at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from hogpour.algos.exchange.elastic import Elastic
from hogpour.client.buffers import SealedBuffers
from hogpour.client.client import ParameterClient
from hogpour.client.fetches import Landings
from hogpour.client.pulls import Pulls
from hogpour.client.pushes import AccruedPushes
from hogpour.cluster.evaluation_ledger import EvaluationLedger
from hogpour.cluster.gatekeeper import Gatekeeper
from hogpour.cluster.lead_gatekeeper import LeadGatekeeper
from hogpour.cluster.lease_desk import EvaluationDesk
from hogpour.cluster.leases import EpochLedger
from hogpour.cluster.membership import Membership
from hogpour.cluster.placement import Placement
from hogpour.cluster.step_gatekeeper import StepGatekeeper
from hogpour.core.node_id import display_id, same_run
from hogpour.machine.replica import Replica
from hogpour.server.copies import Copies
from hogpour.server.gated_step import GatedStep
from hogpour.server.handover import ShardHost
from hogpour.server.server import ParameterServer
from hogpour.server.shard import Shard, Update
from hogpour.server.shard_table import ShardTable
from hogpour.server.vector_ops import Program, VectorOps
from hogpour.sim.checks.evaluation_invariants import EvaluationInvariants
from hogpour.sim.checks.gate_invariants import GateInvariants
from hogpour.sim.checks.lease_invariants import LeaseInvariants
from hogpour.sim.checks.probes import Look, probe, replaced
from hogpour.sim.checks.pull_invariants import PullInvariants
from hogpour.sim.checks.push_invariants import PushInvariants
from hogpour.sim.checks.stalls import ProgressInvariants
from hogpour.sim.world.loop import Loop

__all__ = ["Witness"]

_MOST = 20
"""Violations that are written down; the first one says most."""


class Witness:
    """Watches one simulation; use as a context manager around its run.

    Args:
        loop: whose hosts are watched: what a dead one does is nobody's business.
        batches: ticket → the elements of the parameters that its batches count up (``sweep.Counting``); None where
            the gradients are others.
        calm: nothing is disturbed in this run.
        could: whether anything could be done now, however few replicas do it.

    Attributes:
        violations: what did not hold, a line each, with the virtual time.
        pushes: what is known of them.
    """

    def __init__(
        self,
        loop: Loop,
        batches: Callable[[int], range] | None = None,
        *,
        calm: bool = False,
        could: Callable[[], bool] = lambda: False,
    ) -> None:
        self.violations: list[str] = []
        self._loop, self._batches, self._calm = loop, batches, calm
        self._held: dict[tuple[int, ShardTable], Shard] = {}  # by number and table, since it was opened there
        self._handed: dict[Any, int] = {}  # vector → checksum when its first reader came
        self._maps: dict[int, Any] = {}  # epoch → map, of the newest run
        self._placement: Placement | None = None  # of the newest run
        self._newest: Any = None  # map that was seen
        self.pushes = PushInvariants(self._say, self._is_now)
        self._leases = LeaseInvariants(self._say, self._counts if batches is not None else None)
        self._gates, self._pulls = GateInvariants(self._say), PullInvariants(self._say, self._is_now)
        self._batch = EvaluationInvariants(self._say, lambda: self._placement.map.n_shards if self._placement else 0)
        self._progress = ProgressInvariants(self._say, loop.time, lambda: self.pushes.applied, could)
        self._stack = ExitStack()

    def __enter__(self) -> Witness:
        """Put a probe on each method that is watched; of two on one method the later one looks first."""
        pushes, leases, gates, pulls, batch = self.pushes, self._leases, self._gates, self._pulls, self._batch
        for cls, name, look in (
            # What becomes true on a server.
            (ShardTable, "open", self._on_open),
            (ShardTable, "forget", pushes.on_forget),
            (ParameterServer, "_begin_fetch", pushes.on_begin_fetch),
            (ParameterServer, "_begin_push", pushes.on_begin_push),
            (ParameterServer, "_frozen", self._on_frozen),
            (ParameterServer, "_stepped", gates.on_made),
            (Copies, "let_go", self._on_let_go),
            (Update, "run", pushes.on_update),
            (Shard, "count_applied", pushes.on_applied),
            (Shard, "count_applied", pulls.on_applied),
            (GatedStep, "run", pushes.on_step),
            (Shard, "count_step", pushes.on_stepped),
            (Shard, "count_step", gates.on_stepped),
            (VectorOps, "_begin_sum", batch.on_begin_sum),
            (Program, "run", batch.on_program),
            (Program, "_settle", batch.on_settle),
            # On a client, and in its replicas.
            (AccruedPushes, "_push", pushes.on_sealed),
            (SealedBuffers, "acknowledge", pushes.on_acknowledged),
            (SealedBuffers, "drop", pushes.on_drop),
            (SealedBuffers, "drop", gates.on_drop),
            (Landings, "land", pulls.on_land),
            (Landings, "complete", gates.on_landing),
            (Landings, "complete", pulls.on_complete),
            (Pulls, "__init__", pulls.on_begin),
            (Pulls, "_push_back", pushes.on_push_back),
            (Pulls, "_push_back", pulls.on_push_back),
            (Pulls, "_acknowledge", pushes.on_acknowledged_pull),
            (Replica, "use", pulls.on_use),
            (Elastic, "on_params", pulls.on_params),
            (Elastic, "on_gradient", pulls.on_gradient),
            (Elastic, "pull", pulls.on_pull),
            # On the coordinator; maps, on all.
            (Placement, "__init__", self._on_run),
            (ParameterClient, "follow", self._on_follow),
            (ShardHost, "follow", self._on_follow),
            (Membership, "expire", self._on_expire),
            (EpochLedger, "grant", leases.on_grant),
            (EpochLedger, "finish", leases.on_finish),
            (EpochLedger, "take_back", leases.on_take_back),
            (EpochLedger, "grant", self._progress.on_grant),
            (EpochLedger, "finish", self._progress.on_finish),
            (Gatekeeper, "attend", gates.on_attend),
            (Gatekeeper, "forget", gates.on_forget),
            (StepGatekeeper, "arrive", gates.on_arrive),
            (StepGatekeeper, "_commit", gates.on_commit),
            (LeadGatekeeper, "arrive", gates.on_arrive),
            (EvaluationLedger, "open", batch.on_open),
            (EvaluationLedger, "finish", batch.on_finish),
            (EvaluationDesk, "end", batch.on_end),
        ):
            method = probe(getattr(cls, name), look, lambda: self._loop.host.alive)
            self._stack.enter_context(replaced(cls, name, method))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look(self) -> None:
        """Look at what is made by no single call; after each step."""
        if self._calm and not self._batch.used:
            self._progress.look()
        placement = self._placement
        if placement is not None and placement.map is not self._newest:
            new, old = placement.map, self._newest
            self._newest = new
            if old is not None and new.epoch <= old.epoch:
                self._say(f"maps: epoch {new.epoch} after {old.epoch}")
            if self._maps.setdefault(new.epoch, new) != new:
                self._say(f"maps: two of epoch {new.epoch}")

    def end(self, finished: bool, total: int) -> None:
        """Look at the end of a run.

        Args:
            finished: whether it says that every example was used.
            total: tickets of the job.
        """
        shards = self.shards()
        missing = [k for k in range(len(self._placement.map.owners) if self._placement else 0) if k not in shards]
        if finished and missing:
            self._say(f"kept: the run has finished, and nobody has shards {missing}")
        rounding = 1e-3 * (self._gates.gated or self._pulls.pulled)
        self.pushes.end(shards, ticking=not self._batch.used, within=rounding if self._batches is not None else None)
        if finished:
            self._leases.end(total)

    def shards(self) -> dict[int, Shard]:
        """Return the shards where the newest map says that they are, by number; without those that are nowhere."""
        owners = self._placement.map.owners if self._placement is not None else ()
        return {k: shard for (k, table), shard in self._held.items() if k < len(owners) and table.node == owners[k]}

    def _say(self, text: str) -> None:
        if len(self.violations) < _MOST:
            self.violations.append(f"at {self._loop.time():.6f} s: {text}")

    def _is_now(self, node: int) -> bool:
        return self._placement is not None and same_run(node, self._placement._home)

    def _counts(self, ticket: int) -> tuple[list[int], list[int]]:
        """Return how often each batch of a ticket is in the shards, and how often it came too late."""
        assert self._batches is not None
        if self._gates.gated:  # a step has the mean of what it counts
            return self._gates.counts(self._batches(ticket))
        if self._pulls.pulled:  # a pull takes a part of what there is
            found = self._pulls.counts(self._batches(ticket))
            return found, [0] * len(found)
        found = []
        for element in self._batches(ticket):
            for shard in self.shards().values():
                if shard.start <= element < shard.start + shard.size:
                    found.append(round(float(np.float32(shard.params[element - shard.start]))))
        return found, [0] * len(found)

    def _on_run(self, placement: Placement, *_: Any, **__: Any) -> None:
        """A first node begins: with a snapshot's shards, or with none."""
        self._placement, self._newest = placement, None
        self._maps.clear()
        newest = {number: shard for (number, _), shard in self._held.items()}  # they were opened last
        self.pushes.begin(newest)
        self._gates.begin(newest)
        self._pulls.begin(newest)
        self._leases.begin(fresh=not any(shard.clock for shard in newest.values()))

    def _on_open(self, table: ShardTable, shard: int, *_: Any, clock: int = 0, **__: Any) -> Look:
        yield
        self._held[shard, table] = table._shards[shard]
        self.pushes.opened(shard, clock)
        self._pulls.opened(table._shards[shard])

    def _on_frozen(self, server: ParameterServer, message: Any, vectors: list[Any]) -> None:
        """Vectors are handed out."""
        del server, message
        for vector in vectors:
            self._handed.setdefault(vector, zlib.crc32(vector.payload))

    def _on_let_go(self, copies: Copies, vectors: list[Any]) -> None:
        """Readers of vectors are done."""
        del copies
        for vector in vectors:
            handed = self._handed.get(vector)
            if handed is not None and handed != zlib.crc32(vector.payload):
                self._say("whole: a vector was written while somebody read it")
                del self._handed[vector]
            elif vector.readers == 1:
                self._handed.pop(vector, None)

    def _on_follow(self, who: ParameterClient | ShardHost, shard_map: Any) -> None:
        del who
        known = self._maps.get(shard_map.epoch)
        if known is not None and same_run(known.owners[0], shard_map.owners[0]) and known != shard_map:
            self._say(f"maps: somebody knows another map of epoch {shard_map.epoch} than the coordinator")

    def _on_expire(self, membership: Membership, now: float) -> Look:
        del membership, now
        expired: list[Any] = yield
        if self._calm and expired:
            self._say(f"calm: node {display_id(expired[0].node)} is declared dead, and nothing was disturbed")
