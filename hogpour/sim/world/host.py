"""A host, one life of a machine in a simulation, and the callbacks that belong to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

__all__ = ["Handle", "Host"]


class Host:
    """One life of a machine.

    Args:
        number: of the machine, for the trace.
        name: address of the machine in the network.

    Attributes:
        alive: False from the moment it dies on.
        deferred: what became due while it was paused; None while it is not.
    """

    __slots__ = ("alive", "deferred", "lane", "name", "number", "queued", "tasks")

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name, self.alive = number, name, True
        self.deferred: list[Handle] | None = None
        self.tasks: dict[asyncio.Task[Any], None] = {}  # that have not ended, in the order of their beginning
        self.lane: deque[Handle] = deque()  # of its ready callbacks, where hosts are shuffled
        self.queued = False  # whether that lane is among those drawn from

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Hold a task no longer."""
        self.tasks.pop(task, None)

    def end_tasks(self) -> None:
        """Close the coroutines of a host that has died, which the garbage collector would do some time.

        What their ``finally`` blocks ask for here and now is asked for by a dead host, whom nobody hears.
        """
        while self.tasks:  # what is closed may begin further ones
            task = next(iter(self.tasks))
            del self.tasks[task]
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _end(task.get_coro())


class Handle:
    """A callback that was asked for; see ``asyncio.TimerHandle``."""

    __slots__ = ("_args", "_at", "_callback", "_context", "host")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context, host: Host, at: float
    ) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args, self._context, self.host, self._at = args, context, host, at

    def cancel(self) -> None:
        """Let it not run."""
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._callback is None

    def when(self) -> float:
        """Return the time for which it was asked."""
        return self._at


def _end(coroutine: Any) -> None:
    """Close a coroutine and what it awaits, from the inside out, however often that awaits on its way."""
    for _ in range(1000):
        innermost = coroutine
        while (awaited := getattr(innermost, "cr_await", None)) is not None and getattr(awaited, "cr_frame", None):
            innermost = awaited
        try:
            innermost.close()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # it awaited once more ("ignored GeneratorExit"), or failed: nobody hears
            pass
        if coroutine.cr_frame is None:
            return
