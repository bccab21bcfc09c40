"""Which parameters are good: finite, with a finite loss; the last ones that were are kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.prepared import prepared, small_job

import hogpour as hp
from hogpour.node.evaluator import Evaluator


class Bench:
    """An evaluator, and the parameters that it looks at. The clock goes on by a second at each look."""

    def __init__(self, job: hp.Job) -> None:
        self._context = prepared(job)
        ready = self._context.__enter__()
        self.params = ready.live.arrays["params"].copy()
        self.evaluator = Evaluator(job, ready, iter(range(100)).__next__)

    def close(self) -> None:
        self._context.__exit__(None, None, None)

    def look(self, value: float, *, go_on: bool = True) -> bool:
        self.params[:] = value
        return self.evaluator.look(self.params, None, lambda: go_on)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(small_job())
    yield bench
    bench.close()


def test_the_last_good_snapshot_is_kept_when_what_comes_after_it_is_not_finite(bench: Bench) -> None:
    evaluator = bench.evaluator
    assert not evaluator.found_good
    assert bench.look(0.5)
    assert (evaluator.found_good, evaluator.took_s) == (True, 1)
    good = evaluator.evaluation
    for bad in (np.nan, np.inf, 3e38):  # the last one's loss overflows
        assert not bench.look(bad)
    assert (evaluator.good.params == 0.5).all()
    assert evaluator.evaluation is good


def test_an_evaluation_that_is_broken_off_says_nothing(bench: Bench) -> None:
    assert not bench.look(0.5, go_on=False)
    assert bench.evaluator.evaluation is None
    assert (bench.evaluator.found_good, bench.evaluator.shown) == (False, True)


def test_each_evaluation_is_to_be_shown_once(bench: Bench) -> None:
    assert bench.look(0.5)
    assert not bench.evaluator.shown
    bench.evaluator.shown = True
    assert not bench.look(np.nan)
    assert bench.evaluator.shown


def test_at_the_end_the_newest_evaluation_stands_where_time_is_short(bench: Bench) -> None:
    assert bench.look(0.5)
    evaluation = bench.evaluator.evaluation
    bench.params[:] = 0.75
    assert bench.evaluator.take_final(bench.params, lambda: False)
    assert (bench.evaluator.final.params == 0.75).all()
    assert bench.evaluator.evaluation is evaluation


def test_parameters_that_are_not_finite_are_no_model_at_the_end(bench: Bench) -> None:
    assert bench.look(0.5)
    bench.params[0] = np.nan
    assert not bench.evaluator.take_final(bench.params, lambda: True)
    assert (bench.evaluator.good.params == 0.5).all()


def test_without_test_examples_what_is_finite_is_good() -> None:
    x, y = np.zeros((6, 4)), np.arange(6) % 3
    bench = Bench(small_job(data=hp.arrays(x, y, validation=0)))
    assert bench.look(3e38)
    assert bench.evaluator.evaluation is None
    assert bench.evaluator.take_final(bench.params, lambda: True)
    assert bench.evaluator.shown
    bench.close()
