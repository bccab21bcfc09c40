"""Places, streams, limits, homes and locales of other machines: a command does its work there, or says in a line why not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.robustness import REFUSED, TAKEN_OR_REFUSED, Case, hold_process
from support.trained import DATA, MODEL, model

pytestmark = [pytest.mark.robustness, pytest.mark.real, pytest.mark.long]

JOB = '[data]\ntrain = "a.csv"\n[model]\nlayers = [{layer = "linear", units = 3}]\n[run]\nepochs = 2\nreplicas = 1\nmodel = "new.safetensors"\n'
FILES = {"job.toml": JOB.encode(), "a.csv": DATA["a.csv"], MODEL: model()}
PREDICT, TRAIN, DOCTOR = f"hogpour predict {MODEL} a.csv", "hogpour node job.toml", "hogpour doctor"

WORKS = frozenset({0})
FAILS = frozenset({1, 2})

TABLE: dict[str, tuple[str, frozenset[int], tuple[str, ...]]] = {
    # streams
    "predict, no standard input": (f"{PREDICT} <&-", WORKS, ()),
    "predict, no standard output": (f"{PREDICT} >&-", WORKS, ()),
    "predict, no standard error": (f"{PREDICT} 2>&-", WORKS, ()),
    "predict, no streams": (f"{PREDICT} <&- >&- 2>&-", WORKS, ()),
    "predict, nothing there and no streams": ("hogpour predict none a.csv <&- >&-", REFUSED, ("none",)),
    "doctor, no streams": (f"{DOCTOR} <&- >&- 2>&-", frozenset({0, 1}), ()),
    "train, no streams": (f"{TRAIN} <&- >&- 2>&-", WORKS, ()),
    "predict, full": (f"{PREDICT} > /dev/full", frozenset({1}), ("standard output",)),
    "train, full": (f"{TRAIN} > /dev/full", frozenset({1}), ("standard output",)),
    "predict, both full": (f"{PREDICT} > /dev/full 2> /dev/full", frozenset({1}), ()),
    "refused, no room to say so": ("hogpour predict none a.csv 2> /dev/full || [ $? = 2 ]", WORKS, ()),
    "predict, reader gone": (f"{PREDICT} | true; exit ${{PIPESTATUS[0]}}", frozenset({0, 1}), ()),
    "predict, read only output": (f"{PREDICT} 1< a.csv", frozenset({1}), ("standard output",)),
    # encodings and locales
    **{f"predict, {encoding}": (f"PYTHONIOENCODING={encoding} {PREDICT}", WORKS, ()) for encoding in ("ascii", "latin-1", "cp1252", "koi8-r:strict")},
    **{f"refused, {encoding}": (f"PYTHONIOENCODING={encoding} hogpour predict é.safetensors a.csv", REFUSED, ("safetensors",)) for encoding in ("ascii", "cp1252")},
    **{f"predict, LC_ALL={locale}": (f"env LC_ALL={locale} PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $PYTHON -m {PREDICT}", WORKS, ()) for locale in ("C", "POSIX", "xx_YY.UTF-8", "tr_TR")},
    "refused, LC_ALL=C": ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 hogpour predict é.safetensors a.csv", REFUSED, ("safetensors",)),
    "a name of bytes": ("hogpour predict $'caf\\351.safetensors' a.csv", REFUSED, ("caf\\udce9.safetensors",)),
    "a name of lines": ("hogpour node $'a\\nb.toml'", REFUSED, ("a\\nb.toml",)),
    # homes
    "predict, no home": (f"env -u HOME -u XDG_CACHE_HOME $PYTHON -m {PREDICT}", WORKS, ()),
    "predict, an empty home": (f"HOME= {PREDICT}", WORKS, ()),
    "predict, a home that is not there": (f"HOME=/no/where {PREDICT}", WORKS, ()),
    "predict, a home that is a file": (f"HOME=$PWD/a.csv {PREDICT}", WORKS, ()),
    "train, no home, no temporary folder": (f"HOME=/no/where TMPDIR=/no/where {TRAIN}", WORKS, ()),
    "predict, kernels in a file": (f"NUMBA_CACHE_DIR=$PWD/a.csv {PREDICT}", TAKEN_OR_REFUSED, ("NUMBA_CACHE_DIR",)),
    "listen, no state": ("HOME=/no/where XDG_RUNTIME_DIR= hogpour node job.toml --listen 127.0.0.1:0", REFUSED, ("XDG_STATE_HOME", "downpour")),
    **{f"predict, {n} threads of numba": (f"NUMBA_NUM_THREADS={n} {PREDICT}", REFUSED, (f"NUMBA_NUM_THREADS = {n}",)) for n in ("0", "-3")},
    "status, a token of bytes": ("HOGPOUR_TOKEN=$'\\xff of these tests, 24 b' hogpour status 127.0.0.1:1", FAILS, ("127.0.0.1:1",)),
    "predict, no PATH": (f"PATH= {PREDICT}", WORKS, ()),
    # limits
    **{f"predict, {most} files": (f"ulimit -n {most}; {PREDICT}", TAKEN_OR_REFUSED, ("open files",)) for most in (8, 16, 31, 33)},
    **{f"train, {most} files": (f"ulimit -n {most}; {TRAIN}", TAKEN_OR_REFUSED, ("open files",)) for most in (16, 35)},
    "train, files of 0 bytes": (f"ulimit -f 0; {TRAIN}", FAILS, ("new.safetensors", "File too large")),
    "train, files of 1 kB": (f"ulimit -f 1; {TRAIN}", FAILS, ("new.safetensors", "File too large", "examples")),
    "predict into a file of 0 bytes": (f"ulimit -f 0; {PREDICT} > ../out", frozenset({1}), ("standard output",)),
    "predict, 600 MB": (f"ulimit -v 600000; {PREDICT}", frozenset({0, 1, 2}), ("",)),
}  # fmt: skip

READ_ONLY = {
    "train into a read-only folder": (TRAIN, ["."], REFUSED, ("new.safetensors",)),
    "predict from a read-only folder": (PREDICT, ["."], WORKS, ()),
    "predict, a read-only home": (PREDICT, ["$HOME"], WORKS, ()),
    "train, read-only temporary folders": (TRAIN, ["/tmp", "/var/tmp", "/dev/shm"], TAKEN_OR_REFUSED, ("new.safetensors",)),
    "predict, everything read-only": (PREDICT, ["/tmp", "/var/tmp", "/dev/shm", "$HOME"], TAKEN_OR_REFUSED, ("NUMBA_CACHE_DIR",)),
    "doctor, everything read-only": (DOCTOR, ["/tmp", "/var/tmp", "/dev/shm", "$HOME"], frozenset({0, 1}), ()),
}


def cases() -> Iterator[tuple[Case, str]]:
    for name, (line, codes, says) in TABLE.items():
        yield Case(name=name, files=FILES, run=(), says=says, codes=codes, writes=frozenset({"new.safetensors"})), line
    for name, (line, places, codes, says) in READ_ONLY.items():
        mounts = "; ".join(f'mount --bind "{place}" "{place}" && mount -o remount,ro,bind "{place}"' for place in places)
        inner = f"{mounts}; cd \"$PWD\"; exec $PYTHON -m {line}"
        yield Case(name=name, files=FILES, run=(), says=says, codes=codes, writes=frozenset({"new.safetensors"})), f"exec unshare -m bash -c '{inner}'"


@pytest.mark.parametrize(("case", "line"), [pytest.param(*one, id=one[0].name) for one in cases()])
def test_a_command_works_or_says_why_not_wherever_it_is(case: Case, line: str, tmp_path: Path) -> None:
    if "unshare" in line and (os.geteuid() or not shutil.which("unshare")):
        pytest.skip("only root may mount")
    hold_process(case, tmp_path / "run", line)
