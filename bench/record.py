"""The record: what each bench came to over commits, and the run of all of them that adds to it.

A line of the record has figures, each our rate in that of a peer, or of another way of ours, measured in turns in one
run: such ratios may be compared over commits, and rates of a machine that varies by 40 % may not.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["LEFT_OUT", "PLAN", "Figures", "keep", "run_all"]

ROOT = Path(__file__).parent.parent

Figures = dict[str, tuple[float, float, float]]
"""Who is beside us, a colon, and at what → our rate in theirs: median, 10th and 90th percentile."""

PLAN = {
    "startup": (130, "--rounds 4"),
    "wire": (10, ""),
    "kernels": (190, ""),
    "loopback": (340, "--rounds 3"),
    "sim": (210, "--rounds 4"),
    "hogwild": (950, "--rounds 2 --once --within 790"),
    "sparse": (220, "--rounds 2 --within 160"),
    "downpour": (800, "--rounds 2 --once --within 700"),
    "sandblaster": (350, "--only scipy --evaluations 60 --converge 800"),
    "deaths": (400, ""),
}
"""Bench → the seconds after which it is ended, an hour in all, and what it is told so that it needs fewer."""

LEFT_OUT = {"change": "is for `.ci/run`", "papers": "takes hours, of seconds that are virtual"}


def run_all(more: Sequence[str], run: Callable[[list[str], float], int | None] | None = None) -> int:
    """Run every bench of the plan, each in a process of its own: one that fails takes no other with it.

    Args:
        more: options for each of them.
        run: runs a command for at most so many seconds and returns its exit code, None where it was ended.

    Returns:
        The exit code: 1 where a bench failed.
    """
    failed = 0
    for name, (seconds, words) in PLAN.items():
        begin = time.monotonic()
        code = (run or _run)([sys.executable, "-m", "bench", name, *words.split(), *more], seconds)
        failed += code != 0
        end = {0: "", None: ", ended"}.get(code, f", failed with exit code {code}")
        print(f"bench {name}: {time.monotonic() - begin:.0f} of {seconds} s{end}", file=sys.stderr, flush=True)
    return min(failed, 1)


def _run(line: list[str], seconds: float) -> int | None:
    with subprocess.Popen(line, cwd=ROOT, start_new_session=True) as process:
        try:
            return process.wait(seconds)
        except BaseException as error:  # Ctrl+C too: replicas and peers end with their bench
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise


def keep(result: Mapping[str, Any], path: Path) -> None:
    """Add a line for a result; one of the same bench, commit and machine gives way."""
    what = {"bench": result["bench"], **{key: result["machine"][key] for key in ("commit", "cpu", "cores")}}
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    others = [line for line in lines if {key: json.loads(line)[key] for key in what} != what]
    rest = {"time": result["machine"]["time"], "seconds": result["seconds"], "figures": result["figures"]}
    path.write_text("".join(f"{line}\n" for line in [*others, json.dumps(what | rest, ensure_ascii=False)]), "utf-8")
