"""Sandblaster in whole clusters, in virtual time: the same bits as serial L-BFGS, whoever computed what, and when."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.reference_lbfgs import minimise

import hogpour as hp
from hogpour.algos.lbfgs.commands import Iteration
from hogpour.algos.schemes.base import Choices
from hogpour.algos.schemes.sandblaster import penalty, rules
from hogpour.core.errors import ConfigError
from hogpour.core.shard_map import cut
from hogpour.node.first_node import FirstNode
from hogpour.sim.checks.witness import Witness
from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import Death, LinkConditions, NodeJoin, ReplicaDeath, Scenario, Slow
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.workload import workload_of

Floats = npt.NDArray[np.float32]
N = 150


def job_of(shards: int = 1, **changes: Any) -> hp.Job:
    rng = np.random.default_rng(1)
    data = hp.arrays(rng.random((N, 8), np.float32), rng.integers(0, 3, N), validation=0.0)
    model = [hp.Linear(10), hp.Sigmoid(), hp.Linear(3)]  # nine lines of 16 numbers
    scheme = {"blocks": 12, "l2": 0.01, "memory": 4} | {k: changes.pop(k) for k in list(changes) if k in _FIELDS}
    cluster = hp.ClusterConfig(shard_bytes={1: 1 << 20, 2: 5 * 64, 3: 3 * 64, 5: 2 * 64, 9: 64}[shards])
    wanted = {"data": data, "model": model, "algorithm": hp.Sandblaster(**scheme), "epochs": 18, "batch": 4,
              "replicas": 1, "cluster": cluster}  # fmt: skip
    return hp.Job(**wanted | changes)


_FIELDS = ("subset", "blocks", "l1", "l2", "l2_tensors", "memory", "iterations", "gradient", "decrease", "copies", "seconds")


def run(job: hp.Job, **scenario: Any) -> tuple[SimulationReport, bytes]:
    """A run, and the bytes of the parameters at its end."""
    wanted = {"nodes": 1, "look_every_s": 1e6, "compute": hp.Compute(mean_s=0.01)}
    simulation = Simulation(job, Scenario(**wanted | scenario))
    with Witness(simulation.loop) as witness:
        simulation.loop.after = witness.look
        report = simulation.run()
        witness.end(report.outcome == "finished", 0)
    assert witness.violations == []
    count = len(cut(simulation.workload.params.size, job.cluster.shard_bytes)) - 1
    shards = [simulation.shard(k) for k in range(count)]
    return report, b"".join(shard.params.tobytes() for shard in shards if shard is not None)


def iterations(report: SimulationReport) -> list[tuple[float, str]]:
    """When the first node spoke of an iteration, and what it said."""
    said = ((happening.seconds, happening.text) for happening in report.happenings)
    return [(at_s, text) for at_s, text in said if text.startswith("iteration")]


@cache
def serial() -> bytes:
    params, values = minimise(workload_of(job_of()))
    assert len(values) > 8
    assert values[-1] < values[0]
    return params.tobytes()


@pytest.mark.parametrize("shards", [1, 2, 5, 9])
def test_one_node_is_serial_lbfgs(shards: int) -> None:
    assert run(job_of(shards))[1] == serial()


def test_without_test_examples_the_loss_of_a_run_is_the_objective_of_its_model() -> None:
    """It was the mean of all losses, of trials that nobody went on from as well."""
    _, values = minimise(workload_of(job_of()))
    simulation = Simulation(job_of(), Scenario(nodes=1, look_every_s=1e6))
    simulation.run()
    summary = simulation.sites[0].lives[0].summary
    assert summary is not None
    assert summary.loss == values[-1]


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize(
    ("nodes", "serving", "replicas", "shards"), [(2, 0, 1, 1), (3, 0, 4, 3), (3, 2, 2, 9), (5, 1, 3, 2)]
)
def test_any_number_of_nodes_replicas_and_shards_is(
    nodes: int, serving: int, replicas: int, shards: int, copies: bool
) -> None:
    report, found = run(job_of(shards, copies=copies), nodes=nodes, serving=serving, replicas=replicas)
    assert report.outcome == "finished"
    assert found == serial()


@pytest.mark.parametrize(("nodes", "replicas", "shards"), [(1, 1, 1), (3, 2, 5)])
@pytest.mark.parametrize("subset", [0.25, 0.6])
def test_steps_that_are_sought_on_a_subset_are_those_of_serial_lbfgs_that_does_so(
    nodes: int, replicas: int, shards: int, subset: float
) -> None:
    job = job_of(shards, subset=subset, epochs=40)
    params, values = minimise(workload_of(job))
    report, found = run(job, nodes=nodes, replicas=replicas, death=(Death(at_s=1.3, nodes=(1,)),) if nodes > 1 else ())
    assert len(values) > 8
    assert found == params.tobytes() != serial()
    counted = report.examples - report.repeated
    assert counted < 40 * N * (subset + 0.5)


@pytest.mark.parametrize(("nodes", "replicas", "shards"), [(1, 1, 1), (3, 2, 5)])
def test_magnitudes_that_cost_make_weights_vanish_as_serial_owl_qn_does(nodes: int, replicas: int, shards: int) -> None:
    job = job_of(shards, l1=0.003, epochs=60)
    params, values = minimise(workload_of(job))
    report, found = run(job, nodes=nodes, replicas=replicas, death=(Death(at_s=1.3, nodes=(1,)),) if nodes > 1 else ())
    assert found == params.tobytes()
    assert len(values) == len(iterations(report)) > 15
    assert values[-1] < values[0]
    layers = workload_of(job).network.spec.tensors
    gone = sum(int((params[t.offset : t.offset + t.size] == 0).sum()) for t in layers if t.name.endswith("weight"))
    assert gone > 10


def test_a_run_with_magnitudes_goes_on_from_its_last_iteration() -> None:
    job = job_of(3, l1=0.003, epochs=30, save="model.safetensors", save_every_s=0.4)
    report, found = run(job, resume=True, death=(Death(at_s=2.05, nodes=(0,), back_s=1.0),), replicas=2)
    assert "begins again from its snapshot" in [h.text for h in report.happenings]
    assert found == minimise(workload_of(job))[0].tobytes()


def test_a_subset_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="subset = 0, expected a share above 0, at most 1"):
        hp.Sandblaster(subset=0)


@pytest.mark.parametrize(("units", "lines", "shards"), [(20, 5, 4), (20, 3, 6), (15, 2, 7)])
def test_other_models_in_four_six_and_seven_shards_are(units: int, lines: int, shards: int) -> None:
    model = [hp.Linear(units), hp.Sigmoid(), hp.Linear(3)]
    job = job_of(model=model, epochs=9, cluster=hp.ClusterConfig(shard_bytes=64 * lines))
    workload = workload_of(job)
    assert len(cut(workload.params.size, job.cluster.shard_bytes)) == shards + 1
    assert run(job, nodes=2, serving=1, replicas=2)[1] == minimise(workload)[0].tobytes()


def test_dropout_draws_the_same_whoever_computes() -> None:
    """A function of the block and the place in it: of the seed, but of no node, replica, copy or evaluation."""
    model = [hp.Linear(10), hp.Dropout(0.3), hp.Sigmoid(), hp.Linear(3)]
    alone, found = run(job_of(1, model=model))
    many, others = run(
        job_of(5, model=model), nodes=4, replicas=3, death=(Death(every_s=0.3, fraction=0.4, back_s=0.3),),
        compute=EXPONENTIAL,
    )  # fmt: skip
    assert (alone.outcome, many.outcome) == ("finished", "finished")
    assert many.deaths > 1
    assert others == found != serial()


EXPONENTIAL = hp.Compute(distribution="exponential", mean_s=0.02)


def deadly(seed: int) -> tuple[SimulationReport, bytes]:
    """Four nodes, of which more than a third is killed again and again, on a network that breaks; a replica, too."""
    death = Death(every_s=0.3, fraction=0.4, back_s=0.3)
    return run(
        job_of((1, 2, 3, 5, 9)[seed % 5]), nodes=4, replicas=1 + seed % 4, seed=seed, death=(death,), compute=EXPONENTIAL,
        replica_death=(ReplicaDeath(every_s=0.7, node=0),), link=LinkConditions(jitter_s=0.005, reset_every_s=0.5),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_nodes_that_die_in_the_middle_of_a_batch_change_nothing(seed: int) -> None:
    report, found = deadly(seed)
    assert report.outcome == "finished"
    assert report.deaths > 5
    assert report.repeated > 0
    assert found == serial()


def test_servers_that_come_and_go_change_nothing() -> None:
    leave = Death(at_s=1.4, nodes=(1,), kind="leave")
    report, found = run(
        job_of(9), nodes=2, serving=1, join=(NodeJoin(at_s=0.9, serving=True),), death=(leave,), replicas=2
    )
    said = [happening.text for happening in report.happenings]
    assert "node 2 (10.0.0.1:7000) left" in said
    assert report.outcome == "finished"
    assert found == serial()


def test_a_node_that_computed_nothing_ends_with_the_model_of_the_cluster() -> None:
    """It had what it joined with: seed 843 of the sweep."""
    simulation = Simulation(job_of(), Scenario(nodes=2, compute=hp.Compute(mean_s=0.01, speeds=(1.0, 1e-6))))
    report = simulation.run()
    assert [node.outcome for node in report.nodes] == ["finished"] * 2
    assert report.nodes[1].examples == 0
    training = simulation.sites[1].lives[0].training
    assert training is not None
    assert training.evaluator.final.params.tobytes() == serial()


@pytest.mark.parametrize("at_s", [2.05, 3.3])
def test_a_first_node_that_is_killed_goes_on_from_its_last_iteration(at_s: float) -> None:
    job = job_of(3, save="model.safetensors", save_every_s=0.4)
    report, found = run(job, resume=True, death=(Death(at_s=at_s, nodes=(0,), back_s=1.0),), replicas=2)
    again = next(h.seconds for h in report.happenings if h.text == "begins again from its snapshot")
    numbers = [int(text.split()[1][:-1]) for at_s, text in iterations(report) if at_s > again]
    assert numbers[0] > 0
    assert report.outcome == "finished"
    assert found == serial()


@pytest.mark.parametrize("at_s", [1.6, 1.8, 2.0, 2.2, 2.4])
def test_a_run_that_fails_keeps_the_point_of_its_last_iteration(at_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a node holds is the point that is tried, which may be far off."""
    points: list[bytes] = []
    told = FirstNode._on_iteration

    def seen(self: FirstNode, iteration: Iteration) -> None:
        told(self, iteration)
        points.append(b"".join(shard.params.tobytes() for k in range(9) if (shard := simulation.shard(k)) is not None))

    monkeypatch.setattr(FirstNode, "_on_iteration", seen)
    death = Death(at_s=at_s, nodes=(1,))
    simulation = Simulation(job_of(9), Scenario(nodes=2, serving=1, look_every_s=1e6, death=(death,),
                                                compute=hp.Compute(mean_s=0.01)))  # fmt: skip
    assert simulation.run().outcome == "failed"
    training = simulation.sites[0].lives[0].training
    assert training is not None
    assert training.evaluator.final.params.tobytes() == points[-1]


