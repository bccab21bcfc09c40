"""Replicas of this machine that live and make no step: stopped by a signal, swapped out, or starved."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from hogpour.core.progress import Notice
from hogpour.node.backends import Backend

__all__ = ["StalledReplicas"]

_ASLEEP_S = 3.0
"""Between two looks, of which there is one in a second; more is time in which this process stood still itself."""

_TIMES = 10
"""A step that takes so many times as long as those before may still be one."""


class _Crew(Protocol):
    def lives(self, replica: int, /) -> bool: ...
    def kill(self, replica: int, /) -> object: ...


class StalledReplicas:
    """Speaks once of each. Where nothing else is left to do, and no other node would do it, it is killed, and its
    successor goes on where it stands.

    Args:
        stall_s: without a step, at least.
        crew: the replicas.
        backend: knows whether they have a reason to make none.
        notify: called with what a person wants to know.
        now: when the first look may be.
    """

    def __init__(
        self, stall_s: float, crew: _Crew, backend: Backend, notify: Callable[[Notice], None], now: float
    ) -> None:
        self._stall_s, self._crew, self._backend, self._notify = stall_s, crew, backend, notify
        self._looked, self._told = now, set[int]()
        self._moves: dict[int, tuple[int, float, float]] = {}  # replica → steps, when first seen, what each took

    def look(self, now: float, trained_s: float) -> None:
        """Look at all of them.

        Args:
            trained_s: since the first step of this run.
        """
        if now - self._looked > _ASLEEP_S:
            self._moves.clear()
        self._looked = now
        for replica, steps in enumerate(self._backend.clocks.steps.tolist()):
            seen, since, usual_s = self._moves.get(replica, (-1, now, 0.0))
            if steps != seen or self._backend.idle(replica) or not self._crew.lives(replica):
                # A first step may take long. What those before took is not what it is once nothing is done any more.
                self._moves[replica] = (steps, now, trained_s / steps if steps else self._stall_s)
                self._told.discard(replica)
            elif now - since >= max(self._stall_s, _TIMES * usual_s):
                last = self._backend.nothing_else
                if replica not in self._told:
                    self._told.add(replica)
                    text = f"no step for {now - since:.0f} s: is its process stopped or starved?"
                    self._notify(Notice("warning", f"replica {replica} has made {text}"))
                if last:
                    self._moves[replica] = (steps, inf, 0.0)  # its successor has to start, and has all the time for it
                    self._crew.kill(replica)
