"""``python -m hogpour status``: what a running cluster is doing, once or every second, for a person or a program.

A ``View`` is made of two kinds of answers: the first node tells who belongs to the cluster and who serves what, every
node that serves shards how these are. Nobody is asked to join, lease or stop anything: looking changes nothing. A node
that serves shards and does not answer is a part of the view, not a failure of it; only without the first node there is
none. On a terminal ``--watch`` draws over what it drew before; elsewhere each view is printed below the last one.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from hogpour.cli.status_view import Silent, View, drawn, printable, quantile
from hogpour.core.cluster_state import ClusterState, ShardState
from hogpour.core.errors import InputError, PeerLost, ProtocolError, Refusal, RemoteProtocolError, RequestFailed
from hogpour.net.peer import Peer
from hogpour.net.wire.status import Report, Status

__all__ = ["show"]

ANSWER_S = 5.0
"""For the first node. Where nobody listens, that is known at once."""

REPORT_S = 1.0
"""For a node that serves shards: less, so that one that hangs does not hold up the view of all others for long."""

EVERY_S = 1.0
"""Between two views."""

MOST_ROWS = 20
"""Of shards, in one view."""

WIDTH = 100
"""Of a view that goes into a file or a pipe; on a terminal it is as wide as that."""

_AROUND = 12
"""Lines of a view that are no rows of members or shards, and one for the cursor."""

_INTERRUPTED = 130  # what a shell expects of a program that was ended by Ctrl+C before it could answer

_REFUSED = (os.strerror(errno.ECONNREFUSED).lower(), f"[Errno {errno.ECONNREFUSED}]")
"""How PeerLost says that nobody listens; the second where a name like localhost has several addresses."""

_T = TypeVar("_T")


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
    loop, asked = asyncio.get_running_loop(), False
    work = loop.create_task(_show(address, token, watch, _Json() if as_json else _Text(_console(), watch)))

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


async def _show(address: str, token: bytes, watch: bool, output: _Output) -> int:
    observer, answered = _Observer(address, token), False
    try:
        while True:
            try:
                output.view(address, await observer.look())
                answered = True
            except (PeerLost, RequestFailed) as error:
                if not answered:
                    raise
                if isinstance(error, PeerLost) and any(text in str(error) for text in _REFUSED):
                    output.ended(f"{address}: nobody listens there any more, the run has ended")
                    return 0
                output.trouble(printable(str(error)))
            if not watch:
                return 0
            await asyncio.sleep(EVERY_S)
    finally:
        output.close()
        await observer.close()


# -- asking -----------------------------------------------------------------------------------------------------------


class _Observer:
    """Asks a cluster; keeps its connections from one view to the next."""

    def __init__(self, address: str, token: bytes) -> None:
        self._address, self._token = address, token
        # Whether to try again is the caller's matter; so one try may take as long as all of it.
        self._first = Peer(address, token, connect_s=ANSWER_S)
        self._others: dict[str, Peer] = {}

    async def look(self) -> View:
        """Ask everybody who has something to tell.

        Raises:
            InputError: the first node refuses this one.
            PeerLost, RequestFailed, ProtocolError: the first node does not answer, or not so.
        """
        try:
            answer = await self._first.request(Status(), deadline_s=ANSWER_S, retry=False)
        except RequestFailed as error:
            if error.code == Refusal.REFUSED:
                raise InputError(str(error)) from error
            raise RequestFailed(error.code, f"{self._address}: {error}; it is not the first node of a cluster, or "
                                            "still reads its data") from error  # fmt: skip
        cluster = _read(answer.state, ClusterState, self._address)
        if not cluster.members or len(cluster.bounds) != len(cluster.owners) + 1:
            raise RemoteProtocolError(f"{self._address}: describes {len(cluster.members)} members, "
                                      f"{len(cluster.owners)} shards and {len(cluster.bounds)} bounds")  # fmt: skip
        addresses = {member.node: member.address for member in cluster.members}
        addresses[cluster.members[0].node] = self._address  # it may be known to itself by another, or by none
        await self._drop(addresses.values())
        servers = sorted(set(cluster.owners))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._report(node, addresses.get(node, ""))) for node in servers]
        shards: list[ShardState | None] = [None] * len(cluster.owners)
        silent = []
        for task in tasks:
            told = task.result()
            if isinstance(told, Silent):
                silent.append(told)
                continue
            for state in told:
                if 0 <= state.shard < len(shards):
                    shards[state.shard] = state
        return View(cluster, tuple(shards), tuple(silent))

    async def _report(self, node: int, address: str) -> list[ShardState] | Silent:
        if not address:
            return Silent(node, "", "it is no member any more")
        if address == self._address:
            peer = self._first
        elif address in self._others:
            peer = self._others[address]
        else:
            try:
                peer = self._others[address] = Peer(address, self._token, connect_s=REPORT_S)
            except InputError as error:
                return Silent(node, address, str(error))
        try:
            answer = await peer.request(Report(), deadline_s=REPORT_S, retry=False)
            return _read(answer.shards, list[ShardState], address)
        except (PeerLost, RequestFailed, ProtocolError) as error:
            return Silent(node, address, str(error).removeprefix(f"{address}: "))

    async def _drop(self, addresses: Iterable[str]) -> None:
        """Close the connections to those that have left."""
        for address in self._others.keys() - set(addresses):
            await self._others.pop(address).close()

    async def close(self) -> None:
        await self._drop(())
        await self._first.close()


def _read(text: bytes, kind: type[_T], address: str) -> _T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"{address}: its state cannot be read: {error}") from error


# -- what becomes of views --------------------------------------------------------------------------------------------


class _Output(Protocol):
    def view(self, address: str, view: View) -> None: ...

    def trouble(self, text: str) -> None:
        """Say why there is no view this time."""

    def ended(self, text: str) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was."""


