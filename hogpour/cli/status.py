"""``hogpour status``: what a running cluster is doing, once or every second, for a person or a program.

On a terminal ``--watch`` draws over what it drew before; elsewhere each view is printed below the last one.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
from typing import TYPE_CHECKING

from hogpour.cli.options import add_json, add_token, run_async, token_of
from hogpour.core.errors import PeerLost, RequestFailed

if TYPE_CHECKING:
    from hogpour.cli.status_json import Output

__all__ = ["add_arguments", "run", "show"]

EVERY_S = 1.0
"""Between two views."""

_INTERRUPTED = 130  # what a shell expects of a program that was ended by Ctrl+C before it could answer

_REFUSED = (os.strerror(errno.ECONNREFUSED).lower(), f"[Errno {errno.ECONNREFUSED}]")
"""How PeerLost says that nobody listens; the second where a name like localhost has several addresses."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``status`` takes."""
    parser.description = "Show members, shards, clocks, staleness and rates of a running cluster."
    parser.epilog = "example: python -m hogpour status 127.0.0.1:7000 --watch"
    parser.add_argument("address", metavar="HOST:PORT", help="where the first node listens")
    parser.add_argument("--watch", action="store_true", help="again every second, until Ctrl+C or the end of the run")
    add_json(parser)
    add_token(parser)


def run(options: argparse.Namespace) -> int:
    """Show a cluster and return the exit code."""
    token = token_of(options, "", options.address)
    return run_async(show(options.address, token, watch=options.watch, as_json=options.json), options.json)


async def show(address: str, token: bytes, *, watch: bool, as_json: bool) -> int:
    """Print what the cluster is doing and return the exit code: 0, or 130 where Ctrl+C came before the answer.

    Args:
        address: of the first node.
        token: of the cluster.
        watch: again every second, until a signal or until nobody listens there any more.
        as_json: one JSON object a line.

    Raises:
        InputError: the token is another one, or the address is none.
        PeerLost, RequestFailed, ProtocolError: there is no first node that answers.
    """
    import asyncio

    loop, asked = asyncio.get_running_loop(), False
    output: Output
    if as_json:
        from hogpour.cli.status_json import JsonOutput

        output = JsonOutput()
    else:
        from hogpour.cli.status_view import TextOutput, make_console

        output = TextOutput(make_console(), watch)
    work = loop.create_task(_show(address, token, watch, output))

    def on_signal() -> None:
        nonlocal asked
        asked = True
        work.cancel()

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        return await work  # no deadline: each request in it has one, and how often it looks is the user's matter
    except asyncio.CancelledError:
        if not asked:
            raise
        return 0 if watch else _INTERRUPTED
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _show(address: str, token: bytes, watch: bool, output: Output) -> int:
    import asyncio

    from hogpour.cli.status_client import StatusClient

    client, answered = StatusClient(address, token), False
    try:
        while True:
            try:
                output.view(address, await client.look())
                answered = True
            except (PeerLost, RequestFailed) as error:
                if not answered:
                    raise
                if isinstance(error, PeerLost) and any(text in str(error) for text in _REFUSED):
                    output.ended(f"{address}: nobody listens there any more, the run has ended")
                    return 0
                output.trouble(str(error))
            if not watch:
                return 0
            await asyncio.sleep(EVERY_S)
    finally:
        output.close()
        await client.close()
