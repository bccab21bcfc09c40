"""The coordinator: members, their blocks, what it counts and tells."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest
from support.cluster import LEASE_S, SECRET, Cluster, settle

import hogpour as hp
from hogpour.algos.gate.barrier import Barrier
from hogpour.cluster.leases import LedgerState
from hogpour.core.cluster_state import ClusterState
from hogpour.core.node_id import MOST_MEMBERS
from hogpour.net.credentials import Issuer, credential
from hogpour.net.wire.base import Ok
from hogpour.net.wire.gate import Arrive, Attend
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.join import Join, Joined, Leave, Ready
from hogpour.net.wire.lease import Lease, Leased
from hogpour.net.wire.status import Described, Status

# -- joining and becoming ready


async def test_a_member_gets_a_number_and_the_terms() -> None:
    cluster = Cluster()
    joined = await cluster.ask(Join("a", ""))
    issuer = Issuer(SECRET, 1)
    shown = [credential(issuer.key(1), 2)]
    assert joined == Joined(2, b"{}", "/base", 3, LEASE_S, 10.0, hp.__version__, issuer.key(2), [""], shown)
    assert (await cluster.ask(Join("a", ""))).node == 3
    await cluster.begin()
    assert len(cluster.coordinator.members) == 3
    assert cluster.coordinator.members.next == 4
    assert cluster.lines == ["node 2 (a) joined", "node 3 (a) joined"]


@pytest.mark.parametrize(
    ("ready", "text"),
    [
        (
            Ready(2, "model-b", "data-a"),
            "node 2 (a) makes another model of the same job and data (model-b instead of model-a): "
            "install the version of hogpour, and of layers of your own, that the first node has",
        ),
        (  # another number of features makes another model, and is no matter of versions
            Ready(2, "model-b", "data-b", "8 examples", "b.csv"),
            "node 2 (a) has other data than the cluster: 8 examples (b.csv); the cluster has 9 examples (a.csv)",
        ),
        (
            Ready(2, "model-a", "data-b", "9 examples", "b.csv"),
            "node 2 (a) has other data than the cluster: both have 9 examples, but other values: "
            "its b.csv is not the first node's a.csv; copy that file",
        ),
    ],
)
async def test_whoever_has_another_model_or_other_data_gets_no_block_and_no_shard(ready: Ready, text: str) -> None:
    cluster = Cluster()
    await cluster.ask(Join("a", ""))
    for _ in range(2):
        assert await cluster.refused(ready) == ("wrong", text)
    assert cluster.lines[1:] == [text]
    assert await cluster.refused(Lease(2, [], [], 1)) == ("wrong", "node 2 (a) asks for blocks and is not ready")
    await cluster.tick()
    assert cluster.coordinator.map.epoch == 1


async def test_versions_are_told_apart_on_joining_and_in_the_status() -> None:
    cluster = Cluster()
    await cluster.begin()
    await cluster.ask(Join("a", "", hp.__version__))
    await cluster.ask(Join("b", "", f"9.{'9' * 90}"))
    assert cluster.lines == ["node 2 (a) joined", f"node 3 (b) joined; it runs hogpour 9.{'9' * 38}, this node {hp.__version__}"]
    assert [member.version for member in cluster.coordinator.state(0.0).members] == ["1.0", hp.__version__, f"9.{'9' * 38}"]


async def test_an_address_that_is_none_is_refused() -> None:
    code, text = await Cluster().refused(Join("a", "nowhere"))
    assert code == "wrong"
    assert text.startswith("address 'nowhere': expected host:port")


async def test_an_address_where_a_member_serves_is_refused() -> None:
    """Two nodes behind one address would be given each other's shards."""
    cluster = Cluster()
    await cluster.begin()
    await cluster.join("n2:1")
    await cluster.tick()
    assert await cluster.refused(Join("b", "n2:1")) == ("busy", "node 2 (a name) serves at n2:1 and was heard 0.1 s ago")
    assert (await cluster.refused(Join("b", "10.0.0.1:7000")))[0] == "busy"
    assert await cluster.join() == 3
    assert await cluster.join() == 4
    cluster = Cluster()
    await cluster.local.request(Join("home", "10.0.0.1:7000"), deadline_s=1.0)
    assert (await cluster.refused(Join("b", "10.0.0.1:7000")))[0] == "busy"  # though it is not ready yet


async def test_a_join_whose_answer_was_lost_leaves_no_ghost() -> None:
    cluster = Cluster()
    await cluster.ask(Join("a", "n2:1"))
    assert (await cluster.ask(Join("a", "n2:1"))).node == 3
    assert len(cluster.coordinator.members) == 2
    assert (await cluster.refused(Ready(2, "model-a", "data-a")))[0] == "fenced"


