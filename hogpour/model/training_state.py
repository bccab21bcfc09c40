"""Where a run stands: what model files and snapshots keep beside the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.commands import ResumePoint
from hogpour.core.errors import LayoutError

__all__ = ["TrainingState"]

_COUNTS = {"tickets": 0, "steps": 0, "examples": 0, "n": 1, "block_replicas": 1}
"""Each with the least that it can be."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run stands, so that another can go on."""

    tickets: int
    """Blocks handed out so far."""
    pending: tuple[tuple[int, int], ...]
    """(ticket, examples done) of the blocks that were under way."""
    steps: int
    """Gradients applied so far."""
    examples: int
    n: int
    """Training examples; with batch and block_replicas it decides the blocks."""
    block_replicas: int
    rows: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Optimiser rows by name in the live segment, such as ``velocity.0``; (n,) each."""
    start: ResumePoint | None = None
    """Where a batch method stands; only in snapshots."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, without the rows and ``start``."""
        return {name: getattr(self, name) for name in (*_COUNTS, "pending")}

    @classmethod
    def from_dict(
        cls,
        words: Mapping[str, Any],
        rows: Mapping[str, npt.NDArray[np.float32]],
        start: ResumePoint | None = None,
    ) -> TrainingState:
        """Make a state of its numbers.

        Raises:
            LayoutError: a number cannot be.
            KeyError, TypeError, ValueError: the words are no state.
        """
        numbers = {key: int(words[key]) for key in _COUNTS}
        for key, least in _COUNTS.items():
            if numbers[key] < least:
                raise LayoutError(f"{key} = {numbers[key]}, expected {least} or more")
        pending = tuple((int(ticket), int(examples)) for ticket, examples in words["pending"])
        if min((min(block) for block in pending), default=0) < 0:
            raise LayoutError(f"pending = {pending}, expected tickets and positions of 0 or more")
        tickets, steps, examples, n, block_replicas = numbers.values()
        return cls(tickets, pending, steps, examples, n, block_replicas, rows, start)
