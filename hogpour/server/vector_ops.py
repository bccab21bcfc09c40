"""The shards of a server as vectors of a batch method: what Sandblaster's coordinator has it do with them.

Beside ``server``, whose turns keep the order of what happens to a shard. Every result is the same however the vectors
are cut (``exact_sums.py``). The sums of an evaluation do not move with a shard: shards move between iterations only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.exact_sums import WORDS, add_rounded, combine, exact_dot, exact_magnitude, largest, settle_sums
from hogpour.algos.lbfgs.orthant import align, keep_orthant, pseudo_gradient
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.requests import Handler, Reply
from hogpour.net.wire.base import Message
from hogpour.net.wire.operate import (
    ALIGN,
    COMBINE,
    DOT,
    LARGEST,
    MAGNITUDE,
    OPEN,
    ORTHANT,
    PSEUDO,
    SETTLE,
    Operate,
    Operated,
    Sum,
    Work,
    together,
)
from hogpour.net.wire.push import REPEATED, Pushed
from hogpour.server.copies import Replaced
from hogpour.server.server import ParameterServer
from hogpour.server.shard import Shard
from hogpour.server.turns import Running

__all__ = ["Program", "VectorOps"]

Floats = npt.NDArray[np.float32]

_VECTORS = {COMBINE: (2, 1 << 16), DOT: (2, 2), LARGEST: (1, 1), OPEN: (0, 0), SETTLE: (2, 2), MAGNITUDE: (1, 1),
            PSEUDO: (3, 3), ALIGN: (2, 2), ORTHANT: (3, 3)}  # fmt: skip
"""Vectors of each operation, at least and at most."""

_FACTORS = {OPEN: 2, SETTLE: 1, PSEUDO: 1}
"""Factors of those that have some; a combination has one for each of its terms."""


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
        self._server.check_member(operate.node)
        for work in operate.program:
            self._check(work)
        return Reply(together(await self._server.on_each(operate.shards, partial(self._begin, operate=operate))))

    def _check(self, work: Work) -> None:
        n, wanted = len(work.vectors), _VECTORS.get(work.kind)
        factors = n - 1 if work.kind == COMBINE else _FACTORS.get(work.kind, 0)
        if (wanted is None or not wanted[0] <= n <= wanted[1] or len(work.factors) != factors
                or min(work.vectors, default=0) < 0 or max(work.vectors, default=0) >= self._count):  # fmt: skip
            raise RequestFailed(Refusal.WRONG, f"operation {work.kind} on vectors {work.vectors} with "
                                f"{len(work.factors)} factors: this shard has vectors 0 to "
                                f"{self._count - 1}")  # fmt: skip

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
        shard = self._server.find(message.shard)
        if payload.nbytes != 4 * shard.size or message.block < 0:
            raise RequestFailed(Refusal.WRONG, f"shard {shard.number}: got {payload.nbytes} bytes of block "
                                f"{message.block}, expected {4 * shard.size} of block 0 or a later one")  # fmt: skip
        return shard.turns.at_once(partial(self._begin_sum, shard, message, payload))

    def _begin_sum(self, shard: Shard, message: Sum, payload: memoryview) -> Reply[Pushed] | Running[Pushed]:
        shard.check_here()
        self._server.check_member(message.node)
        if message.evaluation > shard.clock:
            raise RequestFailed(Refusal.WRONG, f"shard {shard.number}: at evaluation {shard.clock}, got a block of "
                                f"{message.evaluation}")  # fmt: skip
        addition = shard.add_block(message.evaluation, message.block, np.frombuffer(payload, np.float32))
        if addition is None:
            return Reply(Pushed(shard.number, shard.clock, REPEATED))
        return shard.turns.run(addition, lambda: Reply(Pushed(shard.number, shard.clock, 0)))


class Program:
    """A program on one shard.

    Attributes:
        words, largest: what came of it, see ``Operated``.
    """

    def __init__(self, shard: Shard, program: Sequence[Work], replaced: Replaced) -> None:
        self._shard, self._program, self._replaced, self.sources = shard, program, replaced, replaced.sources
        self._vectors = [shard.params, *shard.rows]
        self._words = np.zeros((sum(work.kind in (DOT, MAGNITUDE) for work in program), WORDS), np.int64)
        self._summed = 0
        self.words: list[list[int]] = []
        self.largest: list[float] = []

    def run(self) -> None:
        """Copy what is frozen, then carry the operations out."""
        self._replaced.fill()
        for work in self._program:
            _DO[work.kind](self, work)
        self.words = self._words.tolist()

    def _combine(self, work: Work) -> None:
        out, *terms = (self._vectors[k] for k in work.vectors)
        combine(out, list(zip(work.factors, terms, strict=True)))

    def _dot(self, work: Work) -> None:
        words, (a, b) = self._words[self._summed], (self._vectors[k] for k in work.vectors)
        self._summed += 1
        if work.ranges is None:
            exact_dot(a, b, words)
            return
        for part in self._parts(work):
            exact_dot(a[part], b[part], words)

    def _magnitude(self, work: Work) -> None:
        words, vector = self._words[self._summed], self._vectors[work.vectors[0]]
        self._summed += 1
        for part in self._parts(work):
            exact_magnitude(vector[part], words)

    def _pseudo(self, work: Work) -> None:
        out, point, gradient = (self._vectors[k] for k in work.vectors)
        out[...] = gradient
        for part in self._parts(work):
            pseudo_gradient(out[part], point[part], gradient[part], work.factors[0])

    def _align(self, work: Work) -> None:
        direction, pseudo = (self._vectors[k] for k in work.vectors)
        for part in self._parts(work):
            align(direction[part], pseudo[part])

    def _orthant(self, work: Work) -> None:
        trial, point, pseudo = (self._vectors[k] for k in work.vectors)
        for part in self._parts(work):
            keep_orthant(trial[part], point[part], pseudo[part])

    def _largest(self, work: Work) -> None:
        self.largest.append(float(largest(self._vectors[work.vectors[0]])))

    def _open(self, work: Work) -> None:
        self._shard.open_evaluation(work.number, *work.factors)

    def settle(self, work: Work) -> None:
        """Put the sums of an evaluation into a vector."""
        sums = self._shard.sums
        if sums is None or sums.number != work.number:
            raise RequestFailed(Refusal.WRONG, f"shard {self._shard.number}: has no sums of evaluation {work.number}")
        out, params = (self._vectors[k] for k in work.vectors)
        settle_sums(out, sums.total, sums.grid, 0.0, params)
        for part in self._parts(work):
            settle_sums(out[part], sums.total[part], sums.grid, work.factors[0], params[part])
        self.largest.append(sums.most)

    def _parts(self, work: Work) -> list[slice]:
        """Return what of this shard an operation is about."""
        shard = self._shard
        if work.ranges is None:
            return [slice(0, shard.size)]
        parts = [(max(0, a - shard.start), min(shard.size, b - shard.start)) for a, b in work.ranges]
        return [slice(a, b) for a, b in parts if a < b]


def _answer(shard: Shard, program: Program) -> Reply[Operated]:
    return Reply(Operated([shard.number], program.words, program.largest))


_DO: dict[int, Callable[[Program, Work], None]] = {
    COMBINE: Program._combine,
    DOT: Program._dot,
    LARGEST: Program._largest,
    OPEN: Program._open,
    SETTLE: lambda program, work: program.settle(work),
    MAGNITUDE: Program._magnitude,
    PSEUDO: Program._pseudo,
    ALIGN: Program._align,
    ORTHANT: Program._orthant,
}


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
