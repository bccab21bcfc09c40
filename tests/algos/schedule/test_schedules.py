"""Each schedule against numbers computed by hand."""

from __future__ import annotations

import pickle

import pytest

from hogpour.algos.schedule.back_off import BackOff
from hogpour.algos.schedule.constant import Constant
from hogpour.algos.schedule.cosine import Cosine
from hogpour.algos.schedule.inverse_time import InverseTime
from hogpour.algos.schedule.step import Step
from hogpour.algos.schedule.warm_up import WarmUp
from hogpour.core import registry
from hogpour.core.errors import ConfigError


def scales(schedule, *epochs):
    return [schedule.scale(epoch, 10) for epoch in epochs]


def test_constant_is_one():
    assert scales(Constant(), 0.0, 3.7, 10.0) == [1.0, 1.0, 1.0]


def test_back_off_multiplies_by_beta_at_the_end_of_each_epoch():
    assert scales(BackOff(0.5), 0.0, 0.99, 1.0, 1.5, 3.0) == [1.0, 1.0, 0.5, 0.5, 0.125]


def test_step_multiplies_every_few_epochs():
    assert scales(Step(every=3, factor=0.5), 0.0, 2.9, 3.0, 5.9, 6.0, 9.0) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.125]


def test_cosine_falls_from_one_through_the_middle_to_its_floor_and_stays_there():
    assert scales(Cosine(), 0.0, 5.0, 10.0, 10.1) == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=1e-15)
    assert scales(Cosine(floor=0.2), 0.0, 5.0, 10.0) == pytest.approx([1.0, 0.6, 0.2])


def test_inverse_time_has_halved_after_one_over_decay_epochs():
    assert scales(InverseTime(0.5), 0.0, 2.0, 6.0) == [1.0, 0.5, 0.25]


def test_warm_up_rises_linearly_and_then_leaves_the_rate_alone():
    assert scales(WarmUp(epochs=2, start=0.5), 0.0, 1.0, 2.0, 9.0) == [0.5, 0.75, 1.0, 1.0]


def test_warm_up_multiplies_the_schedule_behind_it():
    assert scales(WarmUp(epochs=2, start=0.5, then=BackOff(0.5)), 0.0, 1.0, 2.0) == [0.5, 0.375, 0.25]


def test_warm_up_takes_a_schedule_or_its_words():
    words = {"name": "warm_up", "epochs": 2, "then": {"name": "cosine", "floor": 0.1}}
    built = registry.build("schedule", words, "run.schedule")
    assert built == WarmUp(epochs=2, then=Cosine(floor=0.1))
    assert registry.describe(built)["then"] == {"name": "cosine", "floor": 0.1}
    assert registry.build("schedule", {"name": "warm_up", "then": "cosine"}, "at") == WarmUp(then=Cosine())


def test_warm_up_travels_to_other_processes():
    schedule = WarmUp(epochs=2, then=Cosine())
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert copy.scale(1.5, 10) == schedule.scale(1.5, 10)


def test_warm_up_in_front_of_something_else_is_an_error_that_names_it():
    with pytest.raises(ConfigError) as raised:
        registry.build("schedule", {"name": "warm_up", "then": {"name": "cosin"}}, "run.schedule")
    assert str(raised.value) == "run.schedule.then: schedule \"cosin\" is not known; did you mean 'cosine'?"


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (BackOff, {"beta": 0.0}),
        (BackOff, {"beta": 1.1}),
        (Step, {"every": 0}),
        (Step, {"every": 2, "factor": float("nan")}),
        (Cosine, {"floor": -0.1}),
        (InverseTime, {"decay": -1.0}),
        (WarmUp, {"epochs": 0.0}),
        (WarmUp, {"start": 2.0}),
    ],
)
def test_a_value_out_of_range_is_an_error(cls, given):
    with pytest.raises(ValueError, match="expected"):
        cls(**given)
