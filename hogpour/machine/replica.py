"""A replica: block of examples → batch → gradient → exchange, until no block is left. Also the process around it.

``Replica`` is the loop alone, on arrays that somebody else owns: tests run it in their own process, the simulator runs
hundreds of them, and lets time pass where one yields (``moments``). ``main`` is what a replica process executes
(``python -m hogpour.machine.replica``): it reads its orders from standard input, maps the segments that it inherited
and runs the loop. Between two steps it looks at the control words and at its parent, so that it stops
within a step of being told to, or of its node's death. In a cluster an ``ReplicaLink`` stands between the loop and the
node's link, and blocks come from the node's queue instead of the counter.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import ReplicaView, Traffic
from hogpour.algos.optim.base import Optimiser
from hogpour.core.job import Job, job_from
from hogpour.data.blocks import Blocks, example_order
from hogpour.layers.kernels.gather import gather_labels, gather_rows
from hogpour.layers.sequential import Network, Workspace, network_of
from hogpour.machine.replica_link import Moment, ReplicaLink, link_arrays
from hogpour.shm.clocks import COUNTERS, SUMS, Clocks
from hogpour.shm.control import RUN, WORDS, Control
from hogpour.shm.doorbell import answer, ring
from hogpour.shm.layout import Field, Layout
from hogpour.shm.queue import ticket_of
from hogpour.shm.segment import Segment

__all__ = ["Orders", "Replica", "live_layout", "main", "optimiser_rows"]


class Orders(msgspec.Struct, frozen=True):
    """What a node tells a replica process, as JSON on its standard input. Plain data, never code."""

    job: dict[str, Any]
    """The job's tables, see ``job.job_to_dict``."""
    input_shape: tuple[int, ...]
    replica: int
    replicas: int
    """Replicas of this run; ``block_replicas`` decides the cutting into blocks, which outlives a resumed run."""
    block_replicas: int
    threads: int
    parent: int
    """Process id of the node."""
    bell_fd: int
    wake_fd: int
    """The replica's own bell, which the link rings; -1 without a link."""
    live_fd: int
    live: tuple[Field, ...]
    live_size: int
    data_fd: int
    data: tuple[Field, ...]
    data_size: int


