"""Whole clusters in virtual time: what they learn, what happens to them, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from support import reference_sgd

import hogpour as hp
from hogpour.core.errors import ConfigError
from hogpour.data.load import Data
from hogpour.layers.relu import Relu
from hogpour.sim.checks.witness import Witness
from hogpour.sim.scenario import (
    Death,
    DiskConditions,
    LinkConditions,
    NodeJoin,
    Partition,
    Pause,
    ReplicaDeath,
    Scenario,
    Slow,
)
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.sandbox import LeftSimulation
from hogpour.sim.world.workload import Workload, workload_of


@cache
def data() -> Data:
    return hp.load("digits")


def job_of(**changes: Any) -> hp.Job:
    algorithm = hp.Downpour(optimiser=hp.Sgd(0.1))
    wanted = {"model": [hp.Linear(16), hp.Relu(), hp.Linear(10)], "algorithm": algorithm, "epochs": 2, "batch": 32}
    return hp.Job(**{"data": data()} | wanted | changes)


@cache
def workload() -> Workload:
    return workload_of(job_of())


def simulate(job: hp.Job | None = None, **scenario: Any) -> tuple[Simulation, Any]:
    """Run the default job, or another one on the same model."""
    of_job = replace(workload(), job=replace(job, base="/", save=job.save or "m.safetensors")) if job else workload()
    simulation = Simulation(job or job_of(), Scenario(**scenario), workload=of_job)
    with Witness(simulation.loop) as witness:
        simulation.loop.after = witness.look
        report = simulation.run()
        witness.end(report.outcome == "finished", 0)
    assert witness.violations == []
    return simulation, report


def texts(report: Any, node: int) -> list[str]:
    return [h.text for h in report.happenings if h.node == node]


@pytest.mark.parametrize("shard_bytes", [1024, 1 << 20])
@pytest.mark.parametrize("optimiser", [hp.Sgd(0.1), hp.Adagrad(0.05)], ids=lambda o: type(o).__name__)
def test_one_node_with_one_replica_is_plain_sgd_bit_for_bit(optimiser: Any, shard_bytes: int) -> None:
    """The same production code as in reality: the degenerate case gives the same bits here, however it is cut."""
    job = job_of(algorithm=hp.Downpour(optimiser=optimiser), cluster=hp.ClusterConfig(shard_bytes=shard_bytes))
    fresh = workload_of(job)
    simulation = Simulation(job, Scenario(nodes=1), workload=fresh)
    report = simulation.run()
    assert (report.outcome, report.examples) == ("finished", 2 * len(fresh.x))
    expected = reference_sgd.train(fresh.job, fresh.network, fresh.params.copy(), fresh.x, fresh.y)
    found = np.concatenate([simulation.shard(k).params for k in range(len(bounds_of(simulation)) - 1)])
    assert expected.tobytes() == found.tobytes()


def bounds_of(simulation: Simulation) -> tuple[int, ...]:
    return simulation.sites[0].lives[0].endpoint.stats.coordinator.map.bounds


def test_several_nodes_learn_and_everything_is_told() -> None:
    job, compute = job_of(epochs=20), hp.Compute(distribution="exponential", mean_s=0.05)
    _, report = simulate(job, nodes=4, replicas=2, serving=1, compute=compute)
    assert (report.outcome, report.error, report.deaths, report.repeated) == ("finished", "", 0, 0)
    assert report.examples == 20 * len(workload().x)
    assert report.accuracy > 0.9
    assert [node.outcome for node in report.nodes] == ["finished"] * 4
    assert sum(node.examples for node in report.nodes) == report.examples
    assert sum(report.staleness) >= sum(node.examples for node in report.nodes) // 32
    assert report.points[0].examples == 0
    assert report.points[-1].accuracy == report.accuracy
    assert all(a.seconds <= b.seconds for a, b in zip(report.points, report.points[1:]))
    assert 0 < report.waiting < 1
    assert report.bytes == sum(node.bytes_in for node in report.nodes)
    assert json.loads(report.to_json())["trace"] == report.trace


def test_nodes_that_die_and_come_back_lose_nothing() -> None:
    death = (Death(every_s=1.0, fraction=0.5, back_s=0.5), Death(at_s=1.5, nodes=(2,), kind="power"))
    _, report = simulate(nodes=5, death=death, compute=hp.Compute(mean_s=0.2), job=job_of(cluster=fast()))
    assert report.outcome == "finished"
    assert report.deaths >= 4
    assert max(node.lives for node in report.nodes) >= 2
    assert 2 * len(workload().x) <= report.examples <= 2 * len(workload().x) + report.repeated
    assert report.repeated > 0


def fast() -> hp.ClusterConfig:
    return hp.ClusterConfig(lease_s=0.6, give_up_s=1.5)


def test_a_first_node_that_dies_goes_on_from_its_snapshot() -> None:
    job = job_of(cluster=fast(), save_every_s=0.5)
    deaths = (Death(at_s=4.0, nodes=(0,), back_s=3.0, kind="power"), Death(at_s=4.5, nodes=(1,), back_s=4.0))
    _, report = simulate(job, nodes=3, compute=hp.Compute(mean_s=0.2), death=deaths)
    assert report.outcome == "finished"
    assert "begins again from its snapshot" in texts(report, 0)
    assert report.nodes[0].lives == 2
    assert report.nodes[1].outcome == "finished"
    assert report.nodes[2].outcome == "failed"
    assert "the first node" in report.nodes[2].error
    assert report.examples >= 2 * len(workload().x)


def test_a_server_that_dies_ends_the_run_on_every_node_and_says_what_to_go_on_from() -> None:
    job = job_of(cluster=replace(fast(), shard_bytes=1024))
    death = (Death(at_s=3.0, nodes=(1,)),)
    _, report = simulate(job, nodes=3, serving=1, compute=hp.Compute(mean_s=0.2), death=death)
    assert report.outcome == "failed"
    assert report.error.startswith("node 2 (10.0.0.1:7000) is gone; it served shards ")
    assert report.error.endswith("go on with --resume from m.snapshot/1")
    assert report.nodes[2].outcome == "failed"


def test_partitions_pauses_stragglers_joins_and_replica_deaths_happen_when_they_should() -> None:
    _, report = simulate(
        job_of(cluster=hp.ClusterConfig(lease_s=2.0, give_up_s=5.0)),
        nodes=4,
        compute=hp.Compute(mean_s=0.3),
        partition=(Partition(at_s=1.0, for_s=1.0, nodes=(1,)),),
        pause=(Pause(at_s=2.0, for_s=0.5, nodes=(2,)),),
        slow=(Slow(at_s=1.0, for_s=3.0, nodes=(3,), times=4.0),),
        join=(NodeJoin(at_s=2.5, nodes=2),),
        replica_death=(ReplicaDeath(at_s=1.5, node=0),),
    )
    told = {(h.seconds, h.node, h.text) for h in report.happenings}
    assert {
        (1.0, 1, "is cut off from the others"),
        (2.0, 1, "reaches the others again"),
        (2.0, 2, "stands still"),
        (2.5, 2, "goes on"),
        (1.0, 3, "computes 4 times as long from now on"),
        (4.0, 3, "computes 1 times as long from now on"),
        (2.5, 4, "begins"),
        (2.5, 5, "begins"),
        (1.5, 0, "replica 0 is killed"),
    } <= told
    assert report.outcome == "finished"
    assert report.nodes[0].replica_restarts == 1
    assert len(report.nodes) == 6
    assert report.nodes[3].computing_s / report.nodes[3].examples > report.nodes[0].computing_s / report.nodes[0].examples


@pytest.mark.parametrize(("paused", "seconds", "told"), [
    (0, 4.0, ["the first node, 10.0.0.0:7000, has not answered for 2 s: waiting for it, 7 s at most", "the first node answers again, after 4 s"]),
    (0, 1.5, []),
    (1, 4.0, ["stands still", "goes on", "was out of reach for longer than its lease; joined again as node 4, its unfinished blocks are others' now"]),
])  # fmt: skip
def test_who_stands_still_for_the_first_node_says_so_and_who_stood_still_itself_accuses_nobody(
    paused: int, seconds: float, told: list[str]
) -> None:
    """With patience for a long pause a node was silent all the while: nobody knew what it waited for."""
    job = job_of(cluster=hp.ClusterConfig(lease_s=2.0, give_up_s=7.0), epochs=4)
    _, report = simulate(job, nodes=3, pause=(Pause(at_s=3.0, for_s=seconds, nodes=(paused,)),), compute=hp.Compute(mean_s=0.3))
    said = [happening.text for happening in report.happenings if happening.node == 1 and happening.seconds >= 3.0]
    assert [text for text in said if text.startswith("ends: ")] == ["ends: finished"]
    assert [text for text in said if not text.startswith("ends: ")] == told


def test_a_run_that_is_stopped_ends_in_order_on_every_node() -> None:
    _, report = simulate(nodes=3, stop_s=2.0, compute=hp.Compute(mean_s=0.1))
    assert [node.outcome for node in report.nodes] == ["stopped"] * 3
    assert 2.0 <= report.seconds < 4.0
    assert 0 < report.examples < 2 * len(workload().x)


def test_connections_that_break_all_the_time_lose_nothing() -> None:
    link = LinkConditions(reset_every_s=0.1, split_reads=True, window_bytes=4096, jitter_s=0.002)
    _, report = simulate(nodes=4, link=link, compute=hp.Compute(mean_s=0.1))
    assert report.resets > 20
    assert (report.outcome, report.repeated, report.examples) == ("finished", 0, 2 * len(workload().x))


def test_a_slow_disk_delays_snapshots_and_not_the_training() -> None:
    job, compute = job_of(save_every_s=1.0), hp.Compute(mean_s=0.1)
    fast_disk, slow_disk = (
        simulate(job, nodes=2, compute=compute, look_every_s=0.1, disk=DiskConditions(delay_s=delay_s))[1] for delay_s in (0.0, 0.2)
    )
    reached = [next(p.seconds for p in report.points if p.epoch == 2) for report in (fast_disk, slow_disk)]
    assert reached[1] - reached[0] < 0.5
    assert slow_disk.seconds - fast_disk.seconds > 2.0  # the last one is waited for


def test_bytes_of_a_model_only_run_are_those_of_the_real_one() -> None:
    """As many pushes and fetches, and each stands for the whole model, though a line is all that is there."""
    job, scenario = job_of(save=""), Scenario(nodes=2, look_every_s=1e6, compute=hp.Compute(mean_s=0.5))
    real, model_only = (Simulation(job, scenario, model_only=only).run() for only in (False, True))
    assert (model_only.loss, model_only.accuracy) == (None, None)
    assert model_only.examples == real.examples
    assert model_only.seconds == pytest.approx(real.seconds, abs=0.05)
    assert model_only.bytes == pytest.approx(real.bytes, rel=0.02)
    large = Simulation(job, scenario, model_only=True, parameters=10**7).run()
    pushes_and_fetches = 2 * large.nodes[1].examples / 32
    assert large.nodes[1].bytes_in + large.nodes[1].bytes_out == pytest.approx(4e7 * pushes_and_fetches, rel=0.05)


def test_equal_seeds_are_equal_runs_and_different_ones_differ() -> None:
    runs = [simulate(nodes=3, shuffle=True, seed=seed, compute=hp.Compute(distribution="log_normal"))[1] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0].trace != runs[2].trace


def test_what_cannot_be_simulated_is_said_in_a_line() -> None:
    with pytest.raises(ConfigError, match=r'^algorithm: this scheme trains on one machine, and a simulation is of several; set '
                                          r'algorithm\.name = "downpour"$'):  # fmt: skip
        Simulation(job_of(algorithm="hogwild"))
    with pytest.raises(ConfigError, match=r"^scenario: nodes = 0, expected at least 1$"):
        Simulation(job_of(), nodes=0)
    with pytest.raises(ConfigError, match=r"^scenario: .*unexpected keyword argument 'nods'$"):
        Simulation(job_of(), nods=3)


@dataclass(frozen=True)
class Timed(Relu):
    """A layer of somebody's own that looks at a clock."""

    def forward(self, *arguments: Any, **named: Any) -> Any:
        import time

        time.monotonic()
        return super().forward(*arguments, **named)


