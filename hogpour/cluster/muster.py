"""The muster: how many nodes must be there before anybody trains. Pure; the time is an argument."""

from __future__ import annotations

__all__ = ["Muster"]


class Muster:
    """Lets nobody train before enough nodes are ready. Over once and for all: who goes later is not waited for.

    Args:
        nodes: that are waited for, the first one included; 1: nobody is.
        patience_s: how long, at most.
        now: when that begins.

    Attributes:
        waiting: it is not over.
    """

    def __init__(self, nodes: int, patience_s: float, now: float) -> None:
        self.waiting = nodes > 1
        self._nodes, self._patience_s, self._until = nodes, patience_s, now + patience_s

    def ends(self, ready: int) -> bool:
        """Return whether it is over now, and was not before.

        Args:
            ready: nodes that are.
        """
        over = self.waiting and ready >= self._nodes
        self.waiting = self.waiting and not over
        return over

    def state(self, ready: int) -> str:
        """Return how far it is, for people."""
        return f"waiting for nodes: {ready} of {self._nodes} are ready"

    def failure(self, ready: int, now: float) -> str:
        """Return why it has failed; empty: it has not, yet."""
        if not self.waiting or now < self._until:
            return ""
        return (f"{ready} of {self._nodes} nodes were ready within {self._patience_s:g} s; start the others, or lower "
                f"cluster.wait_for = {self._nodes}")  # fmt: skip
