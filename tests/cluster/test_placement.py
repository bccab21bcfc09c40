from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.cluster import World, settle

from hogpour.cluster.placement import Placement
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap, format_shards
from hogpour.net.wire.dump import Adopt
from hogpour.net.wire.reach import Knock
from hogpour.net.wire.status import Fence

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


# -- moves that fail


async def test_a_move_whose_answer_was_lost_is_tried_again_as_it_was() -> None:
    """The taker may have the shard already: to bring it back would have two serve it."""
    cluster = Cluster(2)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.deaf = True
    await cluster.tick()
    assert cluster.owners == (1, 1)
    assert cluster.lines == ["shard 1 is still on its way to node 2 (n2:1): n2:1: no answer"]
    taker.deaf = False
    await cluster.tick()
    assert cluster.owners == (1, 2)
    assert taker.asked == [Adopt(1, "")] * 2
    assert cluster.world[""].asked == []
    cluster.agrees()


async def test_a_move_whose_answer_was_lost_is_not_replaced_by_a_better_one() -> None:
    cluster = Cluster([100, 600])
    cluster.serve(2)
    cluster.world["n2:1"].deaf = True
    await cluster.tick()
    assert cluster.world["n2:1"].serves == {0}  # and the map does not say so
    cluster.serve(3)
    cluster.placement.leave(2)
    cluster.world["n2:1"].deaf = False
    await cluster.tick()
    assert cluster.world["n2:1"].asked == [Adopt(0, "")] * 2
    assert cluster.owners == (3, 1)
    cluster.agrees()


async def test_a_move_is_tried_once_a_tick() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].dead = True
    await cluster.tick(3)
    assert len(cluster.world["n2:1"].asked) == 3


async def test_a_shard_that_was_refused_stays_where_it_is() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].refuses = True
    await cluster.tick()
    assert cluster.lines == ["node 2 (n2:1) does not take shard 1 from node 1: no memory"]
    assert cluster.world[""].asked == [Adopt(1, "")]  # go on serving
    cluster.agrees()


async def test_who_refuses_three_times_is_asked_no_more() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].refuses = True
    await cluster.tick(10)
    assert len(cluster.world["n2:1"].asked) == 3
    cluster.serve(3)
    await cluster.tick()
    assert cluster.owners == (1, 3)


async def test_who_says_again_that_it_serves_is_no_other_than_before() -> None:
    cluster = Cluster(2)
    cluster.placement.gone(9)
    cluster.serve(2)
    cluster.world["n2:1"].refuses = True
    await cluster.tick(10)
    cluster.serve(2)
    await cluster.tick(3)
    assert cluster.world["n2:1"].asked == [Fence(9)] + [Adopt(1, "")] * 3


async def test_the_home_is_asked_for_ever_to_take_what_a_leaver_has() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    await cluster.tick()
    cluster.world[""].refuses = True
    cluster.placement.leave(2)
    await cluster.tick(10)
    assert cluster.owners == (1, 2)
    cluster.agrees()
    cluster.world[""].refuses = False
    await cluster.tick()
    assert cluster.owners == (1, 1)
    cluster.agrees()


@pytest.mark.parametrize("early", [False, True])
async def test_a_taker_that_dies_in_the_midst_of_a_move_leaves_the_shard_to_its_owner(early: bool) -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.gate, taker.gate_before = asyncio.Event(), early
    await cluster.tick()
    assert cluster.world[""].kept == (set() if early else {1})
    taker.dead = True
    assert cluster.placement.gone(2) == []
    await cluster.tick(3)
    assert cluster.owners == (1, 1)
    assert cluster.world[""].asked == [Fence(2), Adopt(1, "")]
    cluster.agrees()
    assert cluster.failures == []
    cluster.serve(3)
    await cluster.tick(2)  # first it is told of the death
    assert cluster.owners == (1, 3)


async def test_a_shard_is_brought_back_when_its_server_has_heard_that_the_taker_is_dead() -> None:
    """Otherwise the taker, which may live on unheard, could fetch it again from a server that goes on serving it."""
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].gate = asyncio.Event()
    await cluster.tick()
    cluster.world["n2:1"].dead = True
    home = cluster.world[""]
    home.fence_error = RequestFailed(Refusal.BUSY, "later")
    cluster.placement.gone(2)
    await cluster.tick(4)
    assert set(home.asked) == {Fence(2)}
    home.fence_error = None
    await cluster.tick(2)
    assert home.asked[-2:] == [Fence(2), Adopt(1, "")]
    cluster.agrees()


async def test_a_shard_that_came_back_has_a_map_of_its_own() -> None:
    """A node whose push was refused while the shard was given up waits for a map of a later epoch. None came when the
    shard was where it had been, and after 10 s that node gave up the cluster."""
    cluster = Cluster(2)
    cluster.serve(2)
    cluster.world["n2:1"].gate = asyncio.Event()
    await cluster.tick()
    cluster.placement.gone(2)
    changed = asyncio.ensure_future(cluster.placement.changed())
    await cluster.tick(3)
    assert (cluster.owners, cluster.placement.map.epoch, changed.done()) == ((1, 1), 2, True)
    cluster.agrees()


