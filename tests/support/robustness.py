"""Bad input and the one check for all of it: how a command may end, what it may say, and what it may leave behind.

A ``Case`` is one bad input: files in a folder of its own, and a command line or a call of the Python API. ``hold`` runs
it in this process, ``hold_process`` as one of its own; both hand what they saw to ``faults``, the check.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import pytest
from support.processes import hear_signals

from hogpour.cli import main as cli
from hogpour.core.errors import DataWarning, InputError
from hogpour.model import model_file

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
    """What is to blame: the line must name one of these. Empty: where the exit code is 1, there need be no line."""
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
    if end.code == 2 or (end.code == 1 and case.says):
        last = lines[-1] if lines else ""
        found.append((not last.startswith("hogpour: "), f"no line of hogpour's: {last!r}"))
        found.append((not any(name in last for name in case.says), f"it names none of {case.says}"))
    if end.code == InputError.exit_code:
        event = json.dumps({"event": "failed", "text": end.err.strip().removeprefix("hogpour: "), "exit_code": end.code})
        said = f"{event}\n" if "--json" in (case.run if isinstance(case.run, tuple) else ()) else ""
        found.append((end.out != said, "output, although nothing was done" if end.out else "no last event with the error"))
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


# -- processes --------------------------------------------------------------------------------------------------------

_PATIENCE_S = 200
_MARK = "HOGPOUR_CASE"
"""A variable that every process of a case inherits, so that none escapes notice."""

def as_process(case: Case, folder: Path, shell: str) -> End:
    """Run a line of a shell in which ``hogpour`` is the command, and see how it ends; nothing is checked."""
    lay(case.files, folder)
    before, mark = files_of(folder), f"{os.getpid()}-{folder}"
    (temporary := folder.parent / f"{folder.name}-tmp").mkdir()
    variables = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHON": sys.executable, "PYTHONWARNINGS": "default",
        "TMPDIR": str(temporary), _MARK: mark,
    }  # fmt: skip
    line = f'hogpour() {{ "$PYTHON" -m hogpour "$@"; }}; {shell}'
    process = subprocess.Popen(["bash", "-c", line], cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, errors="replace", preexec_fn=hear_signals)  # fmt: skip
    try:
        out, err = process.communicate(timeout=_PATIENCE_S)
        _, left = psutil.wait_procs(_marked(mark), timeout=20)  # replicas that were told to end, or killed
    finally:
        for one in [process, *_marked(mark)]:
            one.kill()
        process.communicate()
        psutil.wait_procs(_marked(mark), timeout=20)
    # A model that its folder did not take is said to be elsewhere, and is held to what holds of those that it takes.
    others, said = files_of(temporary), f"{out}\n{err}\n"
    rescued = [name for name in others if f"; it is in {temporary / name}\n" in said]
    return End(
        code=process.returncode, out=out, err=err, before=before,
        after=files_of(folder) | {Path(name).name: others[name] for name in rescued},
        left=(*(f"process {one.pid}" for one in left),
              *(f"{name} among the temporary files" for name in others if name not in rescued)),
    )  # fmt: skip


def hold_process(case: Case, folder: Path, shell: str) -> End:
    """Run a case as a process; fail where the check finds something."""
    end = as_process(case, folder, shell)
    tell(end, faults(end, case, is_whole_model))
    return end


def is_whole_model(content: bytes) -> bool:
    """Whether these are the bytes of a model file that can be read."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        path.write_bytes(content)
        try:
            model_file.load(str(path))
        except InputError:
            return False
    return True


def _marked(mark: str) -> list[psutil.Process]:
    """Return the processes that inherited the mark of a case."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{_MARK}={mark}\0".encode() in path.read_bytes():
                found.append(psutil.Process(int(path.parent.name)))
        except (OSError, psutil.NoSuchProcess):
            continue  # it has ended, or is another user's
    return found