@pytest.mark.parametrize("at_s", [2.2, 2.27, 2.35])
def test_a_first_node_that_is_stopped_in_the_middle_of_an_evaluation_goes_on_from_its_last_iteration(at_s: float) -> None:
    """The evaluation that was under way is made again under its number, of another point."""
    job = job_of(3, save="model.safetensors", save_every_s=1e6)
    leave = Death(at_s=at_s, nodes=(0,), back_s=1.0, kind="leave")
    report, found = run(job, resume=True, death=(leave,), replicas=2)
    said = [happening.text for happening in report.happenings]
    assert "begins again from its snapshot" in said
    assert report.outcome == "finished"
    assert found == serial()


@pytest.mark.parametrize("at_s", [3.0, 3.05, 3.07, 3.13, 3.2])
def test_a_stop_ends_the_run_whatever_is_under_way(at_s: float) -> None:
    """Programs take a while here, on a shard that another node serves."""
    scenario = {"nodes": 2, "serving": 1, "join_spread_s": 0.0, "stop_s": at_s, "until_s": 40.0}
    report, _ = run(job_of(3, epochs=200, gradient=0.0, decrease=0.0), link=LinkConditions(delay_s=0.1), **scenario)
    assert report.outcome == "stopped"
    assert report.seconds < at_s + 4


