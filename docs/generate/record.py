"""The record of benches over commits, from ``bench/results/record.jsonl``: a table for each bench."""

from __future__ import annotations

import json
from typing import Any

from bench.record import LEFT_OUT, PLAN
from docs.generate import benchmarks

__all__ = ["page", "plan"]


def plan() -> str:
    """Return what every bench is told in the record, and how long it may take."""
    lines = ["| bench | runs as | ended after |", "|---|---|--:|"]
    for name, (seconds, words) in PLAN.items():
        lines.append(f"| {name} | `python -m bench {name}{' ' * bool(words)}{words}` | {seconds:,} s |")
    left_out = "; ".join(f"`{name}` {why}" for name, why in LEFT_OUT.items())
    return "\n".join([*lines, "", f"Together {sum(s for s, _ in PLAN.values()) / 60:.0f} minutes. Not in it: {left_out}."]) + "\n"


def page() -> str:
    """Return the tables, newest lines first, those of a machine together."""
    path = benchmarks.RESULTS / "record.jsonl"
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines.sort(key=lambda line: line["time"], reverse=True)
    lines.sort(key=lambda line: (line["cpu"], line["cores"]))
    tables = []
    for name in (name for name in PLAN if any(line["bench"] == name for line in lines)):
        mine = [line for line in lines if line["bench"] == name]
        figures = list(dict.fromkeys(figure for line in mine for figure in line["figures"]))
        rows = [["day", "commit", "machine", "s", *figures], ["---", "---", "---", *["--:"] * (1 + len(figures))]]
        for line in mine:
            cells = [_cell(*line["figures"][figure]) if figure in line["figures"] else "–" for figure in figures]
            machine = f"{line['cpu']}, {line['cores']} cores"
            rows.append([line["time"][:10], line["commit"][:8], machine, f"{line['seconds']:,.0f}", *cells])
        tables.append("\n".join([f"### Record of {name}", "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n")
    return "\n".join(tables)


def _cell(middle: float, *spread: float) -> str:
    return f"{middle:.2f} ({'–'.join(f'{one:.2f}' for one in spread)})" if spread else f"{middle:.2f}"
