"""A replica: block of examples → batch → gradient → exchange, until no block is left.

The loop alone, on arrays that somebody else owns: ``replica_process`` runs it, tests run it in their own process, and
the simulator runs hundreds of them, and lets time pass where one yields (``moments``). Around each step it talks to its
link, which knows where blocks come from and what is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import ReplicaView
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.sweeps.base import Sweep, no_heads
from hogpour.core.csr import Csr
from hogpour.core.job import Job
from hogpour.core.sparse_grad import SparseGrad
from hogpour.core.spec import Tensor
from hogpour.data.blocks import Blocks, piece
from hogpour.layers.kernels.gather import gather_labels, gather_rows
from hogpour.layers.sequential import Network, Workspace
from hogpour.machine.replica_link import LINKS, Moment, link_arrays
from hogpour.machine.row_gradients import RowGradients
from hogpour.machine.sweeping import MERGE_EVERY, sweep_of
from hogpour.shm.clocks import COUNTERS, SUMS, Clocks
from hogpour.shm.control import RUN, WORDS, Control
from hogpour.shm.head import Head
from hogpour.shm.layout import Layout
from hogpour.shm.queue import ticket_of

__all__ = ["Replica", "examples_of", "live_layout", "optimiser_rows"]


def live_layout(network: Network, optimiser: Optimiser, replicas: int, pending: int, federated: bool = False) -> Layout:
    """Lay out the live segment of a node: what its replicas share, and where in it each array lies.

    Args:
        pending: number of unfinished blocks that a resumed run begins with.
        federated: whether replicas push what they accrue.
    """
    n = network.spec.n
    rows = [
        (f"{row.name}.{replica}", (n,), np.float32)
        for row in optimiser.state
        for replica in (range(replicas) if row.per == "replica" else ["node"])
    ]
    own_pages = {"params", *(name for name, _, _ in rows)} if network.spec.by_row else ()  # as a ``shm.head`` asks for
    return Layout.pack(
        [
            ("control", WORDS, np.int64),
            ("counters", (replicas, COUNTERS), np.int64),
            ("sums", (replicas, SUMS), np.float64),
            ("pending", (pending, 2), np.int64),
            ("params", (n,), np.float32),
            *rows,
            *(link_arrays(n, replicas) if federated else ()),
        ],
        own_pages,
    )


def optimiser_rows(
    arrays: Mapping[str, npt.NDArray[Any]], optimiser: Optimiser, replica: int
) -> tuple[npt.NDArray[Any], ...]:
    """Return the optimiser rows that a replica uses, in the order of ``optimiser.state``."""
    return tuple(arrays[f"{row.name}.{replica if row.per == 'replica' else 'node'}"] for row in optimiser.state)


def examples_of(
    network: Network, arrays: Mapping[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.float32] | Csr, npt.NDArray[Any]]:
    """Return the training examples and their answers, of which a segment holds ``arrays``; no copies."""
    x = Csr.of(arrays, network.input_shape[0]) if "indptr" in arrays else arrays["x"]
    return x, arrays["y"]


class Replica:
    """The training loop of one replica.

    Args:
        job: what to train; its epochs and seed decide the order of examples.
        network: the layers bound to the examples' shape.
        live: arrays of ``live_layout``; shared with the other replicas.
        x: (n, *input_shape) float32, or sparse rows; read only.
        y: (n,) int64 labels or (n, n_out) float32 values, read only.
        number: 0 .. replicas - 1.
        block_replicas: decides the cutting into blocks.
        head: the replica's own mapping of live vectors, of ``sweeping.head_of``.
        threads: kernel threads.
        alive: called between steps; False ends the loop.
        on_block: called after every block; wakes the node.
        wait: in a cluster: returns when the node's client rang this replica's bell, or after a while.
        clock: seconds, on a clock that all processes of the machine share.
    """

    def __init__(
        self,
        job: Job,
        network: Network,
        live: Mapping[str, npt.NDArray[Any]],
        x: npt.NDArray[np.float32] | Csr,
        y: npt.NDArray[Any],
        number: int,
        *,
        block_replicas: int,
        head: Head | None = None,
        threads: int = 1,
        alive: Callable[[], bool] = lambda: True,
        on_block: Callable[[], None] = lambda: None,
        wait: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        live = live if head is None else {**live, **head.arrays}
        self._job, self._network, self._number, self._threads = job, network, number, threads
        self._alive, self._on_block, self._wait, self._clock = alive, on_block, wait, clock
        self._examples, self._targets = x if isinstance(x, Csr) else x.reshape(len(x), -1), y
        self._control = Control(live["control"])
        self._clocks = Clocks(live["counters"], live["sums"])
        self._blocks = Blocks(len(x), job.batch, block_replicas, job.epochs, job.algorithm.batch_blocks, piece(x))
        self._exchange = job.algorithm.choices().exchange
        optimiser = job.algorithm.replica_rule
        params, state = live["params"], optimiser_rows(live, optimiser, number)
        self._view = ReplicaView(params, state, optimiser)
        takes_rows = self._exchange.by_rows and optimiser.by_rows and bool(network.spec.by_row)
        self._rows = RowGradients(self._exchange, self._view, network.spec) if takes_rows else None
        if self._exchange.scratch:
            self._view.scratch = np.empty((2, live["params"].size), np.float32)
        self._view.t = int(self._clocks.steps.sum()) + 1
        self._link = LINKS[self._exchange.traffic](
            live, number, self._exchange, self._view, gated=job.algorithm.choices().gate.closes,
            steps=int(self._clocks.steps[number]), total=self._blocks.total, ring=on_block, go_on=self._go_on,
        )  # fmt: skip
        self._params = params
        self._sweep = sweep_of(job, network)
        self._heads = head.parts if head is not None else no_heads(1 + len(state))
        self._merge_every = 0 if head is None else MERGE_EVERY
        self._order = np.empty(min(self._blocks.block_size, len(x)), np.int64)
        self._epoch, self._epoch_order = -1, np.empty(0, np.int64)
        self._philox = np.random.Philox(0)
        self._begun = False
        self._allocate()

    def _allocate(self) -> None:
        """Take the memory that steps need, once."""
        n, batch, rng = len(self._examples), self._job.batch, np.random.Generator(self._philox)
        self._random = any(stage.layer.random for stage in self._network.stages)
        self._grad, self._loss, self._right = self._network.spec.zeros(), 0.0, 0  # loss and hits are of the gradient
        self._workspaces: dict[int, tuple[Workspace, npt.NDArray[Any]]] = {}  # by the size of a batch; with targets
        for size in {min(batch, n), n % batch} - {0}:
            x = self._examples
            rows = min(x.longest(size), x.n_features) if isinstance(x, Csr) else 0
            workspace = self._network.workspace(
                size, self._params, grad=self._grad, rng=rng, threads=self._threads, rows=rows
            )
            labels = self._job.loss.targets == "labels"
            targets = np.zeros(size, np.int64) if labels else np.zeros((self._targets.shape[1], size), np.float32)
            self._workspaces[size] = workspace, targets

    def run(self) -> None:
        """Train until no block is left, somebody says stop, or the loss is not finite."""
        for moment in self.moments():
            if moment is Moment.WAITING:
                self._wait()

    def moments(self) -> Generator[Moment, None, None]:
        """Train as ``run`` does; whoever takes the moments decides what passes between them."""
        begun = self._clocks.unfinished(self._number)
        if begun is not None and self._link.was_taken(begun[0]) and not (yield from self._block(begun[0])):
            return
        announce = partial(self._clocks.begin_block, self._number)
        while (ticket := (yield from self._link.take(announce))) is not None:
            if not (yield from self._block(ticket)):
                return
        self._clocks.end_block(self._number)

    def _go_on(self) -> bool:
        return self._control.command == RUN and self._alive()

    def _block(self, word: int) -> Generator[Moment, None, bool]:
        """Train on the block that the clock names, from where it says on; return whether to take another."""
        begun, ticket, link = self._clocks.unfinished(self._number), ticket_of(word), self._link
        position = link.begin_block(begun[1] if begun is not None else 0)
        self._clocks.begin_block(self._number, word, position)
        epoch, rank = self._blocks.place(ticket)
        if epoch != self._epoch:
            self._epoch, self._epoch_order = epoch, self._blocks.epoch_order(self._job.seed, epoch)
        start, stop = self._blocks.range(ticket, self._epoch_order)
        order = self.order(epoch, start, stop)
        self._view.lr_scale = self._job.algorithm.schedule.scale(epoch + rank / self._blocks.n_blocks, self._job.epochs)
        while position < stop - start:
            if not self._go_on():
                return False
            if link.is_over(epoch):
                break
            batch = min(stop - start if self._sweep else self._job.batch, stop - start - position)
            if (waiting := link.before_step()) is not None and not (yield from waiting):
                return False
            if not self.compute(order, position, batch, ticket):
                return False
            yield Moment.COMPUTED
            if (waiting := link.before_use()) is not None and not (yield from waiting):
                return False
            self.use(batch)
            position += batch
            if not self._begun:
                self._begun = True
                self._clocks.begin(self._number, self._clock())
        if (waiting := link.finish(word)) is not None and not (yield from waiting):
            return False
        self._clocks.end_block(self._number)
        self._on_block()
        return True

    def order(self, epoch: int, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the order in which the examples start..stop-1 of a block are used; valid until the next call."""
        return self._blocks.example_order(self._job.seed, epoch, start, stop, self._order)

    def compute(self, order: npt.NDArray[np.int64], position: int, batch: int, ticket: int) -> bool:
        """Compute the gradient of one minibatch: the examples order[position : position + batch].

        Nothing is allocated here or in ``use``, which comes next.

        Returns:
            False where the loss is not finite; then the run has diverged.
        """
        if self._sweep is not None:
            return self._swept(self._sweep, order[position : position + batch])
        workspace, target = self._workspaces[batch]
        workspace.gather(self._examples, order, position)
        if target.ndim == 1:
            gather_labels(self._targets, order, position, target)
        else:
            gather_rows(self._targets, order, position, target)
        if self._random:
            rewind(self._philox, self._job.seed, self._blocks.stream(ticket), position)
        workspace.forward()
        self._loss, self._right = self._job.loss.apply(workspace.scores, target, workspace.d_scores)
        if not self._is_finite():
            return False
        workspace.backward()
        return True

    def _swept(self, sweep: Sweep, order: npt.NDArray[np.int64]) -> bool:
        """Step once for each example, which is all that ``compute`` and ``use`` do for each."""
        assert isinstance(self._examples, Csr)
        assert self._rows is not None
        self._rows.parts[0].lr_scale = self._view.lr_scale
        self._loss, self._right = sweep.run(
            self._examples, self._targets, order, self._rows.dense, self._rows.parts[0], self._heads, self._merge_every
        )
        return self._is_finite()

    def _is_finite(self) -> bool:
        if isfinite(self._loss) or not self._link.diverges:
            return True
        self._control.diverge()
        return False

    def use(self, batch: int) -> None:
        """Hand the gradient of ``batch`` examples to the exchange, and count the step; or the steps that were swept."""
        self._view.share = batch / len(self._examples)
        if self._sweep is None:
            self._exchange_gradient(self._workspaces[batch][0].by_row if self._network.spec.by_row else ())
        self._link.accrued(self._loss)
        steps = batch if self._sweep else 1
        self._view.t = self._clocks.record(self._number, batch, self._loss, self._right, steps) + 1
        self._link.after_step()

    def _exchange_gradient(self, by_row: Iterable[tuple[Tensor, SparseGrad]]) -> None:
        if self._rows is not None:
            self._rows.on_gradient(self._grad, by_row)
            return
        for tensor, grad in by_row:
            grad.write_to(tensor.view(self._grad))
        self._exchange.on_gradient(self._view, self._grad)


def rewind(philox: np.random.Philox, seed: int, stream: int, position: int) -> None:
    """Put a counter-based generator where the random numbers of a step begin.

    They are a function of the step, not of the steps before it, so that a run that was stopped and resumed in the
    middle of a block draws what it would have drawn.
    """
    state = philox.state
    state["state"]["counter"][:] = (0, position, stream, 0)
    state["state"]["key"][:] = (seed, 0x6472_6F70)
    state["buffer_pos"] = len(state["buffer"])
    state["has_uint32"] = 0
    philox.state = state
