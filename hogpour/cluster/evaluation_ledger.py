"""The ledger of a batch: who computes which block of the evaluation that is under way, and what each came to.

The other ledger (``EpochLedger``) hands every ticket to one member, once. Here a batch is used again and again, one
evaluation after the other, and at the end of each the blocks that are still out are given to others as well: the first
one to finish counts ("backup copies", Dean et al. 2012). Neighbouring blocks go to the same member.

A ticket is ``evaluation · blocks + block``. Knows no messages and no time; a ``LeaseLedger`` as well.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from hogpour.cluster.leases import MOST_HELD, LeaseLedger, LedgerState
from hogpour.data.blocks import Blocks

__all__ = ["EvaluationLedger"]


class EvaluationLedger(LeaseLedger):
    """The blocks of one run.

    Args:
        blocks: how the examples are cut; its epochs are the evaluations that there may be.
        evaluation: number of the last one of an earlier run that this one goes on with.
        copies: whether blocks that are out are given to others as well, when none is left.
        share: of the blocks, in the evaluation of a subset.

    Attributes:
        evaluation: number of the newest one.
        copied: blocks that were given out as copies.
        wanted: blocks of the newest evaluation.
        finished: set by whoever drives, when there will be no more evaluations.
    """

    def __init__(self, blocks: Blocks, evaluation: int = 0, *, copies: bool = True, share: float = 1.0) -> None:
        super().__init__(blocks, evaluation * blocks.n_blocks)
        self._copies, self._share, self.evaluation = copies, share, evaluation
        self.examples_done, self.copied = evaluation * blocks.n, 0
        self._losses: dict[int, float] = {}  # block → sum over its examples
        self._free: set[int] = set()
        self.wanted: Sequence[int] = ()
        self._last: dict[int, int] = {}  # member → block that it was granted last
        self._holders: dict[int, int] = {}  # block of this evaluation → members that have it
        self._open = False

    # -- the evaluation

    def open(self, subset: int | None = None) -> int:
        """Begin the next evaluation, of a subset by number or of all blocks; return its own number."""
        self.evaluation += 1
        self._losses.clear()
        self._holders.clear()
        self._last.clear()
        self.wanted = range(self._blocks.n_blocks) if subset is None else self._subset(subset)
        self._free = set(self.wanted)
        self._open = True
        for node in list(self._held):
            self._keep(node, {})  # what is still computed of the last one counts for nothing
        return self.evaluation

    @property
    def complete(self) -> bool:
        """Whether every block of this evaluation is done."""
        return len(self._losses) == len(self.wanted) > 0

    @property
    def loss(self) -> float:
        """Mean loss over all examples, once ``complete``, or what a subset contributes to it; not finite where one
        block's is not. The sum is rounded once, whatever the order."""
        losses = self._losses.values()
        if not all(math.isfinite(loss) for loss in losses):
            return math.inf
        return math.fsum(losses) / self._blocks.n

    @property
    def part(self) -> float:
        """Share of all examples that the newest evaluation is of."""
        return sum(self.examples(block) for block in self.wanted) / self._blocks.n

    def _subset(self, number: int) -> list[int]:
        """Return blocks at equal distances, since neighbours may be alike; each subset begins at another one."""
        n = self._blocks.n_blocks
        count = max(1, round(self._share * n))
        return sorted((number + k * n // count) % n for k in range(count))

    # -- as of EpochLedger

    @property
    def free(self) -> int:
        return len(self._free)

    def grant(self, node: int, holds: Iterable[int], want: int, replicas: int = 0) -> list[int]:
        if not self._open:
            return []
        mine = self._held.get(node, {})
        granted = [ticket for ticket in mine if ticket not in set(holds)][: max(0, want)]
        while len(granted) < want and len(mine) < MOST_HELD and self._free:
            block = self._next(node)
            self._free.discard(block)
            self._take(node, block, mine, granted)
        while self._copies and not self._free and len(granted) < want and len(mine) < replicas:
            late = self._outstanding(mine)
            if late is None:
                break
            self.copied += 1
            self.examples_repeated += self.examples(late)
            self._take(node, late, mine, granted)
        self._keep(node, mine)
        return granted

    def finish(self, node: int, losses: Mapping[int, float]) -> int:
        mine, examples = self._held.get(node, {}), 0
        for ticket, loss in losses.items():
            if ticket not in mine:
                continue
            del mine[ticket]
            block = ticket % self._blocks.n_blocks
            self._holders[block] -= 1
            if block in self._losses:
                continue
            self._losses[block] = loss
            self.done += 1
            examples += self.examples(ticket)
        self._keep(node, mine)
        self.examples_done += examples
        if self.complete:
            self._open = False
        return examples

    def take_back(self, node: int, tickets: Collection[int] | None = None) -> int:
        tickets = self._drop(node, tickets)
        self._last.pop(node, None)
        for ticket in tickets:
            block = ticket % self._blocks.n_blocks
            self._holders[block] -= 1
            if not self._holders[block] and block not in self._losses:
                self._free.add(block)
                self.examples_repeated += self.examples(ticket)
        return sum(self.examples(ticket) for ticket in tickets)

    def state(self) -> LedgerState:
        return LedgerState(self.evaluation * self._blocks.n_blocks, ())  # evaluations are whole, or are made again

    def examples(self, ticket: int) -> int:
        start = ticket % self._blocks.n_blocks * self._blocks.block_size
        return min(self._blocks.block_size, self._blocks.n - start)

    # -- small parts

    def _take(self, node: int, block: int, mine: dict[int, None], granted: list[int]) -> None:
        ticket = self.evaluation * self._blocks.n_blocks + block
        mine[ticket] = None
        granted.append(ticket)
        self._last[node] = block
        self._holders[block] = self._holders.get(block, 0) + 1

    def _next(self, node: int) -> int:
        """Return the free block for a member: behind its last one, else in the middle of the longest free run, so that
        whoever works at the beginning of that run can go on."""
        after = self._last.get(node, -2) + 1
        if after in self._free:
            return after
        best, length, start = 0, 0, -1
        for block in range(self._blocks.n_blocks + 1):
            if block in self._free:
                start = block if start < 0 else start
            elif start >= 0:
                if block - start > length:
                    best, length = start, block - start
                start = -1
        return best if best - 1 not in self._last.values() else best + length // 2

    def _outstanding(self, mine: Mapping[int, None]) -> int | None:
        """Return the block to copy: not this member's, held by the fewest, given out first."""
        base = self.evaluation * self._blocks.n_blocks
        open_ = [block for block in self._holders if block not in self._losses and base + block not in mine]
        return min(open_, key=lambda block: self._holders[block], default=None)
