"""Weight decay is L2 regularisation, and what is minimised does not depend on what is accrued: at its end a run rests
where the gradient of the mean loss is - weight_decay · w, whatever came in one push. In virtual time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.sim.scenario import Scenario
from hogpour.sim.simulation import Simulation

DECAY = 0.05
SGD = hp.Sgd(0.4, weight_decay=DECAY)
SCHEMES = {
    "a push a gradient": hp.Downpour(optimiser=SGD),
    "4 gradients a push": hp.Downpour(optimiser=SGD, n_push=4, n_fetch=4),
    "16 gradients a push": hp.Downpour(optimiser=SGD, n_push=16, n_fetch=16),
    "4 gradients of one fetch": hp.Downpour(optimiser=hp.Sgd(0.2, weight_decay=DECAY), n_push=4, n_fetch=1),
    "clocks of 8": hp.Ssp(optimiser=SGD, clock_steps=8),
    "momentum": hp.Downpour(optimiser=hp.Momentum(0.2, momentum=0.5, weight_decay=DECAY), n_push=4, n_fetch=4),
    "adagrad": hp.Downpour(optimiser=hp.Adagrad(0.5, weight_decay=DECAY), n_push=4, n_fetch=4),
    "the mean of sums": hp.Custom(exchange=hp.Accrue(4, 4), gate=hp.Barrier(), optimiser=SGD),
    "local steps": hp.LocalSgd(steps=8, inner=SGD),
}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_training_rests_where_the_gradient_is_minus_weight_decay_times_the_parameters(scheme: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 6)).astype(np.float32), rng.integers(0, 3, 32)
    job = hp.Job(data=hp.arrays(x, y), model=[hp.Linear(3)], algorithm=scheme, epochs=400, batch=64)
    simulation = Simulation(job, Scenario(nodes=1))
    assert simulation.run().outcome == "finished"
    shard, workload = simulation.shard(0), simulation.workload
    assert shard is not None
    workspace = workload.network.workspace(len(workload.x), shard.params)
    workspace.x[...] = np.moveaxis(workload.x, 0, -1)
    workspace.forward()
    job.loss.apply(workspace.scores, workload.y, workspace.d_scores)
    workspace.backward()
    assert np.abs(shard.params).max() > 0.3
    np.testing.assert_allclose(workspace.grad, -DECAY * shard.params, rtol=0, atol=1e-4)
