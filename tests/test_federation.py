"""The part of one node in a cluster, where no process is needed to see it: maps that come late, jobs that are joined."""

from __future__ import annotations

import asyncio
from typing import Any

from hogpour.federation import Federation
from hogpour.shards import ShardMap

MAP = ShardMap(1, (0, 64), (1,), ("",))


def joining() -> Federation:
    """A node that joins others and has not yet begun to."""
    return Federation(listen="", join="first:7000", token=b"", join_s=1.0, notify=lambda notice: None)


class Maps:
    """Stands for the member, which is told maps, and for the link and the shards, which take them in."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[ShardMap]] = []
        self.followed: list[int] = []

    async def where(self) -> ShardMap:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    def follow(self, shard_map: ShardMap) -> None:
        self.followed.append(shard_map.epoch)


async def test_a_map_that_is_overtaken_by_a_newer_one_is_not_followed() -> None:
    federation, maps = joining(), Maps()
    there: Any = maps
    federation._member = federation._link = federation._serving = there
    federation._map = MAP
    both = [asyncio.ensure_future(federation._relocate()) for _ in range(2)]
    await asyncio.sleep(0)
    second = MAP.moved(0, 2, "b:1")
    third = second.moved(0, 1, "")
    maps.asked[1].set_result(third)
    await both[1]
    maps.asked[0].set_result(second)
    await both[0]
    assert (federation._map, maps.followed) == (third, [3, 3])
    federation._link = None
    await federation.close()
