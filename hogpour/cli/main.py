"""The command line: the only reader of arguments, and of the environment besides ``cpu``. Installs uvloop.

Exit codes: 0, 1 (failed), 2 (bad use or bad input, one line on standard error). Heavy modules are imported by the
command that needs them: ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hogpour.core import host
from hogpour.core.errors import HogpourError, InputError

__all__ = ["main"]

TOKEN_VARIABLE = "HOGPOUR_TOKEN"

_T = TypeVar("_T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    # Evaluation in this process takes one core at most; replicas get theirs from the supervisor. Before BLAS is loaded.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    host.set_kernel_cache()
    try:
        return _COMMANDS[options.command](options)
    except HogpourError as error:
        print(f"hogpour: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:  # of a command without an event loop; a node hears signals itself
        print("hogpour: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:  # every other file is behind an error of ours: this is standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f"hogpour: standard output: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hogpour",
        description="Train one model with every core of every machine.",
        epilog="example: python -m hogpour node        (trains on the embedded digits, needs no file)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter

    node = commands.add_parser(
        "node",
        help="train a job on this machine",
        description="Train a job with all cores of this machine, or of several. Without a job file: on scikit-learn's "
        "digits.",
        epilog="example: python -m hogpour node job.toml --epochs 3\n"
        "example: python -m hogpour node job.toml --listen 127.0.0.1:7000    (the first node of a cluster)\n"
        "         python -m hogpour node --join 127.0.0.1:7000               (another one; gets the job from there)\n"
        "Ctrl+C stops and keeps the model, within 2 s where a node is alone; a second one kills.",
        formatter_class=raw,
    )
    node.add_argument("job", nargs="?", help="job file (TOML)")
    node.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    node.add_argument("--resume", action="store_true", help="go on from the job's model file")
    node.add_argument("--epochs", type=int, metavar="N", help="instead of run.epochs")
    node.add_argument("--replicas", type=int, metavar="N", help="instead of run.replicas")
    node.add_argument("--seed", type=int, metavar="N", help="instead of run.seed")
    node.add_argument("--model", metavar="FILE", help="instead of run.model; empty: write none")
    node.add_argument("--listen", metavar="HOST:PORT", default="", help="let others join; with --join: serve shards")
    node.add_argument("--join", metavar="HOST:PORT", default="", help="first node of a cluster, which has the job")
    node.add_argument("--data", metavar="FOLDER", help="with --join: folder that the job's data paths are relative to")
    _add_token(node)

    status = commands.add_parser(
        "status",
        help="what a cluster is doing",
        description="Show members, shards, clocks, staleness and rates of a running cluster.",
        epilog="example: python -m hogpour status 127.0.0.1:7000 --watch",
    )
    status.add_argument("address", metavar="HOST:PORT", help="where the first node listens")
    status.add_argument("--watch", action="store_true", help="again every second, until Ctrl+C or the end of the run")
    status.add_argument("--json", action="store_true", help="one JSON object a line")
    _add_token(status)

    sim = commands.add_parser(
        "sim",
        help="train a job on a cluster in virtual time",
        description="Simulate a cluster that trains a job: nodes, network, deaths and delays are made up, gradients "
        "are really computed, and everything follows from one seed.",
        epilog="example: python -m hogpour sim --nodes 20 --compute exponential:0.1\n"
        "example: python -m hogpour sim job.toml --scenario examples/spot.toml --plot spot.png\n"
        "Without a job file: scikit-learn's digits. Options count more than the scenario file.",
        formatter_class=raw,
    )
    sim.add_argument("job", nargs="?", help="job file (TOML)")
    sim.add_argument("--scenario", metavar="FILE", help="what there is and what happens (TOML); see examples/spot.toml")
    sim.add_argument("--nodes", type=int, metavar="N", help="nodes at the beginning; 4")
    sim.add_argument("--replicas", type=int, metavar="N", help="replicas of each node; 1")
    sim.add_argument("--serving", type=int, metavar="N", help="of the nodes that join, so many serve shards too; 0")
    sim.add_argument("--seed", type=int, metavar="N", help="of all that is made up; 0")
    sim.add_argument("--compute", metavar="NAME:S", help="how long a gradient takes: constant, exponential, log_normal "
                     "or pareto, and its mean in seconds; constant:0.01")  # fmt: skip
    sim.add_argument("--epochs", type=int, metavar="N", help="instead of run.epochs")
    sim.add_argument("--until", type=float, metavar="S", help="virtual seconds after which the first node stops")
    sim.add_argument("--model-only", action="store_true", help="compute no gradients: rates, waits and bytes only")
    sim.add_argument("--parameters", type=int, metavar="N", help="with --model-only: as if the model had so many")
    sim.add_argument("--log", action="store_true", help="show everything that happened")
    sim.add_argument("--plot", metavar="FILE", help="draw a picture (PNG); needs matplotlib")
    sim.add_argument("--json", action="store_true", help="one JSON object a line")

    sweep = commands.add_parser(
        "sweep",
        help="look for a seed with which a cluster breaks a promise",
        description="Simulate small clusters to which bad things happen, one for each seed, and check at every step "
        "what must hold: no push applied twice or lost, one owner of each shard, no portion held twice, an end.",
        epilog="example: python -m hogpour sweep --seeds 0-199\n"
        "example: python -m hogpour sweep --seeds 17 --without window    (a safeguard switched off)",
        formatter_class=raw,
    )
    sweep.add_argument("--seeds", default="0-199", metavar="A-B", help="one seed or a range, both ends included; 0-199")
    sweep.add_argument("--without", default="", metavar="NAME", help='switch a safeguard off; "list" names them')
    sweep.add_argument("--json", action="store_true", help="one JSON object a line")

    compare = commands.add_parser(
        "compare",
        help="train one job under several schemes, one row each",
        description="Train the same job once under each scheme, one after the other, alone on this machine or on a "
        "simulated cluster, and print a table. Optimiser, schedule and whatever else the schemes have in common are "
        "the job's; no model is written.",
        epilog="example: python -m hogpour compare job.toml --schemes hogwild,sync_sgd,downpour --plot schemes.png\n"
        "example: python -m hogpour compare job.toml --schemes downpour --sim --nodes 20 --compute exponential:0.1\n"
        "Without a job file: scikit-learn's digits. Pushes are those of all shards; bytes are known in a simulation.\n"
        "Exit code 1: a scheme did not end in order; its row says why.",
        formatter_class=raw,
    )
    compare.add_argument("job", nargs="?", help="job file (TOML)")
    compare.add_argument("--schemes", required=True, metavar="A,B,C", help="values of algorithm.name")
    compare.add_argument("--epochs", type=int, metavar="N", help="instead of run.epochs")
    compare.add_argument("--replicas", type=int, metavar="N", help="instead of run.replicas; with --sim: of each node")
    compare.add_argument("--seed", type=int, metavar="N", help="instead of run.seed; with --sim: of what is made up")
    compare.add_argument("--sim", action="store_true", help="on a cluster in virtual time; see the command sim")
    compare.add_argument("--scenario", metavar="FILE", help="with --sim: what there is and what happens (TOML)")
    compare.add_argument("--nodes", type=int, metavar="N", help="with --sim: nodes at the beginning; 4")
    compare.add_argument("--compute", metavar="NAME:S", help="with --sim: how long a gradient takes; constant:0.01")
    compare.add_argument("--plot", metavar="FILE", help="draw loss against time (PNG); needs matplotlib")
    compare.add_argument("--json", action="store_true", help="one JSON object a scheme, and a last one")

    predict = commands.add_parser(
        "predict",
        help="predictions of a saved model",
        description="Print the prediction of a model for every example of a data file, one a line; where the file has "
        "labels, the accuracy goes to standard error.",
        epilog='example: python -m hogpour predict model.safetensors digits\n"digits" stands for their test examples.',
        formatter_class=raw,
    )
    predict.add_argument("model", help="model file")
    predict.add_argument("data", help='data file, or "digits"')
    predict.add_argument("--format", default="", help="npz, idx, svmlight or csv; default: by the suffix")
    predict.add_argument("--json", action="store_true", help="one JSON object a line")

    doctor = commands.add_parser(
        "doctor",
        help="check this machine and say what to do",
        description="Check cores, BLAS threads, shared memory, limits and the kernel cache, and say what to do.",
        epilog="example: python -m hogpour doctor",
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token-file", metavar="FILE", help=f"holds the cluster's token; default: ${TOKEN_VARIABLE}, "
                        "else one that all clusters of this user on this machine share")  # fmt: skip
    parser.add_argument("--insecure", action="store_true", help="ask for no token: whoever reaches the port is let in")


def _node(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from hogpour.cli import report
    from hogpour.core import job as config
    from hogpour.node.node import Node

    if options.replicas is not None and options.replicas < 1:
        raise InputError(f"--replicas {options.replicas}: expected at least 1, or no such option for all cores")
    changes = {"epochs": options.epochs, "replicas": options.replicas, "seed": options.seed, "save": options.model}
    changes = {name: value for name, value in changes.items() if value is not None}
    cluster: dict[str, Any] = {}
    if options.listen or options.join:
        cluster = {"listen": options.listen, "join": options.join, "token": _token(options)}
        cluster["insecure"] = options.insecure
    if options.data is not None and not options.join:
        raise InputError("--data: goes with --join; a job file says where its data are")

    def make() -> Node:
        if not options.join:
            job = config.read_job(options.job) if options.job else config.default_job(bool(options.listen))
            return Node(replace(job, **changes), resume=options.resume, every_s=0.5, **cluster)
        for name, given in (("a job file", options.job), ("--resume", options.resume), ("--epochs", options.epochs),
                            ("--seed", options.seed)):  # fmt: skip
            if given:
                raise InputError(f"--join {options.join}: the first node has the job; {name} goes with that one")
        if options.data is not None:
            changes["base"] = options.data
        return Node(changes=changes, every_s=0.5, **cluster)

    return _run(report.run_node(make, report.JsonReporter() if options.json else report.TableReporter()))


def _sim(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from hogpour.cli import simulate
    from hogpour.core import job as config

    job = config.read_job(options.job) if options.job else config.default_job(True)
    if options.epochs is not None:
        job = replace(job, epochs=options.epochs)
    names = ("nodes", "replicas", "serving", "seed", "parameters")
    changes: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.model_only:
        changes["model_only"] = True
    if options.until is not None:
        changes["stop_s"] = options.until
    return simulate.simulate(
        job, options.scenario, changes, compute=options.compute, log=options.log, plot=options.plot, json=options.json
    )


def _sweep(options: argparse.Namespace) -> int:
    from hogpour.cli import simulate

    return simulate.sweep(options.seeds, options.without, options.json)


def _compare(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from hogpour.cli import compare
    from hogpour.core import job as config

    names = compare.names_in(options.schemes)
    job, said = config.default_job(True), None
    if options.job:  # read once, as it may be a pipe
        tables = config.read_tables(options.job, "job file")
        job = replace(config.job_from(tables, options.job), base=str(Path(options.job).parent))
        said = tables.get("algorithm", {})
    if options.epochs is not None:
        job = replace(job, epochs=options.epochs)
    made_up = {name: getattr(options, name) for name in ("nodes", "replicas", "seed")}
    made_up = {name: value for name, value in made_up.items() if value is not None}
    if options.sim:
        from hogpour.cli import simulate

        train = simulate.trials(options.scenario, made_up, options.compute)
    else:
        for name in ("scenario", "nodes", "compute"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name}: goes with --sim; without it this machine trains alone")
        if options.replicas is not None and options.replicas < 1:
            raise InputError(f"--replicas {options.replicas}: expected at least 1, or no such option for all cores")
        job = replace(job, **made_up)

        def train(job: config.Job) -> compare.Trial:  # with an event loop of its own
            return _run(compare.train(job))

    return compare.compare(job, names, train, said=said, plot=options.plot, json=options.json, virtual=options.sim)


def _status(options: argparse.Namespace) -> int:
    from hogpour.cli import status

    return _run(status.show(options.address, _token(options), watch=options.watch, as_json=options.json))


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    if sys.platform == "win32":
        import asyncio

        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


def _token(options: argparse.Namespace) -> bytes:
    """Return the cluster's token: from a file, from the environment, or this user's own; empty with ``--insecure``."""
    from hogpour.net import address, token

    given = os.environ.get(TOKEN_VARIABLE, "")
    explicit = bool(options.token_file or given)
    listen = getattr(options, "listen", "")
    if listen:
        token.check_address(address.split(listen)[0], explicit, options.insecure)
    if options.token_file:
        return token.load(Path(options.token_file))
    if given:
        return token.check(given.encode(), f"${TOKEN_VARIABLE}")
    if options.insecure:
        return b""
    joined = getattr(options, "join", "") or getattr(options, "address", "")
    if joined and not token.is_loopback(address.split(joined)[0]):
        raise InputError(f"{joined}: no token; copy that of the first node into a file for --token-file, or into "
                         f"${TOKEN_VARIABLE}")  # fmt: skip
    return token.make(host.state_folder() / "token")


def _predict(options: argparse.Namespace) -> int:
    from hogpour.cli import report

    return report.predict(options.model, options.data, options.format, options.json)


def _doctor(options: argparse.Namespace) -> int:
    from hogpour.cli import doctor

    return doctor.run(options.json)


_COMMANDS = {
    "node": _node,
    "status": _status,
    "sim": _sim,
    "sweep": _sweep,
    "compare": _compare,
    "predict": _predict,
    "doctor": _doctor,
}
