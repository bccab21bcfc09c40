"""The witness: what must hold at every step of every run, whatever dies, is cut off, or comes late.

It looks at production objects from outside, at the places where something becomes true: a push is applied or
acknowledged, a portion is granted or done, a map is made, a vector is handed out. For each it keeps books of its own,
by other means than the code that it watches, and writes down where the two disagree:

    once            no push is applied to a shard twice, and no clock of a shard is ticked twice: a shard has one
                    history, on one server at a time
    kept            what was acknowledged is applied, on every shard; what is in a shard at the end is all that was
                    applied to it since it began; what a pull takes from a node is given to the shards, and nothing
                    else is (``pull_books``)
    whole           what is applied is what was sealed, and what a server hands out does not change under the reader
    fenced          an incarnation that a server was told is dead has nothing applied there any more
    leases          a portion is held by one member; it is done once, and what is done is in the shards
    maps            epochs grow, and all who know an epoch know the same map
    gates           a step is of as many gradients as its gate asks for, none of them late where late ones are dropped,
                    and no origin computes further ahead than it may (``gate_books``)
    batches         an evaluation is of every block, once; copies of a block are the same (``batch_books``)
    rounds          no replica that is pulled takes more steps between two landings than a round has (``pull_books``)
    calm            where nothing was disturbed, nobody is declared dead

A death may take what it takes: portions that are given out again are used twice at most as often as they were given
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
from hogpour.cluster.gatekeeper import Gatekeeper, LeadGatekeeper, StepGatekeeper
from hogpour.cluster.lease_desk import EvaluationDesk
from hogpour.cluster.leases import EpochLedger
from hogpour.cluster.membership import Membership
from hogpour.cluster.placement import Placement
from hogpour.core.node_id import display_id, same_run
from hogpour.machine.replica import Replica
from hogpour.server.copies import Copies
from hogpour.server.gated_step import GatedStep
from hogpour.server.handover import ShardHost
from hogpour.server.server import ParameterServer
from hogpour.server.shard import Shard, Update
from hogpour.server.vector_ops import Program, VectorOps
from hogpour.shm.accrual import Sealed
from hogpour.sim.checks.evaluation_invariants import EvaluationInvariants
from hogpour.sim.checks.gate_invariants import GateInvariants
from hogpour.sim.checks.pull_invariants import Key, PullInvariants
from hogpour.sim.world.loop import Loop

__all__ = ["Witness", "replaced"]

_MOST = 20
"""Violations that are written down; the first one says most."""


class Witness:
    """Watches one simulation; use as a context manager around its run.

    Args:
        loop: whose hosts are watched: what a dead one does is nobody's business.
        batches: ticket → the elements of the parameters that its batches count up (``sweep.Counting``); None where
            the gradients are others.
        calm: nothing is disturbed in this run.

    Attributes:
        violations: what did not hold, a line each, with the virtual time.
        applied: pushes applied.
        granted: ticket → how often it was given out.
    """

    def __init__(self, loop: Loop, batches: Callable[[int], range] | None = None, *, calm: bool = False) -> None:
        self.violations: list[str] = []
        self.applied = 0
        self.granted: dict[int, int] = {}
        self._loop, self._batches, self._calm = loop, batches, calm
        self._pushes: set[tuple[int, int, int, int]] = set()  # shard, node, replica, sequence
        self._clocks: set[tuple[int, int]] = set()  # shard, clock
        self._begun: dict[int, int] = {}  # shard → its clock when the run began
        self._ticks: dict[int, int] = {}  # shard → updates since then
        self._sums: dict[int, float] = {}  # shard → sum of its elements, as the updates of the newest run make it
        self._held: dict[tuple[int, ParameterServer], Shard] = {}  # by number and server, since it was opened there
        self._sealed: dict[tuple[int, int, int, int], int] = {}  # as _pushes → checksum
        self._sent: dict[tuple[SealedBuffers, int, int], set[Key]] = {}  # replica, sequence → as _pushes
        self._pushed_back: dict[Pulls, set[Key]] = {}  # of the pull that is under way
        self._fenced: dict[ParameterServer, set[int]] = {}
        self._fetched: dict[tuple[Shard, int], int] = {}  # shard, clock → checksum of its parameters, where remembered
        self._handed: dict[Any, int] = {}  # vector → checksum when its first reader came
        self._holders: dict[int, int] = {}
        self._done: set[int] = set()
        self._batch = EvaluationInvariants(self._say, lambda: self._placement.map.n_shards if self._placement else 0)
        self._gates, self._pulls = GateInvariants(self._say), PullInvariants(self._say)
        self._maps: dict[int, Any] = {}  # epoch → map, of the newest run
        self._placement: Placement | None = None  # of the newest run
        self._newest: Any = None  # map that was seen
        self._stack = ExitStack()

    def __enter__(self) -> Witness:
        for cls, name, look in (
            (Update, "run", self._on_update),
            (Shard, "count_applied", self._on_applied),
            (GatedStep, "run", self._on_step),
            (Shard, "count_step", self._on_stepped),
            (SealedBuffers, "drop", self._on_drop),
            (Landings, "complete", self._gates.on_landing),
            (Pulls, "__init__", self._pulls.on_begin),
            (Landings, "land", self._pulls.on_land),
            (Landings, "complete", self._pulls.on_complete),
            (Replica, "use", self._pulls.on_use),
            (Elastic, "on_params", self._pulls.on_params),
            (Elastic, "on_gradient", self._pulls.on_gradient),
            (Elastic, "pull", self._pulls.on_pull),
            (Gatekeeper, "attend", self._gates.on_attend),
            (StepGatekeeper, "arrive", self._gates.on_arrive),
            (LeadGatekeeper, "arrive", self._gates.on_arrive),
            (Gatekeeper, "forget", self._gates.on_forget),
            (StepGatekeeper, "_commit", self._gates.on_commit),
            (ParameterServer, "open", self._on_open),
            (ParameterServer, "forget", self._on_forget),
            (ParameterServer, "_begin_fetch", self._on_begin_fetch),
            (ParameterServer, "_begin_push", self._on_begin_push),
            (ParameterServer, "_frozen", self._on_frozen),
            (Copies, "let_go", self._on_let_go),
            (AccruedPushes, "_push", self._on_sealed),
            (SealedBuffers, "acknowledge", self._on_acknowledged),
            (Pulls, "_push_back", self._on_push_back),
            (Pulls, "_acknowledge", self._on_acknowledged_pull),
            (ParameterClient, "follow", self._on_follow),
            (ShardHost, "follow", self._on_follow),
            (Placement, "__init__", self._on_run),
            (EpochLedger, "grant", self._on_grant),
            (EpochLedger, "finish", self._on_finish),
            (EpochLedger, "take_back", self._on_take_back),
            (Membership, "expire", self._on_expire),
            (EvaluationLedger, "open", self._batch.on_open),
            (EvaluationLedger, "finish", self._batch.on_finish),
            (EvaluationDesk, "end", self._batch.on_end),
            (VectorOps, "_begin_sum", self._batch.on_begin_sum),
            (Program, "run", self._batch.on_program),
            (Program, "_settle", self._batch.on_settle),
        ):
            self._stack.enter_context(replaced(cls, name, self._seen(getattr(cls, name), look)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look(self) -> None:
        """Look at what is made by no single call; after each step."""
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
        for number, shard in shards.items():
            expected = self._begun.get(number, 0) + self._ticks.get(number, 0)
            if shard.clock != expected and not self._batch.used:  # else it counts evaluations
                self._say(f"kept: shard {number} ends at clock {shard.clock}, {expected} updates were applied to it")
            ticks, pushed = float(shard.params.sum(dtype=np.float64)), self._sums.get(number, 0.0)
            if self._batches is not None and abs(ticks - pushed) > 1e-3 * (self._gates.gated or self._pulls.pulled):
                self._say(f"kept: shard {number} holds {ticks:g} ticks, {pushed:g} were pushed to it")
        if not finished or self._batches is None:
            return
        for ticket in range(total):
            counts, dropped = self._counts(ticket)
            if _least(counts, dropped) < 1:
                self._say(f"kept: the run has finished, and ticket {ticket} is in the shards {counts} times")
            if max(counts, default=0) > max(1, self.granted.get(ticket, 0)):
                self._say(f"once: ticket {ticket} was given out {self.granted.get(ticket, 0)} times and is in the "
                          f"shards {counts} times")  # fmt: skip

    # -- how it looks

    def _seen(self, function: Callable[..., Any], look: Callable[..., Callable[[Any], None] | None]) -> Any:
        """Return a function that does the same, and is seen: before, by ``look``, and after, by what that returns."""

        def seen(*arguments: Any, **named: Any) -> Any:
            if not self._loop.host.alive:
                return function(*arguments, **named)
            after = look(*arguments, **named)
            result = function(*arguments, **named)
            if after is not None:
                after(result)
            return result

        return seen

    def _say(self, text: str) -> None:
        if len(self.violations) < _MOST:
            self.violations.append(f"at {self._loop.time():.6f} s: {text}")

    # -- pushes

    def _on_update(self, update: Update) -> None:
        push = update.push
        key = (push.shard, push.node, push.replica, push.sequence)
        self._look_at_content(key, update._late.grad)
        if self._placement is not None and same_run(push.node, self._placement._home):
            self._sums[push.shard] = self._sums.get(push.shard, 0.0) - float(update._late.grad.sum(dtype=np.float64))

    def _on_applied(self, shard: Shard, update: Update) -> Callable[[Any], None]:
        push = update.push
        key = (shard.number, push.node, push.replica, push.sequence)

        def after(_: int) -> None:
            self._count(key)
            self._tick(shard, push.node)
            if self._placement is not None and same_run(push.node, self._placement._home):
                self._pulls.applied(shard, update)

        return after

    def _count(self, key: tuple[int, int, int, int]) -> None:
        self.applied += 1
        if key in self._pushes:
            self._say(f"once: push {_named(key)} is applied a second time")
        self._pushes.add(key)

    def _tick(self, shard: Shard, node: int) -> None:
        if self._placement is not None and not same_run(node, self._placement._home):
            return  # members of a run whose first node died serve each other until they notice
        tick = (shard.number, shard.clock)
        if tick in self._clocks:
            self._say(f"once: shard {shard.number} has two updates number {shard.clock}: it has two histories")
        self._clocks.add(tick)
        self._ticks[shard.number] = self._ticks.get(shard.number, 0) + 1

    def _look_at_content(self, key: tuple[int, int, int, int], grad: Any) -> None:
        expected, got = self._sealed.get(key), zlib.crc32(grad)
        if expected is not None and got != expected:
            self._say(f"whole: push {_named(key)} is applied with other content than it was sealed with")

    # -- steps of several pushes

    def _on_step(self, step: GatedStep) -> None:
        for push, grad in zip(step.pushes, step.arrays, strict=True):
            self._look_at_content((push.shard, push.node, push.replica, push.sequence), grad)
        number = step.pushes[0].shard
        if self._placement is not None and same_run(step.pushes[0].node, self._placement._home):
            total = sum(float(grad.sum(dtype=np.float64)) for grad in step.arrays)
            self._sums[number] = self._sums.get(number, 0.0) - step.share * total / len(step.arrays)

    def _on_stepped(self, shard: Shard, step: GatedStep) -> Callable[[Any], None]:
        def after(_: Any) -> None:
            for push in step.pushes:
                self._count((shard.number, push.node, push.replica, push.sequence))
            self._tick(shard, step.pushes[0].node)
            self._gates.stepped(shard, step)

        return after

    def _on_drop(self, buffers: SealedBuffers, push: Sealed) -> None:
        self._sent.pop((buffers, push.replica, push.sequence), None)
        self._gates.dropped(np.frombuffer(buffers._bytes[push.replica][push.buffer], np.float32))

    def _on_sealed(self, path: AccruedPushes, push: Sealed, shard: int) -> None:
        buffers, part = path._parts.buffers, path._parts.routes.map.range(shard)
        key = (shard, path._parts.coordinator.node, push.replica, push.sequence)
        self._sealed.setdefault(key, zlib.crc32(buffers.payload(push, part)))
        self._sent.setdefault((buffers, push.replica, push.sequence), set()).add(key)

    def _on_acknowledged(self, buffers: SealedBuffers, push: Sealed, staleness: list[Any]) -> None:
        sent = self._sent.pop((buffers, push.replica, push.sequence), set())
        for key in sorted(sent - self._pushes) if staleness else ():
            self._say(f"kept: push {_named(key)} is acknowledged and was not applied")

    def _on_push_back(self, pulls: Pulls, shard: int, node: int, sequence: int, steps: int) -> None:
        self._pulls.on_push_back(pulls, shard, node, sequence, steps)
        key = (shard, node, pulls._replicas, sequence)
        self._sealed.setdefault(key, zlib.crc32(pulls._back[pulls._parts.routes.map.range(shard)].data))
        self._pushed_back[pulls] = {other for other in self._pushed_back.get(pulls, ()) if other[3] == sequence} | {key}

    def _on_acknowledged_pull(self, pulls: Pulls, carried: Any, staleness: Any) -> None:
        del carried, staleness
        for key in sorted(self._pushed_back[pulls] - self._pushes):
            self._say(f"kept: push {_named(key)} of a pull is acknowledged and was not applied")

    def _on_begin_push(self, server: ParameterServer, shard: Shard, push: Any, payload: Any) -> Callable[[Any], None]:
        key = (shard.number, push.node, push.replica, push.sequence)
        fenced = push.node in self._fenced.get(server, ()) and key not in self._pushes
        known = shard.history.params_of(push.node, push.clock)
        if known is not None and zlib.crc32(known.data) != self._fetched[shard, push.clock]:
            self._say(f"origins: push {_named(key)} is amended by what was not fetched at clock {push.clock}")

        def after(begun: Any) -> None:
            if fenced and begun is not None:
                self._say(f"fenced: node {display_id(push.node)} was fenced, and push {_named(key)} of it is taken")

        return after

    def _on_begin_fetch(self, server: ParameterServer, shard: Shard, node: int) -> Callable[[Any], None]:
        if shard.history.limit:
            self._fetched[shard, shard.clock] = zlib.crc32(shard.params.data)
        return lambda _: self._look_at_origins(server)

    def _on_forget(self, server: ParameterServer, node: int) -> Callable[[Any], None]:
        self._fenced.setdefault(server, set()).add(node)
        return lambda _: self._look_at_origins(server)

    def _look_at_origins(self, server: ParameterServer) -> None:
        for shard in server._shards.values():
            if (gone := shard.history.nodes & self._fenced.get(server, set())):
                self._say(f"origins: shard {shard.number} remembers nodes that were fenced: {sorted(gone)}")

    def _on_open(
        self, server: ParameterServer, shard: int, *_: Any, clock: int = 0, **__: Any
    ) -> Callable[[Any], None]:
        def after(_: Any) -> None:
            self._held[shard, server] = server._shards[shard]
            self._begun.setdefault(shard, clock)
            self._pulls.opened(server._shards[shard])

        return after

    # -- vectors that are handed out

    def _on_frozen(self, server: ParameterServer, message: Any, vectors: list[Any]) -> None:
        del server, message
        for vector in vectors:
            self._handed.setdefault(vector, zlib.crc32(vector.payload))

    def _on_let_go(self, copies: Copies, vectors: list[Any]) -> None:
        del copies
        for vector in vectors:
            handed = self._handed.get(vector)
            if handed is not None and handed != zlib.crc32(vector.payload):
                self._say("whole: a vector was written while somebody read it")
                del self._handed[vector]
            elif vector.readers == 1:
                self._handed.pop(vector, None)

    # -- maps

    def _on_run(self, placement: Placement, *_: Any, **__: Any) -> None:
        """A first node begins: with a snapshot's shards, or with none."""
        self._placement, self._newest = placement, None
        for books in (self._maps, self._holders, self._done, self._clocks, self._ticks):
            books.clear()
        newest = {number: shard for (number, _), shard in self._held.items()}  # they were opened last
        self._begun = {number: shard.clock for number, shard in newest.items()}
        self._gates.begin(self._begun)
        self._pulls.begin(newest)
        self._sums = {number: float(shard.params.sum(dtype=np.float64)) for number, shard in newest.items()}
        if not any(self._begun.values()):
            self.granted.clear()  # nothing of the runs before is in the shards

    def _on_follow(self, who: ParameterClient | ShardHost, shard_map: Any) -> None:
        del who
        known = self._maps.get(shard_map.epoch)
        if known is not None and same_run(known.owners[0], shard_map.owners[0]) and known != shard_map:
            self._say(f"maps: somebody knows another map of epoch {shard_map.epoch} than the coordinator")

    # -- portions

    def _on_grant(self, ledger: EpochLedger, node: int, holds: Any, want: int) -> Callable[[Any], None]:
        del ledger, holds

        def after(granted: list[int]) -> None:
            if len(granted) > max(0, want):
                self._say(f"leases: node {display_id(node)} asked for {want} tickets and was granted {len(granted)}")
            for ticket in granted:
                holder = self._holders.get(ticket)
                if holder is None:
                    self.granted[ticket] = self.granted.get(ticket, 0) + 1
                elif holder != node:
                    self._say(f"leases: ticket {ticket} is granted to node {display_id(node)}, and node "
                              f"{display_id(holder)} holds it")  # fmt: skip
                if ticket in self._done:
                    self._say(f"leases: ticket {ticket} is granted, and done")
                self._holders[ticket] = node

        return after

    def _on_finish(self, ledger: EpochLedger, node: int, tickets: Any) -> Callable[[Any], None]:
        mine = [ticket for ticket in dict.fromkeys(tickets) if self._holders.get(ticket) == node]
        before = ledger.done

        def after(_: int) -> None:
            if ledger.done - before != len(mine):
                self._say(f"leases: {ledger.done - before} tickets became done, of {len(mine)} that node "
                          f"{display_id(node)} held and reported")  # fmt: skip
            for ticket in mine:
                del self._holders[ticket]
                self._done.add(ticket)
                if self._batches is not None and _least(*self._counts(ticket)) < 1:
                    self._say(f"leases: ticket {ticket} is done, and in the shards {self._counts(ticket)[0]} times")

        return after

    def _on_take_back(self, ledger: EpochLedger, node: int) -> None:
        del ledger
        for ticket in [ticket for ticket, holder in self._holders.items() if holder == node]:
            del self._holders[ticket]

    def _on_expire(self, membership: Membership, now: float) -> Callable[[Any], None]:
        del membership, now

        def after(expired: list[Any]) -> None:
            if self._calm and expired:
                self._say(f"calm: node {display_id(expired[0].node)} is declared dead, and nothing was disturbed")

        return after

    def shards(self) -> dict[int, Shard]:
        """Return the shards where the newest map says that they are, by number; without those that are nowhere."""
        owners = self._placement.map.owners if self._placement is not None else ()
        return {k: shard for (k, server), shard in self._held.items() if k < len(owners) and server.node == owners[k]}

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


def _least(counts: list[int], dropped: list[int]) -> int:
    """Return how often the batch that was used least was used: it is in the shards, or came too late for its step."""
    return min(map(sum, zip(counts, dropped, strict=True)), default=0)


def _named(key: tuple[int, int, int, int]) -> str:
    shard, node, replica, sequence = key
    return f"{sequence} of replica {replica} of node {display_id(node)} to shard {shard}"


class replaced:
    """Replace an attribute of a class while this lasts."""

    def __init__(self, cls: type, name: str, replacement: Any) -> None:
        self._cls, self._name, self._new, self._old = cls, name, replacement, cls.__dict__[name]

    def __enter__(self) -> None:
        setattr(self._cls, self._name, self._new)

    def __exit__(self, *_: object) -> None:
        setattr(self._cls, self._name, self._old)
