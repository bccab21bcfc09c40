"""Sandblaster in whole clusters, in virtual time: the same bits as serial L-BFGS, whoever computed what, and when."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import hogpour as hp
from hogpour.shards import cut
from hogpour.sim.material import material_of
from hogpour.sim.report import Report
from hogpour.sim.scenario import Death, Link, Scenario, Slow
from hogpour.sim.simulation import Simulation
from tests.batch_ruler import minimise

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


_FIELDS = ("blocks", "l2", "l2_tensors", "memory", "iterations", "gradient", "decrease", "copies", "seconds")


def run(job: hp.Job, **scenario: Any) -> tuple[Report, bytes, Simulation]:
    simulation = Simulation(job, Scenario(**{"nodes": 1, "look_every_s": 1e6, "compute": hp.Compute(mean_s=0.01)} | scenario))
    report = simulation.run()
    count = len(cut(simulation.material.params.size, job.cluster.shard_bytes)) - 1
    return report, b"".join(simulation.shard(k).params.tobytes() for k in range(count)), simulation  # type: ignore[union-attr]


@cache
def serial() -> bytes:
    params, values = minimise(material_of(job_of()))
    assert len(values) > 8
    assert values[-1] < values[0]
    return params.tobytes()


@pytest.mark.parametrize("shards", [1, 2, 5, 9])
def test_one_node_is_serial_lbfgs(shards: int) -> None:
    assert run(job_of(shards))[1] == serial()


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize(("nodes", "serving", "replicas", "shards"), [(2, 0, 1, 1), (3, 0, 4, 3), (3, 2, 2, 9), (5, 1, 3, 2)])
def test_any_number_of_nodes_replicas_and_shards_is(nodes: int, serving: int, replicas: int, shards: int, copies: bool) -> None:
    job = job_of(shards, copies=copies)
    report, found, _ = run(job, nodes=nodes, serving=serving, replicas=replicas)
    assert report.outcome == "finished"
    assert found == serial()


@pytest.mark.parametrize("seed", range(6))
def test_nodes_that_die_in_the_middle_of_a_batch_change_nothing(seed: int) -> None:
    death = Death(every_s=1.5, fraction=0.4, back_s=2.0)
    report, found, simulation = run(
        job_of(3), nodes=4, replicas=2, seed=seed, death=(death,), compute=hp.Compute(distribution="exponential", mean_s=0.02),
        link=Link(jitter_s=0.005, reset_every_s=0.5),
    )  # fmt: skip
    assert report.outcome == "finished"
    assert found == serial()


@pytest.mark.parametrize("at_s", [2.05, 3.3])
def test_a_first_node_that_is_killed_goes_on_from_its_last_iteration(at_s: float) -> None:
    job = job_of(3, save="model.safetensors", save_every_s=0.4)
    report, found, simulation = run(job, resume=True, death=(Death(at_s=at_s, nodes=(0,), back_s=1.0),), replicas=2)
    said = [happening.text for happening in report.happenings]
    assert "begins again from its snapshot" in said
    again = said.index("begins again from its snapshot")
    assert [int(text.split()[1][:-1]) for text in said[again:] if text.startswith("iteration")][0] > 0
    assert report.outcome == "finished"
    assert found == serial()
