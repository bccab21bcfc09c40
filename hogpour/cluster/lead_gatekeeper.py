"""Lets no origin get further ahead of the slowest than its gate allows; holds no gradient (``gatekeeper``)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from hogpour.algos.gate.base import Gate
from hogpour.cluster.gatekeeper import MOST_REPLICAS, Gatekeeper, Origin, drop_node
from hogpour.net.wire.gate import COUNTED, Arrive, Arrived

__all__ = ["LeadGatekeeper"]


class LeadGatekeeper(Gatekeeper):
    """Lets no origin get further ahead of the slowest than its gate allows."""

    most_replicas = MOST_REPLICAS

    def __init__(self, gate: Gate, step: int, **surroundings: Any) -> None:
        super().__init__(gate, step, **surroundings)
        self._heard: dict[Origin, int] = {}  # → highest sequence that has arrived
        self._waiting: dict[Origin, asyncio.Future[Arrived]] = {}  # those that are too far ahead

    def arrive(self, arrive: Arrive) -> Arrived | asyncio.Future[Arrived]:
        origin = arrive.node, arrive.replica
        if arrive.sequence > self._heard.get(origin, 0):
            self._heard[origin] = arrive.sequence
            if origin in self._present:
                self._present[origin] += 1
                self._look()
            self._move(origin)
        if self._may_go(origin, min(self._present.values(), default=0)):
            return Arrived(COUNTED, 0)
        waiting = self._waiting.get(origin)
        if waiting is None:
            waiting = self._waiting[origin] = asyncio.get_running_loop().create_future()
        return waiting

    def _waits(self) -> tuple[set[int], Collection[Origin]]:
        least = min(self._present.values(), default=0)
        return {node for node, _ in self._waiting}, [one for one, clock in self._present.items() if clock > least]

    def _look(self) -> None:
        least = min(self._present.values(), default=0)
        for origin in list(self._waiting):
            if self._may_go(origin, least):
                self._go_on(origin)

    def _drop(self, node: int) -> None:
        for origin in [origin for origin in self._waiting if origin[0] == node]:
            self._go_on(origin)
        drop_node(self._heard, node)

    def _may_go(self, origin: Origin, least: int) -> bool:
        ahead, clock = self._gate.ahead(), self._present.get(origin)
        return ahead is None or clock is None or clock - least <= ahead

    def _go_on(self, origin: Origin) -> None:
        self._let_go(origin)
        waiting = self._waiting.pop(origin, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(Arrived(COUNTED, 0))

    async def close(self) -> None:
        for waiting in self._waiting.values():
            waiting.cancel()
