"""The command line, the only reader of arguments.

A command is a file: ``add_arguments(parser)`` says what it takes, ``run(options)`` does it and returns the exit code:
0, 1 (failed), 2 (bad use or bad input, one line on standard error). Heavy modules are imported inside ``run``.
"""

from __future__ import annotations

import argparse
import errno
import sys
import warnings
from collections.abc import Sequence
from types import TracebackType

from hogpour.cli import compare, doctor, node, predict, simulate, status, sweep
from hogpour.cli.outlet import OutputError
from hogpour.cli.streams import discard_output, prepare_streams
from hogpour.core import host
from hogpour.core.errors import DataWarning, HogpourError, InputError

__all__ = ["main"]

_COMMANDS = {
    "node": (node, "train a job on this machine"),
    "status": (status, "what a cluster is doing"),
    "sim": (simulate, "train a job on a cluster in virtual time"),
    "sweep": (sweep, "look for a seed with which a cluster breaks a promise"),
    "compare": (compare, "train one job under several schemes, one row each"),
    "predict": (predict, "predictions of a saved model"),
    "doctor": (doctor, "check this machine and say what to do"),
}


_format_warning = warnings.formatwarning


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        prepare_streams()
        sys.excepthook = _tell_of_a_bug
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except OutputError as error:
        discard_output()
        if error.errno != errno.EPIPE:  # the reader of our output went away, as `| head` does
            print(f"hogpour: standard output: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:  # of a command without an event loop, or before it has one; a node hears signals itself
        print("hogpour: interrupted", file=sys.stderr)  # noqa: T201
        return 130


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    warnings.formatwarning = _warning_line
    host.set_kernel_cache()
    try:
        host.set_one_thread()
        host.raise_descriptors()
        host.check_descriptors()
        code: int = _COMMANDS[options.command][0].run(options)
        return code
    except HogpourError as error:
        return _failed(options, error, error.exit_code)
    except OSError as error:
        text = host.explain(error)
        if text is None or isinstance(error, OutputError):
            raise
        return _failed(options, text, InputError.exit_code)


def _failed(options: argparse.Namespace, error: object, exit_code: int) -> int:
    """Tell a person, and a program in its last line, why a command failed; return the exit code."""
    text = _in_one_line(error)
    print(f"hogpour: {text}", file=sys.stderr)  # noqa: T201
    if getattr(options, "json", False):
        from hogpour.cli.tables import print_json

        print_json(event="failed", text=text, exit_code=exit_code)
    return exit_code


def _in_one_line(text: object) -> str:
    """Return an error as one line: the names in it may hold line ends, and codes that a terminal obeys."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def _tell_of_a_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an exception that nobody expected, and whose it is."""
    sys.__excepthook__(kind, error, trace)
    if issubclass(kind, Exception):
        print("hogpour: this is a bug of hogpour; please report it with the lines above", file=sys.stderr)  # noqa: T201


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning of ours as a line like those of errors, and any other as Python writes it."""
    if issubclass(category, DataWarning):
        return f"hogpour: {message}\n"
    return _format_warning(message, category, filename, lineno, line)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hogpour",
        description="Train one model with every core of every machine.",
        epilog="example: python -m hogpour node        (trains on the embedded digits, needs no file)",
    )
    commands, raw = parser.add_subparsers(dest="command", metavar="COMMAND"), argparse.RawDescriptionHelpFormatter
    for name, (command, text) in _COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=text, formatter_class=raw))
    return parser
