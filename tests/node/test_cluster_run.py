"""The part of one node in a cluster, where no process is needed to see it: maps that come late, jobs that are joined."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.core.errors import ConfigError, Refusal, RequestFailed
from hogpour.core.job import job_to_dict
from hogpour.core.shard_map import ShardMap
from hogpour.net.wire.base import Ok
from hogpour.net.wire.dump import Dump
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.join import Joined, Leave, Ready
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.push import Push
from hogpour.net.wire.status import Fence
from hogpour.net.wire.where import Where
from hogpour.node.cluster_run import ClusterRun
from hogpour.shm.mailbox import WORDS, Mailbox

MAP = ShardMap(1, (0, 64), (1,), ("",))


def joining() -> ClusterRun:
    """A node that joins others and has not yet begun to."""
    return ClusterRun(listen="", join="first:7000", token=b"", insecure=False, join_s=1.0, notify=lambda notice: None)


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


def joined(data: dict[str, Any]) -> ClusterRun:
    federation = joining()
    tables = job_to_dict(hp.Job(data="their.npz", model=[hp.Linear(3)], algorithm="downpour", save="their.safetensors"))
    federation.joined = Joined(2, json.dumps(tables | {"data": data}).encode(), "/theirs", 1, 3.0, 7.0)
    return federation


async def test_a_node_that_came_back_says_that_it_serves_nothing_yet() -> None:
    """Others asked it for the shards that it served before; they were told that it knows no Push, and their run ended."""
    handlers = joining()._handlers
    for message in (Push(0, 2, 0, 1, 0, 1, 1.0), Fetch(0, 2), Dump(0, True, 2)):
        with pytest.raises(RequestFailed, match=f"^{type(message).__name__}: this node serves nothing yet$") as caught:
            handlers[type(message)](message, *[memoryview(b"")] * message.PAYLOAD)
        assert caught.value.code == Refusal.MOVED
    assert handlers[Fence](Fence(2)).message == Ok()


async def test_a_first_node_that_was_started_anew_sends_its_old_members_to_join_again() -> None:
    """While it read its data, it answered that it knew no Heartbeat, and they ended with that: seed 132 of the sweep."""
    handlers = joining()._handlers
    for message in (Heartbeat(2, 1, 0, 0, 0.0, 0, 0.0), Lease(2, [], [], 1), Ready(2, "s", "d"), Where()):
        with pytest.raises(RequestFailed, match=r"^this node has no members yet: it must be joined again$") as caught:
            handlers[type(message)](message)
        assert caught.value.code == Refusal.FENCED
    assert handlers[Leave](Leave(2)).message == Ok()


async def test_the_job_of_others_is_theirs_but_for_what_is_another_here() -> None:
    federation = joined({"train": "their.npz"})
    job = federation.job({})
    assert (job.data.train, job.base, job.save) == ("their.npz", "/theirs", "")
    job = federation.job({"base": "/ours", "save": "our.safetensors", "replicas": 3})
    assert (job.data.train, job.base, job.save, job.replicas) == ("their.npz", "/ours", "our.safetensors", 3)


async def test_data_that_have_no_name_must_be_given() -> None:
    """The node read "digits", and was told that it had other data."""
    federation = joined({})
    with pytest.raises(ConfigError, match=r"^--join first:7000: the first node's data have no name here; give "
                                          r"changes=\{'data': \.\.\.\} to Node\(join=\.\.\.\)$"):  # fmt: skip
        federation.job({"base": "/ours"})
    own = hp.arrays(np.zeros((20, 8)), np.arange(20) % 3, validation=0)
    assert federation.job({"data": own}).data is own


async def test_the_replicas_of_a_node_are_told_its_pace_and_never_one_that_makes_no_sense() -> None:
    federation, there = joining(), SimpleNamespace(beaten=None)
    federation._link = federation._member = there  # type: ignore[assignment]
    federation._map = MAP
    federation._mailbox = Mailbox(np.zeros((2, *WORDS), np.int64))
    for pace, seen in ((1.0, 1.0), (0.25, 0.25), (float("nan"), 0.25), (0.0, 0.25), (-1.0, 0.25), (7.0, 0.25)):
        federation._heard(HeartbeatReply("run", "", 1, False, 2, 0, pace))
        assert [federation._mailbox.pace(replica) for replica in range(2)] == [seen, seen]
