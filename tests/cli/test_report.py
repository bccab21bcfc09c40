"""What people and programs read: rows of a table, JSON lines, predictions. Snapshots are made up, output is recorded."""

from __future__ import annotations

import asyncio
import io
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import hogpour as hp
from hogpour.cli import report
from hogpour.cli.report import JsonReporter, TableReporter
from hogpour.core.errors import DataError, ReplicaDied
from hogpour.core.progress import Evaluation, Notice, Progress, Summary

SNAPSHOT = Progress(
    epoch=1.0, epochs=4, examples=1000, seconds=2.0, rate=500.0, loss=0.5, evaluation=None, left_s=6.0, replicas=2,
    computing=2, new_evaluation=False, notices=(),
)  # fmt: skip
SUMMARY = Summary(
    outcome="finished", examples=4000, seconds=8.0, rate=500.0, loss=0.25, accuracy=0.975, epoch=4.0, restarts=0,
    model="m.safetensors",
)  # fmt: skip
HEADER = "    epoch     examples  examples/s      loss  test loss  accuracy    left"


def evaluated(test_loss: float = 0.3, accuracy: float | None = 0.9, **changes: Any) -> Progress:
    return replace(SNAPSHOT, evaluation=Evaluation(test_loss, accuracy, 100), new_evaluation=True, **changes)


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a table reporter writes into a pipe."""
    pipe = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **settings: Console(file=pipe, **settings))
    return pipe


def table(output: io.StringIO, *snapshots: Progress, summary: Summary | None = None) -> list[str]:
    reporter = TableReporter()
    for snapshot in snapshots:
        reporter.progress(snapshot)
    reporter.close()
    if summary is not None:
        reporter.finished(summary)
    return output.getvalue().splitlines()


# -- the table ----------------------------------------------------------------------------------------------------------


def test_a_row_is_an_evaluation_under_a_header_that_comes_once(output: io.StringIO) -> None:
    later = evaluated(0.2, 0.95, epoch=2.5, examples=2500, seconds=4.0, loss=0.4, left_s=75.0)
    assert table(output, evaluated(), later) == [
        HEADER,
        "     1.00        1,000         500    0.5000     0.3000    0.9000   6.0 s",
        "     2.50        2,500         750    0.4000     0.2000    0.9500    1:15",
    ]


def test_a_snapshot_without_a_new_evaluation_is_no_row(output: io.StringIO) -> None:
    early = replace(SNAPSHOT, seconds=0.5)
    assert table(output, early, replace(SNAPSHOT, evaluation=Evaluation(0.3, 0.9, 100))) == []


def test_while_there_is_no_evaluation_a_row_comes_all_the_same(output: io.StringIO) -> None:
    """Without a test set, or before the first epoch has ended, a run once said nothing until its end."""
    assert len(table(output, SNAPSHOT)) == 2


def test_before_the_first_example_there_is_nothing_to_say(output: io.StringIO) -> None:
    assert table(output, replace(evaluated(), examples=0, epoch=0.0)) == []


def test_the_loss_of_a_row_is_the_mean_over_the_examples_since_the_last_row(output: io.StringIO) -> None:
    snapshots = [
        replace(SNAPSHOT, examples=100, loss=4.0, seconds=0.2),
        evaluated(examples=400, loss=2.0),
        replace(SNAPSHOT, examples=500, loss=1.0),
        replace(SNAPSHOT, examples=500, loss=None),
        evaluated(examples=600, loss=0.5),
    ]
    losses = [row.split()[3] for row in table(output, *snapshots)[1:]]
    assert losses == [f"{(100 * 4.0 + 300 * 2.0) / 400:.4f}", "0.7500"]


def test_the_first_row_of_a_resumed_run_counts_what_this_run_did(output: io.StringIO) -> None:
    """Examples of earlier runs took none of this run's time: the first row said millions of examples a second."""
    begun = replace(SNAPSHOT, examples=1_000_000, seconds=0.0, rate=0.0, loss=None)
    row = table(output, begun, evaluated(examples=1_001_000, seconds=2.0, loss=0.5))[1].split()
    assert row[1:4] == ["1,001,000", "500", "0.5000"]


