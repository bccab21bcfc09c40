"""Who computes alone at the beginning of a run, and until when."""

from __future__ import annotations

import pytest

from hogpour.cluster.warm_start import WarmStart


@pytest.mark.parametrize(
    ("examples", "seconds", "used", "now", "over"),
    [
        pytest.param(0, 0.0, 0, 0.0, False, id="there is none, so that it does not end"),
        pytest.param(100, 0.0, 99, 1e9, False, id="too few examples, however long"),
        pytest.param(100, 0.0, 100, 0.0, True, id="enough examples"),
        pytest.param(0, 5.0, 10**9, 14.9, False, id="too short, however many examples"),
        pytest.param(0, 5.0, 0, 15.0, True, id="long enough since the first was ready"),
        pytest.param(100, 5.0, 100, 10.0, True, id="of both, examples come first"),
        pytest.param(100, 5.0, 0, 15.0, True, id="of both, time comes first"),
    ],
)
def test_a_warm_start_ends_once(examples: int, seconds: float, used: int, now: float, over: bool) -> None:
    warm = WarmStart(examples, seconds)
    assert warm.active == bool(examples or seconds)
    warm.choose([1], 10.0)
    assert warm.ends(used, now) == over
    assert warm.active == (bool(examples or seconds) and not over)
    assert not warm.holds(1)
    assert warm.holds(2) == warm.active
    assert not warm.ends(used, now) or not over


def test_time_does_not_begin_before_somebody_is_able() -> None:
    warm = WarmStart(0, 5.0)
    warm.choose([], 0.0)
    assert not warm.ends(0, 100.0)
    warm.choose([3], 100.0)
    assert not warm.ends(0, 104.9)
    assert warm.ends(0, 105.0)


def test_the_one_that_computes_goes_on_as_long_as_it_is_able_and_then_the_first_that_is() -> None:
    warm = WarmStart(0, 5.0)
    held = []
    for able in ([2], [1, 2, 3], [1, 3], [], [4]):
        warm.choose(able, 10.0 + len(held))
        held.append([node for node in (1, 2, 3, 4) if not warm.holds(node)])
    assert held == [[2], [2], [1], [], [4]]
    assert warm.ends(0, 15.0), "its time goes on where another takes over"
