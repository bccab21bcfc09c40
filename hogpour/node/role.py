"""What a node is in its cluster besides training; the first node is one (``first_node``), each that joined another
(``joining``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hogpour.core.errors import HogpourError

__all__ = ["Guard", "Role"]

Guard = Callable[[Awaitable[Any]], Awaitable[Any]]
"""Waits for something, unless the cluster fails meanwhile; see ``Endpoint.guard``."""


class Role:
    """What a node does in its cluster besides training: nothing, as a first node that has not begun."""

    @property
    def warming(self) -> bool:
        """Whether only the first replica of this node may compute."""
        return False

    @property
    def rescue(self) -> str:
        """Name of the file for what this node holds, where the first node, which has one, is gone; else empty."""
        return ""

    def train(self) -> None:
        """Begin, now that replicas run."""

    def tick(self) -> None:
        """Look at what was reported a moment ago."""

    def stop(self) -> None:
        """This node ends, as it was asked to or because all is done."""

    def fail(self, error: HogpourError) -> bool:
        """Say that this node cannot go on; return whether the others end with it."""
        return False

    async def conclude(self, guard: Guard) -> None:
        """Bring the run to its end, when this node has pushed and reported everything."""

    async def leave(self, guard: Guard, reason: str, again: bool) -> None:
        """Leave in order; see ``CoordinatorClient.leave``."""

    async def part(self) -> None:
        """Say the last word, before anything is closed."""

    async def close(self) -> None:
        """End what is under way."""
