"""What every simulated node trains, read and compiled before time is made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.machine.replica import Replica
from hogpour.sim.world.workload import workload_of


def test_every_size_of_batch_is_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers have other kernels for few examples: compiled in a simulation they would call the real world, in training
    they would stop a replica."""
    sizes: list[int] = []
    compute = Replica.compute

    def watched(self: Replica, order: Any, position: int, batch: int, ticket: int) -> bool:
        sizes.append(batch)
        return compute(self, order, position, batch, ticket)

    monkeypatch.setattr(Replica, "compute", watched)
    rng = np.random.default_rng(0)
    data = hp.arrays(rng.normal(size=(250, 4)), np.arange(250) % 3, validation=0)
    workload_of(hp.Job(data=data, model=[hp.Linear(3)], batch=120, algorithm=hp.Downpour()))
    assert sorted(sizes) == [10, 120]
