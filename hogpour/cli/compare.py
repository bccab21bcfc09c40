"""``hogpour compare``: one job, once under each of several schemes, here or in the laboratory."""

from __future__ import annotations

import argparse
from pathlib import Path

from hogpour.cli.options import add_job, add_json, check_replicas, given
from hogpour.core.errors import InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``compare`` takes."""
    parser.description = (
        "Train the same job once under each scheme, one after the other, alone on this machine or on a "
        "simulated cluster, and print a table. Optimiser, schedule and whatever else the schemes have in common are "
        "the job's; no model is written."
    )
    parser.epilog = (
        "example: python -m hogpour compare job.toml --schemes hogwild,sync_sgd,downpour --plot schemes.png\n"
        "example: python -m hogpour compare job.toml --schemes downpour --sim --nodes 20 --compute exponential:0.1\n"
        "Without a job file: scikit-learn's digits. Pushes are those of all shards; bytes are known in a simulation.\n"
        "Exit code 1: a scheme did not end in order; its row says why."
    )
    add_job(parser)
    add = parser.add_argument
    add("--schemes", required=True, metavar="A,B,C", help="values of algorithm.name")
    add("--epochs", type=int, metavar="N", help="instead of run.epochs")
    add("--replicas", type=int, metavar="N", help="instead of run.replicas; with --sim: of each node")
    add("--seed", type=int, metavar="N", help="instead of run.seed; with --sim: of what is made up")
    add("--sim", action="store_true", help="on a cluster in virtual time; see the command sim")
    add("--scenario", metavar="FILE", help="with --sim: what there is and what happens (TOML)")
    add("--nodes", type=int, metavar="N", help="with --sim: nodes at the beginning; 4")
    add("--compute", metavar="NAME:S", help="with --sim: how long a gradient takes; constant:0.01")
    add("--plot", metavar="FILE", help="draw loss against time (PNG); needs matplotlib")
    add_json(parser, "one JSON object a scheme, and a last one")


def run(options: argparse.Namespace) -> int:
    """Train under each scheme and return the exit code: 1 where one did not end in order."""
    from dataclasses import replace

    from hogpour.cli import trial
    from hogpour.cli.comparison import compare, names_in
    from hogpour.cli.simulate import scenario_of
    from hogpour.core import job as config

    names = names_in(options.schemes)
    job, said = config.default_job(True), None
    if options.job is not None:  # read once, as it may be a pipe
        tables = config.read_tables(options.job, "job file")
        job = replace(config.job_from(tables, options.job), base=str(Path(options.job).parent))
        said = tables.get("algorithm", {})
    job = replace(job, **given(options, "epochs"))
    if options.sim:
        train = trial.simulate(scenario_of(options, given(options, "nodes", "replicas", "seed")))
    else:
        for name in given(options, "scenario", "nodes", "compute"):
            raise InputError(f"--{name}: goes with --sim; without it this machine trains alone")
        check_replicas(options)
        job, train = replace(job, **given(options, "replicas", "seed")), trial.train
    return compare(job, names, train, said=said, plot=options.plot, json=options.json, virtual=options.sim)
