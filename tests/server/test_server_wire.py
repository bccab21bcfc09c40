"""Parameter servers over loopback, on both event loops."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest
from support.ends import TOKEN, Run
from support.server import (
    Sum,
    fetched,
    now,
    push,
)

from hogpour.core.errors import RequestFailed
from hogpour.net.listener import Listener
from hogpour.net.peer import Peer
from hogpour.net.staging import Staging
from hogpour.net.wire.base import Ok
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Outcome, Pushed
from hogpour.net.wire.status import Fence, Report
from hogpour.server.server import ParameterServer


@pytest.mark.real
@pytest.mark.parametrize("inline", [True, False])
def test_nodes_push_and_fetch_over_the_wire(inline: bool, run: Run) -> None:
    """Two nodes push whole numbers to two shards at once, fetch meanwhile, and a third takes a shard over."""

    async def main() -> None:
        size, pushes = 1 << 16, 20
        server = ParameterServer(Sum(), inline_elements=size if inline else 0)
        for shard in (0, 1):
            server.table.open(shard, np.zeros(size, np.float32), start=size * shard)
        lines: list[str] = []
        listener = Listener(server.handlers(), TOKEN, staging=Staging(8 << 20), payload_limit=1 << 20, log=lines.append)
        await listener.start("127.0.0.1", 0)
        peers = [Peer(listener.address, TOKEN) for _ in (1, 2)]

        async def pushing(node: int, shard: int) -> None:
            grad, params, before = np.full(size, node, np.float32), np.empty(size, np.float32), 0.0
            for sequence in range(1, pushes + 1):
                request = push(sequence, shard, node=node)
                pushed, again, got = await asyncio.gather(
                    peers[node - 1].request(request, [memoryview(grad)], deadline_s=10.0),
                    peers[node - 1].request(request, [memoryview(grad)], deadline_s=10.0),
                    peers[node - 1].request(Fetch(shard, node), into=memoryview(params), deadline_s=10.0),
                )
                assert isinstance(pushed, Pushed)
                assert isinstance(again, Pushed)
                assert isinstance(got, Fetched)
                assert (pushed.outcome, again.outcome) == (Outcome.APPLIED, Outcome.REPEATED)
                assert params.min() == params.max() >= before
                before = float(params[0])

        try:
            async with asyncio.TaskGroup() as group:
                for node in (1, 2):
                    for shard in (0, 1):
                        group.create_task(pushing(node, shard))
            assert [state.clock for state in server.table.states()] == [2 * pushes] * 2
            with pytest.raises(RequestFailed, match="got 4 bytes, expected 262144"):
                await peers[0].request(push(99), [memoryview(bytes(4))], deadline_s=10.0)
            memory = memoryview(bytearray(server.table.dump_bytes(size)))
            dumped = await peers[1].request(Dump(0, True), into=memory, deadline_s=10.0)
            assert isinstance(dumped, Dumped)
            taker = ParameterServer(Sum())
            taker.table.install(dumped, memory, 0)
            assert fetched(taker) == (2 * pushes, [3.0 * pushes])
            assert now(taker, push(pushes, node=2), np.ones(size, np.float32)).message == Pushed(0, 2 * pushes, outcome=Outcome.REPEATED)
            with pytest.raises(RequestFailed, match="shard 0 is not served here"):
                await peers[0].request(Fetch(0, 1), deadline_s=10.0)
            assert await peers[0].request(Fence(2), deadline_s=10.0) == Ok()
            with pytest.raises(RequestFailed, match="node 2 is no member"):
                await peers[1].request(push(99, 1, node=2), [memoryview(np.ones(size, np.float32))], deadline_s=10.0)
        finally:
            for peer in peers:
                await peer.close()
            await listener.close()
        assert lines == []
        assert server._copies.used_bytes == 0
        assert not any(vector.readers for shard in server.table._shards.values() for vector in shard.vectors)

    run(main())


@pytest.mark.real
def test_a_peer_that_does_not_read_freezes_what_it_fetched_and_delays_nobody(run: Run) -> None:
    async def main() -> None:
        size = 4 << 20  # more than the kernel takes for one that does not read
        server = ParameterServer(Sum(), inline_elements=0)
        server.table.open(0, np.zeros(size, np.float32))
        listener = Listener(server.handlers(), TOKEN, staging=Staging(64 << 20), payload_limit=1 << 30, log=lambda line: None)
        await listener.start("127.0.0.1", 0)
        slow, quick = Peer(listener.address, TOKEN), Peer(listener.address, TOKEN)
        grad, params, read = np.ones(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
        try:
            await slow.request(Report(), deadline_s=10.0)  # connects
            assert slow._link is not None
            stream = slow._link.transport._stream
            assert stream is not None
            stream.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # does not grow with what comes
            slow._link.transport.hold(True)
            late = asyncio.ensure_future(slow.request(Fetch(0, 1), into=memoryview(params), deadline_s=10.0))
            while not server.table._shards[0].vectors[0].readers:  # noqa: ASYNC110  what is waited for has no event
                await asyncio.sleep(0)
            for sequence in (1, 2, 3):
                await quick.request(push(sequence), [memoryview(grad)], deadline_s=10.0)
            await quick.request(Fetch(0, 1), into=memoryview(read), deadline_s=10.0)
            assert (read.min(), read.max()) == (3.0, 3.0)
            assert server._copies.used_bytes == 4 * size
            slow._link.transport.hold(False)
            assert await late == Fetched(0, 0)
            assert (params.min(), params.max()) == (0.0, 0.0)
        finally:
            await slow.close()
            await quick.close()
            await listener.close()
        assert server._copies.used_bytes == 0

    run(main())
