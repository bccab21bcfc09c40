"""What a shard remembers of nodes: the right parameters, for members only, and never more than it says."""

from __future__ import annotations

import numpy as np

from hogpour.server.fetch_history import HELD, FetchHistory


def vector(value: float) -> np.ndarray:
    return np.full(4, value, np.float32)


def value(array: np.ndarray | None) -> float | None:
    return None if array is None else float(array[0])


def test_a_nodes_newest_fetches_are_remembered() -> None:
    origins = FetchHistory(4, 0, 8)
    for clock in range(HELD + 2):
        origins.fetched(1, clock, vector(clock))
    kept = [value(origins.params_of(1, clock)) for clock in range(HELD + 2)]
    assert kept == [None, None, *range(2, HELD + 2)]


def test_nodes_that_fetch_at_one_clock_share_a_copy_until_the_last_lets_go() -> None:
    origins = FetchHistory(4, 0, 8)
    for node in (1, 2, 3):
        origins.fetched(node, 7, vector(7))
    assert origins.arrays == 1
    assert origins.params_of(1, 7) is origins.params_of(3, 7)
    for node in (1, 2):
        origins.forget(node)
    assert origins.params_of(1, 7) is None
    assert value(origins.params_of(3, 7)) == 7


def test_a_copy_is_not_the_live_vector() -> None:
    origins, live = FetchHistory(4, 0, 8), vector(1)
    origins.fetched(1, 0, live)
    live += 1
    assert value(origins.params_of(1, 0)) == 1


def test_what_is_kept_is_bounded_by_the_members_however_often_they_fetch() -> None:
    origins = FetchHistory(4, 1, 8)
    for clock in range(100):
        origins.fetched(clock % 5, clock, vector(clock))
        origins.rows_of(clock % 5)
        assert origins.arrays <= (HELD + 1) * 5 + 1


def test_of_more_nodes_than_the_limit_nothing_is_kept() -> None:
    origins = FetchHistory(4, 1, 2)
    for node in range(3):
        origins.fetched(node, node, vector(node))
    assert [value(origins.params_of(node, node)) for node in range(3)] == [0, 1, None]
    assert [origins.rows_of(node) is None for node in range(3)] == [False, False, True]
    origins.forget(0)
    origins.fetched(2, 9, vector(9))
    assert value(origins.params_of(2, 9)) == 9


def test_a_node_that_left_leaves_nothing_and_begins_anew_when_it_is_back() -> None:
    origins = FetchHistory(4, 2, 8)
    origins.fetched(1, 0, vector(5))
    rows = origins.rows_of(1)
    assert rows is not None
    rows[0][...] = 3
    origins.forget(1)
    assert origins.arrays == 1  # the memory for the next fetch
    origins.forget(1)
    origins.fetched(1, 4, vector(6))
    rows = origins.rows_of(1)
    assert rows is not None
    assert value(rows[0]) == 0
    assert value(origins.params_of(1, 0)) is None
    assert value(origins.params_of(1, 4)) == 6
    assert origins.arrays == 3
