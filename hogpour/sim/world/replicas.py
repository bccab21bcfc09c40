"""The replica processes of one machine, inline: ``supervisor.Supervisor``'s part in virtual time.

A replica is the production loop (``replica.Replica.moments``). Where it has computed a gradient, the time that this
takes passes before the gradient is used; where it waits, it goes on when its bell rings, or after the quarter of a
second that a real one waits at most. A replica that is killed ends between two moments and is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

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


class _Process:
    """What a process is in reality: a replica from its start to its end, or until it is killed."""

    __slots__ = ("due", "frozen", "moments", "number", "rang", "timer", "waiting")

    def __init__(self, number: int, moments: Generator[Moment, None, None]) -> None:
        self.number, self.moments = number, moments
        self.rang = self.waiting = False
        self.frozen = self.due = False  # due: it would have gone on
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
        self._processes: dict[int, _Process] = {}
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._open = count
        self._since = [0.0] * count  # when it began to wait

    @property
    def alive(self) -> int:
        """Number of replicas that run."""
        return len(self._processes)

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
        for process in list(self._processes.values()):
            self.wake(process.number)
        if self._processes:
            await asyncio.wait([self._ended], timeout=grace_s)
        for process in list(self._processes.values()):
            self._end(process)

    def wake(self, number: int) -> None:
        """Ring the bell of a replica."""
        process = self._processes.get(number)
        if process is None:
            return
        process.rang = True
        if process.waiting:
            self._interrupt(process)
            self._loop.call_soon(self._rouse, process)

    def lives(self, number: int) -> bool:
        """Return whether a replica runs."""
        return number in self._processes

    def kill(self, number: int) -> bool:
        """Kill a replica, which is started again; return whether it ran."""
        process = self._processes.pop(number, None)
        if process is None:
            return False
        self._interrupt(process)
        self._loop.call_later(self._restart_s, self._start_again, process)
        return True

    def freeze(self, number: int) -> None:
        """Let a replica stand still."""
        if number in self._processes:
            self._processes[number].frozen = True

    def thaw(self, number: int) -> None:
        """Let it go on."""
        process = self._processes.get(number)
        if process is not None and process.frozen:
            process.frozen = False
            if process.due:
                process.due = False
                self._loop.call_soon(self._advance, process)

    @property
    def moving(self) -> bool:
        """Whether some replica runs that does not stand still."""
        return any(not process.frozen for process in self._processes.values())

    def _start(self, number: int) -> None:
        process = self._processes[number] = _Process(number, self._make(number).moments())
        self._loop.call_soon(self._advance, process)

    def _start_again(self, process: _Process) -> None:
        # Not before: a killed process leaves the words in shared memory as they are, and ``finally`` blocks of the
        # replica's loop would change them.
        process.moments.close()
        if self._stopping:
            self._close_one()
            return
        self.restarts += 1
        self._start(process.number)

    def _advance(self, process: _Process) -> None:
        """Let a replica go on to its next moment."""
        if self._processes.get(process.number) is not process:
            return  # killed meanwhile
        if process.frozen:
            process.due = True
            return
        while True:
            with np.errstate(all="ignore"):  # as in a process of its own
                moment = next(process.moments, None)
            if moment is None:
                self._end(process)
                return
            if moment is Moment.COMPUTED:
                seconds = self._compute_s(process.number)
                self.computed_s[process.number] += seconds
                process.timer = self._loop.call_later(seconds, self._advance, process)
                return
            if not process.rang:
                process.waiting, self._since[process.number] = True, self._loop.time()
                process.timer = self._loop.call_later(_PATIENCE_S, self._look_around, process)
                return
            process.rang = False

    def _rouse(self, process: _Process) -> None:
        process.rang = False  # however often it did
        self._advance(process)

    def _look_around(self, process: _Process) -> None:
        self._interrupt(process)
        self._advance(process)

    def _interrupt(self, process: _Process) -> None:
        """End what a replica is at, its waiting or its computing, and count the time that there was of it."""
        if process.timer is None:
            return
        now = self._loop.time()
        if process.waiting:
            process.waiting = False
            self.waited_s[process.number] += now - self._since[process.number]
        else:
            self.computed_s[process.number] -= max(0.0, process.timer.when() - now)
        process.timer.cancel()
        process.timer = None

    def _end(self, process: _Process) -> None:
        self._interrupt(process)
        del self._processes[process.number]
        self._close_one()

    def _close_one(self) -> None:
        self._open -= 1
        if not self._open and not self._ended.done():
            self._ended.set_result(None)
