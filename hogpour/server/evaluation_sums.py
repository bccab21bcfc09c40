"""The sums of gradients of one evaluation of a batch method on one shard; see ``algos/lbfgs/exact_sums``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.exact_sums import add_rounded, largest
from hogpour.server.copies import Vector

__all__ = ["Addition", "EvaluationSums"]


class EvaluationSums:
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


class Addition:
    """The gradient of a block that is about to be added; it may run in a thread."""

    __slots__ = ("_addend", "_sums", "sources")

    def __init__(self, sums: EvaluationSums, addend: npt.NDArray[np.float32]) -> None:
        self._sums, self._addend = sums, addend
        self.sources: list[Vector] = []

    def run(self) -> None:
        """Add it, unless it would leave int64; whoever asks for the sum is told."""
        most = largest(self._addend)
        if most <= self._sums.limit:
            add_rounded(self._sums.total, self._addend, 1 / self._sums.grid)
        self._sums.most = max(self._sums.most, most)
