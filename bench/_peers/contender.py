"""A contender of a bench in processes of its own: the bench's end of the pipe, and the contender's.

The client of a contender is a process that the bench starts and asks; its server is a process that the client starts.
The client does nothing between two questions, so many can be alive and be measured in turns. Both end when their
standard input does: nothing is left when a bench is killed.

Questions and answers are lines of JSON. A question is the name of an operation and a number of calls, the answer the
seconds of each call; the question ``value`` asks for the parameters instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LR", "Contender", "ContenderFailed", "answer", "peak_bytes", "resident_bytes", "server", "tell", "timed",
           "timed_async", "written"]  # fmt: skip

ROOT = Path(__file__).parents[2]
START_S = 90.0
"""Imports, rendezvous and compilation, on a machine that is busy with something else."""
LR = 2.0**-10
"""Learning rate of every server. Gradients are ones, so what was applied can be read off any parameter, exactly."""

Sample = Callable[[int], Sequence[float]]


class ContenderFailed(Exception):
    """A contender could not be started, or did not answer; the last line that it wrote to stderr."""


class Contender:
    """The bench's end.

    Args:
        module: run as ``python -m MODULE ARGUMENTS``.
        start_s: seconds until it must be ready.
        folder: whose ``hogpour`` and ``bench`` it runs; another than this one keeps its kernels in it.

    Attributes:
        ready: what it said when it was: ``server``, the process id of its server, and ``before``, the resident bytes
            of that process before it made its parameters.
    """

    def __init__(self, module: str, *arguments: str, start_s: float = START_S, folder: Path = ROOT) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        environment = {"PYTHONPATH": str(folder)}
        if folder != ROOT:
            environment["NUMBA_CACHE_DIR"] = str(folder / ".kernels")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=folder, env={**os.environ, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, start_new_session=True,
        )  # fmt: skip
        self.ready: dict[str, Any] = self._hear(start_s)

    def seconds(self, operation: str, calls: int, deadline_s: float = 120.0) -> list[float]:
        """Return the seconds of each of ``calls`` calls."""
        return self._ask({"do": operation, "calls": calls}, deadline_s)["seconds"]

    def value(self, deadline_s: float = 120.0) -> list[float]:
        """Return the least and the largest parameter that it fetches, divided by -LR: the pushes applied so far."""
        return self._ask({"do": "value"}, deadline_s)["value"]

    def close(self, deadline_s: float = 30.0) -> None:
        """Let it end; kill it and what it started when it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.close()
        try:
            self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _ask(self, question: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what is heard then says why
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        return self._hear(deadline_s)

    def _hear(self, deadline_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(deadline_s, self._kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
            timer.join()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            reason = f"silent for {deadline_s:g} s" if code == -signal.SIGKILL else f"ended with code {code}"
            self.close()
            raise ContenderFailed(f"{' '.join(self._process.args[2:])}: {reason}: {lines[-1] if lines else 'no error'}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(self._process.pid, signal.SIGKILL)


def tell(**facts: Any) -> None:
    """Write a line of JSON; a server tells its client and a client the bench."""
    print(json.dumps(facts), flush=True)


@contextmanager
def server(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Start a server process, as a client does; give what it tells first, and end it at the end."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()  # no deadline of its own: the bench has one for the client
        if not line:
            raise ContenderFailed(f"the server ended with code {process.wait()}")
        yield json.loads(line)
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def answer(
    operations: Mapping[str, Sample], value: Callable[[], Sequence[float]] | None = None, **ready: Any
) -> None:
    """Be a client: say that everything is ready and answer until the input ends.

    Args:
        operations: name → of a number of calls, the seconds of each.
        value: the least and the largest parameter of the server, in pushes.
        ready: see ``Contender.ready``.
    """
    tell(**ready)
    for line in sys.stdin:
        question = json.loads(line)
        if question["do"] == "value":
            assert value is not None
            tell(value=[float(v) for v in value()])
        else:
            tell(seconds=list(operations[question["do"]](question["calls"])))


def timed(call: Callable[[], object]) -> Sample:
    """Return what times each call of ``call``."""

    def sample(calls: int) -> list[float]:
        seconds, clock = [0.0] * calls, time.perf_counter
        for k in range(calls):
            begin = clock()
            call()
            seconds[k] = clock() - begin
        return seconds

    return sample


def timed_async(call: Callable[[], Awaitable[object]], runner: asyncio.Runner) -> Sample:
    """Return what times each await of ``call``, on the loop of ``runner``."""

    async def sample(calls: int) -> list[float]:
        seconds, clock = [0.0] * calls, time.perf_counter
        for k in range(calls):
            begin = clock()
            await call()  # no deadline of its own: the bench has one for the client
            seconds[k] = clock() - begin
        return seconds

    return lambda calls: runner.run(sample(calls))


def written(n_bytes: int, value: float) -> npt.NDArray[np.float32]:
    """Return float32 whose every page has been written.

    Pages of ``np.zeros`` that nobody wrote yet are all the same page of the kernel's, always in the cache: a plain copy
    from them ran at 21.8 GB/s, from written ones at 8.4 (256 MiB, a busy machine). So all contenders send written ones.
    """
    return np.full(n_bytes // 4, value, np.float32)


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where the system does not tell."""
    return _status("self", "VmRSS")


def peak_bytes(pid: int) -> int | None:
    """Return the most resident memory that a process ever had, since it began to run its program."""
    return _status(str(pid), "VmHWM")


def _status(pid: str, name: str) -> int | None:
    # Not ru_maxrss: a process inherits that of the one that started it.
    try:
        lines = Path("/proc", pid, "status").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
