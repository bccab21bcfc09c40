"""Before training: everything that can be wrong with a job is found here, and its segments are laid out and filled.

Runs on a thread of its own while replica processes import. Nothing is written to disk.

Then everything that a run will do is rehearsed, so that every kernel is compiled before replicas begin; a layer or loss
of the user's own fails there, in this process, with one clear line.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import ReplicaView, Traffic
from hogpour.core import host
from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError, HogpourError, LayoutError, ResourceError
from hogpour.core.job import DataConfig, Job
from hogpour.core.kernels.vector import vector_copy
from hogpour.data.blocks import Blocks, generator, piece
from hogpour.data.identity import DataIdentity
from hogpour.data.load import Data, Dataset, Encoding, load
from hogpour.layers.sequential import Network, network_of
from hogpour.machine.replica import Replica, examples_of, live_layout, optimiser_rows
from hogpour.model import model_file
from hogpour.model.description import Description
from hogpour.model.model import Model
from hogpour.model.training_state import TrainingState
from hogpour.shm.accrual import Accrual, list_sealed, release
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import Control
from hogpour.shm.layout import Layout
from hogpour.shm.mailbox import Mailbox
from hogpour.shm.params import params_finite
from hogpour.shm.queue import TicketQueue
from hogpour.shm.segment import Segment

__all__ = ["Prepared", "count_replicas", "examine", "initialise", "prepare", "rehearse"]

_PARAMS = 5  # first number of the key of the stream that the initial parameters are drawn from


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run begins with. The segments belong to the caller, who closes them."""

    network: Network
    live: Segment
    """Arrays of ``live_layout``, filled: initial or resumed parameters, optimiser rows, tickets."""
    examples: Segment
    """Arrays x and y: the training examples, scaled and shuffled."""
    test: Dataset | None
    encoding: Encoding
    block_replicas: int
    """Decides the cutting of an epoch into blocks; a resumed run keeps that of the first one."""
    state: TrainingState | None
    """Where the resumed run stood; None for a new one."""
    identity: DataIdentity
    """Of the training examples, so that all nodes of a cluster train on the same; empty on a machine alone."""
    changed: str = ""
    """What the run that is resumed was trained with, and this one is not; empty: all is the same."""

    @property
    def n(self) -> int:
        """Training examples."""
        return len(self.examples.arrays["y"])

    def blocks(self, job: Job) -> Blocks:
        """Return how the examples are cut into blocks."""
        x, _ = examples_of(self.network, self.examples.arrays)
        return Blocks(self.n, job.batch, self.block_replicas, job.epochs, job.algorithm.batch_blocks, piece(x))


def count_replicas(job: Job) -> int:
    """Return how many replicas a job runs: what it says, else one for each core, or one where the scheme has one.

    Raises:
        ConfigError: the scheme does not run with so many.
    """
    replicas = job.replicas
    if not replicas:
        replicas = host.cores()
        try:
            job.algorithm.check_replicas(replicas)
        except ValueError:
            replicas = 1
    try:
        job.algorithm.check_replicas(replicas)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return replicas


def prepare(job: Job, replicas: int, resume: bool, fds: tuple[int, int], block_replicas: int = 0) -> Prepared:
    """Read the data, bind the model, resume where asked, and fill the segments.

    Args:
        block_replicas: decides the cutting into blocks, for a node that joins others; 0: as this node would.
        fds: empty anonymous files, already inherited by the replicas: for the live segment and for the examples. They
            belong to the segments when this returns; when it raises, to the caller.

    Raises:
        InputError: the job, its data, its model file or the machine do not fit.
    """
    data, network = examine(job)
    federated = job.algorithm.federated
    # A cluster goes on from a snapshot of its shards, which the first node reads (``node.shard_start``).
    stored = _resumed(job, network, data, replicas) if resume and not federated else None
    pending = stored[1].pending if stored else ()
    layout = live_layout(network, job.algorithm.replica_rule, replicas, len(pending), federated)
    live = Segment.create(layout, f"the live vector of {network.spec.n} parameters", fds[0])
    params = live.arrays["params"]
    if stored:
        params[...], state, _ = stored
        for name, row in state.rows.items():
            live.arrays[name][...] = row
        live.arrays["pending"][...] = np.array(pending, np.int64).reshape(-1, 2)
        Control(live.arrays["control"]).tickets_taken = state.tickets
        Clocks(live.arrays["counters"], live.arrays["sums"]).set_steps(state.steps)
    else:
        initialise(job, network, params)
    examples = _fill(data.train, fds[1])
    return Prepared(
        network,
        live,
        examples,
        data.test,
        data.encoding,
        stored[1].block_replicas if stored else block_replicas or replicas,
        stored[1] if stored else None,
        DataIdentity.of(data.train) if federated else DataIdentity(""),
        stored[2] if stored else "",
    )


