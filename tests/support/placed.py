"""A placement beside servers that are fakes, for its tests."""

from __future__ import annotations

from support.cluster import World, settle

from hogpour.cluster.placement import Placement
from hogpour.core.shard_map import ShardMap

HOME = 1


class Cluster:
    """A placement beside servers that are fakes."""

    def __init__(self, sizes: list[int] | int = 8) -> None:
        sizes = [100] * sizes if isinstance(sizes, int) else sizes
        bounds = tuple(sum(sizes[:k]) for k in range(len(sizes) + 1))
        self.world = World(len(sizes))
        self.lines: list[str] = []
        self.failures: list[str] = []
        self.buried: list[int] = []
        shards = ShardMap(1, bounds, (HOME,) * len(sizes), ("",) * len(sizes))
        self.placement = Placement(
            shards, peers=self.world.__getitem__, log=self.lines.append, fail=self.failures.append, bury=self.bury,
            warrant=lambda *move: repr(move).encode(),
        )  # fmt: skip

    def bury(self, node: int) -> None:
        """Declare a member dead; it hears so, and joins again without any shard."""
        self.buried.append(node)
        assert self.placement.gone(node) == []
        self.world[f"n{node}:1"].serves = set()

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.placement.tick()
            await settle()

    def serve(self, node: int) -> None:
        self.placement.serve(node, f"n{node}:1")

    @property
    def owners(self) -> tuple[int, ...]:
        return self.placement.map.owners

    def agrees(self) -> None:
        """Each shard is served by the one that the map names, and by no other."""
        for shard, address in enumerate(self.placement.map.addresses):
            assert [a for a, server in self.world.items() if shard in server.serves] == [address], f"shard {shard}"
