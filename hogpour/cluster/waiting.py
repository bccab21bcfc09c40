"""Who waits for whom: at the gate for gradients, and at the end of a run for the last blocks."""

from __future__ import annotations

from collections.abc import Callable

from hogpour.cluster.gatekeeper import Gatekeeper
from hogpour.cluster.overdue import OverdueBlocks
from hogpour.core.cluster_state import WaitedFor
from hogpour.core.node_id import display_id

__all__ = ["Waiting"]

_WORTH_A_WORD_S = 1.0
"""Everybody waits for somebody a little."""


class Waiting:
    """Who waits for whom in one run.

    Args:
        idle: returns the members that could compute and have no block.
    """

    def __init__(self, gatekeeper: Gatekeeper, overdue: OverdueBlocks, idle: Callable[[], list[int]]) -> None:
        self._gatekeeper, self._overdue, self._idle = gatekeeper, overdue, idle

    def list(self) -> tuple[WaitedFor, ...]:
        """Return who is waited for, and by whom; a second or more."""
        waiting, origins = self._gatekeeper.waits()
        by, idle = tuple(map(display_id, sorted(waiting))), tuple(map(display_id, self._idle()))
        found = [WaitedFor(display_id(node), replica, seconds, by) for (node, replica), seconds in origins]
        if idle:
            found += [WaitedFor(display_id(node), None, seconds, idle) for node, seconds in self._overdue.waited_for()]
        return tuple(one for one in found if one.seconds >= _WORTH_A_WORD_S)