def test_the_first_look_at_a_resumed_run_may_come_when_it_is_under_way(output: io.StringIO) -> None:
    begun = replace(SNAPSHOT, examples=1_000_100, seconds=0.2, rate=500.0, loss=4.0)
    row = table(output, begun, evaluated(examples=1_000_400, seconds=0.6, rate=750.0, loss=2.0))[1].split()
    assert row[1:4] == ["1,000,400", f"{400 / 0.6:.0f}", "2.5000"]


def test_what_is_not_known_is_a_dash(output: io.StringIO) -> None:
    values = evaluated(accuracy=None, left_s=None)
    assert table(output, values)[1] == "     1.00        1,000         500    0.5000     0.3000         -       -"


def test_an_evaluation_after_the_last_example_is_left_to_the_summary(output: io.StringIO) -> None:
    again = evaluated(0.2, loss=None, examples=1000)
    assert len(table(output, evaluated(), again)) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1:00"), (60.0, "1:00"), (3599.4, "59:59"), (3599.6, "1:00:00"),
     (360000.0, "100:00:00")],
)  # fmt: skip
def test_time_left_is_read_at_a_glance(seconds: float, text: str, output: io.StringIO) -> None:
    assert table(output, evaluated(left_s=seconds))[1].endswith(f" {text}")


def test_numbers_too_wide_for_their_column_stay_apart(output: io.StringIO) -> None:
    wide = evaluated(123456.789, epoch=123456.25, examples=10**13, seconds=1.0, rate=1e13, loss=1e9, left_s=10**8)
    assert table(output, wide)[1].split() == [
        "123456.25", "10,000,000,000,000", "10,000,000,000,000", "1000000000.0000", "123456.7890", "0.9000", "27777:46:40",
    ]  # fmt: skip


def test_news_is_told_at_once_even_before_the_first_example(output: io.StringIO) -> None:
    notices = (Notice("compiling", "compiling the kernels"), Notice("warning", "something [bold]odd[/bold]"))
    lines = table(output, replace(SNAPSHOT, examples=0, notices=notices), evaluated())
    assert lines[:2] == ["compiling the kernels", "something [bold]odd[/bold]"]
    assert lines[2] == HEADER


def test_long_news_is_not_cut_and_not_folded(output: io.StringIO) -> None:
    text = "a warning " * 40 + "ends"
    assert table(output, replace(SNAPSHOT, seconds=0.5, notices=(Notice("warning", text),))) == [text]


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["trained 4 epochs in 8.0 s, 500 examples/s; loss 0.2500, accuracy 0.9750", "model: m.safetensors"]),
        (
            {"outcome": "stopped", "epoch": 1.256, "seconds": 3725.0, "restarts": 2, "rate": 1234567.8},
            ["stopped after 1.26 epochs in 1:02:05, 1,234,568 examples/s; loss 0.2500, accuracy 0.9750; "
             "replicas restarted 2 times", "model: m.safetensors"],
        ),
        ({"epoch": 10.0, "model": ""}, ["trained 10 epochs in 8.0 s, 500 examples/s; loss 0.2500, accuracy 0.9750"]),
        (
            {"outcome": "diverged", "loss": None, "accuracy": None, "epoch": 0.5, "model": ""},
            ["diverged after 0.5 epochs in 8.0 s, 500 examples/s"],
        ),
        ({"epoch": 1.0, "restarts": 1, "accuracy": None, "model": ""},
         ["trained 1 epoch in 8.0 s, 500 examples/s; loss 0.2500; replicas restarted once"]),
    ],
)  # fmt: skip
def test_the_end_is_one_line_and_the_model_another(changes: dict[str, Any], lines: list[str], output: io.StringIO) -> None:
    assert table(output, summary=replace(SUMMARY, **changes)) == lines


