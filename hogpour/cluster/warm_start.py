"""The warm start: who computes alone at the beginning of a run, and until when. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["WarmStart"]


class WarmStart:
    """Lets one member compute first.

    Args:
        examples: it is over when the cluster has used so many; 0: not decided by examples.
        seconds: it is over so long after the first member was ready; 0: not decided by time. With both, whichever comes
            first; with neither, there is none.

    Attributes:
        active: only one member computes, by one replica.
    """

    def __init__(self, examples: int, seconds: float) -> None:
        self._examples, self._seconds = examples, seconds
        self.active = bool(examples or seconds)
        self._chosen: int | None = None
        self._since: float | None = None

    def choose(self, able: Sequence[int], now: float) -> None:
        """Keep the member that computes as long as it is able to, else take the first that is.

        Args:
            able: members that could compute, by number; to be called when they change.
        """
        if self._chosen not in able:
            self._chosen = able[0] if able else None
        if able and self._since is None:
            self._since = now

    def holds(self, node: int) -> bool:
        """Return whether a member waits until the warm start is over."""
        return self.active and node != self._chosen

    def ends(self, examples: int, now: float) -> bool:
        """Return whether it is over now, and was not before.

        Args:
            examples: that the cluster has used.
        """
        long = self._seconds and self._since is not None and now - self._since >= self._seconds
        over = self.active and bool(long or (self._examples and examples >= self._examples))
        self.active = self.active and not over
        return over
