"""Who looks at a simulated cluster: points while it goes on, the report at its end. It changes nothing.

The parameters are read from the shards, wherever they are served, so that a point is what a model would be that was
taken at this moment, and no node has to do anything for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hogpour.core.cluster_state import ShardState, Totals
from hogpour.core.progress import Evaluation
from hogpour.model.model import Model
from hogpour.server.shard import Shard
from hogpour.sim.report import Happening, NodeReport, Point, SimulationReport
from hogpour.sim.world.loop import Loop
from hogpour.sim.world.network import SimulatedNetwork
from hogpour.sim.world.site import Site
from hogpour.sim.world.workload import Workload

__all__ = ["Observer"]


class Observer:
    """Looks at sites.

    Args:
        workload: what their nodes train.
        sites: the list of them, which grows.

    Attributes:
        points: what was seen so far.
    """

    def __init__(self, workload: Workload, sites: list[Site]) -> None:
        self.points: list[Point] = []
        self._workload, self._sites = workload, sites
        self._model = Model(workload.job, workload.network, workload.params.copy(), workload.encoding)

    @property
    def done(self) -> float:
        """Fraction of the job's examples whose gradients were computed, whether anybody has heard of them or not."""
        computed = sum(_node_report(site).examples for site in self._sites)
        return computed / (self._workload.job.epochs * len(self._workload.x))

    def shard(self, number: int) -> Shard | None:
        """Return a shard where it is served now; None: nowhere."""
        found = None
        for site in self._sites:
            life = site.lives[-1] if site.lives else None
            server = life.endpoint.stats.server if life is not None and life.endpoint is not None else None
            if server is not None and server.table.serves(number):
                found = server.table._shards[number]
        return found

    def look(self, seconds: float) -> Point:
        """Look at the cluster as it is now, and remember the point."""
        coordinator, evaluation = self._coordinator(), self._evaluate()
        totals = coordinator.stats.totals if coordinator is not None else None
        examples = coordinator.examples if coordinator is not None else 0
        point = Point(
            seconds=seconds,
            examples=examples,
            epoch=examples / len(self._workload.x),
            loss=evaluation.loss if evaluation is not None else None,
            accuracy=evaluation.accuracy if evaluation is not None else None,
            nodes=sum(site.life is not None for site in self._sites),
            pushes=totals.pushes if totals is not None else 0,
            staleness=totals.mean_staleness if totals is not None else None,
        )
        self.points.append(point)
        return point

    def report(
        self, loop: Loop, network: SimulatedNetwork, happenings: list[Happening], deaths: int
    ) -> SimulationReport:
        """Return what was found, after the last look."""
        first, coordinator, last = self._sites[0].lives[-1], self._coordinator(), self.points[-1]
        shards: list[ShardState] = [
            state
            for site in self._sites
            for life in site.lives
            if life.endpoint is not None
            for state in (*life.endpoint.stats.shards, *life.endpoint.stats.past_shards)
        ]
        staleness = [0] * max((len(state.staleness) for state in shards), default=0)
        for state in shards:
            for k, count in enumerate(state.staleness):
                staleness[k] += count
        pushes = sum(state.pushes for state in shards)
        totals = coordinator.stats.totals if coordinator is not None else Totals()
        return SimulationReport(
            outcome=first.outcome,
            error=first.error,
            seconds=last.seconds,
            examples=last.examples,
            repeated=coordinator.ledger.examples_repeated if coordinator is not None else 0,
            loss=last.loss,
            accuracy=last.accuracy,
            points=tuple(self.points),
            staleness=tuple(staleness),
            mean_staleness=sum(s.mean_staleness * s.pushes for s in shards) / pushes if pushes else None,
            dropped=totals.dropped,
            wait_s=totals.mean_wait_s,
            nodes=tuple(_node_report(site) for site in self._sites),
            happenings=tuple(happenings),
            deaths=deaths,
            resets=network.resets,
            connections=network.connected,
            events=loop.events,
            trace=loop.trace.hexdigest(),
        )

    def _coordinator(self) -> Any:
        """Return the newest coordinator; None before there was one."""
        for life in reversed(self._sites[0].lives if self._sites else []):
            stats = life.endpoint.stats if life.endpoint is not None else None
            if stats is not None and stats.coordinator is not None:
                return stats.coordinator
        return None

    def _evaluate(self) -> Evaluation | None:
        """Judge the parameters that the shards hold."""
        coordinator, test = self._coordinator(), self._workload.test
        if coordinator is None or test is None:
            return None
        bounds = coordinator.map.bounds
        for number in range(len(bounds) - 1):
            shard = self.shard(number)
            if shard is not None:
                self._model.params[bounds[number] : bounds[number + 1]] = shard.params
        if not np.isfinite(self._model.params).all():
            return None
        evaluation = self._model.evaluate(test)
        return evaluation if evaluation is not None and np.isfinite(evaluation.loss) else None


def _node_report(site: Site) -> NodeReport:
    life = site.lives[-1]
    clocks = [one.endpoint.stats.clocks for one in site.lives if one.endpoint is not None]
    replicas = [one.replicas for one in site.lives if one.replicas is not None]
    return NodeReport(
        node=site.number,
        lives=len(site.lives),
        outcome=life.outcome,
        error=life.error,
        examples=sum(one.examples for one in clocks if one is not None),
        computing_s=round(sum(sum(one.computed_s) for one in replicas), 6),
        waiting_s=round(sum(sum(one.waited_s) for one in replicas), 6),
        bytes_in=site.machine.bytes_in,
        bytes_out=site.machine.bytes_out,
        replica_restarts=sum(one.restarts for one in replicas),
        second_run=site.second,
    )
