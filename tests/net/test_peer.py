"""Requests over loopback: every one is answered, fails, or is given up in time; its memory is nobody else's."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from ends import Run, octets, talking

from hogpour.net.requests import Reply
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Push, Pushed

pytestmark = pytest.mark.real


@pytest.mark.parametrize("n", [1, 256, 3_000_000])
def test_parameters_come_and_gradients_go(run: Run, n: int) -> None:
    params = np.arange(n, dtype=np.float32)

    def fetch(request: Fetch, payload: memoryview | None) -> Reply:
        return Reply(Fetched(request.shard, 7), [octets(params)])

    async def push(request: Push, payload: memoryview | None) -> Reply:
        await asyncio.sleep(0)
        params[:] += np.frombuffer(payload, np.float32)
        return Reply(Pushed(request.shard, 8, 0))

    async def main() -> None:
        async with talking({Fetch: fetch, Push: push}) as (peer, _, lines):
            fetched, gradient = np.empty_like(params), np.ones_like(params)
            for step in range(3):
                answer = await peer.request(Fetch(0, 1), into=octets(fetched), deadline_s=5)
                assert answer == Fetched(0, 7)
                np.testing.assert_array_equal(fetched, np.arange(n) + np.float32(step))
                request = Push(0, 1, 0, step + 1, 7, 1, 1.0)
                assert await peer.request(request, [octets(gradient)], deadline_s=5) == Pushed(0, 8, 0)
        assert lines == []

    run(main())