def test_a_pipe_gets_no_control_characters(output: io.StringIO) -> None:
    notices = (Notice("replica_died", "replica 0 said:\nTraceback\n  File x"),)
    table(output, replace(SNAPSHOT, notices=notices), evaluated(), SNAPSHOT, summary=SUMMARY)
    assert all(c == "\n" or c.isprintable() for c in output.getvalue())


def terminal(monkeypatch: pytest.MonkeyPatch, kind: str) -> io.StringIO:
    """A screen of this kind ($TERM), whatever the tests themselves are run in."""
    screen = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console",
        lambda **settings: Console(file=screen, force_terminal=True, width=100, color_system=None,
                                   _environ={"TERM": kind}, **settings),
    )  # fmt: skip
    return screen


def test_a_terminal_that_cannot_move_its_cursor_gets_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, "dumb")
    reporter = TableReporter()
    reporter.progress(SNAPSHOT)
    reporter.close()
    assert "\x1b" not in screen.getvalue()
    assert "━" not in screen.getvalue()


def test_a_terminal_gets_a_moving_line_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, "xterm")
    reporter = TableReporter()
    reporter.progress(SNAPSHOT)
    reporter.progress(replace(SNAPSHOT, epoch=2.0, replicas=1, left_s=None))
    reporter._live.refresh()
    moving = screen.getvalue()
    assert "━━━━━━━━" in moving
    assert " 50%  500/s, loss 0.5000, 1 replica" in moving
    reporter.close()
    end = screen.getvalue()[len(moving) :]
    assert end.endswith("\x1b[2K")  # the line is wiped
    assert "\x1b[?25h" in end  # and the cursor is back
    reporter.close()


# -- JSON lines ---------------------------------------------------------------------------------------------------------


def json_lines(capsys: pytest.CaptureFixture[str], say: Callable[[JsonReporter], None]) -> list[dict[str, Any]]:
    reporter = JsonReporter()
    say(reporter)
    reporter.close()
    return [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]


def test_json_says_all_of_a_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    lines = json_lines(capsys, lambda reporter: reporter.progress(evaluated()))
    assert lines == [
        {"event": "progress", "epoch": 1.0, "epochs": 4, "examples": 1000, "seconds": 2.0, "rate": 500.0, "loss": 0.5,
         "left_s": 6.0, "replicas": 2, "computing": 2, "new_evaluation": True, "test_loss": 0.3, "test_accuracy": 0.9,
         "test_examples": 100}
    ]  # fmt: skip


def test_json_gives_every_notice_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    notices = (Notice("replica_died", "replica 0 said:\nline 2"), Notice("compiled", "compiled in 2 s"))
    lines = json_lines(capsys, lambda reporter: reporter.progress(replace(SNAPSHOT, examples=0, notices=notices)))
    assert lines == [
        {"event": "replica_died", "text": "replica 0 said:\nline 2"},
        {"event": "compiled", "text": "compiled in 2 s"},
    ]


def test_json_ends_with_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert json_lines(capsys, lambda reporter: reporter.finished(SUMMARY)) == [{"event": "finished", **asdict(SUMMARY)}]


def test_json_has_no_numbers_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    """NaN and Infinity are no JSON; strict readers refuse the line."""
    bad = replace(evaluated(math.inf), loss=math.nan)
    lines = json_lines(capsys, lambda reporter: (reporter.progress(bad), reporter.finished(replace(SUMMARY, loss=math.nan))))
    assert lines[0]["loss"] is None
    assert lines[0]["test_loss"] is None
    assert lines[1]["loss"] is None


# -- a run, with a node that is made up ---------------------------------------------------------------------------------


class FakeNode:
    """Hands out snapshots, then ends, or fails."""

    working = False

    def __init__(self, snapshots: list[Progress], end: Summary | Exception) -> None:
        self.snapshots, self.end = snapshots, end

    def __call__(self, *_: Any, **__: Any) -> FakeNode:
        return self

    async def __aenter__(self) -> FakeNode:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def __aiter__(self) -> Any:
        for snapshot in self.snapshots:
            yield snapshot

    async def wait(self) -> Summary:
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


