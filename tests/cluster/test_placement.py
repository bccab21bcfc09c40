from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.cluster import settle
from support.placed import HOME, Cluster

from hogpour.core.shard_map import format_shards
from hogpour.net.wire.dump import Adopt

# -- spreading


async def test_shards_are_spread_evenly_over_those_who_serve() -> None:
    cluster = Cluster(8)
    await cluster.tick()
    assert cluster.placement.map.epoch == 1
    cluster.serve(2)
    await cluster.tick()
    assert cluster.owners == (1, 1, 1, 1, 2, 2, 2, 2)
    assert cluster.placement.map.addresses == ("",) * 4 + ("n2:1",) * 4
    assert cluster.placement.map.epoch == 5
    assert cluster.world["n2:1"].asked == [Adopt(shard, "") for shard in (7, 6, 5, 4)]
    moves = [(shard, HOME, 2, epoch) for epoch, shard in enumerate((7, 6, 5, 4), start=1)]
    assert cluster.world["n2:1"].warrants == [(epoch, repr((*move, epoch)).encode()) for *move, epoch in moves]
    cluster.serve(3)
    await cluster.tick()
    assert sorted(cluster.owners.count(node) for node in (1, 2, 3)) == [2, 3, 3]
    cluster.agrees()
    epoch = cluster.placement.map.epoch
    await cluster.tick(3)
    assert cluster.placement.map.epoch == epoch  # no shard goes to and fro


async def test_shards_are_spread_by_elements_not_by_number() -> None:
    cluster = Cluster([600, 100, 100, 100, 100, 200])
    cluster.serve(2)
    await cluster.tick()
    sizes = {node: sum((600, 100, 100, 100, 100, 200)[k] for k, o in enumerate(cluster.owners) if o == node) for node in (1, 2)}
    assert sizes == {1: 600, 2: 600}
    cluster.agrees()


@pytest.mark.parametrize(
    ("sizes", "owners"),
    [
        ([100, 100, 600, 400], (1, 1, 2, 1)),  # one move rather than three
        ([100, 400], (2, 1)),  # as even as the other way round, and cheaper
        ([100, 100, 100, 110], (1, 1, 2, 2)),  # the second move overshoots by a little
    ],
)
async def test_the_shard_is_moved_that_helps_most(sizes: list[int], owners: tuple[int, ...]) -> None:
    cluster = Cluster(sizes)
    cluster.serve(2)
    await cluster.tick(3)
    assert cluster.owners == owners
    assert cluster.placement.map.epoch == 1 + owners.count(2)


@pytest.mark.parametrize(("sizes", "moves"), [([100], 0), ([100, 100], 1), ([100, 100, 100], 1), ([160, 64], 1), ([160, 16], 1), ([112, 112, 96], 1)])
async def test_a_shard_is_moved_only_where_that_helps(sizes: list[int], moves: int) -> None:
    cluster = Cluster(sizes)
    cluster.serve(2)
    await cluster.tick(3)
    assert cluster.placement.map.epoch == 1 + moves


async def test_no_shard_is_moved_to_spread_them_when_the_run_ends() -> None:
    cluster = Cluster(4)
    cluster.placement.spreading = False
    cluster.serve(2)
    await cluster.tick()
    assert cluster.owners == (1, 1, 1, 1)


# -- leaving


async def test_shards_of_a_leaver_go_to_those_who_stay() -> None:
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.serve(3)
    await cluster.tick()
    assert sorted(cluster.owners) == [1, 1, 2, 2, 3, 3]
    cluster.placement.leave(2)
    await cluster.tick()
    assert sorted(cluster.owners) == [1, 1, 1, 3, 3, 3]
    cluster.agrees()
    assert cluster.placement.gone(2) == []


async def test_shards_of_leavers_go_home_when_the_run_ends() -> None:
    """All leave then; a shard that went to another leaver would move twice."""
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.serve(3)
    await cluster.tick()
    cluster.placement.spreading = False
    cluster.placement.leave(2)
    await cluster.tick()
    assert sorted(cluster.owners) == [1, 1, 1, 1, 3, 3]


async def test_whoever_waits_hears_of_every_move() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    waiting = asyncio.ensure_future(cluster.placement.changed())
    await settle()
    assert not waiting.done()
    await cluster.tick()
    assert waiting.done()
    waiting = asyncio.ensure_future(cluster.placement.changed())
    await settle()
    assert not waiting.done()
    cluster.placement.gone(2)
    await settle()
    assert waiting.done()


# -- the end, and bugs


async def test_closing_drops_what_is_under_way() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].gate = asyncio.Event()
    await cluster.tick()
    assert len(asyncio.all_tasks()) == 2
    await cluster.placement.close()
    assert len(asyncio.all_tasks()) == 1
    await cluster.placement.close()


