"""How a cluster at one moment is drawn for a terminal that is 100 characters wide.

From the top: the run, a table of members, one of shards, and how stale the pushes were. Numbers are never cut: where
there is no room, names are folded, and shards beyond the rows that there is room for are counted.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hogpour.cli.status_json import View, quantile
from hogpour.cli.tables import cell
from hogpour.core.cluster_state import STALENESS_COUNTS, ClusterState, ShardState
from hogpour.core.shard_map import format_shards

__all__ = ["TextOutput", "drawn", "make_console"]

MOST_ROWS = 20
"""Of shards, in one view."""

WIDTH = 100
"""Of a view that goes into a file or a pipe; on a terminal it is as wide as that."""

_AROUND = 12
"""Lines of a view that are no rows of members or shards, and one for the cursor."""

_BARS = "▁▂▃▄▅▆▇█"


def drawn(address: str, view: View, most: int) -> RenderableType:
    """Return what is printed of a view.

    Args:
        address: where the first node was asked.
        most: rows of shards.
    """
    shards, unsaid = _shard_table(view, most)
    parts: list[RenderableType] = [*_run_lines(address, view.cluster), "", _member_table(view.cluster), "", shards]
    if unsaid:
        parts.append(Text(f"… and {unsaid:,} more", "dim"))
    for silent in view.silent:
        where = f"node {silent.node} ({silent.address})" if silent.address else f"node {silent.node}"
        numbers = format_shards(view.shards_of(silent.node))
        parts.append(Text(f"{where} serves {numbers} and does not answer: {silent.reason}", "yellow"))
    return Group(*parts, "", *_staleness_lines(view))


def _run_lines(address: str, cluster: ClusterState) -> list[Text]:
    words = {
        "run": cluster.reason or ("warm start, one replica computes" if cluster.warming else "running"),
        "finish": "every example is used, the run ends",
        "stop": f"stopping: {cluster.reason}",
        "fail": f"failed: {cluster.reason}",
    }[cluster.command]
    blocks = cluster.tickets_done + cluster.tickets_leased + cluster.tickets_free
    share = f"{int(1000 * cluster.tickets_done / blocks) / 10:.1f}%" if blocks else "0.0%"  # 100 when it is all
    facts = [
        f"{cluster.examples_done:,} examples done",
        f"{cluster.examples_repeated:,} repeated",
        f"{cluster.rate:,.0f} examples/s",
    ]
    if cluster.loss is not None:
        facts.append(f"mean loss {cell(cluster.loss)}")
    style = {"run": "bold", "finish": "bold", "stop": "bold yellow", "fail": "bold red"}[cluster.command]
    numbers = f"{share} of {blocks:,} blocks, {', '.join(facts)}"
    costs = []
    if cluster.mean_wait_s or cluster.dropped:
        wait_ms = 1e3 * (cluster.mean_wait_s or 0.0)
        costs.append(f"a push waits {wait_ms:.1f} ms at the gate, {cluster.dropped:,} came too late")
    if cluster.bytes_per_example:
        costs.append(f"{cluster.bytes_per_example:,.0f} bytes/example")
    first = Text(f"{address}: {words}{_versions(cluster)}", style)
    return [first, Text(numbers), *([Text(", ".join(costs))] if costs else [])]


def _versions(cluster: ClusterState) -> str:
    """Return which versions of hogpour its members run, and who, where they are several."""
    nodes: dict[str, list[int]] = {}
    for member in cluster.members:
        nodes.setdefault(member.version, []).append(member.node)
    if len(nodes) == 1:
        return f", hogpour {version}" if (version := next(iter(nodes))) else ""
    parts = [f"{version or '?'} ({', '.join(map(str, those))})" for version, those in sorted(nodes.items())]
    return f", hogpour versions (nodes): {', '.join(parts)}"


def _member_table(cluster: ClusterState) -> Table:
    columns = ("node", "name", "address", "phase", "replicas", "shards", "examples", "rate/s", "silent", "blocks")
    table = _table(*columns, *(("waits for",) if cluster.waits_for else ()))
    for member in cluster.members:
        table.add_row(
            str(member.node),
            Text(member.name or "-"),
            Text(member.address or "-"),
            Text(member.phase, "" if member.phase == "ready" else "yellow"),
            str(member.replicas),
            str(member.shards),
            f"{member.examples:,}",
            f"{member.rate:,.0f}",
            f"{member.silent_s:.1f} s",
            str(member.tickets),
            *_waits(cluster, member.node),
        )
    return table


def _waits(cluster: ClusterState, node: int) -> list[Text]:
    """Return the cell that says for whom a member waits; none where nobody does."""
    names = "; ".join(str(one) for one in cluster.waits_for if node in one.by)
    return [Text(names or "-", "yellow" if names else "")] if cluster.waits_for else []


@dataclass(frozen=True, slots=True)
class _Row:
    """Neighbouring shards of one owner that are all alike."""

    first: int
    last: int
    node: int
    state: ShardState | None

    def alike(self, other: _Row) -> bool:
        return self.node == other.node and _nameless(self.state) == _nameless(other.state)


def _nameless(state: ShardState | None) -> ShardState | None:
    return state and replace(state, shard=0, start=0, stop=0)


def _shard_table(view: View, most: int) -> tuple[Table, int]:
    """Return the table, and how many shards there was no room for."""
    cluster = view.cluster
    rows = [_Row(k, k, node, state) for k, (node, state) in enumerate(zip(cluster.owners, view.shards, strict=True))]
    if len(rows) > most:
        merged: list[_Row] = []
        for row in rows:
            if merged and merged[-1].alike(row):
                merged[-1] = replace(merged[-1], last=row.last)
            else:
                merged.append(row)
        rows = merged
    columns = ("clock", "pushes", "repeated", "amended", "dropped", "mean staleness", "p90", "max")
    table = _table("shard", "node", "elements", *columns)
    for row in rows[:most]:
        name = str(row.first) if row.first == row.last else f"{row.first} to {row.last}"
        elements = cluster.bounds[row.last + 1] - cluster.bounds[row.first]
        cells = ["-"] * len(columns)
        if (state := row.state) is not None:
            cells = [f"{count:,}" for count in _counts(state)]
            cells.append(f"{state.mean_staleness:.2f}")
            cells += [_late(quantile(state.staleness, 0.9)), _late(quantile(state.staleness, 1.0))]
        table.add_row(name, str(row.node), f"{elements:,}", *cells)
    return table, sum(row.last - row.first + 1 for row in rows[most:])


def _counts(state: ShardState) -> tuple[int, ...]:
    return state.clock, state.pushes, state.repeated, state.amended, state.dropped


def _staleness_lines(view: View) -> list[Text]:
    """Return the quantiles, and a bar for each staleness from 0 to the largest."""
    counts = view.staleness
    largest = quantile(counts, 1.0)
    if largest is None:
        return [Text("no push yet", "dim")]
    numbers = (f"mean {view.mean_staleness:.2f}", f"p50 {_late(quantile(counts, 0.5))}",
               f"p90 {_late(quantile(counts, 0.9))}", f"max {_late(largest)}")  # fmt: skip
    title = f"staleness of {sum(counts):,} pushes to all shards: {', '.join(numbers)}"
    highest = max(counts)
    # Rounded up: a single push among millions is seen.
    bars = "".join(_BARS[-(-len(_BARS) * n // highest) - 1] if n else " " for n in counts[: largest + 1])
    return [Text(title), Text.assemble("0 ", (bars, "cyan"), f" {_late(largest)}")]


def _late(staleness: int | None) -> str:
    if staleness is None:
        return "-"
    return f"{staleness}+" if staleness >= STALENESS_COUNTS - 1 else str(staleness)


def _table(*columns: str) -> Table:
    """Return a table without lines. Where it is too wide, names and addresses are folded; numbers stay whole."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in columns:
        folds = name in ("name", "address", "waits for")
        number = not folds and name != "phase"
        table.add_column(name, justify="right" if number else "left", no_wrap=not folds, overflow="fold")
    return table


# -- where views go ---------------------------------------------------------------------------------------------------


class TextOutput:
    """Tables; on a terminal that is watched, over the last ones."""

    def __init__(self, console: Console, watch: bool) -> None:
        self._console, self._watch = console, watch
        self._in_place = watch and console.is_terminal and not console.is_dumb_terminal
        self._live: Live | None = None
        self._last: RenderableType = ""

    def view(self, address: str, view: View) -> None:
        if not self._in_place:
            self._console.print(drawn(address, view, MOST_ROWS))
            if self._watch:
                self._console.print()
            return
        room = self._console.height - _AROUND - len(view.cluster.members) - len(view.silent)
        self._last = drawn(address, view, max(1, min(MOST_ROWS, room)))
        self._redraw(self._last)

    def trouble(self, text: str) -> None:
        line = Text(text, "yellow")
        if self._in_place:
            self._redraw(Group(self._last, line))
        else:
            self._console.print(line, soft_wrap=True)

    def ended(self, text: str) -> None:
        self.close()
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _redraw(self, picture: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(picture, refresh=True)


def make_console() -> Console:
    """Return the terminal, or a page of ``WIDTH`` where there is none."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where a pipe is ASCII, a bar is a question mark, and no traceback
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(WIDTH, console.width)
    return console
