"""Staging memory is bounded, used again, given out in turn, and never stuck."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.core.errors import LocalProtocolError
from hogpour.net.staging import Staging

KB = 1024


def address(view: memoryview) -> int:
    return np.frombuffer(view, np.uint8).ctypes.data


def test_a_buffer_is_as_long_as_asked_begins_on_a_page_and_is_used_again() -> None:
    staging = Staging(64 * KB)
    view = staging.take(10_000)
    assert view is not None
    assert (len(view), view.readonly, view.format, address(view) % 4096) == (10_000, False, "B", 0)
    assert (staging.taken_bytes, staging.held_bytes) == (12 * KB, 12 * KB)
    where = address(view)
    staging.give(view)
    assert staging.taken_bytes == 0
    again = staging.take(9_000)
    assert again is not None
    assert address(again) == where
    assert staging.held_bytes == 12 * KB


def test_nothing_is_reserved_before_it_is_needed() -> None:
    assert Staging(1 << 50).held_bytes == 0


def test_the_limit_holds_whatever_is_taken() -> None:
    staging = Staging(16 * KB)
    first, second = staging.take(8 * KB), staging.take(8 * KB)
    assert first is not None
    assert second is not None
    assert staging.take(1) is None
    staging.give(first)
    assert staging.take(12 * KB) is None  # together with the second: 20
    staging.give(second)
    assert staging.take(12 * KB) is not None  # the two free ones made room
    assert staging.held_bytes <= 16 * KB


def test_one_buffer_is_granted_even_above_the_limit() -> None:
    staging = Staging(8 * KB)
    large = staging.take(1 << 20)
    assert large is not None
    assert staging.take(1) is None
    staging.give(large)
    assert staging.take(2 << 20) is not None


def test_who_waits_is_served_in_turn_and_nobody_overtakes() -> None:
    staging, got = Staging(8 * KB), []
    first, second = staging.take(4 * KB), staging.take(4 * KB)
    assert staging.take(8 * KB, lambda view: got.append(("large", view))) is None
    assert staging.take(4 * KB, lambda view: got.append(("small", view))) is None
    staging.give(first)
    assert got == []  # the large one is first, and does not fit yet
    assert staging.take(4 * KB) is None
    staging.give(second)
    assert [name for name, _ in got] == ["large"]
    staging.give(got[0][1])
    assert [name for name, _ in got] == ["large", "small"]


def test_who_waits_no_more_does_not_hold_up_others() -> None:
    staging, got = Staging(8 * KB), []
    taken = staging.take(4 * KB)
    staging.take(8 * KB, got.append)
    staging.take(4 * KB, lambda view: got.append("small"))
    staging.forget(got.append)
    assert got == ["small"]
    staging.give(taken)


def test_a_small_request_leaves_a_large_buffer_to_others_while_there_is_room() -> None:
    staging = Staging(1 << 20)
    staging.give(staging.take(512 * KB))
    small = staging.take(4 * KB)
    assert staging.taken_bytes == 4 * KB
    staging.give(small)
    assert len([staging.take(100) for _ in range(3)]) == 3


def test_a_buffer_can_be_given_back_once() -> None:
    staging = Staging(8 * KB)
    view = staging.take(1)
    assert view is not None
    staging.give(view)
    with pytest.raises(LocalProtocolError, match="not taken"):
        staging.give(view)
