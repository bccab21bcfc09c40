"""The shards of a server as vectors: programs, and sums of blocks; the same however the model is cut."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from hogpour.algos.lbfgs.commands import TRIAL
from hogpour.algos.lbfgs.commands import Vectors as Rule
from hogpour.algos.lbfgs.exact_sums import value_of
from hogpour.core.errors import RequestFailed
from hogpour.core.vector_operations import (
    Align,
    Combine,
    Dot,
    Largest,
    Magnitude,
    OpenSums,
    Operation,
    Orthant,
    Pseudo,
    SettleSums,
    _Operation,
)  # fmt: skip
from hogpour.net.requests import Reply
from hogpour.net.wire.operate import Operate, Sum
from hogpour.net.wire.push import Outcome
from hogpour.net.wire.status import Fence
from hogpour.server.server import ParameterServer
from hogpour.server.vector_ops import Program, VectorOps

N, MEMORY = 64, 2
ROWS = 4 + 2 * MEMORY
POINT, GRADIENT = 1, 2


class Served:
    """A server of a vector that is cut into shards; knows no other node."""

    def __init__(self, cuts: tuple[int, ...] = ()) -> None:
        self.bounds = (0, *cuts, N)
        self.server = ParameterServer(Rule(MEMORY))
        self.vectors = VectorOps(self.server, 1 + ROWS)
        values = np.random.default_rng(0).standard_normal((1 + ROWS, N)).astype(np.float32)
        for shard, (start, stop) in enumerate(zip(self.bounds, self.bounds[1:])):
            arrays = [row[start:stop].copy() for row in values]
            self.server.table.open(shard, arrays[0], arrays[1:], start=start)
        self.sequence = 0

    async def operate(self, *program: Operation, sequence: int = 0, shards: Any = None) -> list[float]:
        self.sequence += 1
        shards = list(range(len(self.bounds) - 1)) if shards is None else shards
        answer = (await self.vectors._operate(Operate(0, sequence or self.sequence, shards, list(program)))).message
        assert answer.shards == [shard for shard in shards if self.server.table.serves(shard)]
        return [value_of(one) if isinstance(one, list) else one for one in answer.results]

    async def open(self, number: int = 1, limit: float = 1e6) -> None:
        await self.operate(OpenSums(number, 2.0**-40, limit))

    async def add(self, block: int, gradient: np.ndarray, number: int = 1, node: int = 7) -> list[Outcome]:
        outcomes = []
        for shard, (start, stop) in enumerate(zip(self.bounds, self.bounds[1:])):
            reply = self.vectors._sum(Sum(shard, node, number, block), memoryview(gradient[start:stop].tobytes()))
            reply = await reply if isinstance(reply, Awaitable) else reply
            assert isinstance(reply, Reply)
            outcomes.append(reply.message.outcome)
        return outcomes

    def vector(self, number: int) -> np.ndarray:
        parts = [self.server.table._shards[k].vectors[number].array for k in range(len(self.bounds) - 1)]
        return np.concatenate(parts)


@pytest.mark.parametrize("cuts", [(), (16,), (16, 32, 48)])
async def test_a_program_comes_to_the_same_however_the_vector_is_cut(cuts: tuple[int, ...]) -> None:
    whole, cut = Served(), Served(cuts)
    program = [
        Combine(4, ((0.5, POINT), (-3.0, GRADIENT))),
        Dot(4, 5),
        Dot(4, 4, ((16, 48),)),
        Largest(4),
    ]
    assert await cut.operate(*program) == await whole.operate(*program)
    assert cut.vector(4).tobytes() == whole.vector(4).tobytes()


@pytest.mark.parametrize("cuts", [(16,), (16, 32, 48)])
async def test_operations_of_l1_come_to_the_same_however_the_vector_is_cut(cuts: tuple[int, ...]) -> None:
    whole, cut = Served(), Served(cuts)
    program = [
        Pseudo(4, POINT, GRADIENT, 0.5, ((0, 24), (32, 56),)),
        Align(5, 4, ((8, 40),)),
        Orthant(TRIAL, POINT, 4, ((8, 40),)),
        Magnitude(TRIAL, ((0, 40), (48, 64),)),
        Dot(TRIAL, 4),
    ]
    before = Served()
    assert await cut.operate(*program) == await whole.operate(*program)
    for number in (TRIAL, 4, 5):
        assert cut.vector(number).tobytes() == whole.vector(number).tobytes()
    assert whole.vector(4)[24:32].tolist() == whole.vector(GRADIENT)[24:32].tolist()
    for number in (TRIAL, 5):
        changed = whole.vector(number) != before.vector(number)
        assert changed[8:40].any()
        assert not changed[:8].any()
        assert not changed[40:].any()


class Negate(_Operation, frozen=True):
    """out = -of. Results in its first element's magnitude."""

    out: int
    of: int

    @property
    def vectors(self) -> tuple[int, ...]:
        return self.out, self.of


