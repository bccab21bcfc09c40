"""How a node and its cluster stand: what was done, by whom, as far as this node has heard.

The first node asks its coordinator; another one counts its own and takes the rest from the answers to its heartbeats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from hogpour.algos.lbfgs.commands import Iteration
from hogpour.client.client import ParameterClient
from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.cluster.coordinator import Coordinator
from hogpour.core.cluster_state import ClusterProgress, ShardState, Totals
from hogpour.server.server import ParameterServer
from hogpour.shm.clocks import Clocks

__all__ = ["RunStats"]


class RunStats:
    """The numbers of one node. Whoever learns of a source of them sets it here.

    Attributes:
        member: this node's membership.
        coordinator: on the first node.
        server: of the shards that this node serves.
        clocks, params: of this node's replicas; None and empty before there are any.
        link: pushes of this node.
        alive: how many replica processes run here.
        before: examples that earlier runs of a resumed job used, and others before this node joined.
        all_examples: that the job uses, in all epochs.
        reached: what the run has come to: the live vector; of batch methods, whose live vector is of trials, on the
            first node a copy of the point of the newest iteration, if it was here. Replaced, never written.
        objective: batch methods, on the first node: at the point of the newest iteration; None: there is none.
    """

    def __init__(self) -> None:
        self.member: CoordinatorClient | None = None
        self.coordinator: Coordinator | None = None
        self.server: ParameterServer | None = None
        self.clocks: Clocks | None = None
        self.link: ParameterClient | None = None
        self.alive: Callable[[], int] = lambda: 0
        self.before = self.all_examples = 0
        self.reached = self.params = np.zeros(0, np.float32)
        self.objective: float | None = None
        self._counted = Totals()  # by earlier incarnations of this node

    def own(self) -> Totals:
        """Return what this incarnation of this node did."""
        clocks, link = self.clocks, self.link
        if clocks is None:
            return Totals()
        done = Totals(clocks.examples, clocks.right, clocks.loss)
        if link is not None:
            sent = link.buffers
            done += Totals(0, 0, 0.0, sent.pushes, sent.staleness, sent.dropped, sent.waited_s, link.bytes_moved)
        return done - self._counted

    def begin_again(self) -> None:
        """Say that this node is a new incarnation: what it did so far is counted as the old one's."""
        self._counted += self.own()

    def on_iteration(self, iteration: Iteration) -> None:
        """Keep what an iteration came to, and its point, if it is here: the next landing replaces it by a trial."""
        self.objective = iteration.value
        if self.link is not None and self.link.path.evaluation == iteration.state.evaluation:
            self.reached = self.params.copy()

    def beat(self) -> dict[str, Any]:
        """Return the fields of ``Heartbeat``."""
        return {"replicas": self.alive()} | asdict(self.own())

    def totals(self) -> Totals:
        """Return what was done in this run: on the first node by the whole cluster."""
        return self.own() if self.coordinator is None else self.coordinator.stats.totals

    @property
    def examples(self) -> int:
        """Examples used in this run by the whole cluster."""
        if self.coordinator is not None:
            return self.coordinator.stats.totals.examples
        if self.complete:  # the last heartbeats of others may be on their way to the first node still
            return self.all_examples - self.before
        beaten = self.member.beaten if self.member is not None else None
        return max(0, (beaten.examples if beaten is not None else 0) - self.before)

    def cluster(self) -> ClusterProgress | None:
        """Return what this node knows of the cluster; None: it has none."""
        beaten = self.member.beaten if self.member is not None else None
        totals = self.totals()
        return ClusterProgress(
            nodes=beaten.nodes if beaten is not None else 1,
            replicas=self.alive() if self.coordinator is None else self.coordinator.stats.replicas,
            staleness=totals.mean_staleness, dropped=totals.dropped, wait_s=totals.mean_wait_s,
            bytes_per_example=totals.bytes_per_example, warming=beaten is not None and beaten.warming,
            waits_for=() if self.coordinator is None else self.coordinator.waiting.list(),
        )  # fmt: skip

    @property
    def shards(self) -> tuple[ShardState, ...]:
        """How the shards are that this node serves."""
        return self.server.table.states() if self.server is not None else ()

    @property
    def past_shards(self) -> tuple[ShardState, ...]:
        """How the shards were that this node has served and others have now."""
        return self.server.table.past_states() if self.server is not None else ()

    @property
    def stepped(self) -> bool:
        """Whether the parameters are others than at the beginning of this run. On another node than the first, those of
        a run that is complete are, even if it had no part in them."""
        return self.totals().pushes > 0 or self.own().pushes > 0 or (self.coordinator is None and self.complete)

    @property
    def complete(self) -> bool:
        """Whether every example of every epoch was used."""
        beaten = self.member.beaten if self.member is not None else None
        return beaten is not None and beaten.command == "finish"

    @property
    def repeated(self) -> int:
        """Examples that were handed out again; on another node than the first, nobody tells."""
        return 0 if self.coordinator is None else self.coordinator.ledger.examples_repeated
