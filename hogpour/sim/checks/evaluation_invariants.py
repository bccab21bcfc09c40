"""The witness's invariants of batch methods: which blocks are in an evaluation, and that copies of one are the same.

    once    no shard adds a block to an evaluation twice
    kept    a block that is done is in every shard, and a sum that is used is of all blocks
    alike   two copies of a block have the same bits, whoever computed them
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

from hogpour.algos.lbfgs.commands import TRIAL
from hogpour.cluster.evaluation_ledger import EvaluationLedger
from hogpour.core.vector_operations import Combine, SettleSums
from hogpour.net.wire.operate import Sum
from hogpour.net.wire.push import Outcome
from hogpour.server.shard import Shard
from hogpour.server.vector_ops import Program
from hogpour.sim.checks.probes import Look

__all__ = ["EvaluationInvariants"]


class EvaluationInvariants:
    """Invariants of the evaluations of one simulation.

    Args:
        say: told what did not hold.
        shards: returns how many shards there are.
    """

    def __init__(self, say: Callable[[str], None], shards: Callable[[], int]) -> None:
        self._say, self._shards = say, shards
        self._added: set[tuple[int, int, int, int]] = set()  # life of the sums, shard, evaluation, block
        self._there: set[tuple[int, int, int]] = set()  # shard, evaluation, block
        self._content: dict[tuple[int, int, int], int] = {}  # the same → checksum
        self._over: set[int] = set()  # shards whose trial point was replaced when the last evaluation had ended
        self._blocks = 0
        self._ended = False
        self._batch: EvaluationLedger | None = None

    @property
    def used(self) -> bool:
        """Whether an evaluation was begun."""
        return self._blocks > 0

    def on_open(self, batch: EvaluationLedger, subset: int | None) -> None:
        """Before an evaluation begins: what is known of those before is of no use."""
        del subset
        self._blocks, self._batch, self._ended = batch._blocks.n_blocks, batch, False
        self._there.clear()
        self._content.clear()
        self._added.clear()
        self._over.clear()

    def on_program(self, program: Program) -> None:
        """Before a program is carried out on a shard: what is computed after it is of another point."""
        if any(isinstance(one, Combine) and one.out == TRIAL for one in program._program):
            self._over.add(program._shard.number)

    def on_begin_sum(self, vectors: Any, shard: Shard, message: Sum, payload: Any) -> Look:
        """Before a shard takes the gradient of a block."""
        del vectors
        sums = shard.sums
        if sums is None or sums.number != message.evaluation:
            return
        key = (shard.number, message.evaluation, message.block)
        alike = self._content.setdefault(key, zlib.crc32(payload)) == zlib.crc32(payload)
        if not alike and shard.number not in self._over:
            self._say(f"alike: two copies of block {message.block} of evaluation {message.evaluation} differ in shard "
                      f"{shard.number}")  # fmt: skip

        reply = yield
        if reply.message.outcome is Outcome.REPEATED:
            return
        self._there.add(key)
        if (id(sums), *key) in self._added:
            self._say(f"once: block {message.block} is twice in evaluation {message.evaluation} of shard "
                      f"{shard.number}")  # fmt: skip
        self._added.add((id(sums), *key))

    def on_end(self, desk: Any, *, failed: bool = False) -> None:
        """Before a run ends: the evaluation that is under way will not be used, and its shards may move."""
        del desk, failed
        self._ended = True

    def on_finish(self, batch: EvaluationLedger, node: int, losses: Mapping[int, float]) -> None:
        """Before a member's report is taken in."""
        for ticket in losses:
            if ticket not in batch.held(node):
                continue
            evaluation, block = batch._blocks.place(ticket)
            missing = [k for k in range(self._shards()) if (k, evaluation, block) not in self._there]
            if missing and not self._ended:
                self._say(f"kept: block {block} of evaluation {evaluation} is done, and not in shards {missing}")

    def on_settle(self, program: Program, settle: SettleSums, *_: Any) -> None:
        """Before a shard's sums are used."""
        sums = program._shard.sums
        wanted = set(self._batch.wanted) if self._batch is not None else set()
        if sums is not None and sums.number == settle.evaluation and sums.blocks != wanted:
            self._say(f"kept: a sum of {len(sums.blocks)} blocks is used, evaluation {settle.evaluation} has "
                      f"{len(wanted)}")  # fmt: skip
