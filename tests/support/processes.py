"""Nodes of a cluster as processes, as their users start them; what they say is awaited line by line.

Nothing here sleeps: a test goes on when a node has said something, or fails after ``PATIENCE_S`` with all that was
said. When the block ends every process that is left is killed, replicas included, and reaped.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]

PATIENCE_S = 40.0
"""A machine that runs other tests besides compiles and imports slowly; what is measured is measured elsewhere."""

Fields = dict[str, Any]


class Node:
    """One ``python -m hogpour node ... --json``.

    Attributes:
        said: every line so far, decoded.
        name: of the node in what a failing test shows.
    """

    def __init__(self, folder: Path, *arguments: str, prefix: Sequence[str] = (), token: str = "") -> None:
        self.name, self.said = " ".join(arguments), list[Fields]()
        self._read = b""
        environment: Mapping[str, str] = {
            **os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", "HOGPOUR_TOKEN": token or "of these tests, 24 b"
        }  # fmt: skip
        self._errors = open(folder / f"errors-{len(list(folder.glob('errors-*')))}", "w+")  # noqa: SIM115 (closed below)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "hogpour", "node", *arguments, "--json"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            preexec_fn=hear_signals,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def replicas(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    @cached_property
    def address(self) -> str:
        """Where it listens; waits until it does."""
        said = [fields for fields in self.said if fields["event"] == "listening"]
        return str((said or [self.until("listening")])[0]["text"].rpartition(" ")[2])

    @property
    def errors(self) -> str:
        """Standard error so far."""
        self._errors.seek(0)
        return self._errors.read()

    def until(self, event: str, wanted: Callable[[Fields], bool] = lambda fields: True) -> Fields:
        """Wait for a line that was not awaited yet, and return it."""
        deadline = time.monotonic() + PATIENCE_S
        while (fields := self._line(deadline)) is not None:
            if fields["event"] == event and wanted(fields):
                return fields
        raise AssertionError(f"{self.name}: no more {event}\n{self.all()}")

    def until_text(self, event: str, text: str) -> str:
        return str(self.until(event, lambda fields: text in fields["text"])["text"])

    def said_text(self, event: str) -> str:
        """The text of the first line of a kind that was said already."""
        return str(next(fields["text"] for fields in self.said if fields["event"] == event))

    def until_training(self) -> Fields:
        """Wait until its own replicas have computed."""
        return self.until("progress", lambda fields: fields["computing"] > 0)

    def end(self, code: int = 0, within_s: float = PATIENCE_S) -> Fields:
        """Wait for the end, whose code must be this one; return the last line that was said."""
        deadline = time.monotonic() + within_s
        while self._line(deadline) is not None:
            pass
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name}: still runs after {within_s:g} s\n{self.all()}") from None
        assert self.process.returncode == code, f"{self.name}: ended with {self.process.returncode}\n{self.all()}"
        assert "Traceback" not in self.errors, self.all()
        return self.said[-1] if self.said else {}

    def interrupt(self) -> None:
        """Press Ctrl+C."""
        self.process.send_signal(signal.SIGINT)

    def pause(self) -> None:
        """Stop its replicas; the node itself goes on."""
        for replica in self.replicas:
            replica.suspend()

    def go_on(self) -> None:
        for replica in self.replicas:
            replica.resume()

    def kill(self) -> None:
        """``kill -9``, and reap it. Its replicas find out by themselves."""
        replicas = self.replicas
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(replicas, timeout=PATIENCE_S)
        assert not alive, f"{self.name}: its replicas outlive it: {alive}"

    def close(self) -> None:
        """Leave nothing of it."""
        replicas = self.replicas if self.process.poll() is None else []
        for replica in replicas:
            with suppress(psutil.NoSuchProcess):
                replica.kill()
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(replicas, timeout=PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()

    def _line(self, deadline: float) -> Fields | None:
        """Return the next line; None where there will be none."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        while b"\n" not in self._read:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{self.name}: silent\n{self.all()}")
            piece = os.read(fd, 1 << 16)
            if not piece:
                return None
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        self.said.append(json.loads(line))
        return self.said[-1]

    def all(self) -> str:
        """What it said, for whoever looks into a failure."""
        progress = [fields for fields in self.said if fields["event"] == "progress"]
        lines = [json.dumps(fields) for fields in self.said if fields["event"] != "progress" or fields in progress[-3:]]
        return "\n".join([*lines, "-- standard error:", self.errors])


@contextmanager
def nodes(folder: Path) -> Iterator[Callable[..., Node]]:
    """Yield what starts a node in this folder; all of them are gone when the block ends."""
    started: list[Node] = []

    def start(*arguments: str, **more: Any) -> Node:
        started.append(Node(folder, *arguments, **more))
        return started[-1]

    try:
        yield start
    except BaseException:
        for node in started:
            print(f"-- {node.name}\n{node.all()}")  # noqa: T201 (shown with the failure)
        raise
    finally:
        for node in started:
            node.close()


def hear_signals() -> None:
    """Do so whatever the tests were started by: a job in the background of a script ignores Ctrl+C, and hands that on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
