"""What the nodes of a simulated cluster train: a job, its data and its network, read once for all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError
from hogpour.core.job import Job
from hogpour.core.shard_map import LARGEST_SHARD_BYTES
from hogpour.core.spec import ALIGNMENT
from hogpour.data.dataset import Dataset
from hogpour.data.identity import DataIdentity
from hogpour.data.load import Encoding
from hogpour.machine.prepare import Prepared, examine, initialise, rehearse
from hogpour.machine.replica import Replica, live_layout
from hogpour.server.handover import ShardHost
from hogpour.shm.layout import Layout
from hogpour.sim.scenario import Scenario
from hogpour.sim.world.model_only import ModelOnlyNetwork, ModelOnlyReplica, model_only_shards

__all__ = ["Memory", "Workload", "model_only_workload", "workload_of"]


class Memory:
    """Named arrays in plain memory: what a ``shm.segment.Segment`` is in reality."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.arrays = layout.views(np.zeros(layout.size, np.uint8))

    def release(self) -> None:
        """Drop the arrays."""
        self.arrays = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the nodes of a cluster train: the job, its data and its network, read once for all of them."""

    job: Job
    network: Any
    """A ``layers.sequential.Network``, or a ``model_only.ModelOnlyNetwork``."""
    x: npt.NDArray[np.float32] | Csr
    """(n, *shape), or sparse rows; read only, shared by all nodes."""
    y: npt.NDArray[Any]
    test: Dataset | None
    encoding: Encoding
    params: npt.NDArray[np.float32]
    """(n_params,) that a run begins with; copied by each node."""
    replica: type[Replica] = Replica
    """The class of the replicas."""

    def prepare(self, job: Job, replicas: int, block_replicas: int) -> Prepared:
        """Lay out the memory of one node; see ``machine.prepare.prepare``."""
        live = Memory(live_layout(self.network, job.algorithm.replica_rule, replicas, 0, True))
        live.arrays["params"][...] = self.params
        examples = Memory(Layout.pack([]))
        rows = self.x.arrays() if isinstance(self.x, Csr) else {"x": self.x}
        examples.arrays = {**rows, "y": self.y}
        replicas = block_replicas or replicas
        identity = DataIdentity("simulated")
        return Prepared(self.network, live, examples, self.test, self.encoding, replicas, None, identity)  # type: ignore[arg-type]


def workload_of(job: Job) -> Workload:
    """Read a job's data, bind its model, draw its first parameters, and run every kernel once, in real time.

    Raises:
        InputError: they cannot be read, or do not fit each other.
    """
    data, network = examine(job)
    params = network.spec.zeros()
    initialise(job, network, params)
    workload = Workload(
        job=replace(job, data=data, base="/", save=job.save or "model.safetensors"),
        network=network,
        x=data.train.x,
        y=data.train.y,
        test=data.test,
        encoding=data.encoding,
        params=params,
    )
    _warm(workload)
    return workload


MOST_SHARDS = 1 << 14
"""Of a model-only simulation: 10^10 parameters in shards of 4 MB, whose single epoch takes minutes, are 9,537."""


def model_only_workload(job: Job, scenario: Scenario) -> Workload:
    """Return what stands for a job in model-only mode; its data are read for their number.

    Raises:
        InputError: they cannot be read, do not fit each other, or the model is too large.
    """
    full = workload_of(job)
    n = scenario.parameters or full.network.spec.n
    shards = model_only_shards(n, job.cluster.shard_bytes)
    if shards > MOST_SHARDS:
        raise ConfigError(f"a model of {n} parameters is {shards} shards of cluster.shard_bytes = "
                          f"{job.cluster.shard_bytes}, expected at most {MOST_SHARDS}: each is simulated; "
                          f"shard_bytes may be up to {LARGEST_SHARD_BYTES}")  # fmt: skip
    n_examples = len(full.x)
    return replace(
        full,
        # A line for each shard: as many of them as the model is cut into.
        job=replace(full.job, cluster=replace(job.cluster, shard_bytes=4 * ALIGNMENT)),
        network=ModelOnlyNetwork(ALIGNMENT * shards, n, full.network.spec.fingerprint),
        x=np.broadcast_to(np.zeros((1, 1), np.float32), (n_examples, 1)),
        y=np.broadcast_to(np.zeros(1, np.int64), (n_examples,)),
        test=None,
        params=np.zeros(ALIGNMENT * shards, np.float32),
        replica=ModelOnlyReplica,
    )


def _warm(workload: Workload) -> None:
    """Run every kernel once, before virtual time begins: compiling reads the clock."""
    ShardHost(workload.job.algorithm, _nobody)
    rehearse(workload.job, workload.prepare(workload.job, 1, 0), 1)


def _nobody(address: str) -> Any:
    raise AssertionError(f"{address} was asked while kernels are compiled")
