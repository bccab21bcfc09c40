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

from hogpour.algos.lbfgs.commands import TRIAL, Iteration, Penalty, ResumePoint
from hogpour.algos.lbfgs.minimise import LbfgsOptions
from hogpour.cluster.evaluations import LbfgsDriver
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.core.vector_operations import Combine, Dot, Largest, OpenSums, Result, SettleSums
from hogpour.data.blocks import Blocks
from hogpour.net.wire.base import Message
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.operate import Operate, Operated

GOAL = np.array([1.0, -2.0, 0.5])


class Shard:
    """Carries programs out on (vectors, 3) float64; the objective is half the square of the distance to ``GOAL``, times
    ``scale``."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.vectors = np.zeros((32, 3))
        self.programs: list[Operate] = []
        self.refusals: list[RequestFailed] = []

    @property
    def value(self) -> float:
        return float(0.5 * self.scale * ((self.vectors[TRIAL] - GOAL) ** 2).sum())

    async def request(self, message: Message, payload: Sequence[memoryview] = (), *, into: memoryview | None = None,
                      deadline_s: float, retry: bool = True) -> Message:  # fmt: skip
        assert isinstance(message, Operate)
        if self.refusals:
            raise self.refusals.pop(0)
        self.programs.append(message)
        v, results = self.vectors, list[Result]()
        for operation in message.program:
            match operation:
                case Combine(out, terms):
                    v[out] = sum(factor * v[k] for factor, k in terms)
                case Dot(a, b):
                    results.append(accumulator(float(v[a] @ v[b])))
                case Largest(of):
                    results.append(float(np.abs(v[of]).max()))
                case SettleSums():
                    v[operation.out] = self.scale * (v[TRIAL] - GOAL)
                    results.append(float(np.abs(v[operation.out]).max()))
                case _:
                    assert isinstance(operation, OpenSums)
        return Operated(message.shards, results)


def accumulator(value: float) -> list[int]:
    """Return what a server adds up without rounding, in one limb: 2^350 is 1."""
    return [int(Fraction(value) * 2**350), 0]


class Driven:
    """A driver, its shard, and member 2 that computes all blocks at once."""

    def __init__(self, *, epochs: int = 50, seconds: float = 0.0, scale: float = 1.0, start: ResumePoint | None = None,
                 **rules: Any) -> None:  # fmt: skip
        self.shard = Shard(scale)
        self.iterations: list[Iteration] = []
        self.said: list[str] = []
        self.failed: list[str] = []
        self.driver = LbfgsDriver(
            Blocks(n=8, batch=2, replicas=1, epochs=epochs, count=4), LbfgsOptions(**rules), Penalty(),
            copies=True, share=1.0, seconds=seconds, start=start,
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


async def test_the_evaluations_that_epochs_allow_end_the_run_at_the_point_that_was_reached() -> None:
    async with driven(epochs=2, gradient=0.0, decrease=0.0) as d:
        await d.compute()
        assert d.desk.ledger.evaluation == 2
        assert d.failed == []
        assert d.said[0].endswith("evaluations made: 2, run.epochs = 2 allows no more")
        assert d.shard.value == pytest.approx(d.iterations[-1].value)


async def test_a_run_without_a_first_value_fails_and_says_why() -> None:
    async with driven(epochs=0) as d:
        await d.compute()
        assert d.failed == [f"evaluations made: 0, run.epochs = 0 allows no more{AGAIN}"]


AGAIN = ("; the first point is evaluated again, since its gradients are not within 2^10 and 2^-18: allow 1 or more, or "
         "scale the data")  # fmt: skip


async def test_a_bound_of_time_ends_the_run_after_an_iteration() -> None:
    async with driven(seconds=1e-9) as d:
        await d.compute()
        assert [one.number for one in d.iterations] == [0]
        assert d.said == ["ended after iteration 0: no more time than 1e-09 s"]


async def test_who_waits_for_the_lock_has_the_shards_between_two_iterations() -> None:
    async with driven() as d:
        await settle()
        assert d.driver.still.locked()

        async def look() -> int:
            async with d.driver.still:
                return len(d.iterations)

        looking = asyncio.ensure_future(look())
        await d.compute()
        assert await looking == 1, "after the first, before the second"


async def test_an_evaluation_whose_addends_are_beyond_its_grid_is_made_again() -> None:
    """Sums are of multiples of a grid that the addends of the evaluation before suggest."""
    async with driven(scale=2.0**20) as d:
        await d.compute()
        grids = [work.grid for one in d.shard.programs for work in one.program if isinstance(work, OpenSums)]
        assert grids[1] == pytest.approx(grids[0] * 2.0**21, rel=1.0)
        assert d.desk.ledger.evaluation > len(d.iterations)
        np.testing.assert_allclose(d.shard.vectors[TRIAL], GOAL)


async def test_the_end_of_the_run_lets_the_driver_go_in_the_midst_of_an_evaluation() -> None:
    async with driven() as d:
        await settle()
        d.desk.end(failed=True)
        await d.running
        assert (d.failed, d.said, d.iterations) == ([], [], [])


async def test_a_run_that_goes_on_begins_with_its_evaluation_and_its_grid() -> None:
    async with driven(iterations=1) as d:
        await d.compute()
        state = d.iterations[-1].state
    async with driven(start=state) as other:
        other.shard.vectors[:] = d.shard.vectors
        await other.compute()
        opened = [work for one in other.shard.programs for work in one.program if isinstance(work, OpenSums)]
        assert (other.iterations[0].number, opened[0].evaluation) == (state.iteration, state.evaluation + 1)
        assert opened[0].limit == 2.0 ** (np.frexp(state.addend)[1] + 10)
