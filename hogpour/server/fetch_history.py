"""What a shard remembers of each node for a correction: the parameters it fetched, and the correction's own rows.

Fetched parameters are kept by shard clock, so nodes that fetched at one clock share a copy; a node holds those of its
``HELD`` newest fetches, because some replicas still compute on older ones when a newer one lands. With one replica a
node, the papers' setting, two would do. Every push of a replica brings a fetch for all of its node: of a node with many
replicas the latest gradients may come when what they were computed on is not held any more, and are applied as they
are (of one node with 2, 4 and 8 replicas 98, 87 and 66 % of the late ones were amended, exponential compute times); how
many were late and how many amended stands in the shard's state.

Everything of a node goes with the node (``forget``), and comes back with its next fetch and push. So a shard keeps at
most ``HELD`` copies of itself and its rows for each member, and one copy to spare; none of it travels when the shard
moves. A copy is made on the event loop, before the fetch is answered: about as long as a push takes. Knows no network.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["HELD", "FetchHistory"]

HELD = 8
"""Fetches of a node that are remembered."""


@dataclass(slots=True)
class _Version:
    array: npt.NDArray[np.float32]
    holders: int


class FetchHistory:
    """The memory of one shard.

    Args:
        size: elements of the shard.
        rows: of the correction, by number.
        limit: nodes that are remembered; of further ones nothing is kept, and their pushes are not amended. 0 where no
            correction asks for it.
    """

    __slots__ = ("_free", "_held", "_n_rows", "_rows", "_size", "_versions", "limit")

    def __init__(self, size: int, rows: int, limit: int) -> None:
        self._size, self._n_rows, self.limit = size, rows, limit
        self._versions: dict[int, _Version] = {}  # by clock
        self._held: dict[int, deque[int]] = {}  # node → clocks, the oldest first
        self._rows: dict[int, tuple[npt.NDArray[np.float32], ...]] = {}
        self._free: npt.NDArray[np.float32] | None = None  # the array that was let go of last: memory that is mapped

    def fetched(self, node: int, clock: int, params: npt.NDArray[np.float32]) -> None:
        """Remember that a node gets the parameters as they are now, copied where nobody has fetched them yet."""
        held = self._held.get(node)
        if held is None:
            if len(self._held) >= self.limit:
                return
            held = self._held[node] = deque()
        if clock in held:
            return
        if len(held) == HELD:
            self._let_go(held.popleft())
        version = self._versions.get(clock)
        if version is None:
            array, self._free = self._free if self._free is not None else np.empty(self._size, np.float32), None
            array[...] = params
            version = self._versions[clock] = _Version(array, 0)
        version.holders += 1
        held.append(clock)

    def params_of(self, node: int, clock: int) -> npt.NDArray[np.float32] | None:
        """Return the parameters that a node fetched at this clock; None where they are not remembered. They stay as
        they are until a fetch of this shard: a kernel in a thread may read them, since fetches of its shard wait for
        their turn behind it (``server``), and ``forget`` overwrites nothing."""
        held = self._held.get(node)
        return self._versions[clock].array if held is not None and clock in held else None

    def rows_of(self, node: int) -> tuple[npt.NDArray[np.float32], ...] | None:
        """Return the correction's rows of a node, zeros at first; None where no further node is remembered."""
        rows = self._rows.get(node)
        if rows is None and len(self._rows) < self.limit:
            rows = self._rows[node] = tuple(np.zeros(self._size, np.float32) for _ in range(self._n_rows))
        return rows

    def forget(self, node: int) -> None:
        """Free everything of a node that is dead or has left."""
        self._rows.pop(node, None)
        for clock in self._held.pop(node, ()):
            self._let_go(clock)

    @property
    def nodes(self) -> set[int]:
        """Nodes of which something is kept."""
        return self._held.keys() | self._rows.keys()

    @property
    def arrays(self) -> int:
        """Vectors of the shard's size that are kept."""
        return len(self._versions) + self._n_rows * len(self._rows) + (self._free is not None)

    def _let_go(self, clock: int) -> None:
        version = self._versions[clock]
        version.holders -= 1
        if not version.holders:
            self._free = self._versions.pop(clock).array
