"""Windows of the last pushes: nothing is taken for new twice, whatever comes in which order."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from hogpour.net.wire.window import PushWindow
from hogpour.server.dedup import WIDTH, PushDedup


def push(windows: PushDedup, sequence: int, node: int = 1, replica: int = 0) -> bool:
    """Whether a push with this number is applied."""
    if windows.repeats(node, replica, sequence):
        return False
    windows.add(node, replica, sequence)
    return True


@given(st.lists(st.integers(1, 200), max_size=300))
def test_no_number_is_applied_twice(sequences: list[int]) -> None:
    windows = PushDedup()
    applied = [sequence for sequence in sequences if push(windows, sequence)]
    assert len(set(applied)) == len(applied)


@given(st.permutations(range(40)), st.integers(1, 4))
def test_numbers_that_overtake_each_other_by_less_than_the_width_are_all_applied(order: list[int], stride: int) -> None:
    windows = PushDedup()
    for block in range(stride):
        for sequence in order:
            assert push(windows, 1 + 24 * block + sequence) == (block == 0 or sequence >= 16)


def test_the_last_number_of_the_window_is_told_apart_and_the_one_before_counts_as_repeated() -> None:
    windows = PushDedup()
    assert push(windows, 100)
    assert push(windows, 100 - WIDTH + 1)
    assert not push(windows, 100 - WIDTH + 1)
    assert not push(windows, 100 - WIDTH)


def test_a_jump_over_the_whole_window_forgets_it_at_no_cost() -> None:
    windows = PushDedup()
    assert push(windows, 1)
    assert push(windows, (1 << 64) - 1)
    assert list(windows) == [PushWindow(1, 0, (1 << 64) - 1, 1)]
    assert not push(windows, 1)


def test_a_push_that_is_older_than_the_window_takes_no_memory() -> None:
    """A gated step counts what its origin says that it pushed: number 5 after number 2^53 - 1."""
    windows = PushDedup()
    assert push(windows, (1 << 53) - 1)
    windows.add(1, 0, 5)
    assert list(windows) == [PushWindow(1, 0, (1 << 53) - 1, 1)]
    assert windows.repeats(1, 0, 5)


def test_a_window_takes_64_bits_however_many_pushes_there_were() -> None:
    windows = PushDedup()
    for sequence in range(1, 1000):
        assert push(windows, sequence)
    assert list(windows) == [PushWindow(1, 0, 999, (1 << WIDTH) - 1)]


def test_origins_are_told_apart_by_node_and_by_replica() -> None:
    windows = PushDedup()
    assert push(windows, 1, node=1, replica=0)
    assert push(windows, 1, node=1, replica=1)
    assert push(windows, 1, node=2, replica=0)
    assert not push(windows, 1, node=2, replica=0)
    assert (len(windows), windows.knows(2, 0), windows.knows(2, 1)) == (3, True, False)


def test_windows_go_on_at_another_server() -> None:
    here = PushDedup()
    for sequence in (1, 2, 4, 7):
        push(here, sequence)
    there = PushDedup(here)
    assert [sequence for sequence in range(1, 9) if push(there, sequence)] == [3, 5, 6, 8]


def test_bits_beyond_the_width_are_dropped_when_a_window_arrives() -> None:
    assert list(PushDedup([PushWindow(1, 0, 5, 1 << 200 | 1)])) == [PushWindow(1, 0, 5, 1)]


def test_the_windows_of_a_node_are_forgotten_and_freed() -> None:
    windows = PushDedup()
    for replica in range(100):
        push(windows, 1, node=1, replica=replica)
    push(windows, 5, node=2)
    windows.forget(1)
    assert list(windows) == [PushWindow(2, 0, 5, 1)]
    assert sys.getsizeof(list(windows)) < 200
