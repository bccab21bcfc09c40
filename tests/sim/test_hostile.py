"""A hostile member in a running cluster: the others train on, end as they should, and say little about it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from support.hostile import Hostile, invade
from support.hostile_seeds import SCHEMES, run_seed

import hogpour as hp
from hogpour.core.job import ClusterConfig
from hogpour.machine.replica import Replica
from hogpour.net.wire.dump import Adopt, Dump
from hogpour.net.wire.gate import Arrive, Arrived, Attend, Commit, Counted
from hogpour.net.wire.held import Held
from hogpour.net.wire.join import Leave, Ready
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.operate import Operate
from hogpour.net.wire.push import Push
from hogpour.net.wire.status import Fence
from hogpour.sim.checks.ablations import SPEAKER
from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import Scenario
from hogpour.sim.simulation import Simulation

pytestmark = pytest.mark.slow

def cluster(algorithm: Any, epochs: int = 8, seed: int = 0, mean_s: float = 0.2) -> Simulation:
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(10)], epochs=epochs, batch=128, algorithm=algorithm,
                 cluster=ClusterConfig(shard_bytes=512))  # fmt: skip
    compute = hp.Compute(distribution="constant", mean_s=mean_s)
    scenario = Scenario(nodes=3, serving=1, join_spread_s=0.0, compute=compute, seed=seed, until_s=600.0)
    return Simulation(job, scenario)


def lines(report: SimulationReport, text: str = "") -> list[str]:
    return [happening.text for happening in report.happenings if text in happening.text]


async def attack(hostile: Hostile, heard: list[tuple[int, str, Any]]) -> None:
    """What a member could once do to the others, on every port."""
    me = await hostile.join()
    beating = asyncio.ensure_future(hostile.beat())
    await asyncio.sleep(2.0)
    await hostile.look()
    home = hostile.others[0]
    for port in (0, 1):
        for other in hostile.others:
            for message, payload in (
                (Fence(other), 0), (Leave(other), 0), (Attend(other, 7, True), 0), (Arrive(other, 0, 1, 0), 0),
                (Lease(other, [], list(range(1000)), 1000), 0), (Ready(other, "s", "d"), 0),
                (Push(0, other, 0, 1 << 40, 0, 1, 1.0), 512),
                *((Dump(shard, True, node), 0) for shard in range(6) for node in (0, me, other)),
                *((Dump(shard, True, me, 1, b"w" * 32), 0) for shard in range(6)),
                (Held(0, me, 0), 0), (Adopt(0, "10.0.0.9:1"), 0),
                (Commit(0, list(range(6)), [Counted(other, 0, 1, 0)], 1.0), 0),
                (Operate(home, 1 << 40, list(range(6)), []), 0),
            ):  # fmt: skip
                heard.append((port, type(message).__name__, await hostile.say(port, message, bytes(payload))))
    heard.append((0, "own", await hostile.say(0, Leave(me))))
    beating.cancel()


def in_others_names(name: str) -> tuple[SimulationReport, list[tuple[int, str, Any]]]:
    simulation, heard = cluster(SCHEMES[name]), list[tuple[int, str, Any]]()
    invade(simulation, 1.0, 60.0, lambda hostile: attack(hostile, heard))
    return simulation.run(), heard


@pytest.mark.parametrize("name", SCHEMES)
def test_no_member_ends_or_holds_up_the_others_in_their_name(name: str) -> None:
    """Each of these left a shard with nobody, threw others out, or had a gate or the first node wait for ever."""
    calm = cluster(SCHEMES[name]).run()
    report, heard = in_others_names(name)
    assert heard[-1][1] == "own"
    assert type(heard.pop()[2]).__name__ == "Ok"
    assert {answer for _, _, answer in heard} <= {"wrong", "fenced", "moved"}
    assert [(node.outcome, node.error, node.lives) for node in report.nodes] == [("finished", "", 1)] * 3
    assert report.points[-1].examples == calm.points[-1].examples
    assert report.points[-1].seconds < calm.points[-1].seconds + 15.0
    assert lines(report, "joined again") == []
    assert lines(report, "handler failed") == []


@pytest.mark.parametrize("name", ["downpour", "ssgd"])
def test_without_who_may_say_what_that_ends_others(name: str) -> None:
    """The safeguard's ablation: no seed of the sweep has a member that says what is not its to say."""
    with SPEAKER.off():
        report, heard = in_others_names(name)
    assert "failed" in [node.outcome for node in report.nodes]
    assert "Fence" in {kind for _, kind, answer in heard if not isinstance(answer, str)}


async def lie(hostile: Hostile) -> None:
    """Take part, and say of gradients that they have arrived which no shard has."""
    me = await hostile.join()
    beating = asyncio.ensure_future(hostile.beat())
    await hostile.say(0, Attend(me, 0, True))
    step = 0
    for sequence in range(1, 20):
        arrived = await hostile.say(0, Arrive(me, 0, sequence, step))
        step += isinstance(arrived, Arrived)
    await hostile.say(0, Leave(me))
    beating.cancel()


@pytest.mark.parametrize("name", ["ssgd", "softsync", "ssp"])
def test_gradients_that_never_came_end_no_run(name: str) -> None:
    """The first shard that lacked one refused the step, which was the end."""
    simulation = cluster(SCHEMES[name])
    hostile = invade(simulation, 1.0, 60.0, lie)
    report = simulation.run()
    assert [(node.outcome, node.error, node.lives) for node in report.nodes] == [("finished", "", 1)] * 3
    told = lines(report, "was not there as it said")
    assert len(told) <= hostile.said["Arrive"]
    assert bool(told) == (name != "ssp"), "whose gate holds no gradients"


@pytest.mark.parametrize("name", ["downpour", "ssgd", "easgd"])
def test_a_node_whose_gradients_are_not_finite_ends_by_its_name_and_the_others_train_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is bad, say. They were applied, and the run ended for everybody: "a lower learning rate may help"."""
    simulation, use = cluster(SCHEMES[name]), Replica.use

    def bad(replica: Replica, batch: int) -> None:
        if simulation.loop.host.name == "10.0.0.2":
            replica._grad[5] = np.inf
        use(replica, batch)

    monkeypatch.setattr(Replica, "use", bad)
    report = simulation.run()
    ends = [(node.node, node.outcome) for node in report.nodes]
    assert ends == [(0, "finished"), (1, "finished"), (2, "failed" if name == "ssgd" else "diverged")]
    said = " holds inf at element 5" if name == "ssgd" else "node 3 (10.0.0.2) cannot go on: the loss is not finite any more"
    assert lines(report, said)
    assert report.points[-1].loss is not None
    assert np.isfinite(report.points[-1].loss)


@pytest.mark.parametrize("seed", range(len(SCHEMES)))
def test_whatever_ten_members_say_the_others_train_on(seed: int) -> None:
    assert run_seed(seed)[0] == []


@pytest.mark.parametrize("seed", [7, 8])
def test_what_ten_members_make_others_hold_is_bounded(seed: int) -> None:
    assert run_seed(seed, memory=True)[0] == []


@pytest.mark.long
@pytest.mark.parametrize("first", range(100, 200, 10))
def test_whatever_a_thousand_members_say_the_others_train_on(first: int) -> None:
    assert {seed: found for seed in range(first, first + 10) if (found := run_seed(seed)[0])} == {}


def test_without_who_may_say_what_a_seed_is_found() -> None:
    with SPEAKER.off():
        assert [seed for seed in range(3) if run_seed(seed)[0]]