@pytest.mark.long
def test_a_server_may_leave_during_a_long_iteration() -> None:
    leave = Death(at_s=30.0, nodes=(1,), kind="leave")
    report, found = run(job_of(9), nodes=2, serving=1, death=(leave,), compute=hp.Compute(mean_s=5.0), until_s=1e5)
    assert report.outcome == "finished"
    assert found == serial()


def test_addends_near_the_least_float_end_the_run_at_once() -> None:
    x = np.zeros((N, 8), np.float32)
    x[np.arange(N), np.arange(N) % 3] = 1e-30
    data = hp.arrays(x, np.arange(N) % 3, validation=0.0)
    report, _ = run(job_of(1, data=data, model=[hp.Linear(3)], l2=0.0))
    assert report.outcome == "finished"
    assert len(iterations(report)) < 10


def test_a_first_point_that_is_evaluated_again_and_may_not_be_says_what_to_do() -> None:
    x = np.zeros((N, 8), np.float32)
    x[:, 0] = 1e9
    data = hp.arrays(x, np.arange(N) % 3, validation=0.0)
    simulation = Simulation(job_of(data=data, model=[hp.Linear(3)], l2=0.0, epochs=1), Scenario(nodes=1))
    assert simulation.run().outcome == "failed"
    said = simulation.sites[0].lives[0].error
    assert said == ("evaluations made: 1, run.epochs = 1 allows no more; the first point is evaluated again, since its "
                    "gradients are not within 2^10 and 2^-18: allow 2 or more, or scale the data")  # fmt: skip


