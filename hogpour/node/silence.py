"""The first node that is not heard from, for a while: whoever waits for it says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hogpour.core.progress import Notice
from hogpour.net.watch import Watch
from hogpour.net.wire.heartbeat import HeartbeatReply

__all__ = ["FirstNodeWatch"]


class FirstNodeWatch:
    """Speaks once of each silence that is longer than a lease, and once of its end.

    Args:
        first: host:port of the first node.
        lease_s, give_up_s: of the cluster.
        notify: called with what a person wants to know.
    """

    def __init__(self, first: str, lease_s: float, give_up_s: float, notify: Callable[[Notice], None]) -> None:
        self._first, self._lease_s, self._give_up_s, self._notify = first, lease_s, give_up_s, notify
        self._watch, self._heard = Watch(self._look), 0.0
        self._told = self._stopped = False

    def hear(self, _: HeartbeatReply) -> None:
        """Note that it has answered a heartbeat; the first time, begin."""
        if self._stopped:
            return
        now = asyncio.get_running_loop().time()
        if self._told:
            self._notify(Notice("member", f"the first node answers again, after {now - self._heard:.0f} s"))
        self._heard, self._told = now, False
        self._watch.by(now + self._lease_s)

    def stop(self) -> None:
        """Say nothing any more: it is not waited for."""
        self._stopped = True
        self._watch.stop()

    def _look(self, now: float, slept: float) -> None:
        if slept:  # what it has answered lies unread
            self._heard = now
        if now < self._heard + self._lease_s:
            self._watch.by(self._heard + self._lease_s)
            return
        self._told = True
        text = f"has not answered for {now - self._heard:.0f} s: waiting for it, {self._give_up_s:g} s at most"
        self._notify(Notice("warning", f"the first node, {self._first}, {text}"))
