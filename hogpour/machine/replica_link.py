"""A replica's side of its node's client: where its blocks come from, when it seals, asks for parameters, and waits.

The replica calls it around every step. What it has to say goes through words in shared memory and a ring of the node's
bell. Where it must wait it is given a generator, which yields whenever there is nothing to do: whoever runs the replica
waits then, for its bell and a bounded while, so that a stop and the node's death are heard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import Exchange, ReplicaView, Traffic
from hogpour.shm import accrual, mailbox, queue
from hogpour.shm.accrual import Accrual
from hogpour.shm.clocks import Clocks
from hogpour.shm.control import Control
from hogpour.shm.mailbox import BLOCKS, BUFFER, LANDING, Mailbox
from hogpour.shm.queue import TicketQueue

__all__ = ["LINKS", "AccruedLink", "Moment", "ReplicaLink", "link_arrays"]


class Moment(Enum):
    """Where a replica stands when it yields."""

    COMPUTED = 1
    """The gradient of a batch is there, and nothing else has changed: where time is made up, it passes here."""
    WAITING = 2
    """It has nothing to do until its bell rings."""


def link_arrays(n: int, replicas: int) -> Iterable[tuple[str, tuple[int, ...], npt.DTypeLike]]:
    """Return what the live segment of a node with a client holds besides (for ``shm.layout``)."""
    yield "accrual", (replicas, *accrual.WORDS), np.int64
    yield "accrual_tickets", (replicas, accrual.BUFFERS, accrual.TICKETS), np.int64
    yield "mailbox", (replicas, *mailbox.WORDS), np.int64
    yield "queue", queue.WORDS, np.int64
    yield "queue_ring", (queue.ROOM,), np.int64
    yield "accrued", (replicas, accrual.BUFFERS, n), np.float32


Waiting = Generator[Moment, None, bool]
"""Waits where it is run; returns False where the replica must end."""


class ReplicaLink(ABC):
    """What a replica says to its node around a step; of itself, nothing."""

    diverges = True
    """Whether a loss that is not finite ends the run."""

    @abstractmethod
    def was_taken(self, ticket: int) -> bool:
        """Whether a block that a predecessor announced was taken by it; else it is still to be had."""

    @abstractmethod
    def take(self, announce: Callable[[int], None]) -> Generator[Moment, None, int | None]:
        """Take the next block, waiting for one; None where there will be none, or the replica must end.

        Args:
            announce: see ``Control.take_ticket``.
        """

    def begin_block(self, position: int) -> int:
        """Return from which position on a block is used, of which ``position`` examples were used before."""
        return position

    def is_over(self, evaluation: int) -> bool:
        """Whether a block of this evaluation is of no use: the live vector is that of a later one."""
        return False

    def before_step(self) -> Waiting | None:
        """Return what waits until the next step may be computed; None: it may."""
        return None

    def before_use(self) -> Waiting | None:
        """Return what waits until the gradient that was computed may be used; None: it may."""
        return None

    def accrued(self, loss: float) -> None:  # noqa: B027
        """Count the gradient that the exchange has just accrued, and its loss. Before the clock does: a kill between
        the two has the batch used twice; the other way round it would be counted as used and pushed by nobody."""

    def after_step(self) -> None:  # noqa: B027
        """Seal and ask where it is time, after a gradient was accrued and counted."""

    def finish(self, word: int) -> Waiting | None:
        """Report a finished block with the next push; return what waits until there is room for that; None: it is
        reported."""
        return None


class NoLink(ReplicaLink):
    """On a machine alone: blocks come from the counter in the live segment.

    Args:
        live: arrays of the live segment.
        number: of the replica.
        total: tickets of the run.
    """

    def __init__(self, live: Mapping[str, npt.NDArray[Any]], number: int, *_: Any, total: int, **__: Any) -> None:
        self._number, self._total, self._control = number, total, Control(live["control"])
        self._clocks, self._pending = Clocks(live["counters"], live["sums"]), live["pending"]
        self._own = iter(range(number, len(self._pending), len(live["counters"])))  # of a resumed run's open blocks

    def was_taken(self, ticket: int) -> bool:
        return ticket < min(self._control.tickets_taken, self._total)

    def take(self, announce: Callable[[int], None]) -> Generator[Moment, None, int | None]:
        yield from ()
        for k in self._own:
            ticket, position = map(int, self._pending[k])
            if ticket >= 0:
                self._clocks.begin_block(self._number, ticket, position)
                self._pending[k] = -1  # from here on the clock alone says that it is under way
                return ticket
        ticket = self._control.take_ticket(announce)
        return ticket if ticket < self._total else None


class AccruedLink(ReplicaLink):
    """Pushes what is accrued and asks for parameters; blocks come from the node's queue.

    Args:
        live: arrays of ``link_arrays`` among others.
        number: of the replica.
        view: shown to the exchange; its ``accrued`` is kept up to date here.
        gated: others may wait for what this replica pushes, and it for theirs. Then it says when it takes part, and
            never computes on while its push is decided on.
        steps: that this replica has done before, by a predecessor.
        ring: wakes the node's client.
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
        total: int,
        ring: Callable[[], None],
        go_on: Callable[[], bool],
    ) -> None:
        self._number, self._exchange, self._view, self._steps = number, exchange, view, steps
        self._ring, self._go_on, self._gated = ring, go_on, gated
        self._takes_part, self._rounds = False, gated or exchange.waits
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

    def was_taken(self, ticket: int) -> bool:
        return ticket not in self.queue

    def take(self, announce: Callable[[int], None]) -> Generator[Moment, None, int | None]:
        while self._mailbox.held(self._number) or (ticket := self.queue.take(announce)) is None:
            if self._accrual.waiting:
                self._seal()  # whoever waits for others has no reason to keep what it has
            if self._gated:
                self._mailbox.attend(self._number, False)
            self._ring()
            if not (yield from self._await(self._no_blocks)) or (self.queue.closed and not len(self.queue)):
                return None
        return ticket

    def before_step(self) -> Waiting | None:
        if self._gated and not (self._takes_part and self._mailbox.attends(self._number)):
            # Others wait for this replica from now on, so it asks for parameters before it computes:
            # 1. It may have waited for blocks. The step that its last fetch was of may be over.
            # 2. It may follow a replica that was killed after it sealed. The gradient of that push is this origin's in
            #    the step that the fetch was of, and the next one must be of a later step.
            self._takes_part = True
            self._mailbox.attend(self._number, True)
            self._want()
            self._ring()
        if self._missing():
            return self._await_step()
        if not self._view.n_accrued:
            self._accrual.begin(self._mailbox.number(self._number))
        return None

    def _await_step(self) -> Waiting:
        if not (yield from self._await(self._missing)):
            return False
        if not self._view.n_accrued:
            self._accrual.begin(self._mailbox.number(self._number))
        return True

    def accrued(self, loss: float) -> None:
        self._view.n_accrued = self._accrual.added(self._exchange.push_scale(self._view.lr_scale))

    def after_step(self) -> None:
        self._steps += 1
        due = self._view.n_accrued >= self._round()
        if due:
            self._seal()
        if not self._rounds and self._steps % self._exchange.n_fetch == 0:
            self._want()
            due = True
        if due:
            self._ring()

    def finish(self, word: int) -> Waiting | None:
        if not self._accrual.free:
            return self._await_finish(word)
        self._accrual.finish(word)
        if self._is_due():
            self._seal()
            self._ring()
        return None

    def _await_finish(self, word: int) -> Waiting:
        if not (yield from self._await(lambda: 0 if self._accrual.free else BUFFER)):
            return False
        self.finish(word)
        return True

    def _is_due(self) -> bool:
        """Whether what is reported with the end of a block must be sealed now."""
        return self._accrual.full

    def _missing(self) -> int:
        """Return what the next step must wait for."""
        # A buffer that holds a gradient was free before, and its replica alone ends that.
        missing = 0 if self._view.n_accrued or self._accrual.free else BUFFER
        if self._lands_late():
            missing |= LANDING
        return missing | (BLOCKS if self._mailbox.held(self._number) else 0)

    def _lands_late(self) -> bool:
        """Whether parameters must land before the next step is computed."""
        behind = self._tick - self._mailbox.landed(self._number)
        if behind <= 0:
            return False
        # Tick k was asked for after step k·n_fetch; it must have landed before step (k+1)·n_fetch is computed.
        overdue = self._rounds or self._steps + 1 - self._tick_step >= self._exchange.n_fetch
        return overdue or behind > 1

    def _no_blocks(self) -> int:
        # Closed is looked at before the queue: what was put before the closing is still to be had.
        if self._mailbox.held(self._number):
            return BLOCKS
        return 0 if self.queue.closed or len(self.queue) else BLOCKS

    def _await(self, missing: Callable[[], int]) -> Waiting:
        """Wait until nothing is missing; return False where the replica must end."""
        try:
            while True:
                self._mailbox.wait_for(self._number, missing())
                # Once more: the client rings only where it sees that somebody waits, and what came before that is here.
                if not missing():
                    return True
                if not self._go_on():
                    return False
                yield Moment.WAITING
        finally:
            self._mailbox.wait_for(self._number, 0)

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