class _Json:
    """One JSON object a line; its ``"event"`` is status, warning or, when a run that was watched is over, ended."""

    def view(self, address: str, view: View) -> None:
        owners, counts = view.cluster.owners, view.staleness
        known = [{"node": owners[s.shard], **asdict(s)} for s in view.shards if s is not None]
        silent = [{**asdict(s), "shards": view.shards_of(s.node)} for s in view.silent]
        quantiles = {"p50": quantile(counts, 0.5), "p90": quantile(counts, 0.9), "max": quantile(counts, 1.0)}
        self._print("status", address=address, **asdict(view.cluster), shards=known, silent=silent, staleness=quantiles)

    def trouble(self, text: str) -> None:
        self._print("warning", text=text)

    def ended(self, text: str) -> None:
        self._print("ended", text=text)

    def close(self) -> None:
        pass

    def _print(self, event: str, **fields: Any) -> None:
        sys.stdout.write(msgspec.json.encode({"event": event, **fields}).decode() + "\n")
        sys.stdout.flush()


class _Text:
    """Tables; on a terminal that is watched, over the last ones."""

    def __init__(self, console: Console, watch: bool) -> None:
        self._console, self._watch = console, watch
        self._in_place = watch and console.is_terminal and not console.is_dumb_terminal
        self._live: Live | None = None
        self._last: RenderableType = ""

    def view(self, address: str, view: View) -> None:
        if not self._in_place:
            self._console.print(drawn(address, view, MOST_ROWS))
            if self._watch:
                self._console.print()
            return
        room = self._console.height - _AROUND - len(view.cluster.members) - len(view.silent)
        self._last = drawn(address, view, max(1, min(MOST_ROWS, room)))
        self._redraw(self._last)

    def trouble(self, text: str) -> None:
        line = Text(text, "yellow")
        if self._in_place:
            self._redraw(Group(self._last, line))
        else:
            self._console.print(line, soft_wrap=True)

    def ended(self, text: str) -> None:
        self.close()
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _redraw(self, picture: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(picture, refresh=True)


def _console() -> Console:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where a pipe is ASCII, a bar is a question mark, and no traceback
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(WIDTH, console.width)
    return console
