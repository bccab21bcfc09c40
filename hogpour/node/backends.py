"""What stands behind the training of a node: nobody, or its cluster. ``training`` asks it and does not ask which it is.

A machine alone hands out its own blocks, and its model file holds where training stands. In a cluster the coordinator
hands them out, ``cluster_run.InCluster`` moves what replicas accrue, and snapshots of the shards hold it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from hogpour.core.errors import HogpourError
from hogpour.core.job import Job
from hogpour.machine.prepare import Prepared
from hogpour.model.training_state import TrainingState
from hogpour.node.run_stats import RunStats
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import Control

__all__ = ["Alone", "Backend"]


class Backend:
    """Stands behind one ``Training``, which calls ``train`` → ``poll`` → ``wind_down`` → ``finish`` or ``give_up``.

    What is not said otherwise is as nobody needs it.

    Attributes:
        ready: what the run begins with; memory of its segments is used while training goes on.
        stats: what is known of the run.
        ending: futures that are done when the run ends whatever this node does.
        evaluates: snapshots are evaluated here.
        keeps_state: the model file holds where training stands, and is written while it goes on.
    """

    ending: Sequence[asyncio.Future[None]] = ()
    evaluates = keeps_state = True

    def __init__(self, ready: Prepared, stats: RunStats) -> None:
        live = ready.live.arrays
        self.control, self.clocks = Control(live["control"]), Clocks(live["counters"], live["sums"])
        self.ready, self.stats = ready, stats
        stats.clocks, stats.reached, stats.params = self.clocks, live["params"], live["params"]

    def release(self) -> None:
        """Let go of the segments, keeping the numbers as they are now."""
        self.clocks.detach()
        self.control.detach()
        self.stats.reached = self.stats.params = np.zeros(0, np.float32)
        self.ready.live.release()
        self.ready.examples.release()

    @property
    def rescue(self) -> str:
        """Name of the file for what this node holds when the run fails and its job has no model file; empty: none."""
        return ""

    def state(self) -> TrainingState | None:
        """Return where training stands, unless others keep that. Read before the parameters: what is counted is then
        in them."""
        return None

    def train(self, alive: Callable[[], int]) -> None:
        """Begin. ``alive`` says how many replica processes run."""

    def idle(self, replica: int) -> bool:
        """Whether a replica has a reason to make no step."""
        return False

    @property
    def nothing_else(self) -> bool:
        """Whether there is nothing left to do but what replicas have begun, and nobody else would do that."""
        return False

    def poll(self) -> bool:
        """Look at what the replicas have done, when one rang; return whether the next ring must be heard at once."""
        return False

    def stop(self) -> None:
        """A stop was asked: let the replicas end now where nothing is lost by it."""

    async def wind_down(self) -> bool:
        """Hand nothing out any more; return whether the replicas then end by themselves."""
        return False

    async def finish(self, *, diverged: bool) -> None:
        """Bring this node's part to its end, when its replicas have ended. Raises ClusterFailed."""

    async def give_up(self, error: HogpourError) -> None:
        """Say that this node cannot go on."""


class Alone(Backend):
    """A machine without a cluster."""

    def __init__(self, job: Job, ready: Prepared) -> None:
        super().__init__(ready, _Own(self))
        before = ready.state
        self._blocks = ready.blocks(job)
        self._first_ticket, self.first_step, self.stats.before = (
            (before.tickets, before.steps, before.examples) if before else (0, 0, 0)
        )

    def state(self) -> TrainingState:
        """Return where training stands.

        While replicas run, the parameters hold a little more than is counted, and a resumed run uses these examples
        twice; after they ended, the state is exact but for a batch that a killed replica used and did not count.
        """
        live = self.ready.live
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
            examples=self.stats.before + self.clocks.examples,
            n=self._blocks.n,
            block_replicas=self.ready.block_replicas,
            rows={name: live.arrays[name].copy() for name in names[names.index("params") + 1 :]},
        )

    @property
    def complete(self) -> bool:
        """Whether every example of every epoch was used."""
        state = self.state()
        return state.tickets >= self._blocks.total and not state.pending

    @property
    def nothing_else(self) -> bool:
        return self.control.tickets_taken >= self._blocks.total

    def stop(self) -> None:
        self.control.stop()


class _Own(RunStats):
    """What a machine alone knows: its clocks say it all."""

    def __init__(self, alone: Alone) -> None:
        super().__init__()
        self._alone = alone

    @property
    def examples(self) -> int:
        return self._alone.clocks.examples

    @property
    def complete(self) -> bool:
        return self._alone.complete

    @property
    def stepped(self) -> bool:
        return int(self._alone.clocks.steps.sum()) > self._alone.first_step

    def cluster(self) -> None:
        pass