@pytest.mark.parametrize("end", [False, True])
async def test_a_bug_in_a_task_is_raised_by_the_next_tick_or_the_end(end: bool) -> None:
    cluster = Cluster(1)
    cluster.world[""].fence_error = ZeroDivisionError("a bug")  # type: ignore[assignment]
    cluster.placement.gone(2)
    await cluster.tick()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await (cluster.placement.close() if end else cluster.tick())


async def test_the_home_cannot_leave() -> None:
    with pytest.raises(AssertionError, match="the home was asked to leave"):
        Cluster(1).placement.leave(HOME)


@pytest.mark.parametrize(
    ("shards", "text"),
    [([3], "shard 3"), ([0, 1], "shards 0 to 1"), ([0, 1, 2, 3, 7], "shards 0 to 3, 7"), ([0, 2, 5], "shards 0, 2, 5")],
)
def test_shards_are_listed_as_people_write_them(shards: list[int], text: str) -> None:
    assert format_shards(shards) == text


# -- anything in any order

SERVERS = st.integers(2, 5)


class PlacementMachine(RuleBasedStateMachine):
    """Servers come, go, die, refuse and lose answers; no shard is ever served by two, nor by one the map does not name
    while nothing is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.cluster = Cluster([100, 300, 50, 100, 250, 100, 100])
        self.alive: dict[int, bool] = {HOME: False}  # member -> leaving
        self.next = 2
        self.epoch = 1

    def run(self, ticks: int) -> None:
        self.loop.run_until_complete(self.cluster.tick(ticks))
        cluster = self.cluster
        cluster.world.told(cluster.placement.map.addresses)

    def server(self, node: int):  # type: ignore[no-untyped-def]
        return self.cluster.world["" if node == HOME else f"n{node}:1"]

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.alive)))

    @rule()
    def join(self) -> None:
        self.cluster.serve(self.next)
        self.alive[self.next] = False
        self.next += 1

    @rule(ticks=st.integers(1, 3))
    def tick(self, ticks: int) -> None:
        self.run(ticks)

    @rule(data=st.data(), fault=st.sampled_from(["deaf", "refuses", "firewalled"]), on=st.booleans())
    def trouble(self, data: st.DataObject, fault: str, on: bool) -> None:
        setattr(self.server(self.pick(data)), fault, on)

    @rule(data=st.data())
    def hang(self, data: st.DataObject) -> None:
        server = self.server(self.pick(data))
        if server.gate is None:
            server.gate, server.gate_before = asyncio.Event(), data.draw(st.booleans())

    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        server = self.server(self.pick(data))
        if server.gate is not None:
            server.gate.set()
            server.gate = None

    @precondition(lambda self: len(self.alive) > 1)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        node = self.pick(data)
        if node != HOME:
            self.cluster.placement.leave(node)
            self.alive[node] = True

    @rule()
    def let_go(self) -> None:
        for node, leaving in list(self.alive.items()):
            if leaving and not self.cluster.placement.shards_of(node):
                assert self.cluster.placement.gone(node) == []
                self.server(node).dead = True
                del self.alive[node]

    @precondition(lambda self: len(self.alive) > 1)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Only who serves nothing by the map: the others end the run, and this test."""
        node = self.pick(data)
        if node != HOME and not self.cluster.placement.shards_of(node):
            server = self.server(node)
            server.dead, server.serves = True, set()
            if server.gate is not None:
                server.gate.set()
            assert self.cluster.placement.gone(node) == []
            del self.alive[node]

    @invariant()
    def nobody_shares_a_shard(self) -> None:
        served = [shard for server in self.cluster.world.values() for shard in server.serves if not server.dead]
        assert len(served) == len(set(served))
        assert self.cluster.failures == []
        assert self.cluster.placement.map.epoch >= self.epoch
        self.epoch = self.cluster.placement.map.epoch

    def teardown(self) -> None:
        """When the trouble ends, every shard is served by whom the map names, and nobody who leaves has any."""
        for server in self.cluster.world.values():
            server.deaf = server.refuses = server.firewalled = False
            if server.gate is not None:
                server.gate.set()
                server.gate = None
        try:
            self.run(4)
            self.cluster.agrees()
            assert not [n for n, leaving in self.alive.items() if leaving and self.cluster.placement.shards_of(n)]
            for node in self.alive:
                assert set(range(2, self.next)) - set(self.alive) <= set(self.server(node).fenced)
        finally:
            self.loop.run_until_complete(self.cluster.placement.close())
            self.loop.close()


TestPlacement = PlacementMachine.TestCase
TestPlacement.settings = settings(max_examples=60, stateful_step_count=30)
TestPlacement.pytestmark = [pytest.mark.slow]
