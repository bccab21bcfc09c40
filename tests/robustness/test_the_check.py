"""The check of this suite, itself: each thing that it is there for fails it."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.robustness import Case, End, as_process, faults, files_of, hold

from hogpour.core.errors import ConfigError, DataWarning

pytestmark = pytest.mark.robustness

CASE = Case(name="x", run=("node", "job.toml"), says=("job.toml",), codes=frozenset({0, 1, 2}), writes=frozenset({"m"}))
LINE = "hogpour: job.toml: run.epochs = 0, expected at least 1\n"
REFUSED = End(code=2, err=LINE)
TRAINED = End(code=0, out="trained\n", after={"m": b"whole"})


@pytest.mark.parametrize("end", [REFUSED, TRAINED, End(code=0), End(code=1, out="half of it", err=LINE), replace(TRAINED, before={"m": b"old"})])
def test_an_end_in_order_passes(end: End) -> None:
    assert faults(end, CASE) == []


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (End(code=1, err=f"Traceback (most recent call last):\n  File\n{LINE}"), "a traceback"),
        (End(code=0, out="Traceback (most recent call last):\n"), "a traceback"),
        (End(code=1, err="hogpour: job.toml: this is a bug of hogpour; please report it"), "it calls itself a bug"),
        (replace(REFUSED, err=LINE + LINE), "2 lines on standard error, expected one"),
        (End(code=0, err=LINE + LINE), "2 lines on standard error, expected one"),
        (replace(REFUSED, err=f"hogpour: job.toml {'x' * 2000}"), "a line of 2018 characters"),
        (replace(REFUSED, err=""), "no line of hogpour's: ''"),
        (replace(REFUSED, err="job.toml: Segmentation fault"), "no line of hogpour's: 'job.toml: Segmentation fault'"),
        (replace(REFUSED, err="hogpour: something is wrong"), "it names none of ('job.toml',)"),
        (replace(REFUSED, code=3), "exit code 3, expected 0 or 1 or 2"),
        (replace(REFUSED, code=-6), "exit code -6, expected 0 or 1 or 2"),
        (replace(REFUSED, out="epoch 1"), "output, although nothing was done"),
        (replace(REFUSED, after={"m": b"whole"}), "m was written"),
        (replace(REFUSED, before={"m": b"old"}), "m was removed"),
        (replace(REFUSED, after={".m.7.0.tmp": b"ha"}), ".m.7.0.tmp was written"),
        (replace(TRAINED, before={"job.toml": b"a"}, after={"job.toml": b"b"}), "job.toml was written"),
        (replace(TRAINED, after={"m": b""}), "m is not whole"),
        (replace(TRAINED, left=("process 7 (replica)",)), "left behind: process 7 (replica)"),
        (replace(TRAINED, warned=(RuntimeWarning("overflow"),)), "a warning of Python: RuntimeWarning('overflow')"),
        (replace(TRAINED, warned=(DataWarning("a\nb"),)), "a warning of several lines"),
    ],
)
def test_what_must_not_be_fails_the_check(end: End, fault: str) -> None:
    assert fault in faults(end, CASE)


TOLD = json.dumps({"event": "failed", "text": LINE[len("hogpour: ") : -1], "exit_code": 2}) + "\n"
AS_JSON = replace(CASE, run=("node", "job.toml", "--json"))


def test_the_last_event_of_json_lines_is_the_error() -> None:
    assert faults(replace(REFUSED, out=TOLD), AS_JSON) == []
    assert faults(REFUSED, AS_JSON) == ["no last event with the error"]
    assert faults(replace(REFUSED, out=TOLD), CASE) == ["output, although nothing was done"]
    assert faults(replace(REFUSED, out=TOLD.replace("epochs", "x")), AS_JSON) == ["output, although nothing was done"]


def raising(error: BaseException) -> Any:
    def call() -> None:
        raise error

    return call


def writing(name: str) -> Any:
    def call() -> None:
        Path(name).write_text("half")
        raise ConfigError("job.toml: no")

    return call


def chatting() -> None:
    sys.stderr.write("a word before\n")
    raise ConfigError("job.toml: no")


def warning() -> None:
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (raising(ValueError("oops")), "a traceback"),
        (chatting, "2 lines on standard error"),
        (raising(ConfigError("nothing is named")), "it names none of"),
        (raising(SystemExit(3)), "exit code 3"),
        (raising(KeyboardInterrupt()), "exit code 130"),
        (writing(".m.tmp"), ".m.tmp was written"),
        (warning, "a warning of Python"),
        (("node", "--epochs", "x"), "lines on standard error"),
    ],
)
def test_a_command_that_does_so_fails_its_case(run: Any, fault: str, tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=fault):
        hold(replace(CASE, run=run), tmp_path)


def test_a_command_that_ends_in_a_line_passes_its_case(tmp_path: Path) -> None:
    case = replace(CASE, run=raising(ConfigError("job.toml: no")), files={"a/job.toml": b"x"})
    assert hold(case, tmp_path).err == "hogpour: job.toml: no\n"
    assert files_of(tmp_path) == {"a/job.toml": b"x"}


@pytest.mark.real
def test_a_model_that_is_said_to_be_elsewhere_is_looked_at_and_what_else_is_there_was_forgotten(tmp_path: Path) -> None:
    line = "echo whole > $TMPDIR/m; echo it > $TMPDIR/m2; echo 'm: cannot be written; it is in '$TMPDIR/m"
    case = Case(name="two files", files={"a": b""}, run=(), says=("",), codes=frozenset({0}), writes=frozenset({"m"}))
    end = as_process(case, tmp_path / "run", line)
    assert end.left == ("m2 among the temporary files",)
    assert faults(replace(end, left=()), case, lambda content: content == b"whole\n") == []
    assert faults(end, case, lambda content: False) == ["left behind: m2 among the temporary files", "m is not whole"]
    assert "m was written" in faults(end, replace(case, writes=frozenset()))
