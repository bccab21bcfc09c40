"""Ranges in annotations: what they accept, what they say, and that every class below ``Checked`` is checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import Annotated

import pytest

from hogpour.core.limits import FINITE, TINY, Checked, Count, Range


@dataclass(frozen=True, slots=True)
class Settings(Checked):
    units: Count = 1
    share: Annotated[float, Range(TINY, 1, "above 0 up to 1")] = 1.0
    wait_s: Annotated[float | None, Range(0, FINITE)] = None
    free: float = nan


@dataclass(frozen=True, slots=True)
class More(Settings):
    units: Annotated[int, Range(2, 1e9)] = 2

    def __post_init__(self) -> None:
        Settings.__post_init__(self)


@pytest.mark.parametrize(
    ("range_", "said"),
    [
        (Range(0), "0 or more"),
        (Range(1), "at least 1"),
        (Range(1, 100), "1 to 100"),
        (Range(0, 0.9), "0 to 0.9"),
        (Range(1, 1e9), "1 to 1e+09"),
        (Range(64, 2**30), "64 to 1073741824"),
        (Range(TINY, words="above 0"), "above 0"),
    ],
)
def test_a_range_says_its_numbers_or_its_words(range_: Range, said: str) -> None:
    assert str(range_) == said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"units": 0}, r"^units = 0, expected at least 1$"),
        ({"share": 0.0}, r"^share = 0.0, expected above 0 up to 1$"),
        ({"share": nan}, r"^share = nan, expected above 0 up to 1$"),
        ({"wait_s": inf}, r"^wait_s = inf, expected 0 to 1.79769e\+308$"),
    ],
)
def test_what_is_out_of_its_range_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**given)  # type: ignore[arg-type]


def test_the_ends_of_a_range_are_in_it_and_none_where_it_may_be() -> None:
    assert Settings(1, TINY, None) != Settings(1, 1.0, FINITE)


def test_none_is_refused_where_it_may_not_be() -> None:
    """A rate of None would be an error of the first step, in another process."""
    with pytest.raises(ValueError, match=r"^units = None: expected int, got None$"):
        Settings(units=None)  # type: ignore[arg-type]


def test_a_subclass_with_a_range_of_its_own_is_held_to_that() -> None:
    with pytest.raises(ValueError, match=r"^units = 1, expected 2 to 1e\+09$"):
        More(1)
    with pytest.raises(ValueError, match=r"^share = 2.0, "):
        More(share=2)
