"""What a person or a program reads of a run: a table that grows slowly, or JSON lines; and printed predictions.

A row of the table is an evaluation, or news. On a terminal a last line moves with the run and is no part of the
output; where standard output is a file or a pipe, there is no such line and there are no control characters.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from hogpour.core.errors import DataError, Stopped
from hogpour.core.progress import Notice, Progress, Summary
from hogpour.data.load import Dataset, load_features
from hogpour.model.model import Model
from hogpour.node.node import Node

__all__ = ["JsonReporter", "Reporter", "TableReporter", "predict", "run_node"]

_KILLED = 130  # what a shell expects of a program that was killed by Ctrl+C


class Reporter(Protocol):
    """What is done with the snapshots of a run."""

    def progress(self, progress: Progress) -> None: ...

    def notice(self, notice: Notice) -> None: ...

    def finished(self, summary: Summary) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was; also called when the run failed."""


async def run_node(make: Callable[[], Node], reporter: Reporter) -> int:
    """Make a node, let it train, report it, and return the exit code. The first signal stops, the second kills."""
    loop, asked = asyncio.get_running_loop(), 0
    node = make()
    node.tell = reporter.notice

    def on_signal() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            node.kill()
            reporter.close()
            _leave(_KILLED)
        node.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, and jobs in the background of a script
            loop.add_signal_handler(number, on_signal)
    try:
        async with node:
            async for progress in node:
                reporter.progress(progress)
            summary = await node.wait()
    except Stopped as stopped:
        reporter.close()
        reporter.notice(Notice("warning", str(stopped)))
        _leave(stopped.exit_code)
    finally:
        reporter.close()
    reporter.finished(summary)
    code = 1 if summary.outcome == "diverged" else 0
    if node.working:
        _leave(code)
    return code


def _leave(code: int) -> NoReturn:
    """End at once: a thread that reads or compiles would be waited for at an ordinary end."""
    sys.stdout.flush()
    os._exit(code)


class JsonReporter:
    """One JSON object a line; the last one has ``"event": "finished"``."""

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
            _print_json({"event": "progress", **fields})

    def notice(self, notice: Notice) -> None:
        _print_json({"event": notice.event, "text": notice.text})

    def finished(self, summary: Summary) -> None:
        _print_json({"event": "finished", **asdict(summary)})

    def close(self) -> None:
        pass


class TableReporter:
    """A table for people: one row an evaluation, rarer as the run gets longer, and a moving line on a terminal."""

    COLUMNS = (("epoch", 9), ("examples", 13), ("examples/s", 12), ("loss", 10), ("test loss", 11), ("accuracy", 10),
               ("left", 8))  # fmt: skip

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._live: Any = None
        self._headed = False
        self._examples: int | None = None
        self._loss_sum, self._weight = 0.0, 0
        self._row_began = (0.0, 0)

    CLUSTER = (("nodes", 7), ("replicas", 10), ("staleness", 11))

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
            if not self._headed:
                self._headed = True
                columns = self.COLUMNS + (self.CLUSTER if progress.cluster is not None else ())
                self._print("".join(name.rjust(width) for name, width in columns), "bold")
            self._print(self._row(progress))
            self._loss_sum, self._weight = 0.0, 0
            self._row_began = (progress.seconds, progress.examples)
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._move(progress)

    def notice(self, notice: Notice) -> None:
        quiet = notice.event in ("compiling", "compiled", "listening", "joining", "joined", "member", "snapshot")
        self._print(notice.text, "dim" if quiet else "yellow")

    def finished(self, summary: Summary) -> None:
        words = "trained" if summary.outcome == "finished" else f"{summary.outcome} after"
        epochs = f"{summary.epoch:.2f}".rstrip("0").rstrip(".")
        plural = "" if epochs == "1" else "s"
        text = f"{words} {epochs} epoch{plural} in {_duration(summary.seconds)}, {summary.rate:,.0f} examples/s"
        if summary.loss is not None:
            text += f"; loss {summary.loss:.4f}"
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

    def _row(self, progress: Progress) -> str:
        evaluation = progress.evaluation
        loss = self._loss_sum / self._weight if self._weight else None
        seconds, examples = progress.seconds - self._row_began[0], progress.examples - self._row_began[1]
        cells = (
            f"{progress.epoch:.2f}",
            f"{progress.examples:,}",
            f"{examples / seconds:,.0f}" if seconds > 0 else "-",
            _number(loss),
            _number(evaluation.loss if evaluation else None),
            _number(progress.accuracy),
            "-" if progress.left_s is None else _duration(progress.left_s),
        )
        columns = self.COLUMNS
        if (cluster := progress.cluster) is not None:
            staleness = "-" if cluster.staleness is None else f"{cluster.staleness:.2f}"
            cells += (str(cluster.nodes), str(cluster.replicas), staleness)
            columns += self.CLUSTER
        return "".join(" " + cell.rjust(width - 1) for cell, (_, width) in zip(cells, columns, strict=True))

    def _move(self, progress: Progress) -> None:
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        share = min(1.0, progress.epoch / progress.epochs)
        bar = "━" * round(30 * share)
        text = Text(f"{bar:<30}", "cyan")
        left = "" if progress.left_s is None else f", {_duration(progress.left_s)} left"
        replicas, on = progress.replicas, ""
        if progress.cluster is not None:
            replicas = progress.cluster.replicas
            on = f", {progress.cluster.nodes} node" + ("s" if progress.cluster.nodes != 1 else "")
        plural = "s" if replicas != 1 else ""
        text.append(f" {share:4.0%}  {progress.rate:,.0f}/s, loss {_number(progress.loss)}{left}, "
                    f"{replicas} replica{plural}{on}", "default")  # fmt: skip
        self._live.update(text)

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style or None, markup=False)


def predict(model_path: str, data: str, format: str, as_json: bool) -> int:
    """Print the prediction for every example of a file and return the exit code."""
    model = Model.load(model_path)
    features = load_features(data, model.encoding, format=format, base=Path())
    scores = model.scores_of_scaled(features.x)
    predicted = model.job.loss.predict(scores.T)
    labels = model.job.loss.targets == "labels"
    names = model.encoding.label_names
    lines = [names[k] if names else str(k) for k in predicted] if labels else _value_lines(predicted.T, data)
    if as_json:
        for k, line in enumerate(lines):
            value = line if labels else predicted.T[k].tolist()
            _print_json({"example": k, "prediction": value})
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    if features.y is not None:
        dataset = Dataset(features.x, features.y, len(names), names, features.source)
        evaluation = model.evaluate(dataset)
        assert evaluation is not None
        accuracy = "" if evaluation.accuracy is None else f", accuracy {evaluation.accuracy:.4f}"
        print(f"{len(lines)} examples: loss {evaluation.loss:.4f}{accuracy}", file=sys.stderr)  # noqa: T201
    return 0


def _value_lines(values: Any, data: str) -> list[str]:
    if not np.isfinite(values).all():
        raise DataError(f"{data}: the model's predictions are not finite")
    return [" ".join(f"{v:.6g}" for v in row) for row in values]


def _print_json(fields: Mapping[str, Any]) -> None:
    """Numbers that are not finite become null: JSON has no NaN."""
    finite = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in fields.items()}
    sys.stdout.write(json.dumps(finite, allow_nan=False) + "\n")
    sys.stdout.flush()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
