"""A set of tasks: cancelled in the order of their beginning, joined with what begins meanwhile, errors told once."""

from __future__ import annotations

import asyncio

from hogpour.net.tasks import TaskSet


async def test_tasks_end_in_the_order_of_their_beginning() -> None:
    tasks, ended = TaskSet(), []

    async def sleeper(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    for number in range(20):
        tasks.start(sleeper(number))
    await asyncio.sleep(0)
    await tasks.cancel()
    assert ended == list(range(20))


async def test_what_begins_while_others_are_waited_for_is_waited_for_too() -> None:
    tasks, ended = TaskSet(), []

    async def count(left: int) -> None:
        await asyncio.sleep(0)
        if left:
            tasks.start(count(left - 1))
        ended.append(left)

    tasks.start(count(3))
    await tasks.join()
    assert ended == [3, 2, 1, 0]


async def test_what_begins_while_others_are_cancelled_is_cancelled_too() -> None:
    """A handler that a connection begins while its listener closes would be waited for as long as it likes."""
    tasks, ended = TaskSet(), []

    async def begins_another() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks.start(waits())

    async def waits() -> None:
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=1.0)
        ended.append("waited")

    tasks.start(begins_another())
    await asyncio.sleep(0)
    await tasks.cancel()
    assert ended == []


async def test_an_error_is_told_and_a_cancelled_task_has_none() -> None:
    told: list[BaseException] = []
    tasks = TaskSet(told.append)

    async def fails() -> None:
        raise KeyError("x")

    tasks.start(fails())
    tasks.start(asyncio.sleep(10))
    await asyncio.sleep(0)
    await tasks.cancel()
    assert [repr(error) for error in told] == ["KeyError('x')"]
