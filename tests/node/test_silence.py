"""A first node that does not answer for a while, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.virtual_time import go, loop_of

from hogpour.core.progress import Notice
from hogpour.node.silence import FirstNodeWatch
from hogpour.sim.world.loop import Loop

Hear = Callable[..., None]
SILENT = ("warning", "the first node, first:7000, has not answered for 3 s: waiting for it, 40 s at most")


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = loop_of()
    yield made
    made.close()


def watched(loop: Loop, said: list[tuple[str, str]]) -> tuple[FirstNodeWatch, Hear]:
    """A watch, and what answers heartbeats after so many seconds each."""

    def note(notice: Notice) -> None:
        said.append((notice.event, notice.text))

    watch, reply = FirstNodeWatch("first:7000", 3.0, 40.0, note), None

    def hear(*after_s: float) -> None:
        for seconds in after_s:
            go(loop, seconds)
            loop.call_soon(watch.hear, reply)
            go(loop, 0.0)

    return watch, hear


def test_each_silence_longer_than_a_lease_is_told_once_and_so_is_its_end(loop: Loop) -> None:
    said: list[tuple[str, str]] = []
    _, hear = watched(loop, said)
    go(loop, 9.0)  # nothing is awaited yet
    hear(0.0, 0.5, 2.9, 0.5, 2.9)
    assert said == []
    go(loop, 9.0)
    assert said == [SILENT]
    hear(3.0, 0.5)
    assert said == [SILENT, ("member", "the first node answers again, after 12 s")]
    go(loop, 4.0)
    assert said[2:] == [SILENT]


def test_whoever_has_left_or_failed_waits_for_nobody(loop: Loop) -> None:
    """A last heartbeat may be answered after it has left."""
    said: list[tuple[str, str]] = []
    watch, hear = watched(loop, said)
    hear(0.0)
    watch.stop()
    hear(0.5)
    go(loop, 9.0)
    assert said == []


@pytest.mark.parametrize("slept_s", [0.0, 20.0])
def test_whoever_stood_still_itself_gives_a_whole_lease_anew(loop: Loop, slept_s: float) -> None:
    """The answers of the time before lie unread."""
    said: list[Any] = []
    watch, hear = watched(loop, said)
    hear(0.0)
    loop.call_soon(watch._look, loop.time() + 3.0 + slept_s, slept_s)
    go(loop, 0.0)
    assert len(said) == (slept_s == 0.0)
