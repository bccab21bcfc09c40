"""Bad input and the one check for all of it: how a command may end, what it may say, and what it may leave behind.

A ``Case`` is one bad input: files in a folder of its own, and a command line or a call of the Python API. ``hold`` runs
it in this process, ``held_as_process`` as a process; both hand what they saw to ``faults``, the check.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from hogpour.cli import main as cli
from hogpour.core.errors import DataWarning, InputError

LONGEST = 1000
"""Characters of a line that a person still reads."""

REFUSED = frozenset({InputError.exit_code})
TAKEN_OR_REFUSED = frozenset({0, InputError.exit_code})
"""Where damage may fall on what nobody looks at, or make another good file of it."""

Files = Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One bad input."""

    name: str
    """Of the test."""
    files: Files = field(default_factory=dict, repr=False)
    """What is in the folder, by path."""
    run: tuple[str, ...] | Callable[[], object]
    """Arguments of the command line; or a call, which is treated as a command: its errors end in the same lines."""
    says: tuple[str, ...]
    """What is to blame: the line must name one of these."""
    codes: frozenset[int] = REFUSED
    """How the command may end."""
    writes: frozenset[str] = frozenset()
    """Files that it may write or replace, whole."""


@dataclass(frozen=True, kw_only=True)
class End:
    """What was seen of a command that has ended."""

    code: int
    """Negative: the signal that killed it."""
    out: str = ""
    err: str = ""
    warned: tuple[Warning, ...] = ()
    """In this process, where they are not in ``err``."""
    before: Files = field(default_factory=dict)
    after: Files = field(default_factory=dict)
    """All files of the folder."""
    left: tuple[str, ...] = ()
    """Processes that outlive it. Descriptors and names are looked for after every test, see ``tests/conftest.py``."""


def faults(end: End, case: Case, whole: Callable[[bytes], bool] = bool) -> list[str]:
    """Return what is wrong with an end; empty: nothing.

    Args:
        whole: whether a file that may be written is a whole one.
    """
    lines = end.err.splitlines()
    found = [
        (end.code not in case.codes, f"exit code {end.code}, expected {' or '.join(map(str, sorted(case.codes)))}"),
        ("Traceback (most recent call last)" in end.out + end.err, "a traceback"),
        ("bug of hogpour" in end.err, "it calls itself a bug"),
        (len(lines) > 1, f"{len(lines)} lines on standard error, expected one"),
        (any(len(line) > LONGEST for line in lines), f"a line of {max(map(len, lines), default=0)} characters"),
        (bool(end.left), f"left behind: {', '.join(end.left)}"),
    ]
    if end.code in (1, 2):
        last = lines[-1] if lines else ""
        found.append((not last.startswith("hogpour: "), f"no line of hogpour's: {last!r}"))
        found.append((not any(name in last for name in case.says), f"it names none of {case.says}"))
    if end.code == InputError.exit_code:
        found.append((bool(end.out), "output, although nothing was done"))
    for warning in end.warned:
        found.append((not isinstance(warning, DataWarning), f"a warning of Python: {warning!r}"))
        found.append(("\n" in str(warning), "a warning of several lines"))
    for name in sorted(end.before.keys() | end.after.keys()):
        new = end.after.get(name)
        if new != end.before.get(name):
            allowed = name in case.writes and end.code != InputError.exit_code
            found.append((not allowed, f"{name} was {'removed' if new is None else 'written'}"))
            found.append((allowed and new is not None and not whole(new), f"{name} is not whole"))
    return [text for wrong, text in found if wrong]


def hold(case: Case, folder: Path) -> End:
    """Run a case in this process; fail where the check finds something."""
    lay(case.files, folder)
    before, out, err = files_of(folder), io.StringIO(), io.StringIO()
    with (
        chdir(folder), redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings(record=True) as warned,
        patch.object(sys, "excepthook"), patch.object(warnings, "formatwarning", warnings.formatwarning),
        patch.dict(cli._COMMANDS, _command(case.run), clear=True), patch("tempfile.tempdir", str(folder)),
    ):  # fmt: skip
        warnings.simplefilter("always")
        try:
            code = cli.main(case.run if isinstance(case.run, tuple) else ["call"])
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:  # what a user would see of it
            traceback.print_exc(file=err)
            code = 1
    said = tuple(one.message for one in warned if isinstance(one.message, Warning))
    end = End(code=code, out=out.getvalue(), err=err.getvalue(), warned=said, before=before, after=files_of(folder))
    tell(end, faults(end, case))
    return end


def tell(end: End, found: list[str]) -> None:
    """Fail with what the check found, and with what was said."""
    if found:
        pytest.fail(f"{'; '.join(found)}\n-- standard error:\n{end.err[-5000:]}\n-- standard output:\n{end.out[:2000]}", pytrace=False)


def params(cases: Iterable[Case], every: int, *marks: Any) -> list[Any]:
    """Return cases for ``parametrize``; one in ``every`` is in the default run, the others are long."""
    return [
        pytest.param(case, id=case.name, marks=[*marks, *([pytest.mark.long] if k % every else [])])
        for k, case in enumerate(cases)
    ]


def lay(files: Files, folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _command(run: tuple[str, ...] | Callable[[], object]) -> dict[str, Any]:
    """Return the one command that is run; a call becomes one."""
    if isinstance(run, tuple):
        return {run[0]: cli._COMMANDS[run[0]]}

    def call(options: argparse.Namespace) -> int:
        run()
        return 0

    return {"call": (SimpleNamespace(add_arguments=lambda parser: None, run=call), "")}


# -- damage -----------------------------------------------------------------------------------------------------------


def cuts(content: bytes, count: int, seed: int) -> list[bytes]:
    """Return beginnings of a file: empty, one byte short, and others that are drawn."""
    places = np.random.default_rng([seed, len(content)]).integers(1, len(content) - 1, count - 2)
    return [content[:place] for place in sorted({0, len(content) - 1, *places.tolist()})]


def flips(content: bytes, count: int, seed: int, *, first: int | None = None) -> list[bytes]:
    """Return a file with one byte changed, at places that are drawn among the first ones, in ways that are drawn."""
    draw, made = np.random.default_rng([seed, 1, len(content)]), []
    for _ in range(count):
        other = bytearray(content)
        other[draw.integers(first or len(content))] ^= int(draw.integers(1, 256))
        made.append(bytes(other))
    return made


def environment() -> dict[str, str]:
    """Return the environment of a process of this tree."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
