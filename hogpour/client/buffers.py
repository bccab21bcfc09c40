"""Sealed buffers of a node's replicas, from when the client takes them up until they are given back and reported.

A sealed buffer is frozen until every shard has answered; then it is given back to its replica, and the blocks that it
finishes are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from hogpour.net.wire.gate import Arrived
from hogpour.net.wire.push import Pushed
from hogpour.shm.accrual import Sealed, list_sealed, release
from hogpour.shm.mailbox import BUFFER, Mailbox

__all__ = ["SealedBuffers"]


class SealedBuffers:
    """The sealed buffers of one node.

    Args:
        live: arrays of the live segment.
        wake: rings the bell of a replica.
        finished: told the tickets whose every gradient is acknowledged, and the loss of each.

    Attributes:
        pushes: acknowledged, counted once for all shards.
        staleness: sum over these pushes of the mean staleness over shards.
        dropped: acknowledged as too late for their step; not counted in ``pushes``.
        waited_s: seconds that pushes waited at a gate for others, all together.
    """

    def __init__(
        self,
        live: Mapping[str, npt.NDArray[Any]],
        mailbox: Mailbox,
        wake: Callable[[int], None],
        finished: Callable[[tuple[int, ...], Sequence[float]], None],
    ) -> None:
        self.pushes, self.staleness, self.dropped, self.waited_s = 0, 0.0, 0, 0.0
        self._words, self._tickets, self._mailbox = live["accrual"], live["accrual_tickets"], mailbox
        self._wake, self._finished = wake, finished
        self._bytes = [[memoryview(buffer).cast("B") for buffer in buffers] for buffers in live["accrued"]]
        self._taken: dict[int, int] = {}  # replica → highest sequence that was taken up
        # replica → its pushes by sequence, from the oldest unanswered one on; answered: their tickets and loss
        self._open: dict[int, dict[int, tuple[tuple[int, ...], float] | None]] = {}

    def take_up(self, replica: int) -> list[Sealed]:
        """Return the buffers that a replica sealed since the last look."""
        new = list_sealed(self._words, self._tickets, replica, self._taken.get(replica, 0))
        if new:
            self._taken[replica] = new[-1].sequence
        for push in new:
            self._open.setdefault(replica, {})[push.sequence] = None
        return new

    def take_up_all(self) -> list[Sealed]:
        """Return those of all replicas."""
        return [push for replica in range(len(self._words)) for push in self.take_up(replica)]

    def payload(self, push: Sealed, part: slice) -> memoryview:
        """Return the bytes of a shard's range of a push."""
        return self._bytes[push.replica][push.buffer][4 * part.start : 4 * part.stop]

    def acknowledge(self, push: Sealed, answers: Sequence[Pushed | Arrived]) -> None:
        """Every shard, or the gate, has answered a push; empty where there was nothing to push."""
        if answers:
            self.count(answers)
        self.release(push, push.tickets)

    def count(self, answers: Sequence[Pushed | Arrived]) -> None:
        """Count a push that every shard has answered."""
        self.pushes += 1
        self.staleness += sum(one.staleness for one in answers) / len(answers)

    def drop(self, push: Sealed) -> None:
        """Count a push that came too late. Its examples are used up."""
        self.dropped += 1
        self.release(push, push.tickets)

    def release(self, push: Sealed, tickets: tuple[int, ...]) -> None:
        """Give a buffer back, and report which blocks are done: in the order of their sealing.

        1. A replica seals push 1 with the last gradient of a block, and then push 2, without gradients, with the
           block's ticket.
        2. The client sends push 1. Push 2 has nothing to be sent and is released at once.
        3. A server may answer push 1 much later, or never: so tickets wait for all pushes before theirs.
        """
        self.free(push)
        pushes = self._open[push.replica]
        pushes[push.sequence] = tickets, push.loss
        for sequence, done in list(pushes.items()):
            if done is None:
                break
            del pushes[sequence]
            tickets, loss = done
            if tickets:
                self._finished(tickets, [loss] * len(tickets))

    def free(self, push: Sealed) -> None:
        """Give a buffer back; doing it again changes nothing."""
        release(self._words, push)
        if self._mailbox.waits_for(push.replica) & BUFFER:  # a ring costs both sides more than a step may take
            self._wake(push.replica)
