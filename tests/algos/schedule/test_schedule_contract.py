"""What every schedule promises; runs over everything that the registry finds."""

from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core import registry

SCHEDULES = registry.available("schedule")
NEEDED = {"step": {"every": 3}}
"""Values of fields that have no default."""

every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def make(name):
    return registry.build("schedule", {"name": name} | NEEDED.get(name, {}), "run.schedule")


def test_the_registry_finds_the_schedules():
    assert {"constant", "back_off", "step", "cosine", "inverse_time", "warm_up"} <= set(SCHEDULES)


@every_schedule
@given(epochs=st.integers(1, 10_000), done=st.floats(0, 1.01))
def test_the_scale_is_a_finite_float_of_0_or_more_also_a_little_beyond_the_end(name, epochs, done):
    scale = make(name).scale(done * epochs, epochs)
    assert type(scale) is float
    assert isfinite(scale)
    assert scale >= 0


@every_schedule
def test_the_scale_depends_on_its_arguments_only(name):
    schedule = make(name)
    forwards = [schedule.scale(k / 7, 10) for k in range(70)]
    backwards = [schedule.scale(k / 7, 10) for k in reversed(range(70))]
    assert forwards == backwards[::-1]


@every_schedule
def test_words_become_the_schedule_and_the_schedule_words(name):
    words = registry.describe(make(name))
    assert words["name"] == name
    assert registry.build("schedule", words, "run.schedule") == make(name)
