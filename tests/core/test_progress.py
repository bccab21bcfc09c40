"""The meter turns totals into rates and differences; the tests invent the time."""

from __future__ import annotations

from typing import Any

from hogpour.core.progress import Evaluation, Meter, Notice, Progress


def look(meter: Meter, now: float, examples: int, loss: float, **more: Any) -> Progress:
    settings: dict[str, Any] = {"evaluation": None, "new_evaluation": False, "replicas": 2, "computing": 2, "notices": ()}
    return meter.progress(now, examples, loss, **(settings | more))


def test_before_the_beginning_there_is_no_time_no_loss_and_no_guess() -> None:
    meter = Meter(100, 4, 0)
    assert meter.seconds(50.0) == 0.0
    assert look(meter, 50.0, 0, 0.0) == Progress(
        epoch=0.0, epochs=4, examples=0, seconds=0.0, rate=0.0, loss=None, evaluation=None, left_s=None, replicas=2,
        computing=2, new_evaluation=False, notices=(),
    )  # fmt: skip


def test_rate_and_loss_are_those_since_the_last_snapshot() -> None:
    meter = Meter(100, 4, 0)
    meter.begin(10.0)
    first = look(meter, 12.0, 50, 100.0)
    assert (first.rate, first.loss, first.seconds, first.epoch) == (25.0, 2.0, 2.0, 0.5)
    second = look(meter, 13.0, 150, 150.0)
    assert (second.rate, second.loss, second.seconds, second.epoch) == (100.0, 0.5, 3.0, 1.5)


def test_time_left_is_at_the_mean_rate_of_the_whole_run() -> None:
    meter = Meter(100, 4, 0)
    meter.begin(0.0)
    look(meter, 1.0, 10, 0.0)
    assert look(meter, 4.0, 100, 0.0).left_s == 300 * 4.0 / 100


def test_a_snapshot_without_new_examples_has_no_loss() -> None:
    meter = Meter(100, 4, 0)
    meter.begin(0.0)
    look(meter, 1.0, 10, 5.0)
    again = look(meter, 2.0, 10, 5.0)
    assert again.loss is None
    assert again.rate == 0.0


def test_two_snapshots_at_one_time_divide_by_nothing() -> None:
    meter = Meter(100, 4, 0)
    meter.begin(0.0)
    look(meter, 1.0, 10, 5.0)
    assert look(meter, 1.0, 20, 10.0).rate == 0.0


def test_the_first_beginning_counts() -> None:
    meter = Meter(100, 4, 0)
    meter.begin(1.0)
    meter.begin(5.0)
    assert meter.seconds(6.0) == 5.0


def test_what_a_snapshot_before_the_beginning_saw_is_counted_after_it() -> None:
    """The node looks at once; the beginning is then set to when the first step was done, which was earlier."""
    meter = Meter(100, 4, 0)
    look(meter, 9.0, 40, 8.0)
    meter.begin(10.0)
    assert look(meter, 12.0, 50, 10.0).rate == 25.0


def test_a_resumed_run_counts_its_examples_and_not_its_seconds_from_before() -> None:
    meter = Meter(100, 4, before=200)
    meter.begin(0.0)
    assert meter.epoch(0) == 2.0
    progress = look(meter, 2.0, 100, 50.0)
    assert (progress.examples, progress.epoch, progress.rate, progress.left_s) == (300, 3.0, 50.0, 2.0)


def test_examples_used_twice_do_not_make_the_time_left_negative() -> None:
    """A replica that was killed and restarted uses a batch again."""
    meter = Meter(100, 1, 0)
    meter.begin(0.0)
    assert look(meter, 1.0, 110, 1.0).left_s == 0.0


def test_a_snapshot_hands_on_what_it_is_told() -> None:
    meter = Meter(100, 4, 0)
    evaluation, notice = Evaluation(0.25, 0.9, 10), Notice("warning", "a warning")
    progress = look(meter, 1.0, 0, 0.0, evaluation=evaluation, new_evaluation=True, replicas=3, computing=2, notices=(notice,))
    assert progress.evaluation is evaluation
    assert progress.accuracy == 0.9
    assert progress.new_evaluation
    assert progress.replicas == 3
    assert progress.computing == 2
    assert progress.notices == (notice,)
    assert look(meter, 1.0, 0, 0.0).accuracy is None