class PulledLink(AccruedLink):
    """Computes the first gradient of a round while the pull is under way, and uses it when that has landed."""

    def before_use(self) -> Waiting | None:
        return self._await(self._pulled) if self._pulled() else None

    def _lands_late(self) -> bool:
        return False

    def _pulled(self) -> int:
        """Return what the use of a gradient must wait for."""
        return LANDING if self._mailbox.landed(self._number) < self._tick else 0


class SummedLink(AccruedLink):
    """Sends the sum of a whole block (batch methods), which is begun anew where a predecessor was killed in it: half of
    an addition may be in what was accrued."""

    diverges = False  # it is a bad trial point

    def begin_block(self, position: int) -> int:
        self._drop()
        return 0

    def is_over(self, evaluation: int) -> bool:
        over = evaluation < self._mailbox.evaluation(self._number)
        if over:
            self._drop()
        return over

    def accrued(self, loss: float) -> None:
        self._accrual.add_loss(float(loss))
        super().accrued(loss)

    def _is_due(self) -> bool:
        return True

    def _drop(self) -> None:
        self._accrual.drop()
        self._refresh()


LINKS: Mapping[Traffic, Callable[..., ReplicaLink]] = {
    Traffic.NONE: NoLink,
    Traffic.ACCRUED: AccruedLink,
    Traffic.PULLED: PulledLink,
    Traffic.SUMMED: SummedLink,
}
"""What a replica has, by what its exchange sends."""
