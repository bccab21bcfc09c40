"""A batch of sparse examples: which of them, and where they lie. Nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr

__all__ = ["SparseBatch"]


@dataclass(slots=True)
class SparseBatch:
    """The examples order[start : start + batch]; batch is that of the workspace. Whoever gathers a batch changes it."""

    examples: Csr | None = None
    order: npt.NDArray[np.int64] | None = None
    """Numbers of examples; the caller's."""
    start: int = 0

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What a kernel reads: indptr, indices, values, order, start."""
        assert self.examples is not None, "no batch was gathered yet"
        return self.examples.indptr, self.examples.indices, self.examples.values, self.order, self.start