async def test_a_shard_that_nobody_has_any_more_fails_the_run() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    taker, home = cluster.world["n2:1"], cluster.world[""]
    taker.gate = asyncio.Event()
    await cluster.tick()
    taker.dead = True
    home.kept.clear()
    cluster.placement.gone(2)
    await cluster.tick(5)
    assert cluster.failures == ["shard 1 was lost between node 1 and node 2: shard 1 is not here"]


async def test_a_source_that_does_not_answer_is_asked_again_to_go_on() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    await cluster.tick()
    cluster.serve(3)
    cluster.placement.leave(2)
    cluster.world["n3:1"].refuses = cluster.world[""].refuses = True
    cluster.world["n2:1"].deaf = True
    await cluster.tick()
    assert cluster.lines[-1] == "shard 1 is still on its way back to node 2 (n2:1): n2:1: no answer"
    cluster.world["n2:1"].deaf = False
    cluster.world[""].refuses = cluster.world["n3:1"].refuses = False
    cluster.world["n2:1"].asked.clear()
    await cluster.tick()
    assert cluster.world["n2:1"].asked == [Adopt(1, "n2:1")]  # before anybody else is offered it
    assert cluster.owners == (1, 2)
    cluster.agrees()
    await cluster.tick()
    assert cluster.owners != (1, 2)
    cluster.agrees()
    assert cluster.failures == []


async def test_a_source_that_dies_in_the_midst_of_a_move_takes_its_shards_along() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    await cluster.tick()
    cluster.placement.leave(2)
    home = cluster.world[""]
    home.gate, home.gate_before = asyncio.Event(), True
    await cluster.tick()
    cluster.world["n2:1"].dead = True
    assert cluster.placement.gone(2) == [1]
    await cluster.tick(3)
    home.gate.set()
    await cluster.tick(3)
    assert cluster.owners == (1, 2)
    assert [message for message in home.asked if isinstance(message, Adopt)] == [Adopt(1, "n2:1")]


# -- who cannot be reached


async def test_a_server_that_cannot_be_reached_computes_only_and_holds_up_no_move() -> None:
    """Its port is firewalled, and its heartbeats get through: every other move waited for its first one, for ever."""
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.world["n2:1"].firewalled = True
    cluster.serve(3)
    await cluster.tick()
    assert cluster.lines == ["n2:1, node 2, cannot be reached from here: firewall? it computes only (n2:1: no connection within 1 s)"]
    assert cluster.owners == (1, 1, 1, 3, 3, 3)
    cluster.placement.leave(3)
    await cluster.tick()
    assert cluster.owners == (1,) * 6
    assert len(cluster.lines) == 1
    assert cluster.world[""].asked == [Adopt(k, "n3:1") for k in (3, 4, 5)]
    cluster.agrees()


async def test_a_server_is_knocked_at_until_it_can_be_reached() -> None:
    cluster = Cluster(2)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.firewalled = True
    await cluster.tick(4)
    assert taker.asked == [Adopt(1, ""), *[Knock()] * 3]
    taker.firewalled = False
    await cluster.tick(2)
    assert cluster.lines[1:] == ["node 2 (n2:1) can be reached now"]
    assert cluster.owners == (1, 2)
    cluster.agrees()


async def test_a_server_that_cannot_be_told_of_the_dead_is_named() -> None:
    cluster = Cluster(2)
    cluster.placement.gone(9)
    cluster.serve(2)
    cluster.world["n2:1"].firewalled = True
    await cluster.tick(3)
    assert [line.partition(":1, ")[0] for line in cluster.lines] == ["n2"]
    cluster.world["n2:1"].firewalled = False
    await cluster.tick(3)
    assert cluster.world["n2:1"].fenced == [9]
    assert cluster.owners == (1, 2)


async def test_a_taker_that_may_have_heard_and_cannot_be_reached_any_more_is_buried() -> None:
    """It may have the shard: nobody else is asked before it is declared dead and the source has heard so."""
    cluster = Cluster(2)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.deaf = True
    await cluster.tick()
    taker.firewalled = True
    await cluster.tick(4)
    assert (cluster.buried, taker.serves) == ([], {1})
    await cluster.tick()
    assert cluster.buried == [2]
    await cluster.tick(3)
    assert cluster.world[""].asked == [Fence(2), Adopt(1, "")]
    assert cluster.owners == (1, 1)
    assert cluster.failures == []
    cluster.agrees()


async def test_a_shard_of_a_leaver_goes_to_another_taker_where_one_refuses() -> None:
    """One that cannot reach the leaver says so; it was asked three times before the home was."""
    cluster = Cluster([100] * 2)
    cluster.serve(2)
    await cluster.tick()
    cluster.serve(3)
    cluster.world["n3:1"].refuses = True
    cluster.placement.leave(2)
    await cluster.tick(2)
    assert cluster.owners == (1, 1)
    assert [m for m in cluster.world["n3:1"].asked if m.source == "n2:1"] == [Adopt(1, "n2:1")]


