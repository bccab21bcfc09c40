"""The coordinator's part in batch methods: drives iterations, one evaluation of the whole batch after the other.

It holds no vectors. What the state machine (``lbfgs/minimise.py``) says is done on the shards, by programs that servers
carry out; what an evaluation needs is computed by members that lease its blocks (``client.block_sums``). Of every block
come back a loss, here, and a gradient, on the shards. So what passes here does not grow with the number of parameters.

An evaluation in the order of its messages:

    coordinator → servers    Operate: the trial point; sums are empty from here on
    member ← coordinator     Leased: blocks; the first of an evaluation has the member fetch the trial point, once
    member → every shard     Sum: the gradient of a block
    member → coordinator     Lease: the block is done, every shard has it; its loss
    coordinator → servers    Operate, when all are done: the gradient, and inner products with it

A member that dies before the fourth has its blocks done again; shards that had them do not add them twice. Shards move
between two iterations only (``still``), since their sums would stay behind.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from hogpour.algos.lbfgs.commands import (
    POINT,
    TRIAL,
    TRIAL_GRADIENT,
    Evaluate,
    Evaluated,
    Iteration,
    Penalty,
    ResumePoint,
)
from hogpour.algos.lbfgs.exact_sums import value_of
from hogpour.algos.lbfgs.minimise import LbfgsOptions, Minimising, minimise
from hogpour.cluster.evaluation_ledger import EvaluationLedger
from hogpour.cluster.every_shard import ask_every_shard
from hogpour.cluster.lease_desk import EvaluationDesk
from hogpour.core.errors import RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.core.vector_operations import Combine, Dot, OpenSums, Operation, SettleSums
from hogpour.data.blocks import Blocks
from hogpour.net.requests import Requests
from hogpour.net.wire.operate import Operate, together

__all__ = ["LbfgsDriver"]

_PROGRAM_S = 60.0
"""For a server to carry out a program. One that is dead ends the run long before, by its lease."""

_GROWTH_BITS = 10
"""Addends of an evaluation may be 2^10 times as large as those of the one before; beyond, it is made again."""

_LOSS_BITS = 18
"""Where they are as many times smaller it is made again, too: the grid has 62 bits less these, those of the growth and
those of the number of blocks for the largest addend, far more than the 24 of a float32."""

_INT_BITS = 62

_LEAST = 2.0**-149
"""Of the addends that a grid is made for: the least float32."""


class _Ended(Exception):
    """The run ends before the evaluation did."""


class LbfgsDriver:
    """Drives one run.

    Args:
        blocks: how the examples are cut.
        rules: of the method.
        penalty: that is added to the mean loss.
        copies, share: see ``EvaluationLedger``.
        seconds: ends after the iteration that so much time passes in; 0: no bound.
        shard_map: returns the newest one.
        peers: whom to ask at an address.
        log: told what happened, a line each time.
        fail: told why the cluster cannot go on.
        on_iteration: called with each iteration.
        start: where a run that goes on begins; None: a new one.

    Attributes:
        desk: where members are given blocks. When it has failed, shards may be left in the midst of an iteration.
        still: held while an iteration is made.
        newest: the last iteration; None before there is one.
    """

    def __init__(
        self,
        blocks: Blocks,
        rules: LbfgsOptions,
        penalty: Penalty,
        *,
        copies: bool,
        share: float,
        seconds: float,
        shard_map: Callable[[], ShardMap],
        peers: Callable[[str], Requests],
        log: Callable[[str], None],
        fail: Callable[[str], None],
        on_iteration: Callable[[Iteration], None],
        start: ResumePoint | None = None,
    ) -> None:
        evaluation = start.evaluation if start is not None else 0
        self.desk = EvaluationDesk(EvaluationLedger(blocks, evaluation, copies=copies, share=share))
        self.still = asyncio.Lock()
        self.newest: Iteration | None = None
        self._addend = start.addend if start is not None else 1.0
        self._blocks, self._rules, self._penalty, self._seconds = blocks, rules, penalty, seconds
        self._map, self._peers, self._log, self._fail, self._on_iteration = shard_map, peers, log, fail, on_iteration
        self._start = start
        self._sequence, self._node, self._began = 0, 0, 0.0

    async def run(self, node: int) -> None:
        """Make iterations until one of the rules ends the run, or the epochs are used up; called once.

        Args:
            node: incarnation of the coordinator's own node.
        """
        self._node = node
        self._began = asyncio.get_running_loop().time()
        machine = minimise(self._rules, self._start)
        try:
            while True:
                async with self.still:
                    self.newest = await self._iterate(machine)
                    self._on_iteration(self.newest)
                await asyncio.sleep(0)  # whoever waits for this moment has it
        except _Ended as end:
            why = str(end)
        except BaseException:
            self.desk.end(failed=True)
            raise
        if self.newest is None:
            if not self.desk.ended:
                self._fail(why)
        elif not self.desk.failed:
            with suppress(_Ended):  # what nodes fetch is what was tried last; what counts is what was reached
                await self._operate([Combine(TRIAL, ((1.0, POINT),))])
            if not self.desk.ended:
                self._log(f"ended after iteration {self.newest.number}: {why}")
                self.desk.ledger.finished = True
        self.desk.end()

    async def _iterate(self, machine: Minimising) -> Iteration:
        """Have shards and members do what the machine says up to its next iteration."""
        result: Evaluated | list[float] | bool | None = None
        if self.newest is not None:
            result = not self._seconds or asyncio.get_running_loop().time() - self._began < self._seconds
        while True:
            try:
                command = machine.send(result)
            except StopIteration as end:
                why = f"no more time than {self._seconds:g} s" if end.value == "stopped" else end.value
                raise _Ended(why) from None
            if isinstance(command, Iteration):
                state = replace(command.state, evaluation=self.desk.ledger.evaluation, addend=self._addend)
                return replace(command, state=state)
            result = await (self._evaluate(command) if isinstance(command, Evaluate) else self._operate(command))

    async def _evaluate(self, command: Evaluate) -> Evaluated:
        """Evaluate the objective, again where the grid of its sums did not fit."""
        ledger, penalty = self.desk.ledger, self._penalty
        while True:
            self._check_running()
            if ledger.evaluation >= self._blocks.epochs:
                raise _Ended(self._spent())
            grid, limit = self._grid()
            number = ledger.evaluation + 1
            await self._operate([*command.before, OpenSums(number, grid, limit)])
            # No deadline: a dead member's blocks are done by others, as long as there are any.
            await self.desk.open(command.subset)
            self._check_running()
            factor = penalty.factor * ledger.part
            settle = SettleSums(number, TRIAL_GRADIENT, TRIAL, factor, penalty.ranges)
            squares = Dot(TRIAL, TRIAL, penalty.ranges)
            most, squared, *results = await self._operate([settle, squares, *command.after])
            value = ledger.loss + 0.5 * factor * squared
            if not math.isfinite(most):  # gradients of examples that overflow: as bad as a loss that does
                return Evaluated(math.inf, results)
            fits, assumed = most <= limit, self._addend
            self._addend = max(most, _LEAST)
            if (fits and most >= assumed * 2.0**-_LOSS_BITS) or not most:
                return Evaluated(value, results)

    def _check_running(self) -> None:
        if self.desk.ended:
            raise _Ended("stopped")

    def _spent(self) -> str:
        """Say that run.epochs allows no further evaluation."""
        made, most = self.desk.ledger.evaluation, self._blocks.epochs
        text = f"evaluations made: {made}, run.epochs = {most} allows no more"
        if self.newest is not None:
            return text
        return (f"{text}; the first point is evaluated again, since its gradients are not within 2^{_GROWTH_BITS} and "
                f"2^-{_LOSS_BITS}: allow {most + 1} or more, or scale the data")  # fmt: skip

    def _grid(self) -> tuple[float, float]:
        """Return the grid of the next sums, and the largest addend that fits."""
        room = math.frexp(self._addend)[1] + _GROWTH_BITS
        bits = max(0, (self._blocks.n_blocks - 1).bit_length())
        return 2.0 ** (room + bits - _INT_BITS), 2.0**room

    async def _operate(self, program: list[Operation]) -> list[float]:
        if not program:
            return []
        self._sequence += 1
        try:
            answers = await ask_every_shard(
                self._map, self._peers, lambda shards: Operate(self._node, self._sequence, shards, program),
                what=f"program {self._sequence}", deadline_s=_PROGRAM_S, log=self._log,
                wanted=lambda: not self.desk.failed,
            )  # fmt: skip
        except RequestFailed as error:
            if not self.desk.failed:
                self.desk.end(failed=True)
                self._fail(str(error))
            raise _Ended(str(error)) from error
        return [value_of(one) if isinstance(one, list) else one for one in together(answers).results]
