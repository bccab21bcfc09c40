"""The part of one node in a cluster, where no process is needed to see it: maps that come late, jobs that are joined."""

from __future__ import annotations

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.core.errors import ClusterFailed, ConfigError, PeerLost, Refusal, RequestFailed
from hogpour.core.job import job_to_dict
from hogpour.core.node_id import display_id
from hogpour.core.progress import Notice
from hogpour.core.shard_map import ShardMap
from hogpour.net.loopback import Loopback
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Ok
from hogpour.net.wire.dump import Dump
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.join import Join, Joined, Leave, Ready
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.push import Push
from hogpour.net.wire.status import Fence
from hogpour.net.wire.where import Where
from hogpour.node import joining as joining_module
from hogpour.node.cluster_run import InCluster
from hogpour.node.joining import Endpoint, JoinedNode
from hogpour.shm.clocks import COUNTERS, SUMS
from hogpour.shm.control import WORDS as CONTROL_WORDS
from hogpour.shm.mailbox import WORDS, Mailbox

MAP = ShardMap(1, (0, 64), (1,), ("",))


def joining() -> Endpoint:
    """The end of a node that joins others and has not yet begun to."""
    return Endpoint(listen="", join="first:7000", token=b"", insecure=False, join_s=1.0, notify=lambda notice: None)


class Fake:
    """Stands for the member, which is told maps, and for the client and the shards, which take them in."""

    beaten = None

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[ShardMap]] = []
        self.followed: list[int] = []

    async def where(self) -> ShardMap:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    def follow(self, shard_map: ShardMap) -> None:
        self.followed.append(shard_map.epoch)

    async def close(self) -> None:
        pass


def run_of(endpoint: Endpoint, there: Any, mailbox: Mailbox) -> InCluster:
    """A run that has begun, in which ``there`` is everybody."""
    role = JoinedNode(there, Joined(2, b"{}", "/theirs", 1, 3.0, 7.0), "first:7000", print)
    live = {"control": np.zeros(CONTROL_WORDS, np.int64), "params": np.zeros(64, np.float32)}
    live |= {"counters": np.zeros((2, COUNTERS), np.int64), "sums": np.zeros((2, SUMS))}
    ready: Any = SimpleNamespace(live=SimpleNamespace(arrays=live))
    queue: Any = None
    return InCluster(endpoint, role, there, there, queue, mailbox, lambda replica: None, MAP, ready)


async def test_a_map_that_is_overtaken_by_a_newer_one_is_not_followed() -> None:
    maps = Fake()
    run = run_of(joining(), maps, Mailbox(np.zeros((2, *WORDS), np.int64)))
    both = [asyncio.ensure_future(run._relocate()) for _ in range(2)]
    await asyncio.sleep(0)
    second = MAP.moved(0, 2, "b:1")
    third = second.moved(0, 1, "")
    maps.asked[1].set_result(third)
    await both[1]
    maps.asked[0].set_result(second)
    await both[0]
    assert (run._map, maps.followed) == (third, [3, 3])


def joined(data: dict[str, Any], layer: str = "relu") -> JoinedNode:
    tables = job_to_dict(hp.Job(data="their.npz", model=[hp.Linear(3)], algorithm="downpour", save="their.safetensors"))
    tables |= {"data": data, "model": {"layers": [{"layer": layer}, {"layer": "linear", "units": 3}]}}
    said = Joined(2, json.dumps(tables).encode(), "/theirs", 1, 3.0, 7.0)
    return JoinedNode(SimpleNamespace(beaten=None, node=2), said, "first:7000", print)  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "said"), [
    (hp.__version__, []),
    ("", []),
    ("9.0", [f"the first node runs hogpour 9.0, this node {hp.__version__}: results may be others; install the same"]),
])  # fmt: skip
async def test_a_first_node_of_another_version_is_one_warning(version: str, said: list[str]) -> None:
    notices: list[Notice] = []
    endpoint = joining()
    endpoint.notify = notices.append
    first = {Join: lambda message: Reply(Joined(2, b"{}", "/", 1, 3.0, 7.0, version)), Heartbeat: lambda message: Reply(Ok())}
    endpoint.peers.apart = lambda: Loopback(first)  # type: ignore[method-assign, return-value]
    await endpoint.open()
    await endpoint.tasks.cancel()
    assert [notice.text for notice in notices if notice.event == "warning"] == said


