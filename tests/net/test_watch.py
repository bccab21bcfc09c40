"""Whoever stood still, as a process that is stopped does, judges nobody by the time that it slept."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from support.ends import listening, talking, until

from hogpour.core.errors import PeerLost
from hogpour.net.address import split
from hogpour.net.loopback import Loopback
from hogpour.net.requests import Reply
from hogpour.net.watch import Watch
from hogpour.net.wire.fetch import Fetch, Fetched


class Sleeper(asyncio.SelectorEventLoop):
    """A loop whose clock a test sets on, as it goes on while a process is stopped."""

    slept = 0.0

    def time(self) -> float:
        return super().time() + self.slept


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=Sleeper) as runner:
        return runner.run(asyncio.wait_for(main, 1000))


def sleep(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Sleeper)
    loop.slept += seconds


def test_a_watch_says_by_how_much_it_is_late() -> None:
    async def main() -> list[tuple[float, float]]:
        looks: list[tuple[float, float]] = []
        watch, now = Watch(lambda now, slept: looks.append((now, slept))), asyncio.get_running_loop().time()
        watch.by(now + 100)
        watch.by(now + 3)
        watch.by(now + 50)
        sleep(3)
        await until(lambda: len(looks) == 1)
        watch.by(now + 10)
        sleep(30)
        await until(lambda: len(looks) == 2)
        watch.by(now + 40)
        watch.stop()
        sleep(30)
        await asyncio.sleep(0)
        return [(round(at - now), round(slept)) for at, slept in looks]

    assert run(main()) == [(3, 0), (33, 23)]


@pytest.mark.real
def test_a_request_outlives_the_sleep_of_who_asked_and_no_silence_after_it() -> None:
    """A node that was stopped for longer than its patience accused the first one, which had answered meanwhile."""

    async def main() -> None:
        asked, answers = asyncio.Event(), asyncio.Event()

        async def fetch(request: Fetch) -> Reply:
            asked.set()
            await answers.wait()
            return Reply(Fetched(request.shard, 1))

        async with talking({Fetch: fetch}) as (peer, _, _):
            for silent in (False, True):
                request = asyncio.ensure_future(peer.request(Fetch(0, 1), deadline_s=7))
                await asked.wait()
                sleep(20)
                await asyncio.sleep(0.01)
                if silent:
                    for _ in range(9):
                        sleep(1)
                        await asyncio.sleep(0.001)
                    with pytest.raises(PeerLost, match="no answer to Fetch within 7 s"):
                        await request
                else:
                    answers.set()
                    assert await request == Fetched(0, 1)
                    asked.clear()
                    answers.clear()
            answers.set()

    run(main())


@pytest.mark.real
def test_a_proof_is_waited_for_by_who_slept() -> None:
    async def main() -> None:
        async with listening({}) as (listener, lines):
            _, writer = await asyncio.open_connection(*split(listener.address))
            await until(lambda: bool(listener._unproven))
            sleep(20)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(listener._unproven) == 1
            writer.close()
        assert lines == []

    run(main())


def test_a_request_to_oneself_outlives_a_sleep_and_no_silence() -> None:
    async def main() -> None:
        answers = asyncio.Event()

        async def fetch(request: Fetch) -> Reply:
            await answers.wait()
            return Reply(Fetched(0, 1))

        own = Loopback({Fetch: fetch})
        request = asyncio.ensure_future(own.request(Fetch(0, 1), deadline_s=7))
        await asyncio.sleep(0)
        sleep(20)
        await asyncio.sleep(0.01)
        answers.set()
        assert await request == Fetched(0, 1)
        answers.clear()
        with pytest.raises(PeerLost, match=r"within 0\.01 s"):
            await own.request(Fetch(0, 1), deadline_s=0.01)

    run(main())
