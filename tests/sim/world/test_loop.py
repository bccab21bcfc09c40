"""The event loop in virtual time: order, time, tasks, threads that are none, and ends. Hosts are in test_loop_hosts."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import pytest
from support.virtual_time import go, loop_of, noted

from hogpour.sim.world import loop as loop_file
from hogpour.sim.world.loop import BEGIN_S, Loop, Stuck


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that nobody complains to."""
    made = loop_of()
    yield made
    made.close()
    assert made.errors == []


# -- order and time -----------------------------------------------------------------------------------------------------


def test_callbacks_run_in_the_order_in_which_they_were_asked_for(loop: Loop) -> None:
    said: list[int] = []
    loop.call_soon(lambda: (said.append(1), loop.call_soon(said.append, 4)))
    loop.call_soon(said.append, 2)
    loop.call_soon_threadsafe(said.append, 3)
    loop.run(lambda: len(said) == 4)
    assert said == [1, 2, 3, 4]
    assert loop.time() == BEGIN_S
    assert loop.events == 4


def test_timers_run_in_the_order_of_their_times_and_of_one_time_in_that_of_their_setting(loop: Loop) -> None:
    said: list[tuple[str, float]] = []
    for word, delay in (("d", 2.0), ("a", 1.0), ("e", 2.0), ("b", 1.0)):
        loop.call_later(delay, noted(loop, said, word))
    loop.call_at(BEGIN_S + 1.0, noted(loop, said, "c"))
    go(loop, 3.0)
    assert said == [("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 2.0), ("e", 2.0)]


def test_what_is_ready_runs_before_the_next_timer(loop: Loop) -> None:
    said: list[int] = []
    loop.call_later(1.0, lambda: (said.append(1), loop.call_soon(said.append, 3)))
    loop.call_later(1.0, said.append, 2)
    loop.call_later(1.0 + 1e-9, said.append, 4)
    go(loop, 2.0)
    assert said == [1, 2, 3, 4]


def test_time_jumps_to_the_next_timer_and_never_back(loop: Loop) -> None:
    said: list[tuple[str, float]] = []
    loop.call_later(86400.0, noted(loop, said, "tomorrow"))
    loop.call_at(BEGIN_S - 5.0, noted(loop, said, "long ago"))
    loop.run(lambda: len(said) == 2)
    assert said == [("long ago", 0.0), ("tomorrow", 86400.0)]
    assert loop.events == 2


def test_what_was_cancelled_does_not_run(loop: Loop) -> None:
    said: list[int] = []
    soon, late = loop.call_soon(said.append, 1), loop.call_later(1.0, said.append, 2)
    loop.call_later(0.5, late.cancel)
    assert (soon.cancelled(), soon.when(), late.when()) == (False, BEGIN_S, BEGIN_S + 1.0)
    soon.cancel()
    go(loop, 2.0)
    assert said == []
    assert (soon.cancelled(), late.cancelled()) == (True, True)


def test_time_does_not_stop_at_a_timer_that_was_cancelled(loop: Loop) -> None:
    times: list[float] = []
    loop.call_later(1.0, lambda: None).cancel()
    loop.call_later(2.0, lambda: None)
    loop.run(lambda: times.append(loop.time() - BEGIN_S) or times[-1] > 0)  # type: ignore[func-returns-value]
    assert times == [0.0, 2.0]


def test_timers_that_were_cancelled_are_dropped_and_the_others_keep_their_order(loop: Loop) -> None:
    said: list[int] = []
    for k in range(5000):
        handle = loop.call_later(1.0 + k % 7, said.append, k)
        if k % 100:
            handle.cancel()
    assert len(loop._timers) < 1100
    go(loop, 10.0)
    assert said == sorted(range(0, 5000, 100), key=lambda k: (k % 7, k))


def test_virtual_time_only_grows(loop: Loop) -> None:
    times: list[float] = []

    async def sleeps(seconds: float) -> None:
        for _ in range(20):
            await asyncio.sleep(seconds)
            times.append(loop.time())

    async def main() -> None:
        await asyncio.gather(*(sleeps(seconds) for seconds in (0.0, 0.1, 0.3, 0.7)))

    loop.run_until_complete(main())
    assert len(times) == 80
    assert all(earlier <= later for earlier, later in pairwise(times))


# -- tasks --------------------------------------------------------------------------------------------------------------


def test_a_task_sleeps_in_virtual_time_and_returns_its_result(loop: Loop) -> None:
    async def work() -> str:
        await asyncio.sleep(3600.0)
        assert asyncio.get_running_loop() is loop
        assert loop.is_running()
        return "done"

    assert loop.run_until_complete(work()) == "done"
    assert loop.time() == BEGIN_S + 3600.0
    assert not loop.is_running()


def test_what_a_task_raises_is_raised_to_who_waits_for_it(loop: Loop) -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        loop.run_until_complete(work())


async def _timeout(loop: Loop) -> None:
    async with asyncio.timeout(1.5):
        await asyncio.Event().wait()


async def _wait_for(loop: Loop) -> None:
    await asyncio.wait_for(asyncio.Event().wait(), 1.5)


async def _timeout_at(loop: Loop) -> None:
    async with asyncio.timeout_at(loop.time() + 1.5):
        await loop.create_future()


@pytest.mark.parametrize("work", [_timeout, _wait_for, _timeout_at])
def test_a_deadline_passes_at_its_time(loop: Loop, work: Callable[[Loop], Any]) -> None:
    with pytest.raises(TimeoutError):
        loop.run_until_complete(work(loop))
    assert loop.time() == BEGIN_S + 1.5


def test_tasks_meet_at_events_queues_and_locks(loop: Loop) -> None:
    said: list[tuple[str, float]] = []

    async def main() -> None:
        event, lock, queue = asyncio.Event(), asyncio.Lock(), asyncio.Queue[int]()

        async def first() -> None:
            await event.wait()
            noted(loop, said, "event")()
            async with lock:
                await asyncio.sleep(1.0)
            queue.put_nowait(7)

        async def second() -> None:
            await event.wait()
            async with lock:
                noted(loop, said, f"lock, {await queue.get()}")()

        async with asyncio.TaskGroup() as group:
            group.create_task(first())
            group.create_task(second())
            await asyncio.sleep(0.5)
            event.set()

    loop.run_until_complete(main())
    assert said == [("event", 0.5), ("lock, 7", 1.5)]


def test_a_task_that_fails_in_a_group_cancels_the_others(loop: Loop) -> None:
    said: list[tuple[str, float]] = []

    async def fails() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("one")

    async def waits() -> None:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            noted(loop, said, "cancelled")()
            raise

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            group.create_task(fails())

    with pytest.raises(ExceptionGroup) as caught:
        loop.run_until_complete(main())
    assert [str(error) for error in caught.value.exceptions] == ["one"]
    assert said == [("cancelled", 1.0)]


def test_contexts_are_those_of_who_asked(loop: Loop) -> None:
    word: ContextVar[str] = ContextVar("word", default="nobody's")
    said: list[str] = []

    async def work(own: str) -> None:
        word.set(own)
        loop.call_soon(lambda: said.append(word.get()))
        await asyncio.sleep(1.0)
        said.append(await asyncio.to_thread(word.get))

    async def main() -> None:
        await asyncio.gather(work("a"), work("b"))
        said.append(word.get())

    loop.run_until_complete(main())
    assert said == ["a", "b", "a", "b", "nobody's"]


# -- threads that are none ----------------------------------------------------------------------------------------------


def test_a_job_runs_inline_and_is_done_when_its_time_has_passed(loop: Loop) -> None:
    said: list[tuple[str, float]] = []

    def job(word: str) -> str:
        loop.spend(2.0)
        noted(loop, said, word)()
        loop.spend(0.5)
        return word

    async def main() -> None:
        noted(loop, said, await asyncio.to_thread(job, "disk"))()
        noted(loop, said, await loop.run_in_executor(None, lambda: "free"))()

    loop.spend(100.0)  # of nobody's job
    loop.run_until_complete(main())
    assert said == [("disk", 0.0), ("disk", 2.5), ("free", 2.5)]


def test_jobs_go_on_beside_each_other_and_wait_for_a_thread_as_long_as_they_are_told_to() -> None:
    waits = iter([0.25, 1.0])
    loop = loop_of(executor_s=lambda: next(waits))
    said: list[tuple[str, float]] = []

    def job(word: str, seconds: float) -> None:
        noted(loop, said, f"{word} begins")()
        loop.spend(seconds)

    async def work(word: str, seconds: float) -> None:
        await asyncio.to_thread(job, word, seconds)
        noted(loop, said, f"{word} ends")()

    async def main() -> None:
        await asyncio.gather(work("a", 2.0), work("b", 0.5))

    loop.run_until_complete(main())
    assert said == [("a begins", 0.25), ("b begins", 1.0), ("b ends", 1.5), ("a ends", 2.25)]
    loop.close()


def test_a_job_that_fails_raises_after_its_time(loop: Loop) -> None:
    def job() -> None:
        loop.spend(1.0)
        raise OSError("disk full")

    with pytest.raises(OSError, match=r"^disk full$"):
        loop.run_until_complete(asyncio.wait_for(loop.run_in_executor(None, job), 60.0))
    assert loop.time() == BEGIN_S + 1.0


def test_a_job_that_is_cancelled_before_it_begins_is_not_run_and_one_that_has_begun_goes_on() -> None:
    loop = loop_of(executor_s=lambda: 1.0)
    begun: list[str] = []

    def job(word: str) -> None:
        begun.append(word)
        loop.spend(1.0)

    async def main() -> None:
        for word, seconds in (("never", 0.5), ("begun", 1.5)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(job, word), seconds)

    loop.run_until_complete(main())
    go(loop, 10.0)
    assert begun == ["begun"]
    assert loop.errors == []
    loop.close()


# -- the end ------------------------------------------------------------------------------------------------------------


def test_a_loop_with_nothing_left_to_do_is_stuck(loop: Loop) -> None:
    loop.call_later(5.0, lambda: None)
    loop.call_later(9.0, lambda: None).cancel()
    with pytest.raises(Stuck, match=r"^nothing is left to do, and the simulation has not ended$"):
        loop.run(lambda: False)
    assert loop.time() == BEGIN_S + 5.0


def test_a_loop_that_does_not_end_in_time_is_stuck_and_can_be_run_on(loop: Loop) -> None:
    said: list[int] = []
    loop.call_later(3.0, said.append, 1)
    with pytest.raises(Stuck, match=r"^the simulation has not ended after 2\.5 virtual seconds$"):
        loop.run(lambda: bool(said), BEGIN_S + 2.5)
    assert said == []
    loop.run(lambda: bool(said), BEGIN_S + 3.0)
    assert said == [1]


def _soon(loop: Loop) -> None:
    loop.call_soon(_soon, loop)


def _at_once(loop: Loop) -> None:
    loop.call_later(0.0, _at_once, loop)


@pytest.mark.parametrize("circle", [_soon, _at_once])
def test_who_goes_round_in_circles_at_one_moment_is_stuck(
    loop: Loop, circle: Callable[[Loop], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_file, "_AT_ONE_TIME", 1000)
    loop.call_soon(circle, loop)
    with pytest.raises(Stuck) as caught:
        loop.run(lambda: loop.events > 5000)
    assert str(caught.value) == f"1,000 callbacks at one moment: the last one was {circle!r}"


def test_who_lets_time_pass_is_not_stuck(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_file, "_AT_ONE_TIME", 1000)

    def again(k: int) -> None:
        if k:
            (loop.call_later if k % 500 == 0 else loop.call_at)(1e-6 if k % 500 == 0 else 0.0, again, k - 1)

    loop.call_soon(again, 3000)
    loop.run(lambda: loop.events == 3001)
    assert loop.time() > BEGIN_S


def test_a_loop_runs_once_at_a_time_and_not_when_it_is_closed(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"^this event loop is running or closed$"):
            loop.run(lambda: True)

    loop.run_until_complete(main())
    other = loop_of()
    other.close()
    assert other.is_closed()
    with pytest.raises(RuntimeError, match=r"^this event loop is running or closed$"):
        other.run(lambda: True)


def test_closing_ends_what_is_under_way_outside(loop: Loop) -> None:
    said: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            said.append("ended")
            await asyncio.sleep(1.0)
            said.append("heard")

    other = loop_of()
    task = other.create_task(waits())
    go(other, 1.0)
    other.close()
    del task
    gc.collect()
    assert said == ["ended"]
    assert other.errors == []


def test_what_callbacks_raise_is_kept_and_the_loop_goes_on() -> None:
    loop, said = loop_of(), []

    def fails() -> None:
        raise ValueError("of a callback")

    async def fails_unseen() -> None:
        raise ValueError("of a task")

    loop.call_soon(fails)
    loop.call_soon(said.append, 1)
    loop.create_task(fails_unseen())
    loop.run(lambda: bool(said))
    go(loop, 1.0)
    gc.collect()
    assert [str(error["exception"]) for error in loop.errors] == ["of a callback", "of a task"]
    assert loop.errors[0]["message"] == f"exception in {fails!r}"
    assert loop.errors[1]["message"] == "Task exception was never retrieved"
    loop.close()


def test_something_may_look_after_every_callback(loop: Loop) -> None:
    seen: list[int] = []
    loop.after = lambda: seen.append(loop.events)
    go(loop, 1.0)
    assert seen == [1]
