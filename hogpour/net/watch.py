"""A timer that knows when it is late: a process that stood still judges nobody by the time that it slept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Patience", "Watch"]

SLEPT_S = 0.5
"""A timer that is later than this was not kept by work: the process was stopped, or its machine was."""


class Watch:
    """One timer of whoever looks for what is overdue.

    Args:
        look: called with the time and with the seconds by which it is too late because the process stood still, or 0.
            Until now no socket was read that long: deadlines are later by as much.
    """

    def __init__(self, look: Callable[[float, float], None]) -> None:
        self._look, self._at = look, 0.0
        self._timer: asyncio.TimerHandle | None = None

    def by(self, at: float) -> None:
        """Look at this time of the event loop, or at an earlier one that was named since it looked last."""
        if self._timer is not None:
            if self._at <= at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._due)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        late = now - self._at
        self._look(now, late if late > SLEPT_S else 0.0)


class Patience:
    """How long something is waited for in rounds, each of which ends with a look.

    Of one round a quarter of the time counts at most: it may have been a sleep, in which nobody was asked and nothing
    was heard. Where it was none, an answer was waited for, which has a deadline of its own.

    Args:
        seconds: at the end of which it is over.
        now: when it begins.
    """

    def __init__(self, seconds: float, now: float) -> None:
        self._left, self._longest, self._looked = seconds, seconds / 4, now

    def over(self, now: float) -> bool:
        """Look: a round has ended now."""
        self._left -= min(now - self._looked, self._longest)
        self._looked = now
        return self._left <= 0
