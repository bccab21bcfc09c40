"""The witness's invariants of pulls: what nodes hold, what was taken from each, and what the servers were given for it.

Kept from what is seen to change in live vectors and shards, and compared with what was pushed:

    holds           a live vector is what its node took over at its beginning, and its steps and pulls since then
    taken           a pull takes from a node what it pushes; of each shard once
    given           a shard is added what was taken from a node, once, and nothing else; what was taken of a node that
                    ends in order was given
    rounds          no replica takes more steps between two landings than a round has

A batch is in a shard when what the first pull after its step took is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import ReplicaView
from hogpour.algos.exchange.elastic import Elastic
from hogpour.client.fetches import Landings
from hogpour.client.path import Parts
from hogpour.client.pulls import Pulls
from hogpour.core.node_id import display_id
from hogpour.machine.replica import Replica
from hogpour.server.shard import Shard, Update
from hogpour.sim.checks.probes import Look

__all__ = ["Key", "PullInvariants"]

Key = tuple[int, int, int, int]
"""Of a push: shard, node, replica, sequence."""


class _Node:
    """What is known of one life of a node."""

    def __init__(self, pulls: Pulls) -> None:
        params = pulls._parts.live["params"]
        self.pulls, self.begin = pulls, _address(params)
        self.end = self.begin + params.nbytes
        self.holds = params.astype(np.float64)
        self.fresh = np.zeros(self.holds.size, np.int64)  # batches ticked, by element, that no pull has taken
        self.pulled: dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]] = {}  # first element → not pushed
        self.steps: Counter[int] = Counter()  # replica → steps since its newest landing
        self.landed = False

    @property
    def name(self) -> str:
        return f"node {display_id(self.pulls._parts.coordinator.node)}"

    def part(self, params: npt.NDArray[Any]) -> slice:
        """Return where in the live vector this is."""
        start = (_address(params) - self.begin) // params.itemsize
        return slice(start, start + params.size)


class PullInvariants:
    """Invariants of the pulls of one simulation.

    Args:
        say: writes a violation down.
        of_now: whether a node is of the newest run.

    Attributes:
        pulled: nodes are pulled.
    """

    def __init__(self, say: Callable[[str], None], of_now: Callable[[int], bool]) -> None:
        self._say, self._of_now, self.pulled = say, of_now, False
        self._nodes: list[_Node] = []  # the newest first
        self._taken: dict[Key, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]] = {}  # and not given yet
        self._centre: dict[int, npt.NDArray[np.float32]] = {}  # shard → after the newest update
        self._history: dict[int, list[tuple[int, Counter[int]]]] = {}  # shard → clock after an update, what it brought

    def begin(self, shards: dict[int, Shard]) -> None:
        """A first node begins, with these shards."""
        self._centre = {number: shard.params.copy() for number, shard in shards.items()}
        for number, updates in self._history.items():
            clock = shards[number].clock if number in shards else 0
            updates[:] = [update for update in updates if update[0] <= clock]

    def opened(self, shard: Shard) -> None:
        """A shard is served, perhaps by another server than before."""
        self._centre.setdefault(shard.number, shard.params.copy())

    def counts(self, elements: Iterable[int]) -> list[int]:
        """Return how often each element was ticked by steps that the shards have had pulls of."""
        total: Counter[int] = Counter()
        for updates in self._history.values():
            for _, brought in updates:
                total.update(brought)
        return [total[element] for element in elements]

    # -- nodes

    def on_begin(self, pulls: Pulls, parts: Parts) -> Look:
        """A node begins."""
        del parts
        yield
        self._nodes.insert(0, _Node(pulls))

    def on_land(self, landings: Landings) -> None:
        """A node takes all parameters over: when it begins, and when it ends."""
        for node in self._nodes:
            if node.pulls._parts.landings is landings and node.landed:
                left = len(node.pulled) + sum(key[1] == node.pulls._parts.coordinator.node for key in self._taken)
                if left:
                    self._say(f"kept: {node.name} ends, and what {left} pulls took from it is nowhere")

    def on_complete(self, landings: Landings, wishes: list[int]) -> None:
        """A landing is complete, for the replicas whose wish it serves."""
        for node in self._nodes:
            if node.pulls._parts.landings is landings:
                node.landed = True
                for replica, wish in enumerate(wishes):
                    if wish > landings._mailbox.landed(replica):
                        node.steps[replica] = 0

    def on_params(self, exchange: Elastic, params: Any, fetched: Any) -> None:
        """Parameters are taken over."""
        del exchange
        if (node := self._node(params)) is not None:
            part = node.part(params)
            node.holds[part], node.fresh[part] = fetched, 0

    def on_use(self, replica: Replica, batch: int) -> None:
        """A replica is about to step."""
        del batch
        if (node := self._node(replica._view.params)) is None:
            return
        number, allowed = replica._number, replica._exchange.n_push
        node.steps[number] += 1
        if node.steps[number] > allowed:
            self._say(f"rounds: replica {number} of {node.name} takes its step {node.steps[number]} "
                      f"since it was pulled, {allowed} are allowed")  # fmt: skip

    def on_gradient(self, exchange: Elastic, view: ReplicaView, grad: Any) -> Look:
        """A replica steps."""
        del exchange
        if (node := self._node(view.params)) is None:
            return
        before = view.params.copy()
        node.fresh += np.rint(-grad).astype(np.int64)
        yield
        node.holds += view.params.astype(np.float64) - before

    # -- pulls

    def on_pull(self, exchange: Elastic, params: Any, fetched: Any, push: Any, *_: Any) -> Look:
        """A shard's part of a node is pulled."""
        del exchange, fetched
        if (node := self._node(params)) is None:
            return
        self.pulled = True
        part, before = node.part(params), params.astype(np.float64)
        if not np.allclose(before, node.holds[part], rtol=0, atol=1e-9):
            self._say(f"kept: {node.name} holds something else than its steps and pulls have made")
        if part.start in node.pulled:
            self._say(f"kept: {node.name} is pulled again, and what was taken is not pushed")
        yield
        taken = before - params
        if not (np.abs(taken + push) <= 1e-6 * (np.abs(before) + np.abs(push))).all():
            self._say("kept: a pull has not given the servers what it took from the node")
        node.pulled[part.start] = taken, node.fresh[part].copy()
        node.holds[part], node.fresh[part] = params, 0

    def on_push_back(self, pulls: Pulls, shard: int, node: int, sequence: int, steps: int) -> None:
        """What a pull took is about to be pushed."""
        del steps
        start = pulls._parts.routes.map.range(shard).start
        for pulled in self._nodes:
            if pulled.pulls is pulls and start in pulled.pulled:
                self._taken[shard, node, pulls._replicas, sequence] = pulled.pulled.pop(start)

    # -- servers

    def on_applied(self, shard: Shard, update: Update) -> Look:
        """A shard has applied a push."""
        yield
        push, params = update.push, shard.params
        if not self.pulled or not self._of_now(push.node):
            return
        taken, fresh = self._taken.pop((shard.number, push.node, push.replica, push.sequence), (0.0, np.zeros(0, int)))
        error = np.abs(params - self._centre[shard.number] - taken)
        if not (error <= 1e-6 * (1 + np.abs(params) + np.abs(taken))).all():
            self._say(f"kept: shard {shard.number} was not added what was taken from node {display_id(push.node)}")
        brought = Counter({shard.start + int(element): int(fresh[element]) for element in np.flatnonzero(fresh)})
        self._history.setdefault(shard.number, []).append((shard.clock, brought))
        self._centre[shard.number] = params.copy()

    def _node(self, params: Any) -> _Node | None:
        """Return the node whose live vector these elements are of."""
        address = _address(params)
        return next((node for node in self._nodes if node.begin <= address < node.end), None)


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.ctypes.data)