async def test_an_operation_needs_its_struct_and_its_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is about is looked at, and what comes of it is put together over shards, without a word of it."""
    carry_out = Program._carry_out

    def with_an_arm(self: Program, operation: Any) -> Any:
        match operation:
            case Negate():
                out, of = (self._vectors[k] for k in operation.vectors)
                out[...] = -of
                return float(abs(of[0]))
        return carry_out(self, operation)

    monkeypatch.setattr(Program, "_carry_out", with_an_arm)
    negate: Any = msgspec.msgpack.decode(msgspec.msgpack.encode(Negate(4, POINT)), type=Operation | Negate)
    for cuts in (), (16, 32, 48):
        served = Served(cuts)
        point = served.vector(POINT).copy()
        assert await served.operate(negate, Largest(4)) == [abs(point[[0, *cuts]]).max(), abs(point).max()]
        assert served.vector(4).tobytes() == (-point).tobytes()
        with pytest.raises(RequestFailed, match=re.escape(f"this shard has vectors 0 to {ROWS}")):
            await served.operate(cast(Any, Negate(99, POINT)))


async def test_blocks_are_summed_in_any_order_and_once() -> None:
    gradients = np.random.default_rng(1).standard_normal((3, N)).astype(np.float32)
    results = []
    for order, cuts in (((0, 1, 2), ()), ((2, 0, 1), (32,))):
        served = Served(cuts)
        await served.open()
        for block in order:
            assert set(await served.add(block, gradients[block])) == {Outcome.APPLIED}
        assert set(await served.add(1, gradients[1])) == {Outcome.REPEATED}
        largest = await served.operate(SettleSums(1, 3, TRIAL, 0.1, ((0, 32),)))
        assert largest == [np.abs(gradients).max()]
        results.append(served.vector(3).tobytes())
    assert results[0] == results[1]
    decayed = np.where(np.arange(N) < 32, 0.1, 0.0) * Served().vector(TRIAL)
    found = np.frombuffer(results[0], np.float32)
    assert found == pytest.approx(gradients.sum(0) + decayed, rel=1e-5, abs=1e-6)


async def test_a_block_of_another_evaluation_is_not_added() -> None:
    served = Served()
    await served.open(1)
    await served.open(2)
    assert await served.add(0, np.ones(N, np.float32), number=1) == [Outcome.REPEATED]
    with pytest.raises(RequestFailed, match="at evaluation 2, got a block of 3"):
        await served.add(0, np.ones(N, np.float32), number=3)
    await served.operate(SettleSums(2, 3, TRIAL, 0.0, ()))
    assert not served.vector(3).any()
    with pytest.raises(RequestFailed, match="has no sums of evaluation 1"):
        await served.operate(SettleSums(1, 3, TRIAL, 0.0, ()))


async def test_an_opening_that_comes_twice_keeps_what_was_added() -> None:
    served = Served()
    await served.open()
    await served.add(0, np.ones(N, np.float32))
    await served.open()
    await served.operate(SettleSums(1, 3, TRIAL, 0.0, ()))
    assert served.vector(3).tolist() == [1.0] * N


async def test_an_addend_that_does_not_fit_is_told_and_not_added() -> None:
    served = Served()
    await served.open(limit=10.0)
    await served.add(0, np.full(N, 11.0, np.float32))
    await served.add(1, np.full(N, np.nan, np.float32))
    assert (await served.operate(SettleSums(1, 3, TRIAL, 0.0, ()))) == [np.inf]
    assert not served.vector(3).any()


async def test_a_program_that_comes_late_is_refused_and_the_newest_may_come_twice() -> None:
    served = Served()
    work = Combine(4, ((2.0, POINT),))
    await served.operate(work, sequence=5)
    await served.operate(work, sequence=5)
    with pytest.raises(RequestFailed, match="program 4 comes after program 5"):
        await served.operate(work, sequence=4)


async def test_a_reader_sees_a_vector_as_it_was() -> None:
    from hogpour.net.wire.fetch import Fetch

    served = Served()
    before = served.vector(TRIAL).tobytes()
    reply = served.server._fetch(Fetch(0, 7))
    await served.operate(Combine(TRIAL, ((1.0, POINT),)))
    assert bytes(reply.payload[0]) == before  # type: ignore[union-attr]
    assert served.vector(TRIAL).tobytes() != before


async def test_what_makes_no_sense_is_refused() -> None:
    served = Served()
    for work in (Dot(0, -1), Largest(1 + ROWS), Combine(0, ((1.0, 1 + ROWS),))):
        with pytest.raises(RequestFailed, match=rf"^{re.escape(str(work))}: this shard has vectors 0 to {ROWS}$"):
            await served.operate(work)
    await served.open()
    with pytest.raises(RequestFailed, match="got 4 bytes of block 0, expected 256"):
        served.vectors._sum(Sum(0, 7, 1, 0), memoryview(bytes(4)))
    served.server._fence(Fence(7))
    with pytest.raises(RequestFailed, match="must join again"):
        await served.add(0, np.ones(N, np.float32))
    with pytest.raises(RequestFailed, match="not served here"):
        served.vectors._sum(Sum(3, 7, 1, 0), memoryview(bytes(4)))


def test_a_combination_of_nothing_does_not_arrive() -> None:
    """What comes before it in a program would be done, and it would fail in the kernel."""
    with pytest.raises(msgspec.ValidationError, match="length >= 1"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(Combine(0, ())), type=Operation)


@pytest.mark.parametrize(("dots", "expected"), [(4, []), (5, ["thread"])])
async def test_a_long_program_on_a_small_shard_is_left_to_a_thread(dots: int, expected: list[str]) -> None:
    """Six hundred inner products of a shard of 2^17 stopped the event loop for 125 ms."""
    served, threads = Served(), []
    served.server.table._shards[0].turns._inline_elements = 4 * N
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Named(threads))
    await served.operate(*[Dot(4, 5)] * dots)
    assert threads == expected


class Named(ThreadPoolExecutor):
    """Notes what it is given."""

    def __init__(self, given: list[str]) -> None:
        super().__init__(1)
        self._given = given

    def submit(self, *arguments: Any, **named: Any) -> Any:
        self._given.append("thread")
        return super().submit(*arguments, **named)


async def test_a_large_shard_is_worked_on_in_a_thread_and_comes_to_the_same() -> None:
    served, threaded = Served(), Served()
    threaded.server.table._shards[0].turns._inline_elements = 0
    gradient = np.random.default_rng(1).standard_normal(N).astype(np.float32)
    for one in (served, threaded):
        await one.open()
        await one.add(0, gradient)
        await one.operate(SettleSums(1, 3, TRIAL, 0.5, ((0, 64),)), Dot(3, 3))
    assert served.vector(3).tobytes() == threaded.vector(3).tobytes()