def live_layout(
    network: Network, optimiser: Optimiser, replicas: int, pending: int, federated: bool = False
) -> Layout:
    """Lay out the live segment of a node.

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
    return Layout.pack(
        [
            ("control", WORDS, np.int64),
            ("counters", (replicas, COUNTERS), np.int64),
            ("sums", (replicas, SUMS), np.float64),
            ("pending", (pending, 2), np.int64),
            ("params", (n,), np.float32),
            *rows,
            *(link_arrays(n, replicas) if federated else ()),
        ]
    )


def optimiser_rows(
    arrays: Mapping[str, npt.NDArray[Any]], optimiser: Optimiser, replica: int
) -> tuple[npt.NDArray[Any], ...]:
    """Return the optimiser rows that a replica uses, in the order of ``optimiser.state``."""
    return tuple(arrays[f"{row.name}.{replica if row.per == 'replica' else 'node'}"] for row in optimiser.state)


class Replica:
    """The training loop of one replica.

    Args:
        job: what to train; its epochs and seed decide the order of examples.
        network: the layers bound to the examples' shape.
        live: arrays of ``live_layout``; shared with the other replicas.
        x: (n, *input_shape) float32, read only.
        y: (n,) int64 labels or (n, n_out) float32 values, read only.
        number: 0 .. replicas - 1.
        block_replicas: decides the cutting into blocks.
        threads: kernel threads.
        alive: called between steps; False ends the loop.
        on_block: called after every block; wakes the node.
        wait: in a cluster: returns when the link rang this replica's bell, or after a while.
        clock: seconds, on a clock that all processes of the machine share.
    """

    def __init__(
        self,
        job: Job,
        network: Network,
        live: Mapping[str, npt.NDArray[Any]],
        x: npt.NDArray[np.float32],
        y: npt.NDArray[Any],
        number: int,
        *,
        block_replicas: int,
        threads: int = 1,
        alive: Callable[[], bool] = lambda: True,
        on_block: Callable[[], None] = lambda: None,
        wait: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._network, self._number, self._threads = job, network, number, threads
        self._alive, self._on_block, self._wait, self._clock = alive, on_block, wait, clock
        self._rows, self._targets = x.reshape(len(x), -1), y
        self._control = Control(live["control"])
        self._clocks = Clocks(live["counters"], live["sums"])
        self._replicas, self._pending = len(live["counters"]), live["pending"]
        self._blocks = Blocks(len(x), job.batch, block_replicas, job.epochs, job.algorithm.batch_blocks)
        self._exchange = job.algorithm.choices().exchange
        optimiser = job.algorithm.replica_rule
        self._view = ReplicaView(live["params"], optimiser_rows(live, optimiser, number), optimiser)
        if self._exchange.scratch:
            self._view.scratch = np.empty((2, live["params"].size), np.float32)
        self._view.t = int(self._clocks.steps.sum()) + 1
        self._outlet: ReplicaLink | None = None
        if job.algorithm.federated:
            self._outlet = ReplicaLink(
                live,
                number,
                self._exchange,
                self._view,
                gated=job.algorithm.choices().gate.closes,
                steps=int(self._clocks.steps[number]),
                ring=on_block,
                go_on=self._go_on,
            )
        self._order = np.empty(self._blocks.block_size, np.int64)
        self._epoch, self._epoch_order = -1, np.empty(0, np.int64)
        self._philox = np.random.Philox(0)
        self._begun = False
        self._sums = self._exchange.traffic is Traffic.SUMMED
        self._allocate()

    def _allocate(self) -> None:
        """Take the memory that steps need, once."""
        n, batch = len(self._rows), self._job.batch
        self._random = any(stage.layer.random for stage in self._network.stages)
        self._grad = self._network.spec.zeros()
        self._loss, self._right = 0.0, 0  # of the gradient
        self._workspaces: dict[int, tuple[Workspace, npt.NDArray[Any]]] = {}
        for size in {min(batch, n), n % batch} - {0}:
            self._workspaces[size] = self._workspace(size)

    def _workspace(self, batch: int) -> tuple[Workspace, npt.NDArray[Any]]:
        rng = np.random.Generator(self._philox)
        workspace = self._network.workspace(
            batch, self._view.params, grad=self._grad, rng=rng, threads=self._threads
        )
        if self._job.loss.targets == "labels":
            return workspace, np.zeros(batch, np.int64)
        return workspace, np.zeros((self._targets.shape[1], batch), np.float32)

    def run(self) -> None:
        """Train until no block is left, somebody says stop, or the loss is not finite."""
        for moment in self.moments():
            if moment is Moment.WAITING:
                self._wait()

    def moments(self) -> Generator[Moment, None, None]:
        """Train as ``run`` does; whoever takes the moments decides what passes between them."""
        if self._outlet is not None:
            yield from self._leased(self._outlet)
            return
        begun = self._clocks.unfinished(self._number)
        # A predecessor may have announced a block and died before it took it: then that block is still to be had.
        taken = min(self._control.tickets_taken, self._blocks.total)
        if begun and begun[0] < taken and not (yield from self._block(*begun)):
            return
        for k in range(self._number, len(self._pending), self._replicas):
            ticket, position = map(int, self._pending[k])
            if ticket < 0:
                continue
            self._clocks.begin_block(self._number, ticket, position)
            self._pending[k] = -1  # from here on the clock alone says that it is under way
            if not (yield from self._block(ticket, position)):
                return
        while (ticket := self._control.take_ticket(self._announce)) < self._blocks.total:
            if not (yield from self._block(ticket, 0)):
                return
        self._clocks.end_block(self._number)

    def _leased(self, outlet: ReplicaLink) -> Generator[Moment, None, None]:
        begun = self._clocks.unfinished(self._number)
        announced = begun is not None and begun[0] in outlet.queue  # and never taken
        if begun and not announced and not (yield from self._block(*begun)):
            return
        while (ticket := (yield from outlet.take(self._announce))) is not None:
            if not (yield from self._block(ticket, 0)):
                return
        self._clocks.end_block(self._number)

    def _go_on(self) -> bool:
        return self._control.command == RUN and self._alive()

    def _announce(self, ticket: int) -> None:
        self._clocks.begin_block(self._number, ticket)

    def _block(self, word: int, position: int) -> Generator[Moment, None, bool]:
        """Train on one block from ``position`` on; return whether to take another."""
        self._clocks.begin_block(self._number, word, position)
        ticket = ticket_of(word)
        epoch, rank = self._blocks.place(ticket)
        if self._sums and position:  # a killed predecessor may have left half of an addition
            position = 0
            self._clocks.begin_block(self._number, word, position)
        if epoch != self._epoch:
            self._epoch, self._epoch_order = epoch, self._blocks.epoch_order(self._job.seed, epoch)
        start, stop = self._blocks.range(ticket, self._epoch_order)
        order = self._order_of(epoch, start, stop)
        if self._sums and self._outlet is not None:
            self._outlet.drop()
        self._view.lr_scale = self._job.algorithm.schedule.scale(epoch + rank / self._blocks.n_blocks, self._job.epochs)
        while position < stop - start:
            if not self._go_on():
                return False
            if self._sums and self._outlet is not None and self._outlet.is_over(epoch):
                self._outlet.drop()
                break
            batch = min(self._job.batch, stop - start - position)
            if self._outlet is not None and not (yield from self._outlet.before_step()):
                return False
            if not self.compute(order, position, batch, ticket):
                return False
            yield Moment.COMPUTED
            if self._outlet is not None and not (yield from self._outlet.before_use()):
                return False
            self.use(batch)
            position += batch
            if not self._begun:
                self._begun = True
                self._clocks.begin(self._number, self._clock())
        if self._outlet is not None and not (yield from self._outlet.finish(word)):
            return False
        self._clocks.end_block(self._number)
        self._on_block()
        return True

    def compute(self, order: npt.NDArray[np.int64], position: int, batch: int, ticket: int) -> bool:
        """Compute the gradient of one minibatch: the examples order[position : position + batch].

        Nothing is allocated here or in ``use``, which comes next.

        Returns:
            False where the loss is not finite; then the run has diverged.
        """
        workspace, target = self._workspaces[batch]
        gather_rows(self._rows, order, position, workspace.x.reshape(-1, batch))
        if target.ndim == 1:
            gather_labels(self._targets, order, position, target)
        else:
            gather_rows(self._targets, order, position, target)
        if self._random:
            self._seed_step(ticket, position)
        workspace.forward()
        self._loss, self._right = self._job.loss.apply(workspace.scores, target, workspace.d_scores)
        if not np.isfinite(self._loss) and not self._sums:
            self._control.diverge()
            return False
        workspace.backward()
        return True

    def use(self, batch: int) -> None:
        """Hand the gradient of ``batch`` examples to the exchange, and count the step."""
        self._view.share = batch / len(self._rows)
        self._exchange.on_gradient(self._view, self._grad)
        if self._outlet is not None:
            if self._sums:
                self._outlet.add_loss(float(self._loss))
            self._outlet.accrued()
        self._view.t = self._clocks.record(self._number, batch, self._loss, self._right) + 1
        if self._outlet is not None:
            self._outlet.after_step()

    def _order_of(self, epoch: int, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the order of the examples of a block."""
        if self._sums:
            order = self._order[: stop - start]
            order[:] = np.arange(start, stop)
            return order
        return example_order(self._job.seed, epoch, start, stop, self._order)

    def _seed_step(self, ticket: int, position: int) -> None:
        # A function of the step, not of the steps before it, so that a run that was stopped and resumed in the middle
        # of a block draws what it would have drawn.
        state = self._philox.state
        if self._sums:  # the objective is the same function in every evaluation
            ticket %= self._blocks.n_blocks
        state["state"]["counter"][:] = (0, position, ticket, 0)
        state["state"]["key"][:] = (self._job.seed, 0x6472_6F70)
        state["buffer_pos"] = len(state["buffer"])
        state["has_uint32"] = 0
        self._philox.state = state