@pytest.mark.real
async def test_who_listens_everywhere_says_what_others_can_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining_module, "typed_elsewhere", lambda port: f"10.0.0.5:{port}")
    for host, said in (("*", r"listening on \S+:(\d+); others: --join 10\.0\.0\.5:\1"), ("127.0.0.1", r"listening on 127\.0\.0\.1:\d+")):
        notices: list[Notice] = []
        endpoint = Endpoint(listen=f"{host}:0", join="", token=b"", insecure=True, join_s=1.0, notify=notices.append)
        await endpoint.open()
        await endpoint.close()
        assert re.fullmatch(said, notices[0].text), notices[0].text


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
    node = joined({"train": "their.npz"})
    job = node.job({})
    assert (job.data.train, job.base, job.save) == ("their.npz", "/theirs", "")
    assert joined({"train": "/their/their.npz"}).job({"base": "/ours"}).data.train == "their.npz"
    job = node.job({"base": "/ours", "save": "our.safetensors", "replicas": 3})
    assert (job.data.train, job.base, job.save, job.replicas) == ("their.npz", "/ours", "our.safetensors", 3)


async def test_data_that_have_no_name_must_be_given() -> None:
    """The node read "digits", and was told that it had other data."""
    node = joined({})
    with pytest.raises(ConfigError, match=r"^--join first:7000: the first node's data have no name here; give "
                                          r"changes=\{'data': \.\.\.\} to Node\(join=\.\.\.\)$"):  # fmt: skip
        node.job({"base": "/ours"})
    own = hp.arrays(np.zeros((20, 8)), np.arange(20) % 3, validation=0)
    assert node.job({"data": own}).data is own
    assert joined({"train": "/their.npz"}).job({"data": own, "base": "/nowhere"}).data is own


async def test_the_replicas_of_a_node_are_told_its_pace_and_never_one_that_makes_no_sense() -> None:
    endpoint, mailbox = joining(), Mailbox(np.zeros((2, *WORDS), np.int64))
    run_of(endpoint, Fake(), mailbox)
    for pace, seen in ((1.0, 1.0), (0.25, 0.25), (float("nan"), 0.25), (0.0, 0.25), (-1.0, 0.25), (7.0, 0.25)):
        endpoint.on_heartbeat(HeartbeatReply("run", "", 1, False, 2, 0, pace))
        assert [mailbox.pace(replica) for replica in range(2)] == [seen, seen]


async def test_whoever_does_not_answer_is_named_by_the_shards_that_it_serves() -> None:
    endpoint = joining()
    endpoint.follow(ShardMap(1, (0, 64, 128), (1, 5), ("", "b:1")))

    async def lost(address: str) -> None:
        raise PeerLost(address, "no answer")

    for address, text in (("first:7000", "the first node does not answer: first:7000: no answer"),
                          ("b:1", f"node {display_id(5)}, which serves shards, does not answer: b:1: no answer"),
                          ("c:1", "c:1: no answer")):  # fmt: skip
        with pytest.raises(ClusterFailed) as caught:
            await endpoint.guard(lost(address))
        assert str(caught.value) == text


async def test_the_end_closes_in_its_order_and_a_joined_node_leaves_first() -> None:
    endpoint, order = joining(), list[str]()

    class Member(Fake):
        async def leave(self) -> None:
            order.append("leave")

    async def beats() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("beats")

    async def close() -> None:
        order.append("client")

    endpoint.role = JoinedNode(Member(), Joined(2, b"{}", "/", 1, 3.0, 7.0), "first:7000", print)  # type: ignore[arg-type]
    endpoint.tasks.start(beats())
    endpoint.closing.append(close)
    await asyncio.sleep(0)
    await endpoint.close()
    assert order == ["leave", "beats", "client"]


async def test_a_job_of_others_imports_no_module_that_this_node_was_not_told_to(tmp_path, monkeypatch) -> None:
    """Whoever knew the token had any module run on every node that joined, from its current folder too."""
    (tmp_path / "payload.py").write_text("raise SystemExit('PWNED')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    node = joined({"train": "digits"}, layer="payload:Thing")
    for modules in ((), ("pay",), ("payload.x", "support")):
        with pytest.raises(ConfigError, match=r'^the job of first:7000: model.layers\[0\]: layer "payload:Thing" is code of '
                                              r"the module payload, which this node was not told to import; if you trust "
                                              r"it: --allow-modules payload$"):  # fmt: skip
            node.job({}, modules)
    with pytest.raises(SystemExit, match="PWNED"):
        node.job({}, ("payload",))


@pytest.mark.parametrize("modules", [("support",), ("support.own_package",), ("other", "support.own_package.parts")])
async def test_a_package_that_its_user_allows_is_imported(modules: tuple[str, ...]) -> None:
    node = joined({"train": "digits"}, layer="support.own_package.parts:Scale")
    assert type(node.job({}, modules).model[0]).__name__ == "Scale"
