"""What people and programs read of a run: rows of a table, JSON lines. Snapshots are made up, output is recorded."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console
from support.progress import SNAPSHOT, SUMMARY

from hogpour.cli.report import JsonReporter, TableReporter
from hogpour.core.progress import Evaluation, Notice, Progress, Summary

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


def test_a_huge_loss_has_few_digits(output: io.StringIO) -> None:
    """It had 52 of them."""
    assert table(output, evaluated(loss=2.87e51))[1].split()[3] == "2.8700e+51"


def test_a_run_that_had_nothing_left_says_how_to_go_on(output: io.StringIO) -> None:
    """It said "trained 5 epochs in 0.0 s, 0 examples/s"."""
    reporter = TableReporter()
    reporter.finished(Summary("finished", 500, 0.0, 0.0, None, None, 5.0, 0, ""))
    assert output.getvalue() == "nothing left to train: 5 of 5 epochs are done; --epochs N goes on\n"


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
        "123456.25", "10,000,000,000,000", "10,000,000,000,000", "1.0000e+09", "123456.7890", "0.9000", "27777:46:40",
    ]  # fmt: skip


def test_news_is_told_at_once_even_before_the_first_example(output: io.StringIO) -> None:
    notices = (Notice("compiling", "compiling the kernels"), Notice("warning", "something [bold]odd[/bold]"))
    lines = table(output, replace(SNAPSHOT, examples=0, notices=notices), evaluated())
    assert lines[:2] == ["compiling the kernels", "something [bold]odd[/bold]"]
    assert lines[2] == HEADER


@pytest.mark.parametrize(
    ("event", "yellow"), [("iteration", False), ("compiled", False), ("warning", True), ("replica_died", True)]
)
def test_only_what_went_wrong_is_yellow(event: Any, yellow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every iteration of L-BFGS was printed as a warning."""
    screen = terminal(monkeypatch, "xterm", "standard")
    TableReporter().notice(Notice(event, "iteration 1: 0.5"))
    assert screen.getvalue().startswith("\x1b[33m" if yellow else "\x1b[2m")


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


def terminal(monkeypatch: pytest.MonkeyPatch, kind: str, colors: Any = None) -> io.StringIO:
    """A screen of this kind ($TERM), whatever the tests themselves are run in."""
    screen = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console",
        lambda **settings: Console(file=screen, force_terminal=True, width=100, color_system=colors,
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
