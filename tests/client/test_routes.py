"""Following a shard: what is asked again, where, and until when."""

from __future__ import annotations

import asyncio

import pytest
from support.cluster import settle

from hogpour.client import routes as module
from hogpour.client.routes import Routes, ask_shard
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap

MAP = ShardMap(1, (0, 4, 8), (1, 2), ("a", "b"))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)


class Asked:
    """An attempt that fails as it is told to, and then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.addresses = list(failures), list[str]()

    async def __call__(self, address: str) -> str:
        self.addresses.append(address)
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def refused(code: Refusal) -> RequestFailed:
    return RequestFailed(code, "as the test says")


class Where:
    """Whom routes ask for a newer map, and what they know at first."""

    def __init__(self, *newer: ShardMap) -> None:
        self.newer, self.asked, self.lost = list(newer), list[int](), list[int]()
        self.routes = Routes(MAP, "b", lambda address: address, self.relocate, self.complain, 10.0)  # type: ignore[arg-type,return-value]

    async def relocate(self, epoch: int) -> ShardMap:
        self.asked.append(epoch)
        return self.newer.pop(0)

    async def complain(self, server: int) -> bool:
        self.lost.append(server)
        return bool(self.newer)


async def test_what_is_busy_is_asked_again_where_it_is() -> None:
    """A server with 1,024 requests for a shard says so: it ended the run of whoever was the next."""
    where, asked = Where(), Asked(*[refused(Refusal.BUSY)] * 3)
    assert await where.routes.ask(1, asked) == "done"
    assert (asked.addresses, where.asked) == (["b"] * 4, [])


async def test_a_server_that_is_busy_for_longer_than_its_patience_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that remembers as many replicas as it may will never remember another one."""
    asked, now = Asked(*[refused(Refusal.BUSY)] * 9), [0.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])

    async def attempt(address: str) -> str:
        now[0] += 4.0
        return await asked(address)

    with pytest.raises(RequestFailed, match="as the test says"):
        await Where().routes.ask(0, attempt)
    assert len(asked.addresses) == 5  # at 4, 8, 12, 16 and 20 s, of which each counts as 2.5 s


async def test_patience_begins_anew_where_the_shard_is_then() -> None:
    where = Where(MAP.moved(0, 2, "c"))
    asked = Asked(refused(Refusal.BUSY), refused(Refusal.MOVED), refused(Refusal.BUSY))
    assert await where.routes.ask(0, asked) == "done"
    assert (asked.addresses, where.asked) == (["a", "a", "c", "c"], [1])


@pytest.mark.parametrize("code", [Refusal.FENCED, Refusal.WRONG, Refusal.ENDED])
async def test_what_cannot_pass_is_told_at_once(code: Refusal) -> None:
    asked = Asked(refused(code))
    with pytest.raises(RequestFailed):
        await Where().routes.ask(0, asked)
    assert asked.addresses == ["a"]


async def test_a_shard_whose_server_is_lost_is_followed_if_it_is_known_to_be_elsewhere() -> None:
    where, asked = Where(), Asked(PeerLost("a", "gone"))

    async def attempt(address: str) -> str:
        where.routes.follow(MAP.moved(0, 2, "c"))
        return await asked(address)

    assert await where.routes.ask(0, attempt) == "done"
    assert (asked.addresses, where.asked) == (["a", "c"], [])
    with pytest.raises(PeerLost, match="a: gone"):
        await Where().routes.ask(0, Asked(PeerLost("a", "gone")))


async def test_a_shard_whose_server_cannot_be_reached_is_asked_for_where_it_is_moved_for_that() -> None:
    """A node that did not reach another one ended. The first newer map may be of another shard that was moved."""
    where = Where(MAP.moved(1, 1, "a"), MAP.moved(1, 1, "a").moved(0, 3, "c"))
    asked = Asked(PeerLost("a", "no connection"))
    assert await where.routes.ask(0, asked) == "done"
    assert (asked.addresses, where.asked, where.lost) == (["a", "c"], [1, 2], [1, 1])


async def test_the_newest_map_is_read_before_each_attempt() -> None:
    maps = [MAP, MAP.moved(1, 1, "a")]
    learned: list[ShardMap] = []

    async def learn(known: ShardMap) -> None:
        learned.append(known)
        maps.pop(0)

    asked = Asked(refused(Refusal.MOVED))
    assert await ask_shard(1, lambda: maps[0], asked, learn, Where().complain, 1.0) == "done"
    assert (asked.addresses, learned) == (["b", "a"], [MAP])


async def test_two_that_find_a_shard_gone_follow_the_newest_of_what_they_are_told() -> None:
    newer, newest = MAP.moved(0, 2, "c"), MAP.moved(0, 2, "c").moved(0, 3, "d")
    where = Where(newest, newer)
    first, second = Asked(refused(Refusal.MOVED)), Asked(refused(Refusal.MOVED))
    await asyncio.gather(where.routes.ask(0, first), where.routes.ask(0, second))
    assert where.routes.map is newest
    assert {first.addresses[-1], second.addresses[-1]} == {"d"}


async def test_a_map_of_an_earlier_epoch_is_not_followed() -> None:
    routes = Where().routes
    newer = MAP.moved(0, 2, "b")
    routes.follow(newer)
    routes.follow(MAP)
    assert routes.map is newer
    assert [routes.leads_home(shard) for shard in (0, 1)] == [True, True]


async def test_of_one_server_eight_requests_are_in_flight_and_the_others_keep_their_order() -> None:
    routes, begun, end = Where().routes, list[int](), asyncio.Event()

    async def request(number: int) -> None:
        async with routes.lane("a"):
            begun.append(number)
            await end.wait()

    waiting = [asyncio.ensure_future(request(number)) for number in range(20)]
    await settle()
    assert begun == list(range(8))
    end.set()
    await asyncio.gather(*waiting)
    assert begun == list(range(20))

