"""What all benches share: timing in turns, the machine, tables, results that are kept.

Contenders are measured in turns, round by round, in an order that is reversed from round to round, so that a machine
that is disturbed for a while disturbs all of them. A sample of something short is many calls, as many as it takes to
make the clock negligible. Medians are reported, with the 10th and 90th percentile beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import record

__all__ = ["Report", "Spread", "Table", "alternate", "answer", "git", "machine", "one_thread", "paired", "rounds",
           "spread", "times", "torch_or_none"]  # fmt: skip

ROOT = Path(__file__).parent.parent
PACKAGES = ("hogpour", "numpy", "numba", "scipy", "torch", "jax", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Spread:
    """What the samples of one contender say, in the unit of the samples."""

    median: float
    p10: float
    p90: float
    samples: int


def spread(samples: Sequence[float]) -> Spread:
    """Return median, 10th and 90th percentile."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0], 1)
    tenths = quantiles(samples, n=10, method="inclusive")
    return Spread(median(samples), tenths[0], tenths[-1], len(samples))


def paired(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of rounds: the machine is more alike in neighbours in time than in all of one kind."""
    found = spread([a / b for a, b in zip(above, below)])
    return found.median, found.p10, found.p90


def times(peer: float, ours: float, p10: float, p90: float) -> tuple[float, float, float]:
    """Return how often our time is in a peer's, by our median, with the spread of ours."""
    return peer / ours, peer / p90, peer / p10


def rounds(most: int, within_s: float | None, clock: Callable[[], float] = time.perf_counter) -> Iterator[int]:
    """Count rounds, and begin none that would end later than ``within_s`` if it took as long as the one before."""
    begin = last = clock()
    for turn in range(most):
        now = clock()
        if turn and within_s is not None and 2 * now - last - begin > within_s:
            return
        last = now
        yield turn


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    sample_s: float = 0.002,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Spread]:
    """Time the contenders in turns and return the seconds of one call of each.

    Each is called twice before anything counts (compilation, caches, first touch of memory); the second call is timed
    and says how many calls make a sample of at least ``sample_s``.

    Args:
        contenders: name → something to call without arguments.
        rounds: samples of each.
        sample_s: seconds that a sample takes at least.
        clock: seconds; tests pass their own.
    """
    calls = {}
    for name, call in contenders.items():
        call()
        begin = clock()
        call()
        calls[name] = max(1, -int(-sample_s // max(clock() - begin, 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
            call, n_calls = contenders[name], calls[name]
            begin = clock()
            for _ in range(n_calls):
                call()
            samples[name].append((clock() - begin) / n_calls)
    return {name: spread(seconds) for name, seconds in samples.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold every BLAS and PyTorch to one thread."""
    import scipy.linalg  # noqa: F401  numba's np.dot is SciPy's BLAS; a library that is not loaded yet is not limited
    from threadpoolctl import threadpool_limits

    torch = torch_or_none()
    before = torch.get_num_threads() if torch else 1
    with threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def torch_or_none() -> Any:
    """Return the module torch where it is installed, else None."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def machine() -> dict[str, Any]:
    """Say where and with what a result was measured."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    # The results themselves do not make the tree unclean, so that several benches can be saved one after the other.
    changes = git("status", "--porcelain", "--", ".", ":!bench/results")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": git("rev-parse", "HEAD"),
        "clean": None if changes is None else changes == "",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def git(*words: str) -> str | None:
    """Return what git says of this repository; None where it says nothing."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@dataclass(slots=True)
class Table:
    """Rows with the same columns."""

    title: str
    columns: tuple[str, ...]
    """Names of the columns in order; also the keys of the rows. A row may lack some."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, **row: Any) -> None:
        """Append a row."""
        assert set(row) <= set(self.columns), f"{self.title}: no column {sorted(set(row) - set(self.columns))}"
        self.rows.append(row)


@dataclass(slots=True)
class Report:
    """What a bench found."""

    tables: list[Table]
    notes: list[str] = field(default_factory=list)
    """What a reader must know to judge the numbers."""
    figures: record.Figures = field(default_factory=dict)
    part: bool = False
    """Whether this is a part of what the bench asks: saved, it takes the place of the tables and notes of its names
    only. The name of a table or note is what its text has before a colon."""


def answer(
    name: str, question: str, measure: Callable[[argparse.Namespace], Report], options: argparse.Namespace
) -> int:
    """Run a bench and print its report; return the exit code."""
    where = machine()
    begin = time.perf_counter()
    report = measure(options)
    result = {
        "bench": name,
        "question": question,
        "machine": where,
        "seconds": round(time.perf_counter() - begin, 1),
        "tables": [{"title": t.title, "rows": [_rounded(row) for row in t.rows]} for t in report.tables],
        "notes": report.notes,
        "figures": {name: [float(f"{value:.4g}") for value in one] for name, one in report.figures.items()},
    }
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        show(result, report)
    if options.save:
        path = ROOT / "bench" / "results" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        if where["clean"] and report.figures:
            record.keep(result, path.with_name("record.jsonl"))
        if report.part and path.exists():
            result = merged(json.loads(path.read_text("utf-8")), result)
        path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


def merged(kept: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results that are kept with those of a part in their places, or behind them where they are new.

    Each table then says on which commit and when it was measured, since they differ.
    """
    tables = {_name(table["title"]): _measured_at(table, kept) for table in kept["tables"]}
    renewed = {_name(table["title"]): _measured_at(table, part) for table in part["tables"]}
    tables |= renewed
    notes = [note for note in kept["notes"] if _name(note) not in renewed and note not in part["notes"]]
    places = {name: place for place, name in enumerate(tables)}
    notes = sorted([*notes, *part["notes"]], key=lambda note: places.get(_name(note), len(places)))
    seconds = round(kept["seconds"] + part["seconds"], 1)
    return {**part, "seconds": seconds, "tables": list(tables.values()), "notes": notes}


def _name(text: str) -> str:
    return text.partition(":")[0]


def _measured_at(table: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table that says where it is from; one that does already is left as it is."""
    where = {key: result["machine"][key] for key in ("commit", "clean", "time")}
    return {"title": table["title"], **where, **table}


def show(result: Mapping[str, Any], report: Report, file: Any = None) -> None:
    """Print a report as tables."""
    from rich.console import Console
    from rich.table import Table as RichTable

    # Into a file or a pipe there is no width to keep to.
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 180
    console.print(result["question"], style="bold")
    for table in report.tables:
        grid = RichTable(title=table.title, title_justify="left")
        filled = [c for c in table.columns if any(row.get(c) is not None for row in table.rows)]
        for column in filled:
            numbers = any(isinstance(row.get(column), int | float) for row in table.rows)
            widest = max(len(_cell(row.get(column))) for row in table.rows)
            # A narrow terminal folds the words, never the numbers.
            grid.add_column(column.replace("_", " "), justify="right" if numbers else "left", overflow="fold",
                            min_width=widest if numbers else min(widest, 8))  # fmt: skip
        for row in table.rows:
            grid.add_row(*[_cell(row.get(column)) for column in filled])
        console.print(grid)
    for note in report.notes:
        console.print(f"- {note}")
    where = result["machine"]
    commit = (where["commit"] or "no commit")[:12] + ("" if where["clean"] else ", with uncommitted changes")
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items() if version)
    processor = f"{where['cpu']}, {where['cores']} cores, load {where['load']}"
    console.print(f"{processor} · python {where['python']}, {versions} · {commit} · {result['seconds']} s", style="dim")


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
