"""What the tests of the parameter server share: a rule that adds, kernels that wait, and requests in short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.errors import RequestFailed
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Push
from hogpour.server.server import ParameterServer

SIZE = 32
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sum(Optimiser):
    """Adds up what is pushed, and in a row the squares; keeps a list of its calls."""

    state = (Row("squares", per="node"),)
    lr: float = 1.0
    calls: list[int] = field(default_factory=list)
    fail: list[Exception] = field(default_factory=list)

    def apply(self, params, grad, state, *, lr_scale, t):  # type: ignore[no-untyped-def]
        if self.fail:
            raise self.fail.pop()
        self.calls.append(t)
        params += grad * np.float32(lr_scale)
        state[0][...] += grad * grad


class Kernels:
    """Stands for the executor of the running loop: a kernel runs when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self.closed = False

    def run_in_executor(self, executor: None, kernel: Callable[[], None]) -> asyncio.Future[None]:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((kernel, future))
        return future

    async def finish(self) -> None:
        """Run the oldest kernel that waits, and let everybody hear of it."""
        kernel, future = self.waiting.pop(0)
        try:
            kernel()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        await settle()


async def settle() -> None:
    """Let everything run that is ready."""
    for _ in range(5):
        await asyncio.sleep(0)


def served(optimiser: Optimiser | None = None, shards: int = 1, *, inline: bool = True, **options: Any) -> ParameterServer:
    """A server of shards of zeros, 0 up to ``shards``."""
    server = ParameterServer(optimiser or Sum(), inline_elements=SIZE if inline else 0, **options)
    for shard in range(shards):
        server.table.open(shard, np.zeros(SIZE, np.float32), start=SIZE * shard)
    return server


def call(server: ParameterServer, message: Message, payload: Floats | None = None) -> Reply | Awaitable[Reply]:
    handler = server.handlers()[type(message)]
    if not message.PAYLOAD:
        return handler(message)
    return handler(message, memoryview(b"" if payload is None else payload).cast("B"))


def now(server: ParameterServer, message: Message, payload: Floats | None = None) -> Reply:
    """The reply of a handler that does not wait."""
    reply = call(server, message, payload)
    assert isinstance(reply, Reply)
    return reply


async def soon(server: ParameterServer, message: Message, payload: Floats | None = None) -> Reply:
    """What a task of the listener does with a request."""
    reply = call(server, message, payload)
    return reply if isinstance(reply, Reply) else await reply


def push(sequence: int = 1, shard: int = 0, *, node: int = 1, replica: int = 0, clock: int = 0, steps: int = 1,
         scale: float = 1.0) -> Push:  # fmt: skip
    return Push(shard, node, replica, sequence, clock, steps, scale)


def ones(value: float = 1.0) -> Floats:
    return np.full(SIZE, value, np.float32)


def values(reply: Reply, part: int = 0) -> list[float]:
    """The elements of a payload that are different."""
    return sorted(set(np.frombuffer(reply.payload[part], np.float32).tolist()))


def sent(reply: Reply) -> Reply:
    assert reply.sent is not None
    reply.sent()
    return reply


def fetched(server: ParameterServer, shard: int = 0) -> tuple[int, list[float]]:
    """Clock and elements of a shard now."""
    reply = sent(now(server, Fetch(shard, 1)))
    assert isinstance(reply.message, Fetched)
    return reply.message.clock, values(reply)


def refused(server: ParameterServer, message: Message, payload: Floats | None = None) -> tuple[str, str]:
    with pytest.raises(RequestFailed) as caught:
        call(server, message, payload)
    return caught.value.code, str(caught.value)