async def test_shards_of_a_server_that_some_member_cannot_reach_go_to_others() -> None:
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.serve(3)
    await cluster.tick()
    assert cluster.placement.shun(2, 5, "cannot be reached by node 5 (five)")
    assert cluster.placement.shun(2, 5, "cannot be reached by node 5 (five)")
    await cluster.tick()
    assert sorted(cluster.owners) == [1, 1, 1, 3, 3, 3]
    assert cluster.lines == ["node 2 (n2:1) cannot be reached by node 5 (five): firewall? its shards go to others, it computes only"]
    await cluster.tick(3)
    assert 2 not in cluster.owners
    assert cluster.placement.shun(99, 5, "is gone already")
    cluster.agrees()


async def test_a_server_that_some_could_not_reach_serves_again_when_they_are_gone() -> None:
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.serve(3)
    for who in (5, 6):
        cluster.placement.shun(2, who, f"cannot be reached by node {who}")
    await cluster.tick(2)
    assert sorted(cluster.owners) == [1, 1, 1, 3, 3, 3]
    cluster.placement.gone(5)
    await cluster.tick(2)
    assert 2 not in cluster.owners, "node 6 cannot reach it, and is there"
    cluster.placement.gone(6)
    await cluster.tick(2)
    assert sorted(cluster.owners) == [1, 1, 2, 2, 3, 3]
    assert len(cluster.lines) == 1, "a member that comes and goes makes no line of it each time"
    cluster.agrees()


async def test_who_leaves_is_served_before_who_cannot_be_reached() -> None:
    cluster = Cluster(6)
    cluster.serve(2)
    cluster.serve(3)
    await cluster.tick()
    cluster.placement.shun(2, 5, "cannot be reached")
    cluster.placement.leave(3)
    await cluster.tick()
    assert cluster.owners == (1,) * 6
    assert [m.source for m in cluster.world[""].asked] == ["n3:1"] * 2 + ["n2:1"] * 2


async def test_there_is_nobody_else_for_shards_of_the_home() -> None:
    cluster = Cluster(2)
    assert not cluster.placement.shun(HOME, 5, "cannot be reached")
    assert cluster.lines == []


# -- fences


async def test_every_server_is_told_of_whoever_is_gone() -> None:
    cluster = Cluster(4)
    cluster.serve(2)
    await cluster.tick()
    cluster.placement.gone(3)
    await cluster.tick()
    assert [cluster.world[a].fenced for a in ("", "n2:1")] == [[3], [3]]
    await cluster.tick(3)
    assert [cluster.world[a].fenced for a in ("", "n2:1")] == [[3], [3]]


async def test_a_fence_is_tried_again_until_it_is_answered_or_the_server_is_gone() -> None:
    cluster = Cluster(4)
    cluster.serve(2)
    cluster.serve(3)
    await cluster.tick()
    for node in (2, 3):
        cluster.world[f"n{node}:1"].dead = True
    cluster.placement.gone(4)
    cluster.placement.gone(5)
    await cluster.tick(3)
    assert cluster.world[""].fenced == [4, 5]
    cluster.world["n2:1"].dead = False
    cluster.placement.gone(3)
    await cluster.tick(3)
    assert cluster.world["n2:1"].fenced == [3, 4, 5]
    asked = len(cluster.world["n3:1"].asked)
    await cluster.tick(3)
    assert len(cluster.world["n3:1"].asked) == asked


async def test_a_server_that_does_not_fence_is_told_of_once_and_asked_again() -> None:
    cluster = Cluster(1)
    cluster.world[""].fence_error = RequestFailed(Refusal.WRONG, "what is that")
    cluster.placement.gone(2)
    await cluster.tick(3)
    assert cluster.lines == ["node 1 does not fence node 2: what is that"]
    cluster.world[""].fence_error = None
    await cluster.tick()
    assert cluster.world[""].fenced == [2]


async def test_a_new_server_is_told_of_the_dead_before_it_gets_a_shard() -> None:
    """What a dead member still pushes must not find a server that never heard of its death."""
    cluster = Cluster(2)
    cluster.placement.gone(2)
    await cluster.tick()
    cluster.serve(3)
    cluster.world["n3:1"].deaf = True
    await cluster.tick(3)
    assert set(cluster.world["n3:1"].asked) == {Fence(2)}
    cluster.world["n3:1"].deaf = False
    await cluster.tick(2)
    assert cluster.owners == (1, 3)


async def test_a_slow_server_holds_up_no_fence_of_others() -> None:
    cluster = Cluster(4)
    cluster.serve(2)
    taker = cluster.world["n2:1"]
    taker.gate = asyncio.Event()
    await cluster.tick()  # a move is under way for as long as it likes
    cluster.placement.gone(3)
    await cluster.tick()
    assert [cluster.world[a].fenced for a in ("", "n2:1")] == [[3], [3]]
    await cluster.placement.close()


async def test_what_is_owed_to_a_silent_server_is_bounded() -> None:
    cluster = Cluster(1)
    for node in range(2, 1000):
        cluster.placement.gone(node)
    cluster.serve(1000)
    await cluster.tick(2)
    assert cluster.world["n1000:1"].fenced == list(range(1000 - 256, 1000))


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