class Record:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def progress(self, progress: Progress) -> None:
        self.told.append(progress)

    def notice(self, notice: Notice) -> None:
        self.told.append(notice)

    def finished(self, summary: Summary) -> None:
        self.told.append(summary)

    def close(self) -> None:
        self.told.append("closed")


@pytest.mark.parametrize(("outcome", "code"), [("finished", 0), ("stopped", 0), ("diverged", 1)])
def test_the_exit_code_says_how_a_run_ended(outcome: Any, code: int) -> None:
    record, summary = Record(), replace(SUMMARY, outcome=outcome)
    node = FakeNode([SNAPSHOT], summary)
    assert asyncio.run(report.run_node(node, record)) == code  # type: ignore[arg-type]
    assert record.told == [SNAPSHOT, "closed", summary]


def test_a_run_that_fails_leaves_the_terminal_as_it_was() -> None:
    record = Record()
    node = FakeNode([SNAPSHOT], ReplicaDied(0, 1, "replica 0 died"))
    with pytest.raises(ReplicaDied):
        asyncio.run(report.run_node(node, record))  # type: ignore[arg-type]
    assert record.told == [SNAPSHOT, "closed"]


# -- predictions --------------------------------------------------------------------------------------------------------


def model_file(folder: Path, loss: str, label: str) -> str:
    """A model of y = 2 · x0 - x1, saved."""
    from hogpour.data.load import Encoding, Scaling
    from hogpour.layers.sequential import network_of

    job = hp.Job(data=None, model=[hp.Linear(1)], loss=loss)
    network = network_of(job, (2,))
    params = network.spec.zeros()
    network.spec.views(params)["0.linear.weight"][:, 0] = [2, -1]
    names = ("cold", "warm") if job.loss.targets == "labels" else ()
    encoding = Encoding((2,), job.loss.targets, names, Scaling.none(), label, ("a", "b"))
    hp.Model(job, network, params, encoding).save(str(folder / "m.safetensors"))
    return str(folder / "m.safetensors")


def test_labels_are_printed_by_name_and_the_accuracy_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("a,b,kind\n3,1,warm\n0,1,cold\n1,5,warm\n")
    path, data = model_file(tmp_path, "logistic", "kind"), str(tmp_path / "x.csv")
    assert report.predict(path, data, "", False) == 0
    out, err = capsys.readouterr()
    assert out == "warm\ncold\ncold\n"
    losses = [math.log1p(math.exp(-5)), math.log1p(math.exp(-1)), math.log1p(math.exp(3))]
    assert err == f"3 examples: loss {np.mean(losses):.4f}, accuracy 0.6667\n"
    assert report.predict(path, data, "", True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"example": k, "prediction": name} for k, name in enumerate(["warm", "cold", "cold"])]


def test_without_labels_there_is_no_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("b,a\n1,3\n")
    assert report.predict(model_file(tmp_path, "logistic", "kind"), str(tmp_path / "x.csv"), "", False) == 0
    assert capsys.readouterr() == ("warm\n", "")


def test_values_are_printed_with_six_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("a,b,y\n0.5,0.25,1\n1000000,0,2000000\n")
    path, data = model_file(tmp_path, "squared_error", "y"), str(tmp_path / "x.csv")
    assert report.predict(path, data, "", False) == 0
    out, err = capsys.readouterr()
    assert out == "0.75\n2e+06\n"
    assert err.startswith("2 examples: loss ")
    assert "accuracy" not in err
    assert report.predict(path, data, "", True) == 0
    assert [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()] == [[0.75], [2e6]]


@pytest.mark.parametrize("as_json", [False, True])
def test_predictions_that_are_not_finite_are_an_error(as_json: bool, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1e38,-3e38\n3e38,-3e38\n")
    with pytest.raises(DataError, match=r"x\.csv: the model's predictions are not finite$"):
        report.predict(model_file(tmp_path, "squared_error", "y"), str(tmp_path / "x.csv"), "", as_json)
