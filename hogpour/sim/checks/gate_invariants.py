"""The witness's invariants of gates: who takes part, what a step is made of, who is how far ahead.

Kept from the messages of origins alone, and compared with what the gatekeeper decides from them:

    a step          has as many gradients as the gate asks for of those present, each origin's once where it waits, and
                    moves by its share of what the gate would ask for of all who are not gone
    late            no gradient of an earlier step counts where late ones are dropped, and none is dropped that is not
    there           a shard has every gradient that counts in its steps
    back            whoever sends a gradient takes part, also where it was counted out before
    ahead           no origin is let go on that is further ahead of the slowest one than its gate allows
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hogpour.client.buffers import SealedBuffers
from hogpour.client.fetches import Landings
from hogpour.cluster.gatekeeper import Gatekeeper
from hogpour.core.node_id import display_id
from hogpour.net.wire.gate import Arrive
from hogpour.server.gated_step import GatedStep
from hogpour.server.server import ParameterServer
from hogpour.server.shard import Shard
from hogpour.shm.accrual import Sealed
from hogpour.sim.checks.probes import Look

__all__ = ["GateInvariants"]

Origin = tuple[int, int]


class GateInvariants:
    """Invariants of the gates of one simulation.

    Args:
        say: writes a violation down.

    Attributes:
        gated: steps of several gradients are made.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self.gated = say, False
        self._clocks: dict[Origin, int] = {}  # of those who take part
        self._away: dict[Origin, int] = {}  # of those who took part
        self._heard: dict[Origin, int] = {}  # → highest sequence
        self._history: dict[int, list[tuple[int, dict[int, int]]]] = {}  # shard → clock after a step, what it counted
        self._dropped: Counter[int] = Counter()  # element → how often it came too late
        self._limit: int | None = None  # clocks that the fastest may be ahead of the slowest

    def begin(self, shards: dict[int, Shard]) -> None:
        """A first node begins, with these shards."""
        for origins in (self._clocks, self._away, self._heard):
            origins.clear()
        for number, steps in self._history.items():
            clock = shards[number].clock if number in shards else 0
            steps[:] = [step for step in steps if step[0] <= clock]

    def counts(self, elements: Iterable[int]) -> tuple[list[int], list[int]]:
        """Return how often each element was counted in the steps of the shards, and how often it came too late."""
        total: Counter[int] = Counter()
        for steps in self._history.values():
            for _, counted in steps:
                total.update(counted)
        wanted = list(elements)
        return [total[element] for element in wanted], [self._dropped[element] for element in wanted]

    def on_stepped(self, shard: Shard, step: GatedStep) -> Look:
        """A shard has applied a step."""
        yield
        counted = np.rint([-grad for grad in step.arrays]).astype(np.int64).sum(axis=0)
        elements = np.flatnonzero(counted)
        taken = dict(zip((shard.start + elements).tolist(), counted[elements].tolist()))
        self._history.setdefault(shard.number, []).append((shard.clock, taken))

    def on_made(self, _: ParameterServer, shard: Shard, step: GatedStep, lied: tuple[int, ...]) -> None:
        """A server is about to answer for a step; ``lied``: nodes of which it had no gradient."""
        del step
        if lied:
            nodes = ", ".join(str(display_id(node)) for node in lied)
            self._say(f"there: step {shard.clock} of shard {shard.number} lacks a gradient of node {nodes}")

    def on_drop(self, buffers: SealedBuffers, push: Sealed) -> None:
        """A client has heard that a push came too late."""
        grad = np.frombuffer(buffers._bytes[push.replica][push.buffer], np.float32)
        for element in np.flatnonzero(grad):
            self._dropped[int(element)] += round(-float(grad[element]))

    # -- what the gatekeeper hears and does

    def on_attend(self, keeper: Gatekeeper, node: int, replica: int, present: bool) -> None:
        """An origin is counted in or out."""
        self._limit = keeper._gate.ahead()
        if present and (node, replica) not in self._clocks:
            slowest = min(self._clocks.values(), default=0)
            self._clocks[node, replica] = max(slowest, self._away.pop((node, replica), 0))
        elif not present and (node, replica) in self._clocks:
            self._away[node, replica] = self._clocks.pop((node, replica))

    def on_arrive(self, keeper: Gatekeeper, arrive: Arrive) -> Look:
        """A gradient has arrived, perhaps told again."""
        del keeper
        origin = arrive.node, arrive.replica
        new = arrive.sequence > self._heard.get(origin, 0)
        if new:
            self._heard[origin] = arrive.sequence
            if origin in self._clocks:
                self._clocks[origin] += 1
        yield
        if new and origin not in self._clocks:
            who = f"replica {arrive.replica} of node {display_id(arrive.node)}"
            self._say(f"gates: {who} sends a gradient and does not take part")

    def on_forget(self, keeper: Gatekeeper, node: int) -> None:
        """A member is gone."""
        del keeper
        for origins in (self._clocks, self._away, self._heard):
            for origin in [origin for origin in origins if origin[0] == node]:
                del origins[origin]

    def on_commit(self, keeper: Gatekeeper, step: int, arrivals: list[Any], share: float) -> None:
        """A step is decided."""
        self.gated = True
        gate = keeper._gate
        needed, present = gate.needed(len(self._clocks)), len(self._clocks)
        what = f"gates: step {step} is of {len(arrivals)} gradients, {present} origins take part"
        if len(arrivals) < needed:
            self._say(f"{what}, {needed} are asked for")
        whole = gate.needed(present + len(self._away))
        if share != min(1.0, len(arrivals) / whole):
            self._say(f"{what}, a whole one has {whole}, and it moves by {share:g} of the rate")
        if gate.counts_late:
            if len(arrivals) > needed:
                self._say(f"{what}, {needed} are asked for")
            return
        if any(one.step != step for one in arrivals):
            self._say(f"{what}, computed on those of steps {sorted({one.step for one in arrivals})}")
        if len({(one.node, one.replica) for one in arrivals}) < len(arrivals):
            self._say(f"{what}, two of one origin")

    def on_landing(self, landings: Landings, wishes: list[int]) -> None:
        """Replicas are about to go on: those whose wish this landing serves."""
        node = landings._coordinator.node
        for replica, wish in enumerate(wishes):
            clock = self._clocks.get((node, replica))
            if self._limit is None or clock is None or wish <= landings._mailbox.landed(replica):
                continue
            if clock - min(self._clocks.values()) > self._limit:
                self._say(f"gates: replica {replica} of node {display_id(node)} goes on at clock {clock}, the slowest "
                          f"is at {min(self._clocks.values())}, {self._limit} apart are allowed")  # fmt: skip
