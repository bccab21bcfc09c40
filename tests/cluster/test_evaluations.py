"""What drives L-BFGS, with a server that has one shard of three elements and members that the test speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.cluster import settle

from hogpour.algos.lbfgs.commands import TRIAL, Iteration, Penalty
from hogpour.algos.lbfgs.minimise import LbfgsOptions
from hogpour.cluster.evaluations import LbfgsDriver
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.data.blocks import Blocks
from hogpour.net.wire.base import Message
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.operate import COMBINE, DOT, LARGEST, OPEN, SETTLE, Operate, Operated

GOAL = np.array([1.0, -2.0, 0.5])


class Shard:
    """Carries programs out on (vectors, 3) float64; the objective is half the square of the distance to ``GOAL``."""

    def __init__(self) -> None:
        self.vectors = np.zeros((32, 3))
        self.programs: list[Operate] = []
        self.refusals: list[RequestFailed] = []

    @property
    def value(self) -> float:
        return float(0.5 * ((self.vectors[TRIAL] - GOAL) ** 2).sum())

    async def request(self, message: Message, payload: Sequence[memoryview] = (), *, into: memoryview | None = None,
                      deadline_s: float, retry: bool = True) -> Message:  # fmt: skip
        assert isinstance(message, Operate)
        if self.refusals:
            raise self.refusals.pop(0)
        self.programs.append(message)
        v, words, largest = self.vectors, list[list[int]](), list[float]()
        for work in message.program:
            if work.kind == COMBINE:
                out, *of = work.vectors
                v[out] = sum(factor * v[k] for factor, k in zip(work.factors, of, strict=True))
            elif work.kind == DOT:
                words.append(accumulator(float(v[work.vectors[0]] @ v[work.vectors[1]])))
            elif work.kind == LARGEST:
                largest.append(float(np.abs(v[work.vectors[0]]).max()))
            elif work.kind == SETTLE:
                v[work.vectors[0]] = v[TRIAL] - GOAL
                largest.append(float(np.abs(v[work.vectors[0]]).max()))
            else:
                assert work.kind == OPEN
        return Operated(message.shards, words, largest)


def accumulator(value: float) -> list[int]:
    """Return what a server adds up without rounding, in one limb: 2^350 is 1."""
    return [int(Fraction(value) * 2**350), 0]


class Driven:
    """A driver, its shard, and member 2 that computes all blocks at once."""

    def __init__(self, *, epochs: int = 50, **rules: Any) -> None:
        self.shard = Shard()
        self.iterations: list[Iteration] = []
        self.said: list[str] = []
        self.failed: list[str] = []
        self.driver = LbfgsDriver(
            Blocks(n=8, batch=2, replicas=1, epochs=epochs, count=4), LbfgsOptions(**rules), Penalty(),
            copies=True, share=1.0, seconds=0.0,
            shard_map=lambda: ShardMap(1, (0, 3), (1,), ("",)), peers=lambda _: self.shard,
            log=self.said.append, fail=self.failed.append, on_iteration=self.iterations.append,
        )  # fmt: skip
        self.desk = self.driver.desk
        self.running = asyncio.ensure_future(self.driver.run(1))

    async def compute(self) -> None:
        """Do blocks until there are no more."""
        for _ in range(1000):
            await settle()
            tickets = self.desk.ledger.grant(2, (), 4)
            self.desk.report(Lease(2, [], tickets, 0, [2 * self.shard.value] * len(tickets)))  # two of eight examples
            if self.running.done():
                return
        raise AssertionError("the run does not end")


@asynccontextmanager
async def driven(**rules: Any) -> AsyncIterator[Driven]:
    one = Driven(**rules)
    try:
        yield one
        one.desk.end()
        await one.running
    finally:
        one.running.cancel()
        await asyncio.wait([one.running])
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_minimum_is_found_and_the_shard_is_left_there() -> None:
    async with driven() as d:
        await d.compute()
        np.testing.assert_allclose(d.shard.vectors[TRIAL], GOAL)
        assert d.iterations[0].value == pytest.approx(0.5 * GOAL @ GOAL)
        assert [one.number for one in d.iterations] == list(range(len(d.iterations)))
        assert (d.failed, d.desk.ledger.finished, d.driver.newest) == ([], True, d.iterations[-1])
        assert d.said == [f"ended after iteration {len(d.iterations) - 1}: no element of the gradient is above 1e-06"]


@pytest.mark.parametrize("code", [Refusal.BUSY, Refusal.MOVED])
async def test_a_server_that_cannot_at_the_moment_is_asked_again(code: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard has 1,024 requests at most that wait for it; the 1,025th was the end of a run."""
    monkeypatch.setattr("hogpour.cluster.every_shard._AGAIN_S", 0.0)
    async with driven() as d:
        d.shard.refusals = [RequestFailed(code, "shard 0: 1024 requests wait for it")] * 3
        await d.compute()
        assert (d.failed, d.shard.refusals) == ([], [])
        np.testing.assert_allclose(d.shard.vectors[TRIAL], GOAL)


async def test_a_server_that_refuses_a_program_ends_the_run_and_is_named_once() -> None:
    async with driven() as d:
        d.shard.refusals = [RequestFailed(Refusal.WRONG, "shard 0: has no vector 9")]
        await d.compute()
        assert d.failed == ["program 1 cannot be carried out: shard 0: has no vector 9"]
        assert (d.desk.failed, d.desk.ended, d.iterations) == (True, True, [])
