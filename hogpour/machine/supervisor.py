"""The supervisor starts replica processes, watches, restarts and reaps them.

Replicas are started before the data is read: a process imports numpy and numba while its node reads files, and then
waits on its standard input for orders. The segments are descriptors that it inherits, filled later. A replica that
dies is started again and finishes the block that was under way; three deaths within 10 s, or three without a finished
step between them, end the run with the cause.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from hogpour.core.errors import ReplicaDied, ResourceError
from hogpour.core.host import explain, replica_environment
from hogpour.core.progress import Notice
from hogpour.machine.replica_process import Orders
from hogpour.shm.clocks import Clocks

__all__ = ["Supervisor"]

_DEATHS, _WITHIN_S = 3, 10.0
_TRIES, _AGAIN_S = 60, 0.5
"""For a successor that the system does not start: there may be room for it in a moment."""

_ERRORS_BYTES = 64 * 1024  # of a replica's standard error are kept, the newest


class Supervisor:
    """Keeps ``replicas`` processes running until each has ended normally.

    Args:
        replicas: number of processes.
        threads: kernel threads of each.
        fds: descriptors that they inherit.
        notify: called with what a person wants to know.

    Attributes:
        restarts: deaths made good so far.
    """

    def __init__(self, replicas: int, threads: int, fds: Sequence[int], notify: Callable[[Notice], None]) -> None:
        self.restarts = 0
        self._threads, self._fds, self._notify = threads, tuple(fds), notify
        self._processes: list[asyncio.subprocess.Process | None] = [None] * replicas
        self._starting: dict[int, asyncio.Future[asyncio.subprocess.Process]] = {}
        self._shown: set[str] = set()
        self._stopping = self._ordered = False
        self._failure: ReplicaDied | None = None

    @property
    def alive(self) -> int:
        """Number of processes that run."""
        return sum(process is not None and process.returncode is None for process in self._processes)

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that run."""
        return [p.pid for p in self._processes if p is not None and p.returncode is None]

    async def start(self) -> None:
        """Start all processes; they import what they need and wait for orders."""
        for replica in range(len(self._processes)):
            try:
                await self._start(replica)
            except OSError as error:
                count = len(self._processes)
                raise ResourceError(f"replica {replica} of {count} cannot be started: {error.strerror}") from error

    async def run(self, orders: Callable[[int], Orders], clocks: Clocks, stop_others: Callable[[], None]) -> None:
        """Give orders to all replicas and return when all have ended normally or were stopped.

        Args:
            orders: what a replica is told; called again for a successor.
            clocks: shows whether a replica got anywhere before it died.
            stop_others: tells the replicas to stop; called when one is given up.

        Raises:
            ReplicaDied: a replica died three times in short order.
        """
        self._ordered = True
        try:
            async with asyncio.TaskGroup() as group:
                for replica in range(len(self._processes)):
                    group.create_task(self._keep(replica, orders, clocks, stop_others))
        except ExceptionGroup as group_error:  # a bug; it is told as it is, not as one of a group
            raise group_error.exceptions[0] from None
        if self._failure is not None:
            raise self._failure

    async def stop(self, grace_s: float) -> None:
        """Reap every process: those that have not ended after ``grace_s`` are killed."""
        self._stopping = True
        if self._starting:
            await asyncio.wait(self._starting.values())  # no deadline: a start succeeds or fails
        running = [p for p in self._processes if p is not None and p.returncode is None]
        for process in running:
            if process.stdin is not None:
                process.stdin.close()
        waits = [asyncio.ensure_future(process.wait()) for process in running]
        if waits:
            await asyncio.wait(waits, timeout=grace_s)
        self.kill_all()
        for wait in waits:
            await wait  # no deadline: a killed process ends
        if not self._ordered:  # nobody else reads what they said; a pipe is closed at its end only
            for process in running:
                assert process.stderr is not None
                await process.stderr.read()

    def kill_all(self) -> None:
        """Kill every process at once, by its id."""
        self._stopping = True
        for replica in range(len(self._processes)):
            self.kill(replica)

    def kill(self, replica: int) -> None:
        """Kill the process of a replica, which is started again."""
        process = self._processes[replica]
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()

    def lives(self, replica: int) -> bool:
        """Return whether the process of a replica runs, or is stopped."""
        process = self._processes[replica]
        return process is not None and process.returncode is None

    async def _start(self, replica: int) -> asyncio.subprocess.Process:
        """Start one process. Whoever waits may be cancelled: the start goes on, and ``stop`` finds the process."""
        self._starting[replica] = start = asyncio.ensure_future(asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the current folder is searched only where this process searches it
            "-m",
            "hogpour.machine.replica_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=self._fds,
            env=replica_environment(self._threads),
            start_new_session=True,  # a terminal's Ctrl+C reaches the node alone, which stops its replicas
        ))  # fmt: skip

        def started(done: asyncio.Future[asyncio.subprocess.Process]) -> None:
            del self._starting[replica]
            if not done.cancelled() and done.exception() is None:
                self._processes[replica] = done.result()

        start.add_done_callback(started)
        return await asyncio.shield(start)

    async def _keep(
        self, replica: int, orders: Callable[[int], Orders], clocks: Clocks, stop_others: Callable[[], None]
    ) -> None:
        deaths: deque[tuple[float, int]] = deque(maxlen=_DEATHS)
        now = asyncio.get_running_loop().time
        while True:
            process = self._processes[replica]
            assert process is not None
            errors = await self._live(process, orders(replica))
            status = process.returncode
            assert status is not None
            if status == 0 or self._stopping:
                return
            deaths.append((now(), int(clocks.steps[replica])))
            cause = self._cause(replica, status, errors)
            if len(deaths) == _DEATHS and (now() - deaths[0][0] <= _WITHIN_S or deaths[0][1] == deaths[-1][1]):
                span = now() - deaths[0][0]
                self._failure = self._failure or ReplicaDied(
                    replica, status, f"replica {replica} died {_DEATHS} times within {span:.1f} s; the last: {cause}"
                )
                self._stopping = True
                stop_others()
                return
            self._notify(Notice("replica_died", f"replica {replica} {cause}; starting it again"))
            try:
                successor = await self._start_again(replica)
            except OSError as error:
                if not self._stopping:
                    text = f"replica {replica} {cause}, and cannot be started again: {_why(error)}"
                    self._failure, self._stopping = self._failure or ReplicaDied(replica, status, text), True
                    stop_others()
                return
            self.restarts += 1
            self._notify(Notice("replica_restarted", f"replica {replica} runs again as process {successor.pid}"))
            if self._stopping:
                self.kill_all()

    async def _start_again(self, replica: int) -> asyncio.subprocess.Process:
        """Start a successor, and try again for a while; raises OSError."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                return await self._start(replica)
            except OSError as error:
                if not left or self._stopping:
                    raise
                if left == _TRIES - 1:
                    text = f"replica {replica} cannot be started now: {_why(error)}; tried for {_TRIES * _AGAIN_S:g} s"
                    self._notify(Notice("warning", text))
            await asyncio.sleep(_AGAIN_S)
        raise AssertionError("the last try returned or raised")

    async def _live(self, process: asyncio.subprocess.Process, orders: Orders) -> str:
        """Give orders, wait for the end without a deadline (training may take days), return what it said last."""
        assert process.stdin is not None
        assert process.stderr is not None
        with suppress(ConnectionError, RuntimeError):  # it died already: the exit status says so (uvloop: the latter)
            process.stdin.write(msgspec.json.encode(orders))
            await process.stdin.drain()
            process.stdin.close()
        kept = b""
        while piece := await process.stderr.read(4096):
            kept = (kept + piece)[-_ERRORS_BYTES:]
        await process.wait()
        return kept.decode(errors="replace").strip()

    def _cause(self, replica: int, status: int, errors: str) -> str:
        """Say how a process ended; a traceback is shown the first time only."""
        if status < 0:
            known = {number.value: number.name for number in signal.Signals}  # real-time signals have no name
            name = known.get(-status, f"signal {-status}")
            hint = " (out of memory? see the kernel's log)" if status == -signal.SIGKILL else ""
            cause = f"was killed by {name}{hint}"
        else:
            cause = f"ended with exit status {status}"
        if not errors:
            return cause
        last = errors.splitlines()[-1]
        if last in self._shown:  # the frames of a traceback may differ where the error is the same
            return f"{cause}: {last}"
        self._shown.add(last)
        self._notify(Notice("replica_died", f"replica {replica} said:\n{errors}"))
        return f"{cause}: {last}"


def _why(error: OSError) -> str:
    """Say why a process was not started: uvloop tells too many open files as an error of no name."""
    named = explain(error) or (error.strerror if error.errno and error.errno > 0 else None)
    return named or "too few open files, or processes"
