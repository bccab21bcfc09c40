"""Sparse examples in whole clusters, in virtual time: leaving out what is 0, or has not changed, changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import hogpour as hp
from hogpour.algos.exchange.accrue import Accrue
from hogpour.algos.exchange.gradient import Gradient
from hogpour.client.client import ParameterClient
from hogpour.core import registry
from hogpour.core.shard_map import cut
from hogpour.node import cluster_run
from hogpour.sim.scenario import DiskConditions, LinkConditions, Scenario
from hogpour.sim.simulation import Simulation

QUIET: dict[str, Any] = {"join_spread_s": 0.0, "disk": DiskConditions(delay_s=0.0), "link": LinkConditions(delay_s=0.0, bandwidth=0.0)}
SCHEMES = ["asgd", "downpour", "ssgd", "softsync", "dc_asgd", "easgd", "local_sgd", "ssp"]
FEATURES = 600


def sparse_job(scheme: Any) -> hp.Job:
    rng = np.random.default_rng(1)
    x = (rng.random((240, FEATURES)) < 3 / np.arange(3, FEATURES + 3)) * rng.normal(size=(240, FEATURES))
    data = hp.arrays(csr_matrix(x), rng.integers(0, 2, 240), validation=0.0)
    return hp.Job(data=data, model=[hp.SparseLinear(1)], loss=hp.Logistic(), algorithm=scheme, epochs=2, batch=4,
                  replicas=1, cluster=hp.ClusterConfig(shard_bytes=1024))  # fmt: skip


def run(job: hp.Job, **scenario: Any) -> tuple[bytes, int]:
    """The parameters at the end, and the bytes that went between nodes."""
    simulation = Simulation(job, Scenario(**QUIET | {"nodes": 3, "compute": hp.Compute(mean_s=1.0)} | scenario))
    report = simulation.run()
    assert report.outcome == "finished"
    count = len(cut(simulation.workload.params.size, 1024)) - 1
    assert count == 3
    shards = [simulation.shard(k) for k in range(count)]
    assert all(shard is not None for shard in shards)
    return b"".join(shard.params.tobytes() for shard in shards), sum(node.bytes_out for node in report.nodes)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("optimiser", [hp.Adagrad(0.1), hp.Adam(0.01)], ids=["adagrad", "adam"])
def test_the_sparse_form_changes_no_bit(name: str, optimiser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = sparse_job(registry.available("scheme")[name](optimiser=optimiser))
    sparse, few = run(job)
    monkeypatch.setattr(cluster_run, "ParameterClient", lambda *args, **more: ParameterClient(*args, **more | {"sparse": False}))
    dense, many = run(job)
    assert sparse == dense
    assert few < many or (name, few) == ("easgd", many)


@pytest.mark.parametrize("scheme", [hp.Downpour(n_push=3, n_fetch=3, optimiser=hp.Adagrad(0.1)),
                                    hp.Downpour(n_push=2, n_fetch=4, optimiser=hp.Sgd(0.1)),
                                    hp.Asgd(optimiser=hp.Ftrl(0.1))], ids=repr)  # fmt: skip
def test_accruing_rows_comes_to_the_bits_of_accruing_all(scheme: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = sparse_job(scheme)
    by_row = run(job)
    for exchange in (Accrue, Gradient):
        monkeypatch.setattr(exchange, "by_rows", False)
    assert run(job) == by_row
