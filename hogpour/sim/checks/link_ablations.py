"""Safeguards of hard links, see ``hard_links``; a part of ``ablations``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.cluster.placement import Placement
from hogpour.net import peer
from hogpour.net.listener import Listener
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
}  # fmt: skip
