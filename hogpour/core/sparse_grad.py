"""A gradient by row: of a tensor with a row for each feature, only the rows that a batch touched. All others are 0.

What a step costs then follows from the examples in it, and not from how long the model is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SparseGrad"]


class SparseGrad:
    """The gradient of one tensor of shape (n_rows, width). A layer writes it, an exchange reads it; one thread.

    Attributes:
        rows: (capacity,) uint32: the rows touched, in the order in which the batch touched them, each once.
        values: (capacity, width): their gradients. Behind the first ``count`` of both is what was there before.
        slots, places: the hash table by which a row finds its place in ``rows``: the layer's own.
    """

    __slots__ = ("_count", "places", "rows", "slots", "values")

    def __init__(self, capacity: int, width: int, dtype: npt.DTypeLike = np.float32) -> None:
        self.rows, self.values = np.empty(capacity, np.uint32), np.zeros((capacity, width), dtype)
        # Half empty at most. Not a table as long as the tensor: each touch of that would be one more miss of the cache.
        self.slots = np.full(1 << (2 * max(capacity, 1) - 1).bit_length(), -1, np.int32)
        self.places = np.empty(capacity, np.int32)
        self._count = np.zeros(1, np.int64)

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """What a kernel writes: rows, values, count, slots, places."""
        return self.rows, self.values, self._count, self.slots, self.places

    @property
    def touched(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[Any]]:
        """The rows, (m,), and their gradients, (m, width): views, good until the next backward pass."""
        m = int(self._count[0])
        return self.rows[:m], self.values[:m]

    def write_to(self, dense: npt.NDArray[Any]) -> None:
        """Write the whole gradient to (n_rows, width)."""
        rows, values = self.touched
        dense[...] = 0
        dense[rows] = values