async def test_the_number_of_members_is_bounded() -> None:
    cluster = Cluster()
    for _ in range(MOST_MEMBERS - 1):
        await cluster.ask(Join("a", ""))
    assert await cluster.refused(Join("a", "")) == ("busy", "the cluster has 2048 nodes already")


async def test_nobody_joins_a_run_that_has_ended() -> None:
    cluster = Cluster()
    cluster.coordinator.stop("asked")
    assert await cluster.refused(Join("a", "")) == ("ended", "the run has ended: asked")
    cluster.coordinator.fail("a disk is full")
    assert await cluster.refused(Join("a", "")) == ("wrong", "the run has failed: a disk is full")


async def test_a_number_that_is_no_members_is_fenced() -> None:
    cluster = Cluster()
    await cluster.begin()
    beat = Heartbeat(2, 1, 1, 1, 1.0, 1, 1.0)
    for message in (Ready(2, "model-a", "data-a"), beat, Lease(2, [], [], 1), Leave(2)):
        code, text = await cluster.refused(message)
        assert code == "fenced"
        assert text.startswith("node 2 is no member of the cluster")


# -- blocks


async def test_blocks_are_leased_and_reported() -> None:
    cluster = Cluster()
    await cluster.begin()
    node = await cluster.join()
    assert await cluster.lease(1, 2) == Leased([0, 1], False)
    assert await cluster.lease(node, 2) == Leased([2, 3], False)
    assert await cluster.lease(1, 1, [1], [0]) == Leased([4], False)
    assert await cluster.lease(node, 0, [2], [3]) == Leased([], False)
    assert await cluster.lease(node, 1) == Leased([2], False)  # an answer was lost
    assert (cluster.ledger.done, cluster.ledger.leased) == (2, 3)


async def test_who_can_take_part_in_no_gate_is_refused() -> None:
    """Others would wait for it."""
    cluster = Cluster()
    await cluster.begin()
    code, text = await cluster.refused(Attend(1, 0, True))
    assert (code, text.partition(" takes part")[0]) == ("wrong", "node 1 (10.0.0.1:7000)")
    cluster = Cluster(gate=Barrier())
    await cluster.begin()
    assert await cluster.ask(Attend(1, 0, True)) == Ok()
    for message in (Attend(1, -1, True), Attend(1, 1024, True), Arrive(1, -1, 1, 0), Arrive(1, 0, 0, 0),
                    Arrive(1, 0, 1, 1), Arrive(1, 0, 1, -1)):  # fmt: skip
        assert (await cluster.refused(message))[0] == "wrong"


async def test_the_run_finishes_when_every_block_is_reported() -> None:
    cluster = Cluster()
    await cluster.begin()
    node = await cluster.join()
    assert (await cluster.lease(1, 9)).tickets == list(range(9))
    assert await cluster.lease(node, 9) == Leased([9], False)
    assert await cluster.lease(1, 1, [], list(range(9))) == Leased([], False)  # the other one may yet die
    await cluster.tick()
    assert (await cluster.beat(1)).command == "run"
    assert await cluster.lease(node, 1, [], [9]) == Leased([], True)
    assert (await cluster.beat(1)).command == "finish"  # at once: who was told so asks next whether it was all
    assert await cluster.lease(1, 1) == Leased([], True)


async def test_a_run_that_is_resumed_at_its_end_is_finished() -> None:
    cluster = Cluster(state=LedgerState(10))
    await cluster.begin()
    await cluster.tick()
    assert (await cluster.beat(1)).command == "finish"


async def test_a_run_that_is_stopped_grants_nothing_more_and_still_counts_what_is_done() -> None:
    cluster = Cluster()
    await cluster.begin()
    await cluster.lease(1, 2)
    cluster.coordinator.stop("Ctrl+C")
    assert await cluster.lease(1, 2, [1], [0]) == Leased([], True)
    assert cluster.ledger.state() == LedgerState(2, (1,))
    beaten = await cluster.beat(1)
    assert (beaten.command, beaten.reason) == ("stop", "Ctrl+C")


async def test_a_failure_replaces_a_stop_and_nothing_replaces_a_failure() -> None:
    cluster = Cluster()
    cluster.coordinator.stop("one")
    cluster.coordinator.stop("two")
    assert cluster.coordinator.reason == "one"
    cluster.coordinator.fail("three")
    cluster.coordinator.stop("four")
    cluster.coordinator.fail("five")
    assert (cluster.coordinator.command, cluster.coordinator.reason) == ("fail", "three")


# -- totals