def batch_s(*, copies: bool, slow: float) -> float:
    """Seconds of an iteration of eight nodes, of which one is slower."""
    rng = np.random.default_rng(1)
    data = hp.arrays(rng.random((1280, 8), np.float32), rng.integers(0, 3, 1280), validation=0.0)
    slowed = Slow(at_s=0.0, for_s=1e6, nodes=(3,), times=slow)
    job = job_of(2, data=data, blocks=128, copies=copies, epochs=8)
    report, _ = run(job, nodes=8, join_spread_s=0.0, slow=(slowed,))
    at = [at_s for at_s, text in iterations(report) if text.endswith("step 1")]
    return median(b - a for a, b in pairwise(at[2:]))


@pytest.mark.long
def test_copies_make_a_straggler_cheap() -> None:
    alike, helped, alone = batch_s(copies=True, slow=1), batch_s(copies=True, slow=10), batch_s(copies=False, slow=10)
    assert helped <= 1.25 * alike
    assert alone > helped


def test_epochs_bound_the_evaluations_and_the_best_point_stays() -> None:
    job = job_of(2, epochs=9)  # the eighth iteration needs two of them
    report, found = run(job, nodes=2)
    params, values = minimise(workload_of(job))
    assert len(values) == len(iterations(report))
    assert found == params.tobytes()
    assert [h.text for h in report.happenings if h.text.startswith("ends")] == ["ends: finished"] * 2


def test_an_objective_that_is_not_finite_at_the_beginning_ends_the_run() -> None:
    x = np.full((N, 8), 3e38, np.float32)
    data = hp.arrays(x, np.arange(N) % 3, validation=0.0)
    report, _ = run(job_of(1, data=data, model=[hp.Linear(10), hp.Relu(), hp.Linear(3)]), nodes=2)
    assert report.outcome == "failed"
    assert "the objective is not finite at the first point" in report.error


def test_more_blocks_than_examples_are_one_for_each_batch() -> None:
    job = job_of(3, blocks=1000, epochs=6)
    report, found = run(job, nodes=3)
    assert found == minimise(workload_of(job))[0].tobytes()
    assert report.outcome == "finished"


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="model_only: a batch method decides by gradients"):
        Simulation(job_of(), Scenario(model_only=True))
    with pytest.raises(ConfigError, match="no tensor has a name that ends so"):
        penalty(hp.Sandblaster(l2=1.0, l2_tensors="wheight"), workload_of(job_of()).network.spec)
    with pytest.raises(ConfigError, match=r"l1_tensors = 'wheight': no tensor has a name that ends so"):
        rules(hp.Sandblaster(l1=1.0, l1_tensors="wheight"), workload_of(job_of()).network.spec)
    with pytest.raises(ValueError, match=r"l1 = 0.1 with subset = 0.5: OWL-QN has no line search"):
        hp.Sandblaster(l1=0.1, subset=0.5)
    with pytest.raises(ValueError, match="leave optimiser and schedule out"):
        hp.Sandblaster(optimiser=hp.Adam(0.1))
    with pytest.raises(ValueError, match="in which nothing is late; leave gate and correction out"):
        Choices(hp.Portion(), gate=hp.Barrier())
    with pytest.raises(ValueError, match="portion sums gradients for a batch method"):
        hp.Custom(exchange=hp.Portion())
