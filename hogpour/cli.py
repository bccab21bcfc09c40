"""The command line: the only reader of arguments, and of the environment besides ``cpu``. Installs uvloop.

Exit codes: 0, 1 (failed), 2 (bad use or bad input, one line on standard error). Heavy modules are imported by the
command that needs them: ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hogpour import cpu
from hogpour.errors import HogpourError, InputError

__all__ = ["main"]


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
    cpu.set_kernel_cache()
    try:
        return _COMMANDS[options.command](options)
    except HogpourError as error:
        print(f"hogpour: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
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
        description="Train a job with all cores of this machine. Without a job file: on scikit-learn's digits.",
        epilog="example: python -m hogpour node job.toml --epochs 3\n"
        "Ctrl+C stops within 2 s and keeps the model; a second one kills.",
        formatter_class=raw,
    )
    node.add_argument("job", nargs="?", help="job file (TOML)")
    node.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    node.add_argument("--resume", action="store_true", help="go on from the job's model file")
    node.add_argument("--epochs", type=int, metavar="N", help="instead of run.epochs")
    node.add_argument("--replicas", type=int, metavar="N", help="instead of run.replicas")
    node.add_argument("--seed", type=int, metavar="N", help="instead of run.seed")
    node.add_argument("--model", metavar="FILE", help="instead of run.model; empty: write none")

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


def _node(options: argparse.Namespace) -> int:
    import asyncio
    from dataclasses import replace

    from hogpour import config, report

    job = config.read_job(options.job) if options.job else config.default_job()
    changes = {"epochs": options.epochs, "replicas": options.replicas, "seed": options.seed, "save": options.model}
    if options.replicas is not None and options.replicas < 1:
        raise InputError(f"--replicas {options.replicas}: expected at least 1, or no such option for all cores")
    job = replace(job, **{name: value for name, value in changes.items() if value is not None})
    reporter = report.JsonReporter() if options.json else report.TableReporter()
    work = report.run_node(job, options.resume, reporter)
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


def _predict(options: argparse.Namespace) -> int:
    from hogpour import report

    return report.predict(options.model, options.data, options.format, options.json)


def _doctor(options: argparse.Namespace) -> int:
    from hogpour import doctor

    return doctor.run(options.json)


_COMMANDS = {"node": _node, "predict": _predict, "doctor": _doctor}
