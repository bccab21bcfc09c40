"""Hosts of the event loop: they die between two callbacks, stand still, and take turns; and what the trace knows of it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from functools import partial

import pytest
from support.virtual_time import go, loop_of, noted

from hogpour.sim.world.host import Host
from hogpour.sim.world.loop import BEGIN_S, Loop
from hogpour.sim.world.trace import Trace


@pytest.fixture(scope="module", autouse=True)
def _quick_garbage() -> Iterator[None]:
    """Let the collections of these tests look at what the tests made, and not at all of numba."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that nobody complains to, and that leaves no coroutine for the garbage collector to complain of."""
    made = loop_of()
    yield made
    made.close()
    gc.collect()
    assert made.errors == []


def hosts(n: int = 2) -> list[Host]:
    return [Host(k + 1, f"10.0.0.{k}") for k in range(n)]


# -- deaths -------------------------------------------------------------------------------------------------------------


def test_what_a_host_asks_for_is_its_own(loop: Loop) -> None:
    (a, b), said = hosts(), []

    async def work() -> None:
        said.append(loop.host.name)
        loop.call_soon(lambda: said.append(loop.host.name))
        loop.call_later(1.0, lambda: said.append(loop.host.name))
        await asyncio.to_thread(lambda: said.append(loop.host.name))

    loop.spawn(a, work())
    loop.call_on(b, BEGIN_S + 2.0, lambda: said.append(loop.host.name))
    assert loop.host is loop.outside
    go(loop, 3.0)
    assert said == [a.name] * 4 + [b.name]
    assert loop.host is loop.outside


def test_nothing_of_a_dead_host_runs(loop: Loop) -> None:
    (a, b), said = hosts(), []
    for host in (a, b):
        loop.call_on(host, BEGIN_S, partial(said.append, host.number))
        loop.call_on(host, BEGIN_S + 2.0, partial(said.append, host.number))
    loop.call_on(loop.outside, BEGIN_S + 1.0, loop.kill, a)
    go(loop, 3.0)
    assert said == [1, 2, 2]
    assert not a.alive
    loop.call_on(a, loop.time(), said.append, "heard")
    go(loop, 1.0)
    assert said == [1, 2, 2]


def test_what_is_ready_of_a_host_dies_with_it(loop: Loop) -> None:
    (a, b), said = hosts(), []
    loop.call_on(loop.outside, BEGIN_S + 1.0, loop.kill, a)
    loop.call_on(a, BEGIN_S + 1.0, said.append, "too late")
    loop.call_on(b, BEGIN_S + 1.0, said.append, "another one's")
    go(loop, 2.0)
    assert said == ["another one's"]


def test_coroutines_of_a_dead_host_end_from_the_inside_out_and_nobody_hears_them(loop: Loop) -> None:
    """Their ``finally`` runs, since Python insists, but what it asks for is asked for by a dead host."""
    (a,), said = hosts(1), []

    async def inner() -> None:
        try:
            await loop.create_future()
        finally:
            said.append("inner")
            loop.call_soon(said.append, "heard")
            loop.call_later(1.0, said.append, "heard")
            await asyncio.sleep(1.0)
            said.append("heard")

    async def middle() -> None:
        try:
            await inner()
        finally:
            said.append("middle")
            try:
                await asyncio.sleep(0)
            finally:
                said.append("middle again")
                await asyncio.sleep(2.0)
                said.append("heard")

    async def outer() -> None:
        async with asyncio.timeout(60.0):
            try:
                await middle()
            except BaseException:
                said.append("outer")
                await asyncio.to_thread(said.append, "heard")
                said.append("heard")

    loop.spawn(a, outer())
    loop.call_on(loop.outside, BEGIN_S + 1.0, loop.kill, a)
    go(loop, 10.0)
    gc.collect()
    assert said == ["inner", "middle", "middle again", "outer"]