def examine(job: Job) -> tuple[Data, Network]:
    """Read the data of a job and bind its model to them.

    Raises:
        InputError: they cannot be read, or do not fit each other.
    """
    data = _load(job)
    _check_input(job, data)
    with _blaming(job):
        network = network_of(job, data.train.shape)
    _check_kind(network, data.train)
    with _blaming(job):
        for dataset in filter(None, (data.train, data.test)):
            network.check_examples(dataset.x, dataset.source, dataset.rows)
    _check_outputs(job, network, data)
    return data, network


def initialise(job: Job, network: Network, params: npt.NDArray[np.float32]) -> None:
    """Draw the parameters that a new run begins with, into (n,) ``params``."""
    with _blaming(job):
        network.init(params, generator(job.seed, _PARAMS))


@np.errstate(all="ignore")  # as in a replica
def rehearse(job: Job, ready: Prepared, threads: int) -> None:
    """Run every kernel that the run will use, on memory of its own.

    Raises:
        ConfigError: a step of the model fails; the message says where.
        ResourceError: there is not enough memory for a step.
    """
    try:
        layout = live_layout(ready.network, job.algorithm.replica_rule, 1, 0, job.algorithm.federated)
        live = layout.views(bytearray(layout.size))
        vector_copy(live["params"], ready.live.arrays["params"])
        x, y = examples_of(ready.network, ready.examples.arrays)
        # The last batch of an epoch is smaller, and layers have other kernels for few examples than for many.
        for few in {len(x) % job.batch, min(len(x), job.batch)} - {0}:
            some = x.rows(0, few) if isinstance(x, Csr) else x[:few]
            replica = Replica(job, ready.network, live, some, y[:few], 0, block_replicas=1, threads=threads)
            replica.order(0, 0, few)
            if replica.compute(np.arange(few), 0, few, 0) and few == min(len(x), job.batch):
                replica.use(few)
        if job.algorithm.federated:
            exchange, grad = job.algorithm.choices().exchange, np.zeros_like(live["params"])
            rows = optimiser_rows(live, job.algorithm.replica_rule, 0)
            view = ReplicaView(live["params"], rows, job.algorithm.replica_rule)
            view.accrued, view.n_accrued, view.scratch = grad.copy(), 1, np.empty((2, grad.size), np.float32)
            exchange.on_gradient(view, grad)
            exchange.on_params(live["params"], grad)
            grad.flags.writeable = False  # as what this node's own server hands out: numba compiles that apart
            exchange.on_params(live["params"], grad)
            if exchange.traffic is Traffic.PULLED:
                for fetched in (grad, grad.copy()):
                    exchange.pull(live["params"], fetched, view.accrued, [live["params"]], 0.0)
            _rehearse_words(live)
        params_finite(live["params"])
        control = Control(live["control"])
        control.take_ticket(lambda ticket: None)
        control.stop()
        if ready.test is not None:
            model = Model(job, ready.network, live["params"], ready.encoding)
            model.evaluate(ready.test, iter([True, False]).__next__)  # one batch of it
    except HogpourError:
        raise
    except MemoryError as error:
        raise ResourceError(f"a step with run.batch = {job.batch} does not fit into memory") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not any(_is_theirs(job, frame.filename) for frame in frames):
            raise  # a bug of ours
        place = frames[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        raise ConfigError(f"the first step fails in {where}: {type(error).__name__}: {error}") from error


def _is_theirs(job: Job, filename: str) -> bool:
    """Whether this file, or cell of a notebook, defines a layer or the loss of a job, and is not ours."""
    classes = [cls for part in (*job.model, job.loss) for cls in type(part).__mro__]
    methods = [method for cls in classes for method in vars(cls).values() if hasattr(method, "__code__")]
    files = {method.__code__.co_filename for method in methods}
    return filename in files and not Path(filename).is_relative_to(Path(__file__).parents[1])


def _rehearse_words(live: Mapping[str, npt.NDArray[Any]]) -> None:
    """Say once everything that a replica and its node's client tell each other: compiled in the midst of training, the
    words would stop the event loop of a node, heartbeats and all."""
    queue, landing = TicketQueue(live["queue"], live["queue_ring"]), Mailbox(live["mailbox"])
    queue.put([0])
    queue.take(lambda ticket: None)
    queue.close()
    landing.wait_for(0, 0)
    landing.waits_for(0)
    accrual = Accrual(live["accrual"][0], live["accrual_tickets"][0], live["accrued"][0])
    accrual.seal()
    for push in list_sealed(live["accrual"], live["accrual_tickets"], 0):
        release(live["accrual"], push)


def _resumed(
    job: Job, network: Network, data: Data, replicas: int
) -> tuple[npt.NDArray[np.float32], TrainingState, str]:
    """Read the job's model file, check that this job can go on from it, and say which settings are others."""
    path, optimiser = job.save, job.algorithm.replica_rule
    if not path:
        raise ConfigError("--resume: run.model is empty, expected the path of a model file")
    stored, params, state = model_file.load(path)
    wanted = Description(job, network, data.encoding)
    if stored.network.spec != network.spec:
        raise LayoutError(f"model file {path}: {stored.other_tensors(wanted)}")
    if state is None:
        raise LayoutError(f"model file {path}: has no training state: it was exported")
    stored.check_same(f"model file {path}", state.n, wanted, len(data.train.x))
    stored_rows, wanted_rows = {name.partition(".")[0] for name in state.rows}, {row.name for row in optimiser.state}
    if stored_rows != wanted_rows:
        raise LayoutError(f"model file {path}: holds optimiser rows {', '.join(sorted(stored_rows)) or 'none'}; the "
                          f"job's optimiser needs {', '.join(sorted(wanted_rows)) or 'none'}")  # fmt: skip
    known = {field.name for field in live_layout(network, optimiser, replicas, 0).fields}
    rows = {name: row for name, row in state.rows.items() if name in known}  # without those of replicas that are gone
    said = stored.other_settings(wanted)
    return params, replace(state, rows=rows), f"model file {path}: was trained with {said}" if said else ""


@contextmanager
def _blaming(job: Job) -> Iterator[None]:
    """Turn what a layer of the user's own raises into one line that names the layer."""
    try:
        yield
    except (HogpourError, MemoryError):
        raise
    except Exception as error:
        frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
        blamed = [a for words in frames for a in words.values() if any(a is layer for layer in job.model)]
        who = f"layer {type(blamed[-1]).__name__}" if blamed else "its layers"
        raise ConfigError(f"model: {who}: {type(error).__name__}: {error}") from error


def _load(job: Job) -> Data:
    c = job.data
    if c is None:
        raise ConfigError("data: got none, expected examples to train on")
    if not isinstance(c, DataConfig):
        return c
    sparse = bool(job.model) and job.model[0].sparse_input
    return load(**asdict(c), targets=job.loss.targets, seed=job.seed, base=job.base, sparse=sparse)


def _check_input(job: Job, data: Data) -> None:
    targets, train = job.loss.targets, data.train
    if data.encoding.targets != targets:
        raise ConfigError(f"loss: {type(job.loss).__name__} takes {targets}, the data hold {data.encoding.targets}; "
                          f"load them with targets = {targets!r}")  # fmt: skip
    if job.input and prod(job.input) != prod(train.shape):
        raise ConfigError(f"model.input: {job.input} holds {prod(job.input)} numbers, "
                          f"an example of {train.source} has {prod(train.shape)}")  # fmt: skip


def _check_kind(network: Network, train: Dataset) -> None:
    sparse, first = isinstance(train.x, Csr), network.stages[0].name
    if sparse and not network.sparse_input:
        raise ConfigError(f"model: layer {first}: takes dense examples, got the sparse rows of {train.source}; begin "
                          'with a layer that takes those ("sparse_linear"), or hand over x.toarray()')  # fmt: skip
    if network.sparse_input and not sparse:
        raise ConfigError(f"model: layer {first}: takes sparse examples, got dense ones of {train.source}; hand over "
                          "scipy.sparse.csr_matrix(x)")  # fmt: skip


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
    arrays = (train.x.arrays() if isinstance(train.x, Csr) else {"x": train.x}) | {"y": train.y}
    layout = Layout.pack([(name, array.shape, array.dtype) for name, array in arrays.items()])
    segment = Segment.create(layout, f"the {train.n} examples of {train.source}", fd)
    for name, array in arrays.items():
        segment.arrays[name][...] = array
    return segment