async def test_totals_are_of_all_members_that_ever_were() -> None:
    cluster = Cluster(state=LedgerState(3))
    await cluster.begin()
    node = await cluster.join()
    await cluster.beat(1, 100, right=50, loss=10.0, pushes=4, staleness=6.0)
    beaten = await cluster.beat(node, 60, right=20, loss=5.0, pushes=2, staleness=3.0, replicas=5)
    assert beaten == HeartbeatReply("run", "", 1, False, 2, 460, 1.0)  # 300 of an earlier run
    assert cluster.coordinator.stats.replicas == 7
    cluster.silent.add(node)
    await cluster.live(LEASE_S)
    assert len(cluster.coordinator.members) == 1
    assert cluster.coordinator.stats.replicas == 2
    totals = cluster.coordinator.stats.totals
    assert (totals.examples, totals.right, totals.loss, totals.pushes, totals.mean_staleness) == (160, 70, 15.0, 6, 1.5)


async def test_a_heartbeat_that_was_overtaken_takes_nothing_back() -> None:
    cluster = Cluster()
    await cluster.begin()
    await cluster.beat(1, 100, pushes=4)
    await cluster.beat(1, 90, pushes=4)
    await cluster.beat(1, 100, pushes=3)
    assert (cluster.coordinator.stats.totals.examples, cluster.coordinator.stats.totals.pushes) == (100, 4)


async def test_rates_are_measured_over_a_second() -> None:
    cluster = Cluster(state=LedgerState(3))
    await cluster.begin()
    node = await cluster.join()
    await cluster.tick(4)
    await cluster.beat(1, 100)
    await cluster.beat(node, 300)
    await cluster.tick(4)
    state = cluster.coordinator.state(cluster.clock.now)
    assert (state.rate, [member.rate for member in state.members]) == (400.0, [100.0, 300.0])
    await cluster.tick(16)
    state = cluster.coordinator.state(cluster.clock.now)
    assert (state.rate, [member.rate for member in state.members]) == (0.0, [0.0, 0.0])


# -- status


async def test_status_tells_what_the_cluster_does() -> None:
    cluster = Cluster(2)
    await cluster.begin()
    node = await cluster.join("n2:1")
    loading = (await cluster.ask(Join("third", ""))).node
    await cluster.tick()
    await cluster.lease(node, 3)
    await cluster.lease(node, 0, [1, 2], [0])
    await cluster.beat(node, 150, right=75, loss=30.0, pushes=2, staleness=3.0)
    cluster.clock.now += 0.5
    described = await cluster.ask(Status())
    assert isinstance(described, Described)
    state = msgspec.json.decode(described.state, type=ClusterState)
    assert state == cluster.coordinator.state(cluster.clock.now)
    assert (state.command, state.reason, state.warming) == ("run", "", False)
    assert (state.epoch, state.bounds, state.owners) == (2, (0, 100, 200), (1, 2))
    assert (state.tickets_done, state.tickets_leased, state.tickets_free) == (1, 2, 7)
    assert (state.examples_done, state.examples_repeated, state.examples) == (100, 0, 150)
    assert (state.loss, state.right, state.pushes, state.mean_staleness) == (0.2, 75, 2, 1.5)
    assert [(m.node, m.name, m.address, m.phase, m.shards, m.tickets) for m in state.members] == [
        (1, "home", "10.0.0.1:7000", "ready", 1, 0),
        (2, "a name", "n2:1", "ready", 1, 2),
        (loading, "third", "", "loading", 0, 0),
    ]
    assert [m.silent_s for m in state.members] == [0.625, 0.5, 0.625]
    assert (state.members[1].replicas, state.members[1].examples) == (2, 150)
    leaving = asyncio.ensure_future(cluster.ask(Leave(node)))
    await settle()
    assert cluster.coordinator.state(cluster.clock.now).members[1].phase == "leaving"
    await cluster.tick()
    await leaving


async def test_status_can_be_read_where_nothing_is_known_or_the_loss_is_no_number() -> None:
    cluster = Cluster()
    state = msgspec.json.decode((await cluster.ask(Status())).state, type=ClusterState)
    assert (state.loss, state.mean_staleness) == (None, None)
    await cluster.beat(1, 100, loss=math.nan)
    state = msgspec.json.decode((await cluster.ask(Status())).state, type=ClusterState)
    assert state.loss is None


async def test_status_of_the_largest_cluster_fits_its_message() -> None:
    cluster = Cluster(1000)
    for _ in range(MOST_MEMBERS - 1):
        await cluster.ask(Join("n" * 900, ""))
    assert len(msgspec.msgpack.encode(await cluster.ask(Status()))) < Described.BODY_LIMIT