def test_tasks_that_a_dying_host_begins_never_run(loop: Loop) -> None:
    (a,), said = hosts(1), []

    async def late() -> None:
        said.append("heard")

    async def waits(k: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60.0))
        finally:
            tasks.append(asyncio.get_running_loop().create_task(late()))
            said.append(k)

    tasks: list[asyncio.Task[None]] = []

    async def main() -> None:
        for k in range(20):
            loop.create_task(waits(k))
        await asyncio.sleep(30.0)

    loop.spawn(a, main())
    loop.call_on(loop.outside, BEGIN_S + 1.0, loop.kill, a)
    go(loop, 60.0)
    tasks.clear()
    gc.collect()
    assert said == list(range(20))
    assert a.tasks == {}


def test_a_task_that_never_began_dies_quietly(loop: Loop) -> None:
    (a,), said = hosts(1), []

    async def work() -> None:
        said.append("heard")

    loop.spawn(a, work())
    loop.kill(a)
    go(loop, 1.0)
    gc.collect()
    assert said == []


def test_what_waited_for_a_dead_host_waits_for_ever(loop: Loop) -> None:
    """Machines tell each other by the network only; a future is no way to hear of a death."""
    (a, b), said = hosts(), []
    answer = loop.create_future()

    async def asks() -> None:
        await answer
        said.append("answered")

    loop.spawn(b, asks())
    loop.call_on(a, BEGIN_S + 2.0, answer.set_result, None)
    loop.call_on(loop.outside, BEGIN_S + 1.0, loop.kill, a)
    go(loop, 10.0)
    assert said == []
    loop.kill(b)


def test_an_exception_that_a_dead_host_held_is_nobodys_to_take_but_that_of_a_live_one_is_a_bug() -> None:
    """A death anywhere silenced them all; and what a task of a live host raised was heard of 64 tasks later, or never,
    since its host held it."""
    loop, (a, b), kept = loop_of(), hosts(), []

    async def fails(name: str) -> None:
        raise ValueError(name)

    async def main(name: str) -> None:
        kept.append(asyncio.ensure_future(fails(name)))
        lost = loop.create_future()
        lost.set_exception(ValueError(name))
        kept.append(lost)
        await asyncio.sleep(60.0)

    loop.spawn(a, main("of a dead host"))
    loop.spawn(b, main("of a live host"))
    go(loop, 1.0)
    loop.kill(a)
    kept.clear()
    gc.collect()
    assert [str(error["exception"]) for error in loop.errors] == ["of a live host"]
    loop.kill(b)
    loop.close()


def test_a_host_does_not_kill_itself(loop: Loop) -> None:
    (a,) = hosts(1)
    caught: list[str] = []

    def suicide() -> None:
        try:
            loop.kill(a)
        except AssertionError as error:
            caught.append(str(error))

    loop.call_on(a, BEGIN_S, suicide)
    go(loop, 1.0)
    assert caught == ["a host cannot kill itself: its callback would go on"]


# -- pauses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_paused_host_does_what_has_become_due_in_its_order_when_it_goes_on(shuffle: bool) -> None:
    """Callbacks of the very moment at which it goes on come last, whether they were set before its pause or not."""
    loop = loop_of(shuffle=shuffle)
    (a, b), said = hosts(), []
    for word, at in (("c", 3.0), ("a", 1.0), ("d", 4.0), ("b", 2.0)):
        loop.call_on(a, BEGIN_S + at, noted(loop, said, word))
    loop.call_on(b, BEGIN_S + 2.0, noted(loop, said, "another one's"))
    loop.call_on(loop.outside, BEGIN_S + 1.5, loop.pause, a)
    loop.call_on(loop.outside, BEGIN_S + 3.0 + 1.0, lambda: None)
    loop.call_on(loop.outside, BEGIN_S + 3.5, lambda: loop.call_on(loop.outside, BEGIN_S + 4.0, loop.go_on, a))
    go(loop, 10.0)
    assert said == [("a", 1.0), ("another one's", 2.0), ("b", 4.0), ("c", 4.0), ("d", 4.0)]
    loop.close()


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_was_deferred_comes_before_what_is_due_when_it_goes_on(shuffle: bool) -> None:
    loop = loop_of(shuffle=shuffle)
    (a,), said = hosts(1), []
    loop.call_on(loop.outside, BEGIN_S + 1.0, loop.pause, a)
    loop.call_on(loop.outside, BEGIN_S + 4.0, loop.go_on, a)
    for at in (4.0, 2.0, 3.0, 4.0, 5.0):
        loop.call_on(a, BEGIN_S + at, said.append, at)
    go(loop, 10.0)
    assert said == [2.0, 3.0, 4.0, 4.0, 5.0]
    loop.close()


