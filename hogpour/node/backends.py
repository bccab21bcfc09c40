"""What stands behind the training of a node: nobody, or its cluster. ``training`` asks it and does not ask which it is.

A machine alone hands out its own blocks, and its model file holds where training stands. In a cluster the coordinator
hands them out, a ``ClusterRun`` moves what replicas accrue, and where training stands is in snapshots of the shards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hogpour.core.cluster_state import ClusterProgress, Totals
from hogpour.core.errors import HogpourError
from hogpour.core.job import Job
from hogpour.data.blocks import Blocks
from hogpour.machine.prepare import Prepared
from hogpour.model.training_state import TrainingState
from hogpour.node.cluster_run import ClusterRun
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import Control

__all__ = ["Alone", "Backend", "InCluster", "Stats"]

Floats = npt.NDArray[np.float32]


class Stats(Protocol):
    """What is known of a run: a ``run_stats.RunStats``, or ``Alone``."""

    before: int
    """Examples that earlier runs used, and others before this node joined."""
    objective: float | None
    """Batch methods, on the first node: at the point of the newest iteration."""

    @property
    def examples(self) -> int:
        """Examples used in this run, by the whole cluster."""

    @property
    def complete(self) -> bool:
        """Whether every example of every epoch was used."""

    @property
    def stepped(self) -> bool:
        """Whether the parameters are others than at the beginning of this run."""

    @property
    def repeated(self) -> int:
        """Examples that were handed out again."""

    @property
    def reached(self) -> Floats:
        """(n,) what the run has come to: the live vector, but that of a batch method is of trials."""

    def totals(self) -> Totals:
        """Return what is known of this run here: of all on the first node, of this node's own on another one."""

    def cluster(self) -> ClusterProgress | None:
        """Return what this node knows of its cluster; None: it has none."""


class Backend(Protocol):
    """Stands behind one ``Training``, which calls ``train`` → ``poll`` → ``wind_down`` → ``finish`` or ``give_up``."""

    control: Control
    clocks: Clocks
    """Of this node's replicas."""
    ending: Sequence[asyncio.Future[None]]
    """Done when the run ends whatever this node does."""
    evaluates: bool
    """Snapshots are evaluated here."""
    keeps_state: bool
    """The model file holds where training stands, and is written while it goes on."""

    @property
    def stats(self) -> Stats:
        """What is known of the run."""

    @property
    def rescue(self) -> str:
        """Name of the file for what this node holds when the run fails and its job has no model file; empty: none."""

    def state(self) -> TrainingState | None:
        """Return where training stands, unless others keep that. Read before the parameters: what is counted is then
        in them."""

    def train(self, alive: Callable[[], int]) -> None:
        """Begin. ``alive`` says how many replica processes run."""

    def idle(self, replica: int) -> bool:
        """Whether a replica has a reason to make no step."""

    def poll(self) -> bool:
        """Look at what the replicas have done, when one rang; return whether the next ring must be heard at once."""

    def stop(self) -> None:
        """A stop was asked: let the replicas end now where nothing is lost by it."""

    async def wind_down(self) -> bool:
        """Hand nothing out any more; return whether the replicas then end by themselves."""

    async def finish(self, *, diverged: bool) -> None:
        """Bring this node's part to its end, when its replicas have ended. Raises ClusterFailed."""

    async def give_up(self, error: HogpourError) -> None:
        """Say that this node cannot go on."""


class Alone:
    """A machine without a cluster. It is its own ``Stats``.

    Args:
        ready: its segments; their memory is used while training goes on.
    """

    ending: Sequence[asyncio.Future[None]] = ()
    evaluates = keeps_state = True
    rescue, repeated = "", 0
    objective: float | None = None

    def __init__(self, job: Job, ready: Prepared) -> None:
        live = ready.live.arrays
        self.control, self.clocks = Control(live["control"]), Clocks(live["counters"], live["sums"])
        self._ready, resumed = ready, ready.state
        self._blocks = Blocks(len(ready.examples.arrays["x"]), job.batch, ready.block_replicas, job.epochs)
        self.before = resumed.examples if resumed else 0
        self._first_ticket, self._first_step = (resumed.tickets, resumed.steps) if resumed else (0, 0)

    @property
    def stats(self) -> Stats:
        return self

    @property
    def examples(self) -> int:
        return self.clocks.examples

    @property
    def complete(self) -> bool:
        state = self.state()
        return state.tickets >= self._blocks.total and not state.pending

    @property
    def stepped(self) -> bool:
        return int(self.clocks.steps.sum()) > self._first_step

    @property
    def reached(self) -> Floats:
        return self._ready.live.arrays["params"]

    def totals(self) -> Totals:
        return Totals(self.clocks.examples, self.clocks.right, self.clocks.loss)

    def cluster(self) -> None:
        pass

    def state(self) -> TrainingState:
        """Return where training stands.

        While replicas run, the parameters hold a little more than is counted, and a resumed run uses these examples
        twice; after they ended, the state is exact but for a batch that a killed replica used and did not count.
        """
        live = self._ready.live
        # In this order a block that moves in between is seen twice, or not yet as taken; never neither.
        # Replicas also drew numbers behind the last block; a run with fewer epochs than before begins behind it.
        tickets = max(self._first_ticket, min(self.control.tickets_taken, self._blocks.total))
        waiting = [(int(t), int(p)) for t, p in live.arrays["pending"] if t >= 0]
        under_way = [self.clocks.unfinished(replica) for replica in range(len(self.clocks.steps))]
        begun = {block[0]: block for block in [*waiting, *(block for block in under_way if block)]}
        names = [f.name for f in live.layout.fields]
        return TrainingState(
            tickets=tickets,
            pending=tuple(block for ticket, block in begun.items() if ticket < tickets),
            steps=int(self.clocks.steps.sum()),
            examples=self.before + self.clocks.examples,
            n=self._blocks.n,
            block_replicas=self._ready.block_replicas,
            rows={name: live.arrays[name].copy() for name in names[names.index("params") + 1 :]},
        )

    def train(self, alive: Callable[[], int]) -> None:
        pass

    def idle(self, replica: int) -> bool:
        return self.control.tickets_taken >= self._blocks.total

    def poll(self) -> bool:
        return False

    def stop(self) -> None:
        self.control.stop()

    async def wind_down(self) -> bool:
        return False

    async def finish(self, *, diverged: bool) -> None:
        pass

    async def give_up(self, error: HogpourError) -> None:
        pass


class InCluster:
    """A node's part in a cluster that has begun."""

    keeps_state = False

    def __init__(self, run: ClusterRun, ready: Prepared) -> None:
        live = ready.live.arrays
        self.control, self.clocks = Control(live["control"]), Clocks(live["counters"], live["sums"])
        self._run, self.stats = run, run.stats
        self.ending: Sequence[asyncio.Future[None]] = (run.failed, run.ended)
        self.evaluates, self.train, self.idle, self.give_up = run.first, run.train, run.waits, run.give_up

    @property
    def rescue(self) -> str:
        return self._run.rescue

    def state(self) -> None:
        pass

    def poll(self) -> bool:
        self._run.poll()
        return True

    def stop(self) -> None:
        """Replicas end when they have pushed what they have."""

    async def wind_down(self) -> bool:
        if self._run.failed.done():
            return False
        await self._run.wind_down()
        return True

    async def finish(self, *, diverged: bool) -> None:
        self._run.poll()
        if diverged:
            await self._run.give_up(HogpourError("the loss is not finite any more"), everywhere=True)
        else:
            await self._run.finish()
