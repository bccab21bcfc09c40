"""The tickets that a node holds on lease: filled by its client, emptied by its replicas, without locks.

A ring of numbers, a head that replicas advance by compare and exchange, a tail that the client alone advances. As with
``control.take_ticket``, a replica announces a ticket before it takes it, so that a kill between the two loses none.

A node that was declared dead and has joined again may be granted a block that one of its replicas still ends under the
old lease, with pushes that were refused. So what is in the queue, and what replicas report, is a ticket and the number
of the lease under which it was granted, in one word (``leased_ticket``); that of the first joining is 0, and the word
then is the ticket.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hogpour.shm.control import control_exchange_if, control_load, control_store
from hogpour.shm.layout import LINE_BYTES

__all__ = ["ROOM", "WORDS", "TicketQueue", "leased_ticket", "ticket_of"]

ROOM = 256
"""Tickets that fit."""

WORDS = (3, LINE_BYTES // 8)
"""Shape of the words, int64: one line for each."""

_HEAD, _TAIL, _CLOSED = 0, 1, 2

_TICKETS = 1 << 40


def leased_ticket(ticket: int, lease: int) -> int:
    """Return the word for a ticket that was granted under lease 0, 1, 2 ... of this node."""
    return lease * _TICKETS + ticket


def ticket_of(word: int) -> int:
    """Return the ticket in a word."""
    return word % _TICKETS


class TicketQueue:
    """The queue of one node.

    Args:
        words: ``WORDS`` int64, live shared memory.
        ring: (ROOM,) int64, live shared memory.
    """

    def __init__(self, words: npt.NDArray[np.int64], ring: npt.NDArray[np.int64]) -> None:
        assert words.shape == WORDS, f"ticket queue: got words of shape {words.shape}, expected {WORDS}"
        assert ring.shape == (ROOM,), f"ticket queue: got a ring of {ring.shape}, expected ({ROOM},)"
        self._words, self._ring = words.reshape(-1), ring

    def take(self, announce: Callable[[int], None]) -> int | None:
        """Take the next ticket for the calling replica; None where the queue is empty.

        Args:
            announce: as in ``Control.take_ticket``; -1 takes an announcement back.
        """
        announced = False
        while (head := int(control_load(self._words, _HEAD))) < int(control_load(self._words, _TAIL)):
            ticket = int(self._ring[head % ROOM])
            announce(ticket)
            announced = True
            if control_exchange_if(self._words, _HEAD, head, head + 1):
                return ticket
        if announced:
            announce(-1)  # others were quicker: a successor of the caller must not do their block again
        return None

    def put(self, tickets: list[int]) -> None:
        """Append; the client's side. There must be room."""
        tail = int(control_load(self._words, _TAIL))
        assert len(self) + len(tickets) <= ROOM, f"ticket queue: {len(self)} and {len(tickets)} more, room for {ROOM}"
        for ticket in tickets:
            self._ring[tail % ROOM] = ticket
            tail += 1
        control_store(self._words, _TAIL, tail)

    def take_all(self) -> list[int]:
        """Empty the queue; the client's side, when the tickets are not this node's any more or it leaves."""
        taken: list[int] = []
        while (ticket := self.take(lambda ticket: None)) is not None:
            taken.append(ticket)
        return taken

    def close(self) -> None:
        """Say that no ticket will come any more; the client's side."""
        control_store(self._words, _CLOSED, 1)

    @property
    def closed(self) -> bool:
        """Whether the queue will get no more tickets."""
        return bool(control_load(self._words, _CLOSED))

    def __len__(self) -> int:
        return int(control_load(self._words, _TAIL)) - int(control_load(self._words, _HEAD))

    def __contains__(self, ticket: object) -> bool:
        """Whether a ticket is still to be taken."""
        head, tail = int(control_load(self._words, _HEAD)), int(control_load(self._words, _TAIL))
        return any(int(self._ring[k % ROOM]) == ticket for k in range(head, tail))
