"""Nodes as processes, each on a terminal of its own, which somebody reads unless a pause says otherwise."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import psutil
from support.processes import ROOT, hear_signals

__all__ = ["TOKEN", "Lost", "Node"]

TOKEN = "of these tests, 24 b"


class Lost(Exception):
    """A cluster cannot be used any more."""


class Node:
    """A node on a terminal of its own."""

    def __init__(self, folder: str, *arguments: str) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = {**os.environ, "PYTHONPATH": path, "HOGPOUR_TOKEN": TOKEN, "TERM": "xterm", "COLUMNS": "200"}
        command = [sys.executable, "-m", "hogpour", "node", *arguments]
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=end, stdout=end, stderr=end, preexec_fn=hear_signals
        )
        os.close(end)
        self.said = ""
        self.read()

    @property
    def replicas(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def read(self) -> None:
        asyncio.get_running_loop().add_reader(self.terminal, self._readable)

    def do_not_read(self) -> None:
        asyncio.get_running_loop().remove_reader(self.terminal)

    def _readable(self) -> None:
        try:
            self.said += os.read(self.terminal, 1 << 16).decode(errors="replace")
        except OSError:  # it has ended
            self.do_not_read()

    def check(self) -> None:
        """Raise Lost where it has ended."""
        if self.process.poll() is not None:
            lines = [line for line in re.split(r"[\r\n]+", self.said) if '"progress"' not in line and "/s, loss" not in line]
            raise Lost(f"ended with {self.process.returncode}: {' | '.join(lines[-6:])}")

    def close(self) -> None:
        for process in [*(self.replicas if self.process.poll() is None else []), self.process]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        self.do_not_read()
        os.close(self.terminal)
