"""``hogpour node``: train a job on this machine, alone or as a node of a cluster."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from hogpour.cli.options import add_job, add_json, add_token, check_replicas, given, read_job, run_async, token_of
from hogpour.cli.outlet import OutputError
from hogpour.cli.streams import STILL_S, flush_streams
from hogpour.core.errors import InputError, Stopped

if TYPE_CHECKING:
    from hogpour.cli.report import Reporter
    from hogpour.node.node import Node

__all__ = ["add_arguments", "run", "train"]

_KILLED = 130  # what a shell expects of a program that was killed by Ctrl+C

_UNFINISHED = 75
"""Exit code of a run that a system stopped: EX_TEMPFAIL, "try again later". Whoever presses Ctrl+C knows: 0."""

_ONLY_ASK = (signal.SIGUSR1, signal.SIGUSR2)
"""Batch systems send these some time before the end, also to those who stop already; no number of them kills."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``node`` takes."""
    parser.description = "Train a job with all cores of this machine, or of several. Without a job file: on " \
                         "scikit-learn's digits."  # fmt: skip
    parser.epilog = (
        "example: python -m hogpour node job.toml --epochs 3\n"
        "example: python -m hogpour node job.toml --listen 127.0.0.1:7000    (the first node of a cluster)\n"
        "         python -m hogpour node --join 127.0.0.1:7000               (another one; gets the job from there)\n"
        "Ctrl+C stops and keeps the model, within 2 s where a node is alone; a second one kills.\n"
        "SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 stop too, with exit code 75 where the run has not finished."
    )
    add_job(parser)
    add_json(parser, "one JSON object a line instead of the table")
    add = parser.add_argument
    add("--resume", action="store_true", help="go on from the job's model file, in a cluster from its snapshot")
    add("--resume=auto", action="store_const", const="auto", dest="resume", help="the same where there is something to "
        "go on from, else a new run: one command for the first start and a requeue")  # fmt: skip
    add("--epochs", type=int, metavar="N", help="instead of run.epochs")
    add("--replicas", type=int, metavar="N", help="instead of run.replicas")
    add("--seed", type=int, metavar="N", help="instead of run.seed")
    add("--model", metavar="FILE", help="instead of run.model; empty: write none")
    add("--listen", metavar="HOST:PORT", help="let others join; with --join: serve shards. *:PORT: "
        "on all addresses of this machine")
    add("--join", metavar="HOST:PORT", help="first node of a cluster, which has the job")
    add("--wait-for", type=int, metavar="N", help="instead of cluster.wait_for: train when N nodes are ready")
    add("--join-s", type=float, metavar="SECONDS", help="with --join: seconds that the first node may take to answer, "
        "10 if left out; more over slow links")  # fmt: skip
    add("--data", metavar="FOLDER", help="with --join: folder that the job's data are below; nothing else is read")
    add("--allow-modules", metavar="PREFIX", action="append", default=[], help="with --join: module or package that "
        "the first node's job may have imported, which runs it; may be repeated")  # fmt: skip
    add_token(parser)


def run(options: argparse.Namespace) -> int:
    """Train, and return the exit code."""
    from dataclasses import replace

    from hogpour.cli.report import JsonReporter, TableReporter
    from hogpour.node.node import Node

    check_replicas(options)
    changes = given(options, "epochs", "replicas", "seed")
    if options.model is not None:
        changes["save"] = options.model
    cluster: dict[str, Any] = given(options, "listen", "join")
    for name, address in cluster.items():
        if not address:  # as of a variable that is not set: it would train alone
            raise InputError(f"--{name}: is empty, expected HOST:PORT")
    if cluster:
        token = token_of(options, options.listen or "", options.join or "")
        cluster |= {"token": token, "insecure": options.insecure}
    if options.data is not None and not options.join:
        raise InputError("--data: goes with --join; a job file says where its data are")
    if options.allow_modules:
        if not options.join:
            raise InputError("--allow-modules: goes with --join; a job file of your own may name any module")
        cluster["allow_modules"] = options.allow_modules
    if options.join_s is not None:
        if not options.join or not 0 < options.join_s <= 86400:
            raise InputError(f"--join-s {options.join_s:g}: goes with --join, and is above 0, at most 86400")
        cluster["join_s"] = options.join_s

    def make() -> Node:
        if not options.join:
            job = read_job(options.job, bool(options.listen), **changes)
            if options.wait_for is not None:
                job = replace(job, cluster=replace(job.cluster, wait_for=options.wait_for))
            return Node(job, resume=options.resume, every_s=0.5, **cluster)
        for name, said in (("a job file", options.job), ("--resume", options.resume), ("--epochs", options.epochs),
                           ("--seed", options.seed), ("--wait-for", options.wait_for)):  # fmt: skip
            if said is not None and said is not False:  # a seed of 0 was said, too
                raise InputError(f"--join {options.join}: the first node has the job; {name} goes with that one")
        if options.data is not None:
            changes["base"] = options.data
        return Node(changes=changes, every_s=0.5, **cluster)

    return run_async(train(make, JsonReporter() if options.json else TableReporter()), options.json)


async def train(make: Callable[[], Node], reporter: Reporter) -> int:
    """Make a node, let it train, report it, and return the exit code. The first signal stops, a second one kills."""
    import asyncio

    from hogpour.core.progress import Notice
    from hogpour.model import model_file
    from hogpour.model.disk import REAL

    loop, asked = asyncio.get_running_loop(), list[int]()
    node = make()
    node.tell = reporter.notice

    def on_signal(number: int) -> None:
        asked.append(number)
        if len(asked) > 1 and number not in _ONLY_ASK:
            node.kill()
            reporter.close()
            with suppress(OutputError):
                flush_streams(0.5)
            with model_file.nothing_half():
                REAL.unlock_all()
                os._exit(_KILLED)
        node.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, *_ONLY_ASK):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, and jobs in the background of a script
            loop.add_signal_handler(number, on_signal, number)
    try:
        async with node:
            async for progress in node:
                reporter.progress(progress)
            summary = await node.wait()
    except Stopped as stopped:
        reporter.close()
        reporter.notice(Notice("warning", str(stopped)))
        _leave(_stopped_by(asked))
    finally:
        reporter.close()
    reporter.finished(summary)
    code = {"diverged": 1, "stopped": _stopped_by(asked)}.get(summary.outcome, 0)
    if node.working:
        _leave(code)
    return code


def _stopped_by(asked: list[int]) -> int:
    """Return the exit code of a run that has not finished, given the signals that came; without any, the first node of
    its cluster has stopped."""
    return _UNFINISHED if asked and asked[0] != signal.SIGINT else 0


def _leave(code: int) -> NoReturn:
    """End at once: a thread that reads or compiles would be waited for at an ordinary end."""
    flush_streams(STILL_S)
    os._exit(code)