def main() -> int:
    """Run one replica process; the exit status is 0 when it ended as it was told to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the node's business; it tells us through the segment
    message = sys.stdin.buffer.read()
    if not message:
        return 0  # the node ended, or found its job wrong, before it gave orders
    orders = msgspec.json.decode(message, type=Orders)
    live = Segment.attach(orders.live_fd, Layout(orders.live, orders.live_size))
    data = Segment.attach(orders.data_fd, Layout(orders.data, orders.data_size))
    job = job_from(orders.job, "job")
    replica = Replica(
        job,
        network_of(job, orders.input_shape),
        live.arrays,
        data.arrays["x"],
        data.arrays["y"],
        orders.replica,
        block_replicas=orders.block_replicas,
        threads=orders.threads,
        alive=lambda: os.getppid() == orders.parent,
        on_block=lambda: ring(orders.bell_fd),
        wait=_bell_waiter(orders.wake_fd) if orders.wake_fd >= 0 else lambda: None,
    )
    replica.run()
    ring(orders.bell_fd)
    return 0


def _bell_waiter(fd: int) -> Callable[[], None]:
    """Return what waits for a ring of this bell, a quarter of a second at most: a stop may come without one."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)

    def wait() -> None:
        if poll.poll(250):
            answer(fd)

    return wait


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # taking the interpreter apart would cost 0.15 s of every stop; all that lasts is in the segment
