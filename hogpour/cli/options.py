"""What several commands share: options, and what they stand for: a job, the cluster's token; and the event loop.

The reader of the environment besides ``host``. Imports nothing heavy, as every file of a command: ``--help`` answers at
once and needs no other package.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hogpour.cli.streams import queued_streams
from hogpour.core import host
from hogpour.core.errors import InputError

if TYPE_CHECKING:
    from hogpour.core.job import Job

__all__ = ["add_job", "add_json", "add_token", "check_replicas", "given", "read_job", "run_async", "token_of"]

TOKEN_VARIABLE = "HOGPOUR_TOKEN"

_T = TypeVar("_T")


def add_job(parser: argparse.ArgumentParser) -> None:
    """Add the job file."""
    parser.add_argument("job", nargs="?", help="job file (TOML)")


def add_json(parser: argparse.ArgumentParser, text: str = "one JSON object a line") -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help=text)


def add_token(parser: argparse.ArgumentParser) -> None:
    """Add where the cluster's token is."""
    parser.add_argument("--token-file", metavar="FILE", help=f"holds the cluster's token; default: ${TOKEN_VARIABLE}, "
                        "else one that all clusters of this user on this machine share")  # fmt: skip
    parser.add_argument("--insecure", action="store_true", help="ask for no token: whoever reaches the port is let in")


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those of the options that somebody gave."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def check_replicas(options: argparse.Namespace) -> None:
    """Refuse to train on this machine with no replica."""
    if options.replicas is not None and options.replicas < 1:
        raise InputError(f"--replicas {options.replicas}: expected at least 1, or no such option for all cores")


def read_job(path: str | None, federated: bool, **changes: Any) -> Job:
    """Return the job of a file, or the one without a file, with some of its fields changed."""
    from dataclasses import replace

    from hogpour.core import job

    return replace(job.default_job(federated) if path is None else job.read_job(path), **changes)


def token_of(options: argparse.Namespace, listen: str, join: str) -> bytes:
    """Return the cluster's token: from a file, from the environment, or this user's own; empty with ``--insecure``.

    Args:
        listen, join: addresses that it is for; empty: none.
    """
    from hogpour.net import address, token

    said = os.environ.get(TOKEN_VARIABLE, "")
    if listen:
        token.check_address(address.split(listen)[0], bool(options.token_file or said), options.insecure)
    if options.token_file:
        return token.load(Path(options.token_file))
    if said:
        return token.check(os.fsencode(said), f"${TOKEN_VARIABLE}")
    if options.insecure:
        return b""
    if join and not token.is_loopback(address.split(join)[0]):
        raise InputError(f"{join}: no token; copy that of the first node into a file for --token-file, or into "
                         f"${TOKEN_VARIABLE}")  # fmt: skip
    return token.make(host.state_folder() / "token")


def run_async(work: Coroutine[Any, Any, _T], as_json: bool = False) -> _T:
    """Run to its end on uvloop, where there is one, which waits for nobody who reads what is printed.

    Args:
        as_json: what is printed are JSON lines.
    """
    with queued_streams(as_json):
        if sys.platform == "win32":
            import asyncio

            return asyncio.run(work)
        import uvloop

        return uvloop.run(work)
