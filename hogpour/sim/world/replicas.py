"""The replica processes of one machine, inline: ``supervisor.Supervisor``'s part in virtual time.

A replica is the production loop (``replica.Replica.moments``). Where it has computed a gradient, the time that this
takes passes before the gradient is used; where it waits, it goes on when its bell rings, or after the quarter of a
second that a real one waits at most. A replica that is killed ends between two moments and is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from hogpour.machine.replica import Replica
from hogpour.machine.replica_link import Moment

__all__ = ["Bell", "Replicas"]

_PATIENCE_S = 0.25
"""As long as a real replica waits for its bell without looking around."""


class Bell:
    """The bell of a node that replicas ring: what ``shm.doorbell.Doorbell`` is in reality.

    Attributes:
        listen_fd: itself, for ``Loop.add_reader``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.listen_fd = self
        self._loop = loop
        self._callback: Callable[[], object] | None = None
        self._rings = self._asked = False

    def ring(self) -> None:
        """Ring."""
        self._rings = True
        self._ask()

    def answer(self) -> None:
        """Silence it."""
        self._rings = False

    def listen(self, callback: Callable[..., object] | None, *arguments: Any) -> bool:
        """Call this when it rings; None: nothing. Return whether somebody listened before."""
        before = self._callback is not None
        self._callback = None if callback is None else lambda: callback(*arguments)
        self._ask()
        return before

    def _ask(self) -> None:
        if self._rings and self._callback is not None and not self._asked:
            self._asked = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._asked = False
        if self._rings and self._callback is not None:
            self._callback()
            self._ask()  # whoever does not answer is told again, as of a descriptor that can be read


class _Life:
    """One process."""

    __slots__ = ("moments", "number", "rang", "timer", "waiting")

    def __init__(self, number: int, moments: Generator[Moment, None, None]) -> None:
        self.number, self.moments = number, moments
        self.rang = self.waiting = False
        self.timer: Any = None


class Replicas:
    """The replicas of one node.

    Args:
        count: of them.
        compute_s: number → how long its next gradient takes.
        restart_s: until a replica that was killed runs again.

    Attributes:
        restarts: deaths made good so far.
        waited_s: seconds that each replica has waited for others, from when it had nothing to do.
        computed_s: seconds that each has computed.
    """

    def __init__(
        self,
        count: int,
        compute_s: Callable[[int], float],
        *,
        restart_s: float = 0.5,
    ) -> None:
        self.restarts = 0
        self.waited_s, self.computed_s = [0.0] * count, [0.0] * count
        self._count, self._compute_s, self._restart_s = count, compute_s, restart_s
        self._lives: dict[int, _Life] = {}
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._open = count
        self._since = [0.0] * count  # when it began to wait

    @property
    def alive(self) -> int:
        """Number of replicas that run."""
        return len(self._lives)

    async def run(self, make: Callable[[int], Replica], clocks: object, stop_others: object) -> None:
        """Run all replicas until each has ended; see ``Supervisor.run``, whose other arguments processes need.

        Args:
            make: makes the replica of a number, on the memory that its predecessor left.
        """
        self._make = make
        for number in range(self._count):
            self._start(number)
        await asyncio.shield(self._ended)  # no deadline: training may take days

    async def stop(self, grace_s: float) -> None:
        """Wait for all to end, and end those that have not; see ``Supervisor.stop``."""
        self._stopping = True
        for life in list(self._lives.values()):
            self.wake(life.number)
        if self._lives:
            await asyncio.wait([self._ended], timeout=grace_s)
        for life in list(self._lives.values()):
            self._end(life)

    def wake(self, number: int) -> None:
        """Ring the bell of a replica."""
        life = self._lives.get(number)
        if life is None:
            return
        life.rang = True
        if life.waiting:
            self._interrupt(life)
            self._loop.call_soon(self._rouse, life)

    def kill(self, number: int) -> bool:
        """Kill a replica, which is started again; return whether it ran."""
        life = self._lives.pop(number, None)
        if life is None:
            return False
        self._interrupt(life)
        self._loop.call_later(self._restart_s, self._start_again, life)
        return True

    def _start(self, number: int) -> None:
        life = self._lives[number] = _Life(number, self._make(number).moments())
        self._loop.call_soon(self._advance, life)

    def _start_again(self, life: _Life) -> None:
        # Not before: a killed process leaves the words in shared memory as they are, and ``finally`` blocks of the
        # replica's loop would change them.
        life.moments.close()
        if self._stopping:
            self._close_one()
            return
        self.restarts += 1
        self._start(life.number)

    def _advance(self, life: _Life) -> None:
        """Let a replica go on to its next moment."""
        if self._lives.get(life.number) is not life:
            return  # killed meanwhile
        while True:
            moment = next(life.moments, None)
            if moment is None:
                self._end(life)
                return
            if moment is Moment.COMPUTED:
                seconds = self._compute_s(life.number)
                self.computed_s[life.number] += seconds
                life.timer = self._loop.call_later(seconds, self._advance, life)
                return
            if not life.rang:
                life.waiting, self._since[life.number] = True, self._loop.time()
                life.timer = self._loop.call_later(_PATIENCE_S, self._look_around, life)
                return
            life.rang = False

    def _rouse(self, life: _Life) -> None:
        life.rang = False  # however often it did
        self._advance(life)

    def _look_around(self, life: _Life) -> None:
        self._interrupt(life)
        self._advance(life)

    def _interrupt(self, life: _Life) -> None:
        """End what a replica is at, its waiting or its computing, and count the time that there was of it."""
        if life.timer is None:
            return
        now = self._loop.time()
        if life.waiting:
            life.waiting = False
            self.waited_s[life.number] += now - self._since[life.number]
        else:
            self.computed_s[life.number] -= max(0.0, life.timer.when() - now)
        life.timer.cancel()
        life.timer = None

    def _end(self, life: _Life) -> None:
        self._interrupt(life)
        del self._lives[life.number]
        self._close_one()

    def _close_one(self) -> None:
        self._open -= 1
        if not self._open and not self._ended.done():
            self._ended.set_result(None)
