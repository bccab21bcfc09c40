"""Every shard is asked until it has answered: wherever it is, whatever is lost, however busy its server is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from support.cluster import settle

from hogpour.cluster.every_shard import ask_every_shard
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.net.wire.base import Message
from hogpour.net.wire.gate import Commit, Committed

Act = Callable[["Servers", str, list[int]], list[int]]


class Servers:
    """Servers that do, one request after the other, what the test says: return the shards that they did it for."""

    def __init__(self, *places: str) -> None:
        self.map = ShardMap(1, tuple(range(len(places) + 1)), (1,) * len(places), places)
        self.acts: dict[str, list[Act]] = {}
        self.asked: list[tuple[str, list[int]]] = []
        self.said: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.wanted = True

    def at(self, address: str) -> Server:
        return Server(self, address)

    def move(self, shard: int, address: str) -> None:
        self.map = self.map.moved(shard, 1, address)

    async def ask(self) -> list[int]:
        """Return all shards that are named in the answers."""
        answers = await ask_every_shard(
            lambda: self.map, self.at, lambda shards: Commit(0, shards, [], 1.0),
            what="step 0", deadline_s=1.0, log=self.said.append, wanted=lambda: self.wanted,
        )  # fmt: skip
        return sorted(shard for answer in answers for shard in answer.shards)


class Server:
    def __init__(self, servers: Servers, address: str) -> None:
        self.servers, self.address = servers, address

    async def request(self, message: Message, payload: Sequence[memoryview] = (), *, into: memoryview | None = None,
                      deadline_s: float, retry: bool = True) -> Message:  # fmt: skip
        assert isinstance(message, Commit)
        assert (deadline_s, retry) == (1.0, True)
        self.servers.asked.append((self.address, message.shards))
        await self.servers.gate.wait()
        acts = self.servers.acts.get(self.address)
        return Committed(acts.pop(0)(self.servers, self.address, message.shards) if acts else message.shards)


def lost(servers: Servers, address: str, shards: list[int]) -> list[int]:
    raise PeerLost(address, "no answer")


def refused(code: Refusal) -> Act:
    def refuse(servers: Servers, address: str, shards: list[int]) -> list[int]:
        raise RequestFailed(code, f"{address}: as the test says")

    return refuse


def moves(shard: int, to: str) -> Act:
    def move(servers: Servers, address: str, shards: list[int]) -> list[int]:
        servers.move(shard, to)
        return [one for one in shards if one != shard]

    return move


async def test_all_servers_are_asked_at_the_same_time_each_for_its_own_shards() -> None:
    servers = Servers("a", "b", "a", "c")
    servers.gate.clear()
    asking = asyncio.ensure_future(servers.ask())
    await settle()
    assert servers.asked == [("a", [0, 2]), ("b", [1]), ("c", [3])]
    servers.gate.set()
    assert await asking == [0, 1, 2, 3]
    assert servers.said == []


@pytest.mark.parametrize(
    ("first", "again", "said"),
    [
        pytest.param(lost, ("b", [1, 2]), ["step 0 is asked for again: b: no answer"], id="an answer that is lost"),
        pytest.param(refused(Refusal.BUSY), ("b", [1, 2]), [], id="a server that is busy"),
        pytest.param(refused(Refusal.MOVED), ("b", [1, 2]), [], id="a server that serves nothing yet"),
        pytest.param(moves(1, "c"), ("c", [1]), [], id="a shard that has moved"),
        pytest.param(lambda *_: [], ("b", [1, 2]), [], id="shards that are on their way"),
    ],
)
async def test_whatever_nobody_has_named_is_asked_for_again(
    first: Act, again: tuple[str, list[int]], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hogpour.cluster.every_shard._AGAIN_S", 0.0)
    servers = Servers("a", "b", "b")
    servers.acts["b"] = [first]
    assert await servers.ask() == [0, 1, 2]
    assert (servers.asked[2:], servers.said) == ([again], said)


async def test_a_refusal_is_raised_once_and_not_before_all_have_answered() -> None:
    """The others would go on with a request that nobody waits for."""
    servers = Servers("a", "b")
    servers.acts = {"a": [refused(Refusal.WRONG)], "b": [refused(Refusal.WRONG)]}
    with pytest.raises(RequestFailed, match=r"^step 0 cannot be carried out: a: as the test says$") as caught:
        await servers.ask()
    assert caught.value.code == Refusal.WRONG
    assert servers.asked == [("a", [0]), ("b", [1])]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_not_wanted_any_more_is_not_asked_for_again() -> None:
    servers = Servers("a")
    servers.acts["a"], servers.wanted = [lost], False
    with pytest.raises(RequestFailed, match=r"^step 0 is not wanted any more$"):
        await servers.ask()
    assert servers.asked == [("a", [0])]


async def test_shards_that_nobody_has_for_long_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogpour.cluster.every_shard._ALL_S", -1.0)
    servers = Servers("a", "b", "b")
    servers.acts["b"] = [lambda *_: [], lambda *_: []]
    with pytest.raises(RequestFailed, match=r"^step 0 could not be carried out on shards \[1, 2\] within -1 s$"):
        await servers.ask()
