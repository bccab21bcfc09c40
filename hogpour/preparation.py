"""Before training: everything that can be wrong with a job is found here, and its segments are laid out and filled.

Runs on a thread of its own while replica processes import. Nothing is written to disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hogpour import checkpoint, cpu
from hogpour.checkpoint import TrainingState
from hogpour.config import DataConfig, Job
from hogpour.data import Data, Dataset, Encoding, load
from hogpour.errors import ConfigError, LayoutError
from hogpour.layers.sequential import Network
from hogpour.model import Model
from hogpour.portions import generator
from hogpour.replica import live_layout, network_of
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import Control
from hogpour.shm.layout import Layout
from hogpour.shm.segment import Segment

__all__ = ["Prepared", "count_replicas", "prepare"]

_PARAMS = 5  # first number of the key of the stream that the initial parameters are drawn from


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run begins with. The segments belong to the caller, who closes them."""

    network: Network
    live: Segment
    """Arrays of ``replica.live_layout``, filled: initial or resumed parameters, optimiser rows, tickets."""
    examples: Segment
    """Arrays x and y: the training examples, scaled and shuffled."""
    test: Dataset | None
    encoding: Encoding
    block_replicas: int
    """Decides the cutting of an epoch into blocks; a resumed run keeps that of the first one."""
    state: TrainingState | None
    """Where the resumed run stood; None for a new one."""


def count_replicas(job: Job) -> int:
    """Return how many replicas a job runs: what it says, else one for each core, or one where the scheme has one.

    Raises:
        ConfigError: the scheme does not run with so many.
    """
    replicas = job.replicas
    if not replicas:
        replicas = cpu.cores()
        try:
            job.algorithm.check_replicas(replicas)
        except ValueError:
            replicas = 1
    try:
        job.algorithm.check_replicas(replicas)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return replicas


def prepare(job: Job, replicas: int, resume: bool, fds: tuple[int, int]) -> Prepared:
    """Read the data, bind the model, resume where asked, and fill the segments.

    Args:
        fds: empty anonymous files, already inherited by the replicas: for the live segment and for the examples. They
            belong to the segments when this returns; when it raises, to the caller.

    Raises:
        InputError: the job, its data, its model file or the machine do not fit.
    """
    data = _load(job)
    network = network_of(job, data.train.x.shape[1:])
    _check_outputs(job, network, data)
    stored = _resumed(job, network, data, replicas) if resume else None
    pending = stored[1].pending if stored else ()
    layout = live_layout(network, job.algorithm.optimiser, replicas, len(pending))
    live = Segment.create(layout, f"the live vector of {network.spec.n} parameters", fds[0])
    params = live.arrays["params"]
    if stored:
        model, state = stored
        params[...] = model.params
        for name, row in state.rows.items():
            live.arrays[name][...] = row
        live.arrays["pending"][...] = np.array(pending, np.int64).reshape(-1, 2)
        Control(live.arrays["control"]).tickets_taken = state.tickets
        Clocks(live.arrays["counters"], live.arrays["sums"]).set_steps(state.steps)
    else:
        network.init(params, generator(job.seed, _PARAMS))
    return Prepared(
        network,
        live,
        _fill(data.train, fds[1]),
        data.test,
        data.encoding,
        stored[1].block_replicas if stored else replicas,
        stored[1] if stored else None,
    )


def _resumed(job: Job, network: Network, data: Data, replicas: int) -> tuple[Model, TrainingState]:
    """Read the job's model file and check that this job can go on from it."""
    path, optimiser = job.save, job.algorithm.optimiser
    if not path:
        raise ConfigError("--resume: run.model is empty, expected the path of a model file")
    model, state = checkpoint.load(path)
    if model.network.spec != network.spec:
        raise LayoutError(f"model file {path}: {_first_difference(model.network, network)}")
    if state is None:
        raise LayoutError(f"model file {path}: has no training state (its run diverged, or it was exported)")
    if (state.n, model.job.batch) != (len(data.train.x), job.batch):
        raise LayoutError(f"model file {path}: was trained on {state.n} examples in batches of {model.job.batch}, "
                          f"the job has {len(data.train.x)} in batches of {job.batch}")  # fmt: skip
    stored_rows, wanted_rows = {name.partition(".")[0] for name in state.rows}, {row.name for row in optimiser.state}
    if stored_rows != wanted_rows:
        raise LayoutError(f"model file {path}: holds optimiser rows {', '.join(sorted(stored_rows)) or 'none'}; the "
                          f"job's optimiser needs {', '.join(sorted(wanted_rows)) or 'none'}")  # fmt: skip
    known = {field.name for field in live_layout(network, optimiser, replicas, 0).fields}
    rows = {name: row for name, row in state.rows.items() if name in known}  # without those of replicas that are gone
    return model, replace(state, rows=rows)


def _load(job: Job) -> Data:
    if not isinstance(job.data, DataConfig):
        return job.data
    c = job.data
    return load(
        c.train,
        c.test or None,
        base=Path(job.base),
        format=c.format,
        scale=c.scale,
        label=c.label,
        ignore=c.ignore,
        validation=c.validation,
        n_features=c.n_features,
        targets=job.loss.targets,
        seed=job.seed,
    )


def _check_outputs(job: Job, network: Network, data: Data) -> None:
    train, loss = data.train, type(job.loss).__name__
    labels = job.loss.targets == "labels"
    n = train.n_labels if labels else (train.y.shape[1] if train.y.ndim == 2 else 1)
    fitting = job.loss.n_outputs(n)
    if network.output_shape[0] not in fitting:
        last = network.stages[-1].name
        raise ConfigError(
            f"model: layer {last}: gives {network.output_shape[0]} scores, {loss} needs "
            f"{' or '.join(map(str, fitting))} for the {n} {job.loss.targets} of {train.source}"
        )


def _fill(train: Dataset, fd: int) -> Segment:
    layout = Layout.pack([("x", train.x.shape, train.x.dtype), ("y", train.y.shape, train.y.dtype)])
    segment = Segment.create(layout, f"the {train.n} examples of {train.source}", fd)
    segment.arrays["x"][...] = train.x
    segment.arrays["y"][...] = train.y
    return segment


def _first_difference(stored: Network, wanted: Network) -> str:
    for a, b in zip(stored.spec.tensors, wanted.spec.tensors, strict=False):
        if a != b:
            return f"holds {a.name} {a.shape} where the job has {b.name} {b.shape}"
    return f"holds {len(stored.spec.tensors)} tensors, the job has {len(wanted.spec.tensors)}"
