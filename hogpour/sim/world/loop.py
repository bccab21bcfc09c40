"""An event loop in virtual time: callbacks take none, and when nothing is left to do, time jumps to the next timer.

Drop-in for what production code uses of asyncio: tasks, timers, futures, executors, connections. Its promises are
asyncio's: what was asked for with ``call_soon`` runs in that order, timers in that of their times. One thing is
stricter, so that a run can be repeated: timers of one time run in the order in which they were set.

Every callback belongs to a **host**, one life of a machine: the host that was running when it was asked for. A host
that dies is gone between two callbacks: nothing of it runs any more, no ``finally`` either that would have an effect.
A host that is paused keeps what is due until it goes on.

With ``shuffle``, hosts that have something to do take turns in a random order; each one's own callbacks keep theirs,
since asyncio promises that, and nothing promises anything between machines.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hogpour.core.errors import HogpourError
from hogpour.sim.world.host import Handle, Host
from hogpour.sim.world.sandbox import LeftSimulation, breaches, sealed
from hogpour.sim.world.trace import Trace
from hogpour.sim.world.unsupported import UnsupportedLoop

if TYPE_CHECKING:
    from hogpour.sim.world.network import SimulatedNetwork

__all__ = ["Loop", "Stuck"]

BEGIN_S = 1000.0
"""Virtual time at the beginning; a clock may show anything, and code that takes 0 for "never" would be found out."""

_AT_ONE_TIME = 5_000_000
"""Callbacks without a moment passing, after which somebody is taken to be going round in circles."""

_DRAWN = 1024


class Stuck(HogpourError):
    """The simulation cannot go on, or does not come to its end."""


class Loop(UnsupportedLoop):
    """The event loop.

    Args:
        rng: for shuffling.
        shuffle: see above.
        network: what connections go through; set before any is made.
        executor_s: called for how long a job waits for a thread; None: no time.

    Attributes:
        host: the one that is running. The outside, where scenarios are carried out, is ``outside``.
        events: callbacks run so far.
        errors: what asyncio would have logged: exceptions nobody took.
        after: called after each callback, where something looks at every step.
    """

    def __init__(
        self, rng: np.random.Generator, *, shuffle: bool = False, executor_s: Callable[[], float] | None = None
    ) -> None:
        self.trace = Trace()
        self.outside = Host(0, "outside")
        self.host = self.outside
        self.network: SimulatedNetwork | None = None
        self.events = 0
        self.errors: list[dict[str, Any]] = []
        self.after: Callable[[], None] | None = None
        self._rng, self._shuffle, self._executor_s = rng, shuffle, executor_s
        self._now = BEGIN_S
        self._ready: deque[Handle] = deque()
        self._hosts: list[Host] = []  # with something ready, where they are shuffled
        self._timers: list[tuple[float, int, Handle]] = []
        self._number = 0  # of the newest timer
        self._prune_at = 1024
        self._spent = 0.0
        self._drawn: list[int] = []
        self._deaths = 0
        self._running = self._closed = False

    # -- time

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now

    def spend(self, seconds: float) -> None:
        """Say that what runs on a thread takes so long; called from within a job of ``run_in_executor``."""
        self._spent += seconds

    # -- callbacks

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        """See asyncio."""
        handle = Handle(callback, args, copy_context() if context is None else context, self.host, self._now)
        if self.host.alive:
            self._push(handle)
        return handle

    call_soon_threadsafe = call_soon  # jobs of executors are run inline, and call it from there

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        """See asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        """See asyncio."""
        return self.call_on(self.host, when, callback, *args, context=context)

    def call_on(
        self, host: Host, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call something at a time as another host: what arrives at it, or happens to it."""
        handle = Handle(callback, args, copy_context() if context is None else context, host, when)
        if host.alive:
            self._number += 1
            heapq.heappush(self._timers, (when, self._number, handle))
            if len(self._timers) > self._prune_at:
                self._prune()
        return handle

    def _prune(self) -> None:
        """Drop timers that were cancelled: every request sets one, and hardly any comes to run."""
        self._timers = [entry for entry in self._timers if not entry[2].cancelled() and entry[2].host.alive]
        heapq.heapify(self._timers)
        self._prune_at = max(1024, 2 * len(self._timers))

    def _push(self, handle: Handle) -> None:
        if not self._shuffle:
            self._ready.append(handle)
            return
        host = handle.host
        host.lane.append(handle)
        if not host.queued:
            host.queued = True
            self._hosts.append(host)

    def _next(self) -> Handle | None:
        """Return the next callback that is ready, None where there is none."""
        if not self._shuffle:
            return self._ready.popleft() if self._ready else None
        hosts = self._hosts
        while hosts:
            place = self._draw() % len(hosts)
            host = hosts[place]
            if host.lane:
                return host.lane.popleft()
            host.queued = False
            hosts[place] = hosts[-1]
            hosts.pop()
        return None

    def _next_time(self) -> float | None:
        """Return the time of the next timer that somebody still waits for, None where there is none."""
        timers = self._timers
        while timers and (timers[0][2]._callback is None or not timers[0][2].host.alive):
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def _draw(self) -> int:
        if not self._drawn:
            self._drawn = self._rng.integers(0, 1 << 32, _DRAWN).tolist()
        return self._drawn.pop()

    # -- running

    def run_until_complete(self, future: Any) -> Any:
        """Run until this is done and return its result; what is a coroutine belongs to the outside."""
        task = asyncio.ensure_future(future, loop=self)
        self.run(task.done)
        return task.result()

    def run(self, ended: Callable[[], bool], until_s: float = float("inf")) -> None:
        """Run until ``ended`` says so; it is asked after each callback.

        Args:
            until_s: virtual time at which it must have ended.

        Raises:
            Stuck: nothing is left to do, or the time is over, and it has not ended.
        """
        if self._running or self._closed:
            raise RuntimeError("this event loop is running or closed")
        before = asyncio._get_running_loop()
        self._running = True
        asyncio._set_running_loop(self)
        try:
            with sealed():
                self._run(ended, until_s)
        finally:
            asyncio._set_running_loop(before)
            self._running = False
            self.host = self.outside

    def _run(self, ended: Callable[[], bool], until_s: float) -> None:
        pack, pending, timers_due = Trace.pack, self.trace.pending, heapq.heappop
        at_one_time = 0
        while not ended():
            handle = self._next()
            if handle is None:
                when = self._next_time()
                if when is None:
                    raise Stuck("nothing is left to do, and the simulation has not ended")
                if when > until_s:
                    raise Stuck(f"the simulation has not ended after {until_s - BEGIN_S:g} virtual seconds")
                if when > self._now:
                    self._now, at_one_time = when, 0
                self.trace.flush()
                while self._timers and self._timers[0][0] <= self._now:
                    due = timers_due(self._timers)[2]
                    if due._callback is not None and due.host.alive:
                        self._push(due)
                continue
            callback, host = handle._callback, handle.host
            if callback is None or not host.alive:
                continue
            if host.deferred is not None:
                host.deferred.append(handle)
                continue
            self.host = host
            self.events += 1
            at_one_time += 1
            pending += pack(self._now, host.number, self._number)
            try:
                handle._context.run(callback, *handle._args)
            except (SystemExit, KeyboardInterrupt, LeftSimulation, Stuck):
                raise
            except BaseException as error:
                self.call_exception_handler({"message": f"exception in {callback!r}", "exception": error})
            self.host = self.outside
            if breaches:
                raise breaches[0]
            if self.after is not None:
                self.after()
            if at_one_time > _AT_ONE_TIME:
                raise Stuck(f"{_AT_ONE_TIME:,} callbacks at one moment: the last one was {callback!r}")

    # -- hosts

    def spawn(self, host: Host, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task as another host."""
        before, self.host = self.host, host
        try:
            return self.create_task(work)
        finally:
            self.host = before

    def kill(self, host: Host) -> None:
        """Let a host die at once: nothing of it happens any more. Called from the outside, between two callbacks."""
        assert self.host is not host, "a host cannot kill itself: its callback would go on"
        host.alive, host.deferred = False, None
        host.lane.clear()
        self._deaths += 1
        before, self.host = self.host, host
        try:
            host.end_tasks()
        finally:
            self.host = before

    def pause(self, host: Host) -> None:
        """Let a host stand still: what becomes due waits."""
        if host.alive and host.deferred is None:
            host.deferred = []

    def go_on(self, host: Host) -> None:
        """Let a paused host go on, with what has become due in that order."""
        deferred, host.deferred = host.deferred, None
        if not deferred:
            return
        # Before what is ready of this host already, which became due at this very moment.
        (host.lane if self._shuffle else self._ready).extendleft(reversed(deferred))
        if self._shuffle and not host.queued:
            host.queued = True
            self._hosts.append(host)

    # -- tasks, futures, threads

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        """See asyncio."""
        host = self.host
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        task.host = host  # type: ignore[attr-defined]
        host.tasks[task] = None
        # One that has ended is held by nobody here: what it raised and nobody took is heard of when it is gone.
        task.add_done_callback(host.ended)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run a job inline, a little later; it is done when the time that it spent has passed.

        A job that is cancelled before it begins is not run; one that has begun goes on, as a thread does.
        """
        if executor is not None:
            raise LeftSimulation("an executor of somebody's own is real; give None")
        future = self.create_future()
        self.call_later(self._executor_s() if self._executor_s else 0.0, self._job, future, func, args)
        return future

    def _job(self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if future.cancelled():
            return
        self._spent, result, failure = 0.0, None, None
        try:
            result = func(*args)
        except (SystemExit, KeyboardInterrupt, LeftSimulation, Stuck):
            raise
        except BaseException as error:
            failure = error
        self.call_later(self._spent, _settle, future, result, failure)

    def set_default_executor(self, executor: Any) -> NoReturn:
        """There are no threads."""
        raise LeftSimulation("an executor is real; jobs are run inline")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """There is none."""

    async def shutdown_asyncgens(self) -> None:
        """They go with their host."""

    # -- connections

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """See asyncio; the host that runs listens at an address of its own machine."""
        assert self.network is not None
        return self.network.listen(self.host, protocol_factory, host, port)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """See asyncio; from the machine of the host that runs."""
        assert self.network is not None
        return await self.network.connect(self.host, protocol_factory, host, port)

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        """Be told when a simulated bell rings; a real descriptor has no place here."""
        if not hasattr(fd, "listen"):
            raise LeftSimulation(f"a real descriptor, {fd!r}, was read in a simulation")
        fd.listen(callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        """Be told no more."""
        if not hasattr(fd, "listen"):
            raise LeftSimulation(f"a real descriptor, {fd!r}, was read in a simulation")
        return bool(fd.listen(None))

    # -- the rest of what asyncio asks of a loop

    def get_debug(self) -> bool:
        """asyncio's checks are off."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """asyncio's checks stay off: they read the clock."""

    def is_running(self) -> bool:
        """Whether callbacks are being run."""
        return self._running

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Drop what is left; the outside's tasks end."""
        self._closed = True
        self.host = Host(0, "nobody")
        self.kill(self.outside)
        self._ready.clear()
        self._timers.clear()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what asyncio has to complain of."""
        # What a dead host's tasks and futures held, nobody could take: that is found when they are gone. Whose a mere
        # future was is not known.
        if self._deaths and "never retrieved" in context.get("message", ""):
            host = getattr(context.get("future"), "host", None)
            if host is None or not host.alive:
                return
        self.errors.append(context)

    default_exception_handler = call_exception_handler


def _settle(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)
