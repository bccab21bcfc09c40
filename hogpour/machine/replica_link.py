"""A replica's side of the link: when to seal, when to ask for parameters, when to wait, and where blocks come from.

The replica calls it around every step; everything it says goes through words in shared memory and a ring of the
node's bell. It waits only where the exchange says so (``algos/exchange/accrue.py``). Waiting is a ``yield``: whoever
runs the replica waits then, for its bell and a bounded while, so that a stop and the node's death are heard.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import Exchange, ReplicaView, Traffic
from hogpour.shm import accrual, mailbox, queue
from hogpour.shm.accrual import Accrual
from hogpour.shm.mailbox import BLOCKS, BUFFER, LANDING, Mailbox
from hogpour.shm.queue import TicketQueue

__all__ = ["Moment", "ReplicaLink", "link_arrays"]


class Moment(Enum):
    """Where a replica stands when it yields."""

    COMPUTED = 1
    """The gradient of a batch is there, and nothing else has changed: where time is made up, it passes here."""
    WAITING = 2
    """It has nothing to do until its bell rings."""


def link_arrays(n: int, replicas: int) -> Iterable[tuple[str, tuple[int, ...], npt.DTypeLike]]:
    """Return what the live segment of a node with a link holds besides (for ``shm.layout``)."""
    yield "accrual", (replicas, *accrual.WORDS), np.int64
    yield "accrual_tickets", (replicas, accrual.BUFFERS, accrual.TICKETS), np.int64
    yield "mailbox", (replicas, *mailbox.WORDS), np.int64
    yield "queue", queue.WORDS, np.int64
    yield "queue_ring", (queue.ROOM,), np.int64
    yield "accrued", (replicas, accrual.BUFFERS, n), np.float32


class ReplicaLink:
    """The outlet of one replica.

    Args:
        live: arrays of ``link_arrays`` among others.
        number: of the replica.
        steps: that this replica has done before, by a predecessor.
        view: shown to the exchange; its ``accrued`` is kept up to date here.
        gated: others may wait for what this replica pushes, and it for theirs. Then it says when it takes part, and
            never computes on while its push is decided on.
        ring: wakes the node's link.
        go_on: False ends every wait.
    """

    def __init__(
        self,
        live: Mapping[str, npt.NDArray[Any]],
        number: int,
        exchange: Exchange,
        view: ReplicaView,
        *,
        gated: bool = False,
        steps: int,
        ring: Callable[[], None],
        go_on: Callable[[], bool],
    ) -> None:
        self._number, self._exchange, self._view, self._steps = number, exchange, view, steps
        self._ring, self._go_on, self._gated = ring, go_on, gated
        self._entered, self._rounds = False, gated or exchange.waits
        self._accrual = Accrual(live["accrual"][number], live["accrual_tickets"][number], live["accrued"][number])
        self._mailbox = Mailbox(live["mailbox"])
        self.queue = TicketQueue(live["queue"], live["queue_ring"])
        # A predecessor may have wished for less or more than its steps say: its last wish is as good as ours.
        self._tick = self._mailbox.wanted()[number]
        self._tick_step = steps
        self._refresh()
        if exchange.waits and steps:  # the predecessor may have been killed after it sealed, and before it asked
            self._want()
            self._ring()
        if self._accrual.full:  # the predecessor was killed before it sealed
            self._seal()
            self._ring()

    def before_step(self) -> Generator[Moment, None, bool]:
        """Wait until the next step may be computed; return False where the replica must end."""
        if self._gated and not (self._entered and self._mailbox.attends(self._number)):
            # Others wait for it from now on, and what it fetched before may be of a step that is over. So may what a
            # predecessor fetched that was killed behind a seal: its gradient, not this one, is that of the step.
            self._entered = True
            self._mailbox.attend(self._number, True)
            self._want()
            self._ring()
        if self._missing() and not (yield from self._await(self._missing)):
            return False
        if not self._view.n_accrued:
            self._accrual.begin(self._mailbox.number(self._number))
        return True

    def before_use(self) -> Generator[Moment, None, bool]:
        """Wait until the gradient that was computed may be used; return False where the replica must end."""
        pulled = self._exchange.traffic is Traffic.PULLED
        return not pulled or not self._pulled() or (yield from self._await(self._pulled))

    def accrued(self) -> None:
        """Count the gradient that the exchange has just accrued. Before the clock does: a kill between the two has the
        batch used twice, and the other way round it would be counted as used and pushed by nobody."""
        self._view.n_accrued = self._accrual.added(self._exchange.push_scale(self._view.lr_scale))

    def add_loss(self, loss: float) -> None:
        """Add the losses of a batch to what is accrued; before ``accrued``."""
        self._accrual.add_loss(loss)

    def drop(self) -> None:
        """Forget what was accrued: of a block that is begun anew, or whose sum is of no use any more."""
        self._accrual.drop()
        self._refresh()

    def is_over(self, evaluation: int) -> bool:
        """Whether a block of this evaluation is of no use: the live vector is that of a later one."""
        return evaluation < self._mailbox.evaluation(self._number)

    def after_step(self) -> None:
        """Seal and ask where it is time, after a gradient was accrued and counted."""
        self._steps += 1
        due = self._view.n_accrued >= self._round()
        if due:
            self._seal()
        if not self._rounds and self._steps % self._exchange.n_fetch == 0:
            self._want()
            due = True
        if due:
            self._ring()

    def finish(self, word: int) -> Generator[Moment, None, bool]:
        """Report a finished block, by its word in the queue, with the next push; False where the replica must end."""
        if not self._accrual.free and not (yield from self._await(lambda: 0 if self._accrual.free else BUFFER)):
            return False
        self._accrual.finish(word)
        if self._accrual.full or self._exchange.traffic is Traffic.SUMMED:
            self._seal()
            self._ring()
        return True

    def take(self, announce: Callable[[int], None]) -> Generator[Moment, None, int | None]:
        """Take the next block of this node, as a word of the queue, waiting for one; None where there will be none, or
        the replica must end."""
        while (ticket := self._try_take(announce)) is None:
            if self._accrual.waiting:
                self._seal()  # whoever waits for others has no reason to keep what it has
            if self._gated:
                self._mailbox.attend(self._number, False)
            self._ring()
            if not (yield from self._await(self._no_blocks)) or (self.queue.closed and not len(self.queue)):
                return None
        return ticket

    def _missing(self) -> int:
        """Return what the next step must wait for."""
        # Tick k was asked for after step k·n_fetch; it must have landed before step (k+1)·n_fetch is computed.
        overdue = self._rounds or self._steps + 1 - self._tick_step >= self._exchange.n_fetch
        missing = 0 if self._accrual.free else BUFFER
        pulled = self._exchange.traffic is Traffic.PULLED
        if not pulled and self._mailbox.landed(self._number) < self._tick - (not overdue):
            missing |= LANDING
        return missing | (BLOCKS if self._mailbox.held(self._number) else 0)

    def _pulled(self) -> int:
        """Return what the use of a gradient must wait for."""
        return LANDING if self._mailbox.landed(self._number) < self._tick else 0

    def _no_blocks(self) -> int:
        # Closed is looked at before the queue: what was put before the closing is still to be had.
        if self._mailbox.held(self._number):
            return BLOCKS
        return 0 if self.queue.closed or len(self.queue) else BLOCKS

    def _await(self, missing: Callable[[], int]) -> Generator[Moment, None, bool]:
        """Wait until nothing is missing; False where the replica must end."""
        try:
            while True:
                self._mailbox.wait_for(self._number, missing())
                if not missing():  # once more: what came before the link could see that somebody waits, it did not ring
                    return True
                if not self._go_on():
                    return False
                yield Moment.WAITING
        finally:
            self._mailbox.wait_for(self._number, 0)

    def _try_take(self, announce: Callable[[int], None]) -> int | None:
        return None if self._mailbox.held(self._number) else self.queue.take(announce)

    def _round(self) -> int:
        """Return how many steps there are between two pushes."""
        steps = self._exchange.n_push
        if self._exchange.proportional:
            return max(1, round(steps * self._mailbox.pace(self._number)))
        return steps

    def _want(self) -> None:
        self._mailbox.want(self._number)
        self._tick, self._tick_step = self._tick + 1, self._steps

    def _seal(self) -> None:
        ends_round = self._rounds and self._accrual.count > 0
        self._accrual.seal()
        if ends_round:
            self._want()
        self._refresh()

    def _refresh(self) -> None:
        self._view.accrued, self._view.n_accrued = self._accrual.buffer, self._accrual.count
