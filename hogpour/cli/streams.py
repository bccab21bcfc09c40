"""The standard streams of a program: there, able to write any text, and blamed for their own errors only."""

from __future__ import annotations

import io
import os
import sys

from hogpour.core import host

__all__ = ["OutputError", "discard_output", "prepare_streams", "spelled"]


class OutputError(OSError):
    """What is written to standard output does not arrive: a full disk, or a reader that went away."""


class _Output(io.FileIO):
    """Standard output, whose errors can be told from those of other files."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error


def prepare_streams() -> None:
    """Open what is closed of the standard streams, and write what an encoding lacks as escapes; first of all."""
    host.open_standard_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    elif isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        found = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(1, "wb", closefd=False)), found.encoding, "backslashreplace",
            line_buffering=found.line_buffering, write_through=found.write_through,
        )  # fmt: skip


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
