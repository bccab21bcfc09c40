"""Safeguards of hard links and of sleeps, see ``hard_links`` and ``sleeps``; a part of ``ablations``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from math import inf
from typing import Any

from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.cluster.placement import Placement
from hogpour.net import peer
from hogpour.net.listener import Listener
from hogpour.net.watch import Patience, Watch
from hogpour.sim.checks.ablation import Ablation

__all__ = ["LINKS"]


def _told_for_ever(_: Any) -> Any:
    def not_told(self: Placement, move: Any, taker: Any, error: Any) -> bool:
        return False

    return not_told


def _no_complaint(_: Any) -> Any:
    async def unreachable(self: CoordinatorClient, server: int) -> bool:
        return False

    return unreachable


def _impatient(look_up: Any) -> Any:
    async def within_a_second(host: str, *rest: Any) -> Any:
        try:
            async with asyncio.timeout(1.0):
                return await look_up(host, *rest)
        except TimeoutError:
            raise OSError("no address within 1 s") from None

    return within_a_second


def _as_if_awake(due: Any) -> Any:
    def awake(self: Watch) -> None:
        self._at = asyncio.get_running_loop().time()
        due(self)

    return awake


def _by_the_clock(over: Any) -> Any:
    def by_the_clock(self: Patience, now: float) -> Any:
        self._longest = inf
        return over(self, now)

    return by_the_clock


LINKS: Mapping[str, Ablation] = {
    "unheard": Ablation(
        "a move of which its taker cannot hear is given up", Placement, "_not_told", _told_for_ever, 2105, "ends: ",
    ),
    "complaint": Ablation(
        "shards that some member cannot reach go to others", CoordinatorClient, "unreachable", _no_complaint, 30,
        "ends: ",
    ),
    "look-up": Ablation(
        "a resolver may take its time", peer, "look_up", _impatient, 155, "ends: ",
    ),
    "last byte": Ablation(
        "a transfer that moves is waited for", peer, "moved", lambda _: lambda transport: 0, 80, "ends: ",
    ),
    "under way": Ablation(
        "the first node ends when what others push and fetch is there", Listener, "transferring",
        lambda _: property(lambda self: False), 80, "ends: ",
    ),
    "asleep": Ablation(
        "nobody is judged by the time in which this process stood still", Watch, "_due", _as_if_awake, 290, "ends: ",
    ),
    "patience": Ablation(
        "of what is waited for in rounds, no sleep counts as a wait", Patience, "over", _by_the_clock, 271, "ends: ",
    ),
}  # fmt: skip
