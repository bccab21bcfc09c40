"""One run of a comparison: a job under one scheme, alone on this machine or in a simulated cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hogpour.cli.options import run_async
from hogpour.core.cluster_state import ClusterProgress, ShardState
from hogpour.core.job import Job
from hogpour.core.progress import Notice
from hogpour.node.node import Node
from hogpour.sim.scenario import Scenario
from hogpour.sim.simulation import Simulation

__all__ = ["LossPoint", "Trial", "count_pushes", "simulate", "train"]


@dataclass(frozen=True, slots=True)
class LossPoint:
    """How good the parameters were at one moment."""

    seconds: float
    loss: float | None
    """Mean loss of a test example; where there are none, of the training examples since the point before."""
    accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The job under one scheme. None: not known."""

    outcome: str
    """finished, stopped; diverged, failed, died."""
    error: str = ""
    """Why it failed."""
    examples: int | None = None
    seconds: float | None = None
    """Virtual ones in a simulation."""
    loss: float | None = None
    accuracy: float | None = None
    staleness: float | None = None
    """Mean of a push, in updates."""
    pushes: int | None = None
    """Applied, on all shards together."""
    pushes_repeated: int | None = None
    """Pushes that were not applied because they had been."""
    pushes_amended: int | None = None
    """Late pushes that were amended, in rate or gradient."""
    pushes_dropped: int | None = None
    """Pushes that came too late for their step."""
    wait_s: float | None = None
    """Mean seconds that a push waited at a gate for others."""
    bytes: float | None = None
    """In a simulation those that left all interfaces, else of parameters and gradients that went over the network."""
    points: tuple[LossPoint, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the run ended in order."""
        return self.outcome in ("finished", "stopped")

    @property
    def rate(self) -> float | None:
        """Examples per second."""
        return self.examples / self.seconds if self.examples is not None and self.seconds else None

    @property
    def bytes_per_example(self) -> float | None:
        """What an example costs the network."""
        return self.bytes / self.examples if self.bytes is not None and self.examples else None


def train(job: Job) -> Trial:
    """Train a job alone on this machine; no model is written. What a person must know goes to standard error.

    Raises:
        HogpourError: the node cannot begin, or could not go on.
    """
    return run_async(_train(job))


async def _train(job: Job) -> Trial:
    judged: list[LossPoint] = []
    cluster: ClusterProgress | None = None
    learnt: list[LossPoint] = []
    node = Node(replace(job, cluster=replace(job.cluster, wait_for=1)), every_s=0.5)
    node.tell = _tell
    async with node:
        async for progress in node:
            cluster = progress.cluster or cluster
            for notice in progress.notices:
                _tell(notice)
            if progress.new_evaluation and progress.evaluation is not None:
                judged.append(LossPoint(progress.seconds, progress.evaluation.loss, progress.accuracy))
            if progress.loss is not None:
                learnt.append(LossPoint(progress.seconds, progress.loss, None))
        summary = await node.wait()
    counts = count_pushes(node.shards)
    diverged = summary.outcome == "diverged"  # then its loss is that of the last good model
    if judged and not diverged:  # a snapshot comes a little later than what it tells of; the last one has its time
        judged = [point for point in judged if point.seconds < summary.seconds]
        judged.append(LossPoint(summary.seconds, summary.loss, summary.accuracy))
    return Trial(
        outcome=summary.outcome,
        error=f"at epoch {summary.epoch:.2f} the loss is not finite any more" if diverged else "",
        examples=summary.examples,
        seconds=summary.seconds,
        loss=None if diverged else summary.loss,
        accuracy=None if diverged else summary.accuracy,
        wait_s=cluster.wait_s if cluster is not None else None,
        bytes=(cluster.bytes_per_example or 0.0) * summary.examples if cluster is not None else None,
        points=tuple(judged or learnt),
        **counts,
    )


def count_pushes(shards: Sequence[ShardState]) -> dict[str, Any]:
    """Return the fields of a trial that say what became of the pushes to all shards; empty: there are none."""
    if not shards:
        return {}
    pushes = sum(shard.pushes for shard in shards)
    return {
        "staleness": sum(shard.mean_staleness * shard.pushes for shard in shards) / pushes if pushes else None,
        "pushes": pushes,
        "pushes_repeated": sum(shard.repeated for shard in shards),
        "pushes_amended": sum(shard.amended for shard in shards),
        "pushes_dropped": sum(shard.dropped for shard in shards),
    }


def simulate(scenario: Scenario) -> Callable[[Job], Trial]:
    """Return what simulates a job in one and the same scenario, whatever its scheme.

    What is returned raises ConfigError for a job that cannot be simulated.
    """

    def trial(job: Job) -> Trial:
        simulation = Simulation(job, scenario)
        report = simulation.run()
        ends = [life.endpoint for site in simulation.sites for life in site.lives if life.endpoint is not None]
        shards = [shard for end in ends for shard in (*end.stats.shards, *end.stats.past_shards)]
        diverged = report.outcome == "diverged"
        return Trial(
            outcome=report.outcome,
            error=report.error,
            examples=report.examples,
            seconds=report.seconds,
            loss=None if diverged else report.loss,
            accuracy=None if diverged else report.accuracy,
            wait_s=report.wait_s,
            bytes=report.bytes,
            points=tuple(LossPoint(point.seconds, point.loss, point.accuracy) for point in report.points),
            **count_pushes(shards),
        )

    return trial


def _tell(notice: Notice) -> None:
    if notice.event in ("compiling", "warning", "replica_died", "replica_restarted"):
        print(f"hogpour: {notice.text}", file=sys.stderr, flush=True)  # noqa: T201
