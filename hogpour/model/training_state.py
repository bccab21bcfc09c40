"""Where a run stands: what model files and snapshots keep beside the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.commands import ResumePoint

__all__ = ["TrainingState"]

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
