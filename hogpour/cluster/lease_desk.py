"""The desk at which members report what they have done and are given more: one over each kind of ledger.

Blocks of an epoch are there from the beginning: ``LeaseDesk`` answers at once. Blocks of an evaluation are there when
L-BFGS wants one: at an ``EvaluationDesk`` members wait for the next, and the driver for the end of this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from hogpour.cluster.evaluation_ledger import EvaluationLedger
from hogpour.cluster.leases import LeaseLedger
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.node_id import display_id
from hogpour.net.wire.lease import Lease

__all__ = ["EvaluationDesk", "LeaseDesk"]


class LeaseDesk:
    """Leases what its ledger has.

    Attributes:
        ledger: who computes what.
        waiting: nothing is leased yet.
        ended: nothing is leased any more.
        failed: shards may be gone.
    """

    def __init__(self, ledger: LeaseLedger) -> None:
        self.ledger = ledger
        self.waiting = self.ended = self.failed = False

    def report(self, lease: Lease) -> int:
        """Take in what a member has done; return the examples that were not done before.

        Raises:
            RequestFailed: no member says so.
        """
        return self.ledger.finish(lease.node, dict.fromkeys(lease.done, 0.0))

    def take_back(self, node: int, tickets: Collection[int] | None = None) -> int:
        """Let others do what a member holds, or these tickets of it; return the examples of them."""
        return self.ledger.take_back(node, tickets)

    def grant(self, lease: Lease, patience_s: float, alive: Callable[[], bool]) -> list[int] | Awaitable[list[int]]:
        """Lease blocks to a member, or say when.

        Args:
            patience_s: the member waits for at most so long.
            alive: whether it may still be given some.
        """
        del patience_s, alive
        return [] if self.waiting else self.ledger.grant(lease.node, lease.holds, lease.want)

    def end(self, *, failed: bool = False) -> None:
        """Lease nothing any more, and let nobody wait: the run ends."""
        self.ended, self.failed = True, self.failed or failed


class EvaluationDesk(LeaseDesk):
    """Leases the blocks of one evaluation after the other."""

    ledger: EvaluationLedger

    def __init__(self, ledger: EvaluationLedger) -> None:
        super().__init__(ledger)
        self._waiting: list[asyncio.Future[None]] = []  # members
        self._complete: asyncio.Future[None] | None = None  # the driver

    def report(self, lease: Lease) -> int:
        if len(lease.losses) != len(lease.done) or lease.replicas < 0:
            raise RequestFailed(Refusal.WRONG, f"node {display_id(lease.node)} reports {len(lease.done)} blocks with "
                                f"{len(lease.losses)} losses, and has {lease.replicas} replicas")  # fmt: skip
        examples = self.ledger.finish(lease.node, dict(zip(lease.done, lease.losses, strict=True)))
        if self.ledger.complete and self._complete is not None and not self._complete.done():
            self._complete.set_result(None)
        elif lease.done:
            self._wake()  # there may be copies for those who wait
        return examples

    def take_back(self, node: int, tickets: Collection[int] | None = None) -> int:
        examples = super().take_back(node, tickets)
        self._wake()
        return examples

    def grant(self, lease: Lease, patience_s: float, alive: Callable[[], bool]) -> list[int] | Awaitable[list[int]]:
        return self._grant(lease, patience_s, alive) if lease.want else []

    async def _grant(self, lease: Lease, patience_s: float, alive: Callable[[], bool]) -> list[int]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while True:
            granted = self.ledger.grant(lease.node, lease.holds, lease.want, lease.replicas)
            left = deadline - loop.time()
            if granted or left <= 0 or self.ended:
                return granted
            woken: asyncio.Future[None] = loop.create_future()
            self._waiting.append(woken)
            await asyncio.wait([woken], timeout=left)
            if not alive():
                return []

    def end(self, *, failed: bool = False) -> None:
        super().end(failed=failed)
        self._wake()
        if self._complete is not None and not self._complete.done():
            self._complete.set_result(None)

    def open(self, subset: int | None) -> asyncio.Future[None]:
        """Begin an evaluation; return what is done when all of its blocks are, or the run ends."""
        self._complete = asyncio.get_running_loop().create_future()
        self.ledger.open(subset)
        self._wake()
        if self.ended:  # meanwhile: nobody would say that it is complete
            self._complete.set_result(None)
        return self._complete

    def _wake(self) -> None:
        """Let members that wait look again."""
        waiting, self._waiting = self._waiting, []
        for woken in waiting:
            if not woken.done():
                woken.set_result(None)
