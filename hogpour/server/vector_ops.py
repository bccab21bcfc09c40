"""The shards of a server as vectors of a batch method: what Sandblaster's coordinator has it do with them.

Beside ``server``, whose turns keep the order of what happens to a shard. Every result is the same however the vectors
are cut (``exact_sums.py``). The sums of an evaluation do not move with a shard: shards move between iterations only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import assert_never

import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.exact_sums import WORDS, add_rounded, combine, exact_dot, exact_magnitude, largest, settle_sums
from hogpour.algos.lbfgs.orthant import align, keep_orthant, pseudo_gradient
from hogpour.core.errors import Refusal, RequestFailed
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
    Ranges,
    Result,
    SettleSums,
)  # fmt: skip
from hogpour.net.requests import Handler, Reply
from hogpour.net.wire.base import Message
from hogpour.net.wire.operate import Operate, Operated, Sum, together
from hogpour.net.wire.push import Outcome, Pushed
from hogpour.server.copies import Replaced
from hogpour.server.server import ParameterServer
from hogpour.server.shard import Shard
from hogpour.server.turns import Running

__all__ = ["Program", "VectorOps"]

Floats = npt.NDArray[np.float32]


class VectorOps:
    """Operations on the shards of a server; compiles them.

    Args:
        server: has the shards; its optimiser's rows are the vectors behind the parameters.
        count: of vectors, the parameters among them.
    """

    def __init__(self, server: ParameterServer, count: int) -> None:
        self._server, self._count = server, count
        self._sequence: dict[int, int] = {}  # shard → of the newest program
        _rehearse()

    def handlers(self) -> dict[type[Message], Handler]:
        """Return what answers each request."""
        return {Operate: self._operate, Sum: self._sum}

    # -- programs

    async def _operate(self, operate: Operate) -> Reply[Operated]:
        """Carry out a program on the shards that are here; answers when all of them have."""
        self._server.table.check_member(operate.node)
        for operation in operate.program:
            if not all(0 <= vector < self._count for vector in operation.vectors):
                raise RequestFailed(Refusal.WRONG, f"{operation}: this shard has vectors 0 to {self._count - 1}")
        return Reply(together(await self._server.table.on_each(operate.shards, partial(self._begin, operate=operate))))

    def _begin(self, shard: Shard, operate: Operate) -> Reply[Operated] | Running[Operated] | None:
        """Carry out a program on a shard, or prepare it for a thread; None where memory must be waited for."""
        shard.check_here()
        newest = self._sequence.get(shard.number, 0)
        if operate.sequence < newest:  # its sender has been answered since, and gone on
            raise RequestFailed(Refusal.WRONG, f"program {operate.sequence} comes after program {newest}")
        replaced = shard.thaw()
        if replaced is None:
            return None
        self._sequence[shard.number] = operate.sequence
        program = Program(shard, operate.program, replaced)
        return shard.turns.run(program, partial(_answer, shard, program), passes=len(operate.program))

    # -- gradients

    def _sum(self, message: Sum, payload: memoryview) -> Reply[Pushed] | Awaitable[Reply[Pushed]]:
        shard = self._server.table.find(message.shard)
        if payload.nbytes != 4 * shard.size or message.block < 0:
            raise RequestFailed(Refusal.WRONG, f"shard {shard.number}: got {payload.nbytes} bytes of block "
                                f"{message.block}, expected {4 * shard.size} of block 0 or a later one")  # fmt: skip
        return shard.turns.at_once(partial(self._begin_sum, shard, message, payload))

    def _begin_sum(self, shard: Shard, message: Sum, payload: memoryview) -> Reply[Pushed] | Running[Pushed]:
        shard.check_here()
        self._server.table.check_member(message.node)
        if message.evaluation > shard.clock:
            raise RequestFailed(Refusal.WRONG, f"shard {shard.number}: at evaluation {shard.clock}, got a block of "
                                f"{message.evaluation}")  # fmt: skip
        addition = shard.add_block(message.evaluation, message.block, np.frombuffer(payload, np.float32))
        if addition is None:
            return Reply(Pushed(shard.number, shard.clock, outcome=Outcome.REPEATED))
        return shard.turns.run(addition, lambda: Reply(Pushed(shard.number, shard.clock)))


class Program:
    """A program on one shard.

    Attributes:
        results: what came of it, see ``Operated``.
    """

    def __init__(self, shard: Shard, program: Sequence[Operation], replaced: Replaced) -> None:
        self._shard, self._program, self._replaced, self.sources = shard, program, replaced, replaced.sources
        self._vectors = [shard.params, *shard.rows]
        self.results: list[Result] = []

    def run(self) -> None:
        """Copy what is frozen, then carry the operations out."""
        self._replaced.fill()
        self.results += [result for result in map(self._carry_out, self._program) if result is not None]

    def _carry_out(self, operation: Operation) -> Result | None:
        """Carry out an operation; return its result, if it has one."""
        vectors, shard = [self._vectors[k] for k in operation.vectors], self._shard
        match operation:
            case Combine():
                combine(vectors[0], [(factor, self._vectors[k]) for factor, k in operation.terms])
            case Dot():
                words = np.zeros(WORDS, np.int64)
                for a, b in self._parts(vectors, operation.ranges):
                    exact_dot(a, b, words)
                return words.tolist()
            case Magnitude():
                words = np.zeros(WORDS, np.int64)
                for (vector,) in self._parts(vectors, operation.ranges):
                    exact_magnitude(vector, words)
                return words.tolist()
            case Largest():
                return float(largest(vectors[0]))
            case Pseudo():
                vectors[0][...] = vectors[2]
                for out, point, gradient in self._parts(vectors, operation.ranges):
                    pseudo_gradient(out, point, gradient, operation.factor)
            case Align():
                for direction, pseudo in self._parts(vectors, operation.ranges):
                    align(direction, pseudo)
            case Orthant():
                for trial, point, pseudo in self._parts(vectors, operation.ranges):
                    keep_orthant(trial, point, pseudo)
            case OpenSums():
                shard.open_evaluation(operation.evaluation, operation.grid, operation.limit)
            case SettleSums():
                return self._settle(operation, *vectors)
            case _:
                assert_never(operation)
        return None

    def _settle(self, settle: SettleSums, out: Floats, point: Floats) -> float:
        """Put the sums of an evaluation into a vector."""
        sums = self._shard.sums
        if sums is None or sums.number != settle.evaluation:
            raise RequestFailed(Refusal.WRONG, f"shard {self._shard.number}: has no sums of evaluation "
                                               f"{settle.evaluation}")  # fmt: skip
        settle_sums(out, sums.total, sums.grid, 0.0, point)
        for part in self._ranges(settle.ranges):
            settle_sums(out[part], sums.total[part], sums.grid, settle.factor, point[part])
        return float(sums.most)

    def _parts(self, vectors: list[Floats], ranges: Ranges | None) -> Iterator[list[Floats]]:
        """Yield what an operation is about of vectors of this shard, part by part."""
        for part in self._ranges(ranges):
            yield [vector[part] for vector in vectors]

    def _ranges(self, ranges: Ranges | None) -> list[slice]:
        """Return which elements of this shard an operation is about."""
        shard = self._shard
        if ranges is None:
            return [slice(0, shard.size)]
        parts = [(max(0, a - shard.start), min(shard.size, b - shard.start)) for a, b in ranges]
        return [slice(a, b) for a, b in parts if a < b]


def _answer(shard: Shard, program: Program) -> Reply[Operated]:
    return Reply(Operated([shard.number], program.results))


def _rehearse() -> None:
    """Run every kernel once, on nothing: compiled in the midst of training, they would stop the event loop."""
    a, b = np.zeros((2, 32), np.float32)
    combine(a, [(1.0, a), (1.0, b)])
    exact_dot(a, b, np.zeros(WORDS, np.int64))
    exact_magnitude(a, np.zeros(WORDS, np.int64))
    pseudo_gradient(a, a, b, 1.0)
    align(a, b)
    keep_orthant(a, a, b)
    total = np.zeros(32, np.int64)
    settle_sums(a, total, 1.0, 1.0, b)
    received = np.frombuffer(bytes(128), np.float32)  # what comes over the wire is read only
    for addend in (a, received):
        largest(addend)
        add_rounded(total, addend, 1.0)
