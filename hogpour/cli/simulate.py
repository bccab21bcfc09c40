"""The two commands of the laboratory, ``sim`` and ``sweep``; and what ``compare --sim`` trains with."""

from __future__ import annotations

import json as jsonlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_type_hints

from hogpour.cli import plots
from hogpour.cli.compare import LossPoint, Trial, pushed
from hogpour.cli.sim_report import JsonShow, TableShow
from hogpour.core.errors import ConfigError, InputError
from hogpour.core.job import Job
from hogpour.core.registry import nearest, typed
from hogpour.sim.scenario import Scenario, read_scenario
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.compute import Compute

__all__ = ["simulate", "sweep", "trials"]


def simulate(
    job: Job,
    scenario: str | None,
    changes: Mapping[str, Any],
    *,
    compute: str | None,
    log: bool,
    plot: str | None,
    json: bool,
) -> int:
    """Simulate a job and print what was found; return the exit code: 0 where the run ended in order.

    Args:
        scenario: path of a file; None: the default one.
        changes: fields of the scenario that are others.
        compute: "NAME:SECONDS".
        log: show everything that happened.
        plot: path of a picture.
        json: print JSON lines.
    """
    if plot:
        plots.check()
    given = read_scenario(scenario) if scenario else Scenario()
    if compute:
        changes = {**changes, "compute": _compute(compute, given.compute)}
    show = JsonShow() if json else TableShow(job.epochs, log)
    simulation = Simulation(job, given, told=show.point, **changes)
    began = time.perf_counter()
    report = simulation.run()
    show.report(report, time.perf_counter() - began)
    if plot:
        plots.plot({"": report}, plot, _title(simulation))
    return 0 if report.outcome in ("finished", "stopped") else 1


def trials(scenario: str | None, changes: Mapping[str, Any], compute: str | None) -> Callable[[Job], Trial]:
    """Return what simulates a job in one and the same scenario, whatever its scheme; the arguments of ``simulate``.

    Raises:
        ConfigError: the scenario cannot be used; what is returned raises it for a job that cannot be simulated.
    """
    given = read_scenario(scenario) if scenario else Scenario()
    if compute:
        changes = {**changes, "compute": _compute(compute, given.compute)}
    try:
        given = replace(given, **changes)
    except ValueError as error:
        raise ConfigError(f"scenario: {error}") from None

    def trial(job: Job) -> Trial:
        simulation = Simulation(job, given)
        report = simulation.run()
        lives = [life for station in simulation.stations for life in station.lives if life.federation is not None]
        counts = pushed([shard for life in lives for shard in (*life.federation.shards, *life.federation.past_shards)])
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
            **counts,
        )

    return trial


def sweep(seeds: str, without: str, json: bool) -> int:
    """Run seeds and print those that break a promise; return the exit code: 0 where none does."""
    from hogpour.sim.checks.ablations import ABLATIONS
    from hogpour.sim.checks.sweep import sweep

    if without == "list":
        for name, ablation in ABLATIONS.items():
            print(f"{name:14} {ablation.why}; seed {ablation.seed}")  # noqa: T201
        return 0
    if without and without not in ABLATIONS:
        raise ConfigError(f"--without {without}: no such safeguard{nearest(without, ABLATIONS)}")
    found = re.fullmatch(r"(\d{1,15})(?:-(\d{1,15}))?", seeds)
    first = int(found[1]) if found else 1
    last = int(found[2] or found[1]) if found else 0
    if first > last:
        raise ConfigError(f"--seeds {seeds}: expected a number, or a range such as 0-199")
    began, failed, outcomes = time.perf_counter(), 0, {}
    for finding in sweep(range(first, last + 1), without):
        outcome = finding.report.outcome if finding.report is not None else "no end"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        failed += bool(finding.violations)
        if json:
            words = {"event": "seed", "seed": finding.seed, "outcome": outcome, "violations": finding.violations}
            print(jsonlib.dumps(words | {"trace": finding.report.trace if finding.report else ""}), flush=True)  # noqa: T201
        elif finding.violations:
            print(f"seed {finding.seed}: {finding.replay(without)}", flush=True)  # noqa: T201
            for violation in finding.violations:
                print(f"    {violation}", flush=True)  # noqa: T201
    seconds = time.perf_counter() - began
    if json:
        words = {"event": "finished", "seeds": last + 1 - first, "failed": failed, "outcomes": outcomes}
        print(jsonlib.dumps(words | {"seconds": round(seconds, 3)}))  # noqa: T201
    else:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
        print(f"{last + 1 - first:,} seeds, {failed:,} broke a promise; runs: {told}; {seconds:.1f} s")  # noqa: T201
    return 1 if failed else 0


def _compute(text: str, given: Compute) -> Compute:
    name, _, mean = text.partition(":")
    if name == "measured":
        raise InputError("--compute measured: the times are in a scenario file")
    try:
        mean_s = float(mean) if mean else given.mean_s
        return replace(given, distribution=typed(name, _DISTRIBUTION, "distribution"), mean_s=mean_s)
    except ValueError as error:
        raise ConfigError(f"--compute {text}: expected for example exponential:0.1 ({error})") from None
    except ConfigError as error:
        raise ConfigError(f"--compute {text}: {error}") from None


_DISTRIBUTION = get_type_hints(Compute)["distribution"]


def _title(simulation: Simulation) -> str:
    s = simulation.scenario
    return f"{s.nodes} nodes of {s.replicas}, {s.compute.distribution} {s.compute.mean_s:g} s, seed {s.seed}"
