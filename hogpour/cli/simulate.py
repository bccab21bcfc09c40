"""``hogpour sim``: a job on a cluster in virtual time."""

from __future__ import annotations

import argparse
import time
from math import inf
from typing import TYPE_CHECKING, Any

from hogpour.cli.options import add_job, add_json, given, read_job
from hogpour.core.errors import ConfigError, InputError

if TYPE_CHECKING:
    from hogpour.sim.scenario import Scenario

__all__ = ["add_arguments", "run", "scenario_of"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``sim`` takes."""
    parser.description = (
        "Simulate a cluster that trains a job: nodes, network, deaths and delays are made up, gradients "
        "are really computed, and everything follows from one seed."
    )
    parser.epilog = (
        "example: python -m hogpour sim --nodes 20 --compute exponential:0.1\n"
        "example: python -m hogpour sim job.toml --scenario examples/spot.toml --plot spot.png\n"
        "Without a job file: scikit-learn's digits. Options count more than the scenario file."
    )
    add_job(parser)
    add = parser.add_argument
    add("--scenario", metavar="FILE", help="what there is and what happens (TOML); see examples/spot.toml")
    add("--nodes", type=int, metavar="N", help="nodes at the beginning; 4")
    add("--replicas", type=int, metavar="N", help="replicas of each node; 1")
    add("--serving", type=int, metavar="N", help="of the nodes that join, so many serve shards too; 0")
    add("--seed", type=int, metavar="N", help="of all that is made up; 0")
    add("--compute", metavar="NAME:S", help="how long a gradient takes: constant, exponential, log_normal "
        "or pareto, and its mean in seconds; constant:0.01")  # fmt: skip
    add("--epochs", type=int, metavar="N", help="instead of run.epochs")
    add("--until", type=float, metavar="S", help="virtual seconds after which the first node stops")
    add("--model-only", action="store_true", help="compute no gradients: rates, waits and bytes only")
    add("--parameters", type=int, metavar="N", help="with --model-only: as if the model had so many")
    add("--log", action="store_true", help="show everything that happened")
    add("--plot", metavar="FILE", help="draw a picture (PNG); needs matplotlib")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Simulate a job and print what was found; return the exit code: 0 where the run ended in order."""
    from hogpour.cli.plots import check_plot, plot_simulation
    from hogpour.cli.sim_report import JsonShow, TableShow
    from hogpour.sim.simulation import Simulation

    job = read_job(options.job, True, **given(options, "epochs"))
    changes = given(options, "nodes", "replicas", "serving", "seed", "parameters")
    if options.model_only:
        changes["model_only"] = True
    if options.until is not None:
        if not 0 < options.until < inf:
            raise ConfigError(f"--until {options.until:g}: expected seconds above 0; without it the run ends by itself")
        changes["stop_s"] = options.until
    if options.plot:
        check_plot(options.plot)
    s = scenario_of(options, changes)
    show = JsonShow() if options.json else TableShow(job.epochs, options.log)
    simulation = Simulation(job, s, told=show.point)
    began = time.perf_counter()
    report = simulation.run()
    show.report(report, time.perf_counter() - began)
    if options.plot:
        title = f"{s.nodes} nodes of {s.replicas}, {s.compute.distribution} {s.compute.mean_s:g} s, seed {s.seed}"
        plot_simulation(report, options.plot, title)
    return 0 if report.outcome in ("finished", "stopped") else 1


def scenario_of(options: argparse.Namespace, changes: dict[str, Any]) -> Scenario:
    """Return the scenario of ``--scenario`` with some fields changed, and with ``--compute``."""
    from dataclasses import replace

    from hogpour.sim.scenario import Scenario, read_scenario

    scenario = Scenario() if options.scenario is None else read_scenario(options.scenario)
    if text := options.compute:
        name, _, mean = text.partition(":")
        if name == "measured":
            raise InputError("--compute measured: the times are in a scenario file")
        try:
            mean_s = float(mean) if mean else scenario.compute.mean_s
            changes |= {"compute": replace(scenario.compute, distribution=name, mean_s=mean_s)}
        except ConfigError as error:
            raise ConfigError(f"--compute {text}: {error}") from None
        except ValueError as error:
            raise ConfigError(f"--compute {text}: expected for example exponential:0.1 ({error})") from None
    try:
        return replace(scenario, **changes)
    except ValueError as error:
        raise ConfigError(f"scenario: {error}") from None