def test_what_is_cancelled_during_a_pause_does_not_run_after_it(loop: Loop) -> None:
    (a,), said = hosts(1), []
    handle = loop.call_on(a, BEGIN_S + 1.0, said.append, 1)
    loop.pause(a)
    go(loop, 2.0)
    handle.cancel()
    loop.go_on(a)
    go(loop, 1.0)
    assert said == []


def test_a_paused_host_that_is_killed_does_not_go_on(loop: Loop) -> None:
    (a,), said = hosts(1), []
    loop.call_on(a, BEGIN_S + 1.0, said.append, 1)
    loop.pause(a)
    loop.pause(a)
    go(loop, 2.0)
    loop.kill(a)
    loop.go_on(a)
    loop.pause(a)
    go(loop, 1.0)
    assert said == []
    assert a.deferred is None


# -- shuffling, and the trace -------------------------------------------------------------------------------------------


def shuffled(seed: int, shuffle: bool = True) -> tuple[list[tuple[int, int]], str]:
    """The order in which the callbacks of three hosts run, some of which ask for further ones; and the trace."""
    loop, said = loop_of(seed, shuffle=shuffle), []

    def work(host: Host, k: int) -> None:
        said.append((host.number, k))
        if k < 20 and k % 2 == 0:
            loop.call_soon(work, host, k + 20)

    three = hosts(3)
    for k in range(20):
        for host in three:
            loop.call_on(host, BEGIN_S + 1.0, work, host, k)
    go(loop, 2.0)
    loop.close()
    return said, loop.trace.hexdigest()


def test_shuffling_keeps_the_order_of_each_host_and_follows_the_seed() -> None:
    in_order, _ = shuffled(0, shuffle=False)
    orders = [shuffled(seed)[0] for seed in range(5)]
    assert orders == [shuffled(seed)[0] for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    for order in orders:
        assert order != in_order
        for number in (1, 2, 3):
            own = [entry for entry in order if entry[0] == number]
            assert own == [entry for entry in in_order if entry[0] == number]


def test_shuffling_lets_no_host_wait_for_another_one_that_never_rests() -> None:
    loop = loop_of(shuffle=True)
    (a, b), said = hosts(), []

    def restless() -> None:
        loop.call_soon(restless)

    loop.call_on(a, BEGIN_S, restless)
    loop.call_on(b, BEGIN_S, said.append, 1)
    loop.run(lambda: bool(said))
    assert loop.events < 20
    loop.close()


def test_equal_runs_have_equal_traces_and_others_do_not() -> None:
    traces = [shuffled(seed)[1] for seed in (0, 0, 1, 2)] + [shuffled(0, shuffle=False)[1]]
    assert traces[0] == traces[1]
    assert len(set(traces)) == 4


def test_the_trace_knows_times_hosts_timers_and_notes() -> None:
    def trace(*, seconds: float = 1.0, number: int = 1, timers: int = 1, note: tuple[object, ...] = ()) -> str:
        loop = loop_of()
        for _ in range(timers):
            loop.call_on(Host(number, "a"), BEGIN_S + seconds, lambda: None)
        loop.run(lambda: loop.events == 1)
        if note:
            loop.trace.note(*note)
        return loop.trace.hexdigest()

    assert trace() == trace()
    others = [trace(), trace(seconds=1.5), trace(number=2), trace(timers=2), trace(note=("reset", 1)), trace(note=("reset", 2))]
    assert len(set(others)) == len(others)


def test_a_trace_is_that_of_all_its_events_however_often_it_is_hashed() -> None:
    whole, in_pieces = Trace(), Trace()
    for k in range(30000):
        whole.note(k)
        in_pieces.note(k)
        in_pieces.flush()
    assert len(in_pieces.pending) < 1 << 16 < len(whole.pending)
    assert in_pieces.hexdigest() == whole.hexdigest() == whole.hexdigest()
