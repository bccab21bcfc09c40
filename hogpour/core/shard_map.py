"""Shards: the parameter vector cut into contiguous ranges, and the map that says which node serves which.

A shard is the unit of everything that must happen whole: one push of it is received completely and then applied, it has
one clock, one optimiser state, one file in a snapshot. So a vector is cut by size, into many small shards rather than
one a node: while one is applied, the next is still arriving. Knows no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hogpour.core.spec import ALIGNMENT

__all__ = ["LARGEST_SHARD_BYTES", "SHARD_BYTES", "ShardMap", "cut", "format_shards"]

SHARD_BYTES = 4 << 20
"""Default size of a shard of float32."""

LARGEST_SHARD_BYTES = 1 << 28
"""No shard is larger: a node takes this much memory for a push before it knows whose it is."""


def cut(n: int, largest_bytes: int = SHARD_BYTES) -> tuple[int, ...]:
    """Return the bounds of shards of nearly equal size: shard k is ``bounds[k]`` up to, not including, ``bounds[k+1]``.

    Args:
        n: length of the vector, at least 1; a multiple of ``spec.ALIGNMENT``, and so is every bound.
        largest_bytes: of float32 in one shard, at least ``4 * ALIGNMENT``.
    """
    lines, largest = -(-n // ALIGNMENT), max(1, largest_bytes // (4 * ALIGNMENT))
    count = max(1, -(-lines // largest))
    return (*(ALIGNMENT * (lines * k // count) for k in range(count)), n)


@dataclass(frozen=True, slots=True)
class ShardMap:
    """Which node serves which shard, since when."""

    epoch: int
    """Grows by one with every change; a map of a lower epoch is out of date."""
    bounds: tuple[int, ...]
    """(shards + 1,) from ``cut``."""
    owners: tuple[int, ...]
    """(shards,) incarnation of the node that serves it."""
    addresses: tuple[str, ...]
    """(shards,) host:port of that node; empty: the coordinator's."""

    def __post_init__(self) -> None:
        shards = len(self.bounds) - 1
        if shards < 1 or len(self.owners) != shards or len(self.addresses) != shards:
            raise ValueError(f"shard map: {len(self.bounds)} bounds, {len(self.owners)} owners, {len(self.addresses)} "
                             "addresses; expected one more bound than owners and addresses")  # fmt: skip
        if self.bounds[0] != 0 or any(a >= b for a, b in pairwise(self.bounds)):
            raise ValueError(f"shard map: bounds {self.bounds} do not grow from 0")

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self.owners)

    def range(self, shard: int) -> slice:
        """Return the elements of the vector that a shard holds."""
        return slice(self.bounds[shard], self.bounds[shard + 1])

    def moved(self, shard: int, owner: int, address: str) -> ShardMap:
        """Return the map of the next epoch, in which another node serves ``shard``."""
        owners, addresses = list(self.owners), list(self.addresses)
        owners[shard], addresses[shard] = owner, address
        return ShardMap(self.epoch + 1, self.bounds, tuple(owners), tuple(addresses))


def format_shards(shards: list[int]) -> str:
    """Return shards as people write them: "shard 3", "shards 0 to 3, 7"."""
    runs: list[list[int]] = []
    for shard in shards:
        if runs and runs[-1][1] == shard - 1:
            runs[-1][1] = shard
        else:
            runs.append([shard, shard])
    text = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)
    return f"shard{'s' if len(shards) > 1 else ''} {text}"