def test_a_layer_that_reads_a_clock_is_found_out() -> None:
    with pytest.raises(LeftSimulation, match=r"^time\.monotonic was called inside a simulation"):
        Simulation(job_of(model=[hp.Linear(16), Timed(), hp.Linear(10)]), nodes=1).run()


def test_staleness_is_that_of_every_push_where_shards_have_moved_too() -> None:
    """What a server had counted of a shard went with the shard: 405 of 1,350 pushes were in the histogram."""
    job = job_of(cluster=hp.ClusterConfig(shard_bytes=1024))
    simulation, report = simulate(job, nodes=4, serving=3, compute=hp.Compute(mean_s=0.1))
    coordinator = simulation.sites[0].lives[0].endpoint.stats.coordinator
    assert len(set(coordinator.map.owners)) == 1, "they have left, and given them back"
    assert sum(report.staleness) == coordinator.stats.totals.pushes * coordinator.map.n_shards


def test_a_loss_that_is_not_finite_is_none_in_json() -> None:
    job = job_of(algorithm=hp.Downpour(optimiser=hp.Sgd(1e18)))
    _, report = simulate(job, nodes=2)
    assert report.loss is None
    assert "NaN" not in report.to_json()


def test_a_simulation_runs_once() -> None:
    simulation, _ = simulate(nodes=1)
    with pytest.raises(hp.HogpourError, match=r"^a simulation runs once: make another one of the same job and scenario$"):
        simulation.run()


def test_a_slip_of_the_hand_is_told_and_not_waited_for() -> None:
    with pytest.raises(ConfigError, match=r"^scenario: nodes = 5000, expected at most 2048$"):
        Simulation(job_of(), nodes=5000)
    with pytest.raises(ConfigError, match=r"^scenario: replicas = 5000000, expected at most 1024$"):
        Simulation(job_of(), replicas=5_000_000)
