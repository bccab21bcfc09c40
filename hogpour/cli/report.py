"""What a person or a program reads of a run: a table that grows slowly, or JSON lines.

A row of the table is an evaluation, or news. On a terminal a last line moves with the run and is no part of the
output; where standard output is a file or a pipe, there is no such line and there are no control characters.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol, get_args

from hogpour.cli.streams import spelled
from hogpour.cli.tables import Columns, cell, duration, print_json
from hogpour.core.progress import Notice, Progress, Summary, Trouble

__all__ = ["JsonReporter", "Reporter", "TableReporter"]

_COLUMNS = (("epoch", 9), ("examples", 13), ("examples/s", 12), ("loss", 10), ("test loss", 11), ("accuracy", 10),
            ("left", 8))  # fmt: skip
_CLUSTER = (("nodes", 7), ("replicas", 10), ("staleness", 11))


class Reporter(Protocol):
    """What is done with the snapshots of a run."""

    def progress(self, progress: Progress) -> None: ...

    def notice(self, notice: Notice) -> None: ...

    def finished(self, summary: Summary) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was; also called when the run failed."""


class JsonReporter:
    """One JSON object a line; the last one has ``"event": "finished"``, or "failed", which ``main`` prints."""

    def progress(self, progress: Progress) -> None:
        for notice in progress.notices:
            self.notice(notice)
        if progress.examples:
            nested = ("notices", "evaluation", "cluster")
            fields = {k: v for k, v in asdict(progress).items() if k not in nested}
            if progress.cluster:
                fields |= {f"cluster_{k}": v for k, v in asdict(progress.cluster).items()}
            if progress.evaluation:
                fields |= {f"test_{k}": v for k, v in asdict(progress.evaluation).items()}
            print_json(event="progress", **fields)

    def notice(self, notice: Notice) -> None:
        print_json(event=notice.event, text=notice.text)

    def finished(self, summary: Summary) -> None:
        print_json(event="finished", **asdict(summary))

    def close(self) -> None:
        pass


class TableReporter:
    """A table for people: one row an evaluation, rarer as the run gets longer, and a moving line on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._live: Any = None
        self._bar = spelled("━", "=")
        self._columns: Columns | None = None
        self._examples: int | None = None
        self._loss_sum, self._weight = 0.0, 0
        self._row_began = (0.0, 0)

    def progress(self, progress: Progress) -> None:
        for notice in progress.notices:
            self.notice(notice)
        if not progress.examples:
            return
        if self._examples is None:  # a resumed run does not begin with 0; the first rate is that since it began
            self._examples = progress.examples - round(progress.rate * progress.seconds)
            self._row_began = (0.0, self._examples)
        if progress.loss is not None:  # of the snapshots since the last row, weighed by their examples
            new = progress.examples - self._examples
            self._loss_sum, self._weight = self._loss_sum + progress.loss * new, self._weight + new
        self._examples = progress.examples
        # Without a test set a row comes as often as an evaluation would. The summary tells of the last one of all.
        since = progress.seconds - self._row_began[0]
        due = progress.evaluation is None and since >= max(1.0, progress.seconds / 10)
        if (progress.new_evaluation or due) and self._weight:
            if self._columns is None:
                self._columns = Columns(*_COLUMNS, *(_CLUSTER if progress.cluster is not None else ()))
                self._print(self._columns.head(), "bold")
            self._print(self._columns.row(self._cells(progress)))
            self._loss_sum, self._weight = 0.0, 0
            self._row_began = (progress.seconds, progress.examples)
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._move(progress)

    def notice(self, notice: Notice) -> None:
        self._print(notice.text, "yellow" if notice.event in get_args(Trouble) else "dim")

    def finished(self, summary: Summary) -> None:
        if summary.outcome == "finished" and not summary.rate:  # resumed, and all was done before
            epochs = f"{summary.epoch:g} of {summary.epoch:g} epochs"
            self._print(f"nothing left to train: {epochs} are done; --epochs N goes on")
            return
        words = "trained" if summary.outcome == "finished" else f"{summary.outcome} after"
        epochs = f"{summary.epoch:.2f}".rstrip("0").rstrip(".")
        plural = "" if epochs == "1" else "s"
        text = f"{words} {epochs} epoch{plural} in {duration(summary.seconds)}, {summary.rate:,.0f} examples/s"
        if summary.loss is not None:
            text += f"; loss {cell(summary.loss)}"
        if summary.accuracy is not None:
            text += f", accuracy {summary.accuracy:.4f}"
        if summary.restarts:
            times = "once" if summary.restarts == 1 else f"{summary.restarts} times"
            text += f"; replicas restarted {times}"
        if summary.repeated:
            text += f"; {summary.repeated:,} examples handed out again"
        self._print(text, "bold" if summary.outcome == "finished" else "yellow")
        if summary.model:
            self._print(f"model: {summary.model}")

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _cells(self, progress: Progress) -> list[str]:
        evaluation, cluster = progress.evaluation, progress.cluster
        loss = self._loss_sum / self._weight if self._weight else None
        seconds, examples = progress.seconds - self._row_began[0], progress.examples - self._row_began[1]
        cells = [
            f"{progress.epoch:.2f}",
            f"{progress.examples:,}",
            cell(examples / seconds if seconds > 0 else None, ",.0f"),
            cell(loss),
            cell(evaluation.loss if evaluation else None),
            cell(progress.accuracy),
            "-" if progress.left_s is None else duration(progress.left_s),
        ]
        if cluster is not None:
            cells += [str(cluster.nodes), str(cluster.replicas), cell(cluster.staleness, ".2f")]
        return cells

    def _move(self, progress: Progress) -> None:
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        share = min(1.0, progress.epoch / progress.epochs)
        bar = self._bar * round(30 * share)
        text = Text(f"{bar:<30}", "cyan")
        left = "" if progress.left_s is None else f", {duration(progress.left_s)} left"
        replicas, on = progress.replicas, ""
        if progress.cluster is not None:
            replicas = progress.cluster.replicas
            on = f", {progress.cluster.nodes} node" + ("s" if progress.cluster.nodes != 1 else "")
            on += "".join(f", waiting for {one}" for one in progress.cluster.waits_for[:1])
        plural = "s" if replicas != 1 else ""
        text.append(f" {share:4.0%}  {progress.rate:,.0f}/s, loss {cell(progress.loss)}{left}, "
                    f"{replicas} replica{plural}{on}", "default")  # fmt: skip
        self._live.update(text)

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style or None, markup=False)
