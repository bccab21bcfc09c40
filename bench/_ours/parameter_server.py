"""Our parameter server over loopback: a process with a listener and a server, and a client that fetches and pushes.

The vector is cut as a cluster cuts it, and all shards of a fetch or a push are in flight together on one connection,
under the default limits. Every push is applied. ``both`` fetches and pushes everything at once, as a node does that
trains.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

from hogpour.core import host

host.set_kernel_cache()  # before a kernel is imported

import numpy as np  # noqa: E402

from bench._peers.contender import LR, answer, resident_bytes, server, tell, timed_async, written  # noqa: E402
from bench._peers.echo import loop_factory  # noqa: E402
from hogpour.algos.optim.adagrad import Adagrad  # noqa: E402
from hogpour.algos.optim.sgd import Sgd  # noqa: E402
from hogpour.core.shard_map import cut  # noqa: E402
from hogpour.net.listener import Listener  # noqa: E402
from hogpour.net.peer import Peer  # noqa: E402
from hogpour.net.staging import Staging  # noqa: E402
from hogpour.net.wire.base import Message  # noqa: E402
from hogpour.net.wire.fetch import Fetch, Fetched  # noqa: E402
from hogpour.net.wire.push import Push, Pushed  # noqa: E402
from hogpour.server.server import ParameterServer  # noqa: E402

__all__: list[str] = []

STAGING_BYTES = 32 << 20
"""Eight shards land at a time."""
DEADLINE_S = 60.0
NODE = 1
OPTIMISERS = {"sgd": Sgd(LR), "adagrad": Adagrad(LR)}


def serve(loop_name: str, optimiser: str, shard_bytes: int, n_bytes: int) -> None:
    """Serve until the client has gone."""

    async def run() -> None:
        there = ParameterServer(OPTIMISERS[optimiser])
        before = resident_bytes()
        bounds = cut(n_bytes // 4, shard_bytes)
        sizes = np.diff(bounds)
        for shard, size in enumerate(sizes):
            there.table.open(shard, written(4 * int(size), 0), start=bounds[shard])
        token = os.urandom(32)
        listener = Listener(there.handlers(), token, staging=Staging(STAGING_BYTES), payload_limit=4 * int(sizes.max()),
                            log=lambda line: print(line, file=sys.stderr))  # fmt: skip
        await listener.start("127.0.0.1", 0)
        tell(address=listener.address, token=token.hex(), server=os.getpid(), before=before)
        # No deadline: the input ends when the client does, however it ends.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await listener.close()

    with asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner:
        runner.run(run())


class Client:
    """Fetches and pushes the whole vector.

    Args:
        peer: the server.
        bounds: of the shards.
    """

    def __init__(self, peer: Peer, bounds: tuple[int, ...]) -> None:
        self.params = written(4 * bounds[-1], 0)
        self._peer = peer
        grad, ranges = written(4 * bounds[-1], 1), [slice(*pair) for pair in pairwise(bounds)]
        self._into = [memoryview(self.params[r]).cast("B") for r in ranges]
        self._grads = [memoryview(grad[r]).cast("B") for r in ranges]
        self._clocks, self._sequence = [0] * len(ranges), 0

    async def fetch(self) -> None:
        await _together([self._fetch(shard) for shard in range(len(self._into))])

    async def push(self) -> None:
        self._sequence += 1
        await _together([self._push(shard) for shard in range(len(self._into))])

    async def both(self) -> None:
        self._sequence += 1
        shards = range(len(self._into))
        await _together([task for shard in shards for task in (self._fetch(shard), self._push(shard))])

    async def _fetch(self, shard: int) -> None:
        got = await self._ask(Fetch(shard, NODE), into=self._into[shard])
        assert isinstance(got, Fetched)
        self._clocks[shard] = got.clock

    async def _push(self, shard: int) -> None:
        push = Push(shard, NODE, 0, self._sequence, self._clocks[shard], 1, 1.0)
        done = await self._ask(push, payload=[self._grads[shard]])
        assert isinstance(done, Pushed)
        assert done.staleness >= 0, "a push was taken for a repetition"

    async def _ask(self, message: Message, **how: Any) -> Message:
        return await self._peer.request(message, deadline_s=DEADLINE_S, **how)


async def _together(requests: list[Coroutine[Any, Any, None]]) -> None:
    """Await all; one alone without a task of its own."""
    if len(requests) == 1:
        await requests[0]
    else:
        await asyncio.gather(*requests)


def measure(loop_name: str, optimiser: str, shard_bytes: int, n_bytes: int) -> None:
    """Be the client."""
    arguments = (loop_name, optimiser, str(shard_bytes), str(n_bytes))
    with (
        server(__spec__.name, "serve", *arguments) as there,
        asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner,
    ):
        peer = Peer(there["address"], bytes.fromhex(there["token"]))
        client = Client(peer, cut(n_bytes // 4, shard_bytes))

        def value() -> tuple[float, float]:
            runner.run(client.fetch())
            return client.params.min() / -LR, client.params.max() / -LR

        operations = {name: timed_async(getattr(client, name), runner) for name in ("fetch", "push", "both")}
        answer(operations, value, server=there["server"], before=there["before"])
        runner.run(peer.close())


if __name__ == "__main__":
    run = {"serve": serve, "measure": measure}[sys.argv[1]]
    run(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
