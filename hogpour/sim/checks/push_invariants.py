"""The witness's invariants of pushes: what was sealed, sent and acknowledged, and what is in the shards.

    once            no push is applied to a shard twice, and no clock of a shard is ticked twice
    kept            what was acknowledged is applied, on every shard; what is in a shard at the end is all that was
                    applied to it since it began
    whole           what is applied is what was sealed
    fenced          an incarnation that a server was told is dead has nothing applied there any more
    origins         a shard remembers no node that is fenced, and amends a push by what its node fetched
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hogpour.client.buffers import SealedBuffers
from hogpour.client.pulls import Pulls
from hogpour.client.pushes import AccruedPushes
from hogpour.core.node_id import display_id
from hogpour.server.gated_step import GatedStep
from hogpour.server.server import ParameterServer
from hogpour.server.shard import Shard, Update
from hogpour.server.shard_table import ShardTable
from hogpour.shm.accrual import Sealed
from hogpour.sim.checks.probes import Look
from hogpour.sim.checks.pull_invariants import Key

__all__ = ["PushInvariants"]


class PushInvariants:
    """Invariants of the pushes of one simulation.

    Args:
        say: writes a violation down.
        of_now: whether a node is of the newest run; members of a run whose first node died serve each other until
            they notice.

    Attributes:
        applied: pushes applied.
    """

    def __init__(self, say: Callable[[str], None], of_now: Callable[[int], bool]) -> None:
        self.applied = 0
        self._say, self._of_now = say, of_now
        self._pushes: set[Key] = set()  # that were applied
        self._clocks: set[tuple[int, int]] = set()  # shard, clock
        self._begun: dict[int, int] = {}  # shard → its clock when the run began
        self._ticks: dict[int, int] = {}  # shard → updates since then
        self._sums: dict[int, float] = {}  # shard → sum of its elements, as the updates of the newest run make it
        self._sealed: dict[Key, int] = {}  # → checksum
        self._sent: dict[tuple[SealedBuffers, int, int], set[Key]] = {}  # replica, sequence → not acknowledged
        self._pushed_back: dict[Pulls, set[Key]] = {}  # of the pull that is under way
        self._fenced: dict[ShardTable, set[int]] = {}
        self._fetched: dict[tuple[Shard, int], int] = {}  # shard, clock → checksum of its parameters, where remembered

    def begin(self, shards: dict[int, Shard]) -> None:
        """A first node begins, with these shards."""
        self._clocks.clear()
        self._ticks.clear()
        self._begun = {number: shard.clock for number, shard in shards.items()}
        self._sums = {number: float(shard.params.sum(dtype=np.float64)) for number, shard in shards.items()}

    def opened(self, shard: int, clock: int) -> None:
        """A shard is served, perhaps by another server than before."""
        self._begun.setdefault(shard, clock)

    def end(self, shards: dict[int, Shard], *, ticking: bool, within: float | None) -> None:
        """Look at the shards at the end of a run.

        Args:
            ticking: clocks count updates, and not evaluations.
            within: how far a shard may be from the sum of what was pushed to it; None: this is not looked at.
        """
        for number, shard in shards.items():
            expected = self._begun.get(number, 0) + self._ticks.get(number, 0)
            if ticking and shard.clock != expected:
                self._say(f"kept: shard {number} ends at clock {shard.clock}, {expected} updates were applied to it")
            ticks, pushed = float(shard.params.sum(dtype=np.float64)), self._sums.get(number, 0.0)
            if within is not None and abs(ticks - pushed) > within:
                self._say(f"kept: shard {number} holds {ticks:g} ticks, {pushed:g} were pushed to it")

    # -- what is applied to a shard

    def on_update(self, update: Update) -> None:
        """A shard begins to apply a push."""
        self._look_at_content([update.push], [update._late.grad], 1.0)

    def on_step(self, step: GatedStep) -> None:
        """A shard begins to apply the mean of several pushes."""
        self._look_at_content(step.pushes, step.arrays, step.share)

    def on_applied(self, shard: Shard, update: Update) -> Look:
        """A shard has applied a push."""
        yield
        self._applied(shard, [update.push])

    def on_stepped(self, shard: Shard, step: GatedStep) -> Look:
        """A shard has applied the mean of several pushes."""
        yield
        self._applied(shard, step.pushes)

    def _look_at_content(self, pushes: list[Any], grads: Iterable[Any], share: float) -> None:
        total, number = 0.0, pushes[0].shard
        for push, grad in zip(pushes, grads, strict=True):
            expected = self._sealed.get(_key(push))
            if expected is not None and zlib.crc32(grad) != expected:
                self._say(f"whole: push {_named(_key(push))} is applied with other content than it was sealed with")
            total += float(grad.sum(dtype=np.float64))
        if self._of_now(pushes[0].node):
            self._sums[number] = self._sums.get(number, 0.0) - share * total / len(pushes)

    def _applied(self, shard: Shard, pushes: list[Any]) -> None:
        for push in pushes:
            self.applied += 1
            if _key(push) in self._pushes:
                self._say(f"once: push {_named(_key(push))} is applied a second time")
            self._pushes.add(_key(push))
        if self._of_now(pushes[0].node):
            tick = (shard.number, shard.clock)
            if tick in self._clocks:
                self._say(f"once: shard {shard.number} has two updates number {shard.clock}: it has two histories")
            self._clocks.add(tick)
            self._ticks[shard.number] = self._ticks.get(shard.number, 0) + 1

    # -- what a client seals, sends, and hears of

    def on_sealed(self, path: AccruedPushes, push: Sealed, shard: int) -> None:
        """A sealed buffer is about to be pushed to a shard."""
        buffers, part = path._parts.buffers, path._parts.routes.map.range(shard)
        key = (shard, path._parts.coordinator.node, push.replica, push.sequence)
        self._sealed.setdefault(key, zlib.crc32(buffers.payload(push, part)))
        self._sent.setdefault((buffers, push.replica, push.sequence), set()).add(key)

    def on_drop(self, buffers: SealedBuffers, push: Sealed) -> None:
        """A client has heard that a push came too late."""
        self._sent.pop((buffers, push.replica, push.sequence), None)

    def on_acknowledged(self, buffers: SealedBuffers, push: Sealed, answers: list[Any]) -> None:
        """A client has heard of a push from every shard."""
        sent = self._sent.pop((buffers, push.replica, push.sequence), set())
        for key in sorted(sent - self._pushes) if answers else ():
            self._say(f"kept: push {_named(key)} is acknowledged and was not applied")

    def on_push_back(self, pulls: Pulls, shard: int, node: int, sequence: int, steps: int) -> None:
        """What a pull took is about to be pushed to a shard."""
        del steps
        key = (shard, node, pulls._replicas, sequence)
        self._sealed.setdefault(key, zlib.crc32(pulls._back[pulls._parts.routes.map.range(shard)].data))
        self._pushed_back[pulls] = {other for other in self._pushed_back.get(pulls, ()) if other[3] == sequence} | {key}

    def on_acknowledged_pull(self, pulls: Pulls, carried: Any, answers: Any) -> None:
        """A node has heard of what a pull took from every shard."""
        del carried, answers
        for key in sorted(self._pushed_back[pulls] - self._pushes):
            self._say(f"kept: push {_named(key)} of a pull is acknowledged and was not applied")

    # -- what a server takes and remembers

    def on_begin_push(self, server: ParameterServer, shard: Shard, push: Any, grad: Any) -> Look:
        """A server is sent a push."""
        del grad
        fenced = push.node in self._fenced.get(server.table, ()) and _key(push) not in self._pushes
        known = shard.history.params_of(push.node, push.clock)
        if known is not None and zlib.crc32(known.data) != self._fetched[shard, push.clock]:
            self._say(f"origins: push {_named(_key(push))} is amended by what was not fetched at clock {push.clock}")
        begun = yield
        if fenced and begun is not None:
            self._say(f"fenced: node {display_id(push.node)} was fenced, and push {_named(_key(push))} of it is taken")

    def on_begin_fetch(self, server: ParameterServer, shard: Shard, node: int) -> Look:
        """A node fetches a shard."""
        del node
        if shard.history.limit:
            self._fetched[shard, shard.clock] = zlib.crc32(shard.params.data)
        yield
        self._look_at_origins(server.table)

    def on_forget(self, table: ShardTable, node: int) -> Look:
        """A server is told that an incarnation is dead."""
        self._fenced.setdefault(table, set()).add(node)
        yield
        self._look_at_origins(table)

    def _look_at_origins(self, table: ShardTable) -> None:
        for shard in table._shards.values():
            if (gone := shard.history.nodes & self._fenced.get(table, set())):
                self._say(f"origins: shard {shard.number} remembers nodes that were fenced: {sorted(gone)}")


def _key(push: Any) -> Key:
    return push.shard, push.node, push.replica, push.sequence


def _named(key: Key) -> str:
    shard, node, replica, sequence = key
    return f"{sequence} of replica {replica} of node {display_id(node)} to shard {shard}"
