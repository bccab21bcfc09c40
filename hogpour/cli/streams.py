"""The standard streams of a program: there, able to write any text, and blamed for their own errors only."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from hogpour.cli.outlet import Outlet, OutputError
from hogpour.core import host

__all__ = ["STILL_S", "discard_output", "flush_streams", "prepare_streams", "queued_streams", "spelled"]

STILL_S = 10.0
"""At the end a reader is waited for that has read nothing for so long."""


def prepare_streams() -> None:
    """Open what is closed of the standard streams, and write what an encoding lacks as escapes; first of all."""
    host.open_standard_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _over(Outlet(2), sys.stderr or open(2, "w", closefd=False))  # noqa: SIM115
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _over(Outlet(1), sys.stdout or open(1, "w", closefd=False))  # noqa: SIM115


def _over(raw: Outlet, found: TextIO) -> TextIO:
    lines = getattr(found, "line_buffering", True)  # a line is written whole, also where Python buffers nothing
    return io.TextIOWrapper(raw, found.encoding, "backslashreplace", line_buffering=lines)  # type: ignore[type-var]


@contextmanager
def queued_streams(as_json: bool) -> Iterator[None]:
    """Let threads write both standard streams inside, so that an event loop waits for no terminal and no pipe.

    Args:
        as_json: lines of standard output are objects, also that which says how many were dropped.

    Raises:
        OutputError: standard output does not arrive.
    """

    def missing(n: int) -> str:
        text = f"{n} lines are missing here: nobody read them"
        return json.dumps({"event": "dropped", "lines": n, "text": text}) if as_json else f"hogpour: {text}"

    for raw in _outputs():
        raw.begin_queue(missing)
    try:
        yield
    finally:
        flush_streams(STILL_S)


def flush_streams(still_s: float) -> None:
    """Wait until both streams are written, as long as something of them moves within ``still_s`` seconds.

    Raises:
        OutputError: standard output does not arrive.
    """
    sys.stdout.flush()
    for raw in _outputs():
        with suppress(*([OutputError] if raw.fileno() == 2 else [])):
            raw.end_queue(still_s)


def _outputs() -> list[Outlet]:
    """Return standard error and standard output, where they are this program's own."""
    raws = [getattr(stream, "buffer", None) for stream in (sys.stderr, sys.stdout)]
    return [raw for raw in raws if isinstance(raw, Outlet)]


def discard_output() -> None:
    """Let standard output go nowhere from now on: what is still kept for it cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def spelled(text: str, plain: str) -> str:
    """Return ``text``, or ``plain`` where standard output cannot write it."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return plain
    return text
