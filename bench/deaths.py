"""Does Downpour learn MNIST as well when a tenth of its replicas dies every minute of virtual time?

Dean et al. 2012 (DistBelief) say that Downpour SGD tolerates the failure of whole replicas, which may be taken offline
or started again at any time, where a synchronous run would stand still. They measured none of it. Here 20 nodes of one
replica each train 784-128-10; each virtual minute two of them, drawn at random, are killed, and started again half a
minute later. The first node, which holds the parameters, is spared: its death ends a run.

Every gradient is really computed; seconds are virtual. The same seeds give the same numbers on processors of one kind.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import starmap
from pathlib import Path
from statistics import median
from typing import Any

from bench import harness

__all__ = ["add_arguments", "measure"]

DATA = Path(__file__).parents[2] / "shared" / "data" / "mnist"
NODES, HIDDEN, BATCH, EPOCHS = 20, 128, 32, 5
MEAN_S, SIGMA = 1.2, 0.5
"""Of the log-normal time of a gradient: a run takes about nine virtual minutes."""

EVERY_S, BACK_S = 60.0, 30.0
DYING = 2
"""Nodes that die each minute: a tenth of all."""

LR = {"sgd": 0.05, "adagrad": 0.01, "synchronous": 0.5}
"""Rates of Downpour by SGD and Adagrad, and of synchronous SGD: ten times the first, for the mean of 20 gradients."""

TARGET = 0.95
GOAL_POINTS, GOAL_TIMES = 1.0, 1.3
KINDS = {"undisturbed": None, "killed": "kill"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this bench's own options."""
    parser.add_argument("--plot", metavar="FILE", help="also draw the first seed's runs (PNG); needs matplotlib")
    parser.add_argument("--examples", type=int, default=0, help="use so many training examples only; for tests")


def measure(options: argparse.Namespace) -> harness.Report:
    """Simulate every kind of misfortune with every seed."""
    import hogpour as hp

    data = hp.load(DATA / "train-images-idx3-ubyte.gz", DATA / "t10k-images-idx3-ubyte.gz")
    if options.examples:
        train, test = data.train, data.test
        data = hp.arrays(train.x[: options.examples], train.y[: options.examples], test.x[:500], test.y[:500])
    seeds = range(options.rounds or 3)
    table = harness.Table(
        f"{NODES} replicas, {DYING} of which die every {EVERY_S:g} virtual seconds and are back after {BACK_S:g}",
        ("optimiser", "misfortune", "seeds", "deaths", "given_out_again_%", "accuracy", "points", "goal_points",
         "virtual_s", "times", "goal_times", f"s_to_{TARGET}", "times_to_it"),
    )  # fmt: skip
    drawn: dict[str, Any] = {}
    figures = {}
    plan = [(data, optimiser, kind, seed) for optimiser in LR for kind in KINDS.values() for seed in seeds]
    made = iter(_runs(plan))
    for optimiser in LR:
        runs = {name: [next(made) for _ in seeds] for name in KINDS}
        seconds = [[report.seconds for report in runs[name]] for name in KINDS]
        figures[f"undisturbed: {optimiser}"] = harness.paired(*seconds)
        for name, reports in runs.items():
            table.add(optimiser=optimiser, misfortune=name, **_row(reports, runs["undisturbed"]))
            drawn[f"{optimiser}, {name}"] = reports[0]
    if options.plot:
        from hogpour.cli.plots import plot

        plot(drawn, options.plot, f"Downpour, MNIST, {NODES} replicas, {DYING} die every virtual minute; seed 0")
    notes = [
        "medians over the seeds of each run against the undisturbed run of its seed; points: accuracy beside it",
        f"a run is {EPOCHS} epochs in batches of {BATCH}; n_push = n_fetch = 1; log-normal gradients of {MEAN_S} s",
        "synchronous: scheme ssgd; a step waits for the dead until their lease of 3 s ends",
    ]
    return harness.Report([table], notes, figures)


def _runs(plan: list[tuple[Any, ...]]) -> Iterator[Any]:
    """Simulate, with several seeds a run on each core at a time: virtual seconds do not care who else computes."""
    if len(plan) == len(LR) * len(KINDS):
        yield from starmap(_run, plan)
        return
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_run, *zip(*plan))


def _run(data: Any, optimiser: str, kind: Any, seed: int) -> Any:
    import hogpour as hp
    from hogpour.sim.scenario import Death

    rule = (hp.Adagrad if optimiser == "adagrad" else hp.Sgd)(LR[optimiser])
    scheme = hp.Ssgd if optimiser == "synchronous" else hp.Downpour
    job = hp.Job(
        data=data,
        model=[hp.Linear(HIDDEN), hp.Relu(), hp.Linear(10)],
        algorithm=scheme(optimiser=rule),
        epochs=EPOCHS,
        batch=BATCH,
        seed=seed,
    )
    deaths = () if kind is None else (Death(every_s=EVERY_S, fraction=DYING / (NODES - 1), back_s=BACK_S, kind=kind),)
    scenario = hp.Scenario(
        nodes=NODES,
        seed=seed,
        compute=hp.Compute(distribution="log_normal", mean_s=MEAN_S, sigma=SIGMA),
        death=deaths,
    )
    return hp.Simulation(job, scenario).run()


def _row(reports: list[Any], undisturbed: list[Any]) -> Mapping[str, Any]:
    pairs = list(zip(reports, undisturbed, strict=True))
    reached = [report.time_to(TARGET) for report in reports]
    row: dict[str, Any] = {
        "seeds": len(reports),
        "deaths": median(report.deaths for report in reports),
        "given_out_again_%": median(100 * report.repeated / report.examples for report in reports),
        "accuracy": median(report.accuracy for report in reports),
        "virtual_s": median(report.seconds for report in reports),
        f"s_to_{TARGET}": None if None in reached else median(reached),
    }
    if reports is not undisturbed:
        row["points"] = median(100 * (a.accuracy - b.accuracy) for a, b in pairs)
        row["times"] = median(a.seconds / b.seconds for a, b in pairs)
        row |= {"goal_points": -GOAL_POINTS, "goal_times": GOAL_TIMES}
        before = [report.time_to(TARGET) for report in undisturbed]
        if None not in (*reached, *before):
            row["times_to_it"] = median(a / b for a, b in zip(reached, before, strict=True))
    return row
