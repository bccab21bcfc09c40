"""Lines of a log that strangers can cause: so many in a second, and how many more there were."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["LogLines"]

LINES_PER_S = 10
"""Of reasons why connections ended; the others are counted."""


class LogLines:
    """Hands on so many lines a second, and then how many more there were."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self.unsaid = 0
        self._log, self._since, self._said = log, -1.0, 0

    def say(self, line: str, now: float) -> None:
        self.flush(now)
        if self._said < LINES_PER_S:
            self._said += 1
            self._log(line)
        else:
            self.unsaid += 1

    def flush(self, now: float) -> None:
        if self._since < 0 or now - self._since >= 1.0:
            self.end()
            self._since, self._said = now, 0

    def end(self) -> None:
        if self.unsaid:
            self._log(f"… and {self.unsaid:,} more")
            self.unsaid = 0
