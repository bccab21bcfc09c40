"""What a server process takes beside the parameters: optimiser rows, and a quarter of both, and 64 MB."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hogpour.core.shard_map import cut
from hogpour.net.peer import Peer
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Push, Pushed

ROOT = Path(__file__).parents[2]
TOKEN = b"of tests, and of nobody else"
MB = 1 << 20
ELEMENTS, SHARD_BYTES = 16 * MB, 4 * MB
SHARDS = len(cut(ELEMENTS, SHARD_BYTES)) - 1
ROUNDS = 6

SERVER = """
import asyncio, os, sys
import numpy as np
from hogpour.core import host
host.set_kernel_cache()
from hogpour.algos.optim.adagrad import Adagrad
from hogpour.algos.optim.sgd import Sgd
from hogpour.net.listener import Listener
from hogpour.net.staging import Staging
from hogpour.server.server import ParameterServer
from hogpour.core.shard_map import LARGEST_SHARD_BYTES, cut

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main(token, elements, shard_bytes, rule):
    server = ParameterServer({"sgd": Sgd, "adagrad": Adagrad}[rule](0.1))
    listener = Listener(server.handlers(), token, staging=Staging(32 << 20), payload_limit=LARGEST_SHARD_BYTES, log=print)
    await listener.start("127.0.0.1", 0)
    before = most = resident()
    bounds = cut(elements, shard_bytes)
    for shard, (a, b) in enumerate(zip(bounds, bounds[1:])):
        server.table.open(shard, np.zeros(b - a, np.float32), start=a)
    print(listener.address, flush=True)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(0, ended.set)
    while not ended.is_set():
        most = max(most, resident())
        try:
            await asyncio.wait_for(ended.wait(), 0.005)
        except TimeoutError:
            pass
    loop.remove_reader(0)
    await listener.close()
    print(most - before, sum(state.pushes for state in server.table.states()), flush=True)

def run():
    token, elements, shard_bytes, rule, loop = sys.argv[1:]
    factory = __import__("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(token.encode(), int(elements), int(shard_bytes), rule))

run()
"""


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize(("rule", "rows"), [("sgd", 0), ("adagrad", 1)])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_server_takes_its_parameters_its_rows_and_a_quarter_of_that_more(loop: str, rule: str, rows: int) -> None:
    """64 MB of parameters, two clients that push and fetch all shards at once; memory is looked at all the time. With
    staging and copies unbounded it grows by 190 MB under uvloop (SGD), and the test fails."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("/proc does not tell the memory of a process")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, TOKEN.decode(), str(ELEMENTS), str(SHARD_BYTES), rule, loop],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdin is not None
        address = server.stdout.readline().strip()
        asyncio.run(asyncio.wait_for(load(address), 60))
        server.stdin.write("\n")
        server.stdin.flush()
        grown, pushes = map(int, server.stdout.readline().split())
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.communicate()
    state = 4 * ELEMENTS * (1 + rows)
    assert pushes == 2 * ROUNDS * SHARDS
    assert state <= grown <= 1.25 * state + 64 * MB, f"{grown / MB:.0f} MB for {state / MB:.0f} MB of parameters and rows"


async def load(address: str) -> None:
    bounds = cut(ELEMENTS, SHARD_BYTES)
    grad = np.ones(SHARD_BYTES // 4, np.float32)

    async def client(node: int) -> None:
        peer = Peer(address, TOKEN)
        params = np.empty(ELEMENTS, np.float32)

        async def push(shard: int, sequence: int) -> None:
            part = memoryview(grad[: bounds[shard + 1] - bounds[shard]])
            answer = await peer.request(Push(shard, node, 0, sequence, 0, 1, 1.0), [part], deadline_s=30.0)
            assert isinstance(answer, Pushed)

        async def fetch(shard: int) -> None:
            part = memoryview(params[bounds[shard] : bounds[shard + 1]])
            assert isinstance(await peer.request(Fetch(shard, node), into=part, deadline_s=30.0), Fetched)

        try:
            for sequence in range(1, ROUNDS + 1):
                await asyncio.gather(*(work for k in range(SHARDS) for work in (push(k, sequence), fetch(k))))
        finally:
            await peer.close()

    await asyncio.gather(client(1), client(2))
