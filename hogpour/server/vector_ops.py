"""The shards of a server as vectors of a batch method: what Sandblaster's coordinator has it do with them.

Beside ``server``, whose turns keep the order of what happens to a shard. Every result is the same however the vectors
are cut (``exact_sums.py``). The sums of an evaluation do not move with a shard: shards move between iterations only.
"""

from __future__ import annotations

import asyncio
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
from hogpour.server.server import ParameterServer, Running
from hogpour.server.shard import Shard, Vector

__all__ = ["Program", "VectorOps"]

Floats = npt.NDArray[np.float32]
Moved = Sequence[tuple[Vector, Vector]]

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
        parts = []
        for number in operate.shards:
            shard = self._server.shard(number)
            if shard is not None and not shard.given_up:
                parts.append(self._server.in_turn(shard, partial(self._begin, shard, operate)))
        answers: list[Operated] = []
        # No deadline: this process works on it. All are waited for, or nobody would look at the error of a second one.
        for outcome in await asyncio.gather(*parts, return_exceptions=True):
            if isinstance(outcome, RequestFailed) and outcome.code == Refusal.MOVED:
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            answers.append(outcome.message)
        return Reply(together(answers))

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
        if shard.given_up:
            raise RequestFailed(Refusal.MOVED, f"shard {shard.number} is not served here")
        newest = self._sequence.get(shard.number, 0)
        if operate.sequence < newest:  # its sender has been answered since, and gone on
            raise RequestFailed(Refusal.WRONG, f"program {operate.sequence} comes after program {newest}")
        moved = self._server.thaw(shard)
        if moved is None:
            return None
        self._sequence[shard.number] = operate.sequence
        program = Program(shard, operate.program, moved)
        answer = partial(_answer, shard, program)
        return self._server.run(shard, program, answer, passes=len(operate.program))

    # -- gradients

    def _sum(self, message: Sum, payload: memoryview) -> Reply[Pushed] | Awaitable[Reply[Pushed]]:
        shard = self._server.shard(message.shard)
        if shard is None:
            raise RequestFailed(Refusal.MOVED, f"shard {message.shard} is not served here")
        if payload.nbytes != 4 * shard.size or message.block < 0:
            raise RequestFailed(Refusal.WRONG, f"shard {shard.number}: got {payload.nbytes} bytes of block "
                                f"{message.block}, expected {4 * shard.size} of block 0 or a later one")  # fmt: skip
        return self._server.at_once(shard, partial(self._begin_sum, shard, message, payload))

    def _begin_sum(self, shard: Shard, message: Sum, payload: memoryview) -> Reply[Pushed] | Running[Pushed]:
        if shard.given_up:
            raise RequestFailed(Refusal.MOVED, f"shard {shard.number} is not served here")
        self._server.check_member(message.node)
        if message.evaluation > shard.clock:
            raise RequestFailed(Refusal.WRONG, f"shard {shard.number}: at evaluation {shard.clock}, got a block of "
                                f"{message.evaluation}")  # fmt: skip
        sums: _Sums | None = shard.sums
        if sums is None or sums.number != message.evaluation or message.block in sums.blocks:
            shard.count_repeated()
            return Reply(Pushed(shard.number, shard.clock, REPEATED))
        # Remembered first: should the kernel fail half-way, a copy must not add the other half.
        sums.blocks.add(message.block)
        shard.pushes += 1
        addition = _Addition(sums, np.frombuffer(payload, np.float32))
        return self._server.run(shard, addition, lambda: Reply(Pushed(shard.number, shard.clock, 0)))


class _Sums:
    """The sums of one evaluation on one shard.

    Attributes:
        number: of the evaluation.
        total: (size,) int64, in grids.
        blocks: that are in it.
        most: largest magnitude of all addends; infinite where one was not finite.
    """

    __slots__ = ("blocks", "grid", "limit", "most", "number", "total")

    def __init__(self, size: int) -> None:
        self.total = np.zeros(size, np.int64)
        self.number, self.grid, self.limit, self.most = 0, 1.0, 0.0, 0.0
        self.blocks: set[int] = set()

    def begin(self, number: int, grid: float, limit: float) -> None:
        """Begin an evaluation; doing it again changes nothing."""
        if number == self.number:
            return
        self.number, self.grid, self.limit, self.most = number, grid, limit, 0.0
        self.total[:] = 0
        self.blocks.clear()


class _Addition:
    """The gradient of a block that is about to be added."""

    __slots__ = ("_addend", "_sums", "left")

    def __init__(self, sums: _Sums, addend: Floats) -> None:
        self._sums, self._addend = sums, addend
        self.left: list[Vector] = []

    def run(self) -> None:
        """Add it, unless it would leave int64; whoever asks for the sum is told."""
        most = largest(self._addend)
        if most <= self._sums.limit:
            add_rounded(self._sums.total, self._addend, 1 / self._sums.grid)
        self._sums.most = max(self._sums.most, most)


class Program:
    """A program on one shard.

    Attributes:
        words, largest: what came of it, see ``Operated``.
    """

    def __init__(self, shard: Shard, program: Sequence[Work], moved: Moved) -> None:
        self._shard, self._program, self._moved = shard, program, moved
        self._vectors = [shard.params, *shard.rows]
        self._words = np.zeros((sum(work.kind in (DOT, MAGNITUDE) for work in program), WORDS), np.int64)
        self._summed = 0
        self.words: list[list[int]] = []
        self.largest: list[float] = []

    @property
    def left(self) -> list[Vector]:
        """The frozen vectors that it copies from; it counts as a reader of them until it has run."""
        return [old for old, _ in self._moved]

    def run(self) -> None:
        """Copy what is frozen, then carry the operations out."""
        for old, new in self._moved:
            new.array[...] = old.array
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
        shard = self._shard
        if shard.sums is None:
            shard.sums = _Sums(shard.size)
        shard.sums.begin(work.number, *work.factors)
        shard.clock = work.number

    def settle(self, work: Work) -> None:
        """Put the sums of an evaluation into a vector."""
        sums: _Sums | None = self._shard.sums
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
