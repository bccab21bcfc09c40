"""What the paths of a parameter client have in common: the parts that they use, and what each of them does.

A path is what becomes of the buffers that replicas seal and of the parameters that they ask for. Which one a node has,
its exchange says (``Traffic``, and the table in ``client``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from hogpour.algos.exchange.base import Exchange
from hogpour.algos.optim.base import Optimiser
from hogpour.client.buffers import SealedBuffers
from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.client.fetches import Fetches, Landings
from hogpour.client.routes import Routes, Sender
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.data.blocks import Blocks
from hogpour.net.tasks import TaskSet
from hogpour.shm.accrual import Sealed
from hogpour.shm.mailbox import Mailbox
from hogpour.shm.queue import TicketQueue

__all__ = ["Parts", "Path"]

_STOCK_A_REPLICA = 2
"""Tickets kept ready for each replica: a round trip to the coordinator may take as long as a block."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a path is made of."""

    live: Mapping[str, npt.NDArray[Any]]
    exchange: Exchange
    rule: Optimiser
    """That replicas step by."""
    blocks: Blocks
    """How the examples are cut."""
    coordinator: CoordinatorClient
    mailbox: Mailbox
    routes: Routes
    fetches: Fetches
    sender: Sender
    buffers: SealedBuffers
    landings: Landings
    works: TaskSet
    """Tasks whose errors end the run."""
    requests: TaskSet
    """Tasks that these wait for."""
    sparse: bool = False
    """Whether gradients are mostly 0."""


class Path(ABC):
    """What becomes of what replicas seal and ask for.

    Attributes:
        evaluation: of a batch method that the live vector is of; None: there are none.
    """

    evaluation: int | None = None

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @contextmanager
    def unless_fenced(self, node: int, *pushes: Sealed) -> Iterator[None]:
        """Do what incarnation ``node`` of this node may be refused because it was declared dead: then the buffers of
        these pushes are given back, and it joins again."""
        try:
            yield
        except RequestFailed as error:
            if error.code != Refusal.FENCED:
                raise
            for push in pushes:
                self._parts.buffers.release(push, ())
            self._parts.coordinator.fence(node)

    @abstractmethod
    def poll(self, wishes: list[int]) -> None:
        """Take up what is sealed, and start what is due.

        Args:
            wishes: of each replica, read before this: a replica seals and then asks, so what was asked for by now was
                sealed before.
        """

    def drop(self) -> None:  # noqa: B027 (most paths keep nothing)
        """Forget what was taken up and is not sent: this incarnation was declared dead."""

    def lease(self, queue: TicketQueue, wake: Callable[[], None]) -> list[Coroutine[Any, Any, None]]:
        """Return what reports blocks that are done and, as the last one, what keeps the queue filled until there will
        be no more.

        Args:
            wake: called when there is something to take, or there will not be.
        """
        return [self._parts.coordinator.lease(queue, _STOCK_A_REPLICA * len(self._parts.mailbox), wake)]
