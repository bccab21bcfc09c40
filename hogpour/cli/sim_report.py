"""What a person reads of a simulation: lines while it goes on, tables at its end; or one JSON object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hogpour.cli.tables import Columns, cell, duration, print_json
from hogpour.core.cluster_state import STALENESS_COUNTS
from hogpour.sim.report import Point, SimulationReport

__all__ = ["JsonShow", "TableShow"]

_ROWS = 20
_NODES = 20
"""Nodes that the table names; of more, those with the most lives and then the first ones."""

_HAPPENINGS = 12
"""Lines of what happened, from the beginning and from the end, unless all are wanted."""


class JsonShow:
    """One JSON object a line: points, and the report as the last one."""

    def point(self, point: Point) -> None:
        """Show a point."""
        print_json(event="point", **asdict(point))

    def report(self, report: SimulationReport, wall_s: float) -> None:
        """Show the report, without what was shown already."""
        words = {k: v for k, v in report.to_dict().items() if k != "points"}
        print_json(event="finished", **words, wall_s=round(wall_s, 3))


class TableShow:
    """Tables.

    Args:
        epochs: of the job; some 20 points of it are shown.
        log: show everything that happened.
    """

    COLUMNS = Columns(("virtual time", 14), ("epoch", 9), ("examples", 13), ("test loss", 11), ("accuracy", 10),
                      ("nodes", 7), ("staleness", 11))  # fmt: skip

    def __init__(self, epochs: int, log: bool = False) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._log, self._headed, self._step, self._next = log, False, epochs / _ROWS, 0.0

    def point(self, point: Point) -> None:
        """Show a point, if it is time for one."""
        if point.epoch < self._next:
            return
        self._next = max(self._next + self._step, point.epoch + self._step / 2)
        if not self._headed:
            self._headed = True
            self._console.print(self.COLUMNS.head(), style="bold")
        cells = (duration(point.seconds, True), f"{point.epoch:.2f}", f"{point.examples:,}",
                 cell(point.loss), cell(point.accuracy), str(point.nodes),
                 cell(point.staleness, ".2f"))  # fmt: skip
        self._console.print(self.COLUMNS.row(cells))

    def report(self, report: SimulationReport, wall_s: float) -> None:
        """Show the report."""
        say = self._console.print
        say()
        for line in self._happenings(report):
            say(line, markup=False)
        say(_node_table(report))
        if report.staleness:
            mean = cell(report.mean_staleness, ".2f")
            say(f"staleness: mean {mean}, {_quantiles(report.staleness)} updates")
        if report.wait_s:
            say(f"gate: a push waited {duration(report.wait_s, True)} on average, {report.dropped:,} came too late")
        sent = f"{_bytes(report.bytes)} sent"
        if report.examples:
            sent += f", {report.bytes / report.examples:,.0f} bytes an example"
        waiting = "" if report.waiting is None else f"; replicas waited {100 * report.waiting:.1f} % of their time"
        say(f"{sent}{waiting}; {report.deaths} deaths, {report.resets} connections broken, "
            f"{report.repeated:,} examples given out again")  # fmt: skip
        result = "" if report.loss is None else f"; loss {cell(report.loss)}"
        result += "" if report.accuracy is None else f", accuracy {report.accuracy:.4f}"
        why = f": {report.error}" if report.error else ""
        say(f"{report.outcome}{why} after {duration(report.seconds, True)} of virtual time, "
            f"{report.examples:,} examples{result}", style="bold")  # fmt: skip
        say(f"simulated in {wall_s:.1f} s, {report.events:,} events; trace {report.trace}", style="dim")

    def _happenings(self, report: SimulationReport) -> Iterable[str]:
        told = [h for h in report.happenings if self._log or h.text.startswith(_TOLD)]
        lines = [f"{duration(h.seconds, True):>14}  node {h.node}: {h.text}" for h in told]
        if self._log or len(lines) <= 2 * _HAPPENINGS:
            return lines
        left_out = f"{'...':>14}  {len(lines) - 2 * _HAPPENINGS:,} more; --log shows all"
        return [*lines[:_HAPPENINGS], left_out, *lines[-_HAPPENINGS:]]


_TOLD = ("is killed", "loses its power", "is cut", "reaches", "begins again", "ends: failed", "ends: diverged",
         "stands", "goes on", "was out of reach")  # fmt: skip
"""Beginnings of what is shown without being asked for."""


def _node_table(report: SimulationReport) -> Any:
    from rich.table import Table

    nodes = sorted(report.nodes, key=lambda node: (-node.lives, node.node))[:_NODES]
    nodes.sort(key=lambda node: node.node)
    left_out = len(report.nodes) - len(nodes)
    title = f"nodes ({left_out} more with as many lives or fewer)" if left_out else "nodes"
    grid = Table(title=title, title_justify="left")
    for name in ("node", "lives", "ended", "examples", "computed", "waited", "received", "sent"):
        grid.add_column(name, justify="left" if name == "ended" else "right")
    for node in nodes:
        grid.add_row(str(node.node), str(node.lives), node.outcome, f"{node.examples:,}",
                     duration(node.computing_s, True), duration(node.waiting_s, True), _bytes(node.bytes_in),
                     _bytes(node.bytes_out))  # fmt: skip
    return grid


def _quantiles(histogram: tuple[int, ...]) -> str:
    total, seen, found = sum(histogram), 0, []
    wanted = [0.5, 0.9, 1.0]
    for k, count in enumerate(histogram):
        seen += count
        while wanted and seen >= wanted[0] * total:
            wanted.pop(0)
            found.append(k)
    words = [f"{k} or more" if k == STALENESS_COUNTS - 1 else str(k) for k in found]
    return f"median {words[0]}, 90 % at most {words[1]}, largest {words[2]}"


def _bytes(n: float) -> str:
    if n < 1000:
        return f"{n:.0f} B"
    for unit in ("kB", "MB", "GB"):
        n /= 1000
        if n < 1000:
            return f"{n:.1f} {unit}"
    return f"{n / 1000:.1f} TB"
