"""A machine whose replicas are as the test says, for tests of the start and the training of a node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import hogpour as hp
from hogpour.core.errors import HogpourError
from hogpour.machine.prepare import Prepared
from hogpour.shm.doorbell import Doorbell


class FakeMachine:
    """A ``NodeMachine`` and its ``Crew``; notes what happens.

    Args:
        ready: what a run begins with.
        replicas: what the replicas do, awaited by ``run``; they are ended by ``stop``.
    """

    alive, restarts = 1, 0

    def __init__(self, ready: Prepared, replicas: Callable[[], Any] | None = None) -> None:
        self.ready, self.noted, self.saved = ready, list[str](), list[str]()
        self.bell, self.supervisor = Doorbell(), self
        self.fails: HogpourError | None = None
        self._replicas = replicas or asyncio.Event().wait
        self._running: asyncio.Future[Any] | None = None

    async def start(self, job: hp.Job, in_cluster: bool) -> None:
        self.noted.append("start")

    async def prepare(self, job: hp.Job, *arguments: Any) -> Prepared:
        self.noted.append("prepare")
        if self.fails is not None:
            raise self.fails
        return self.ready

    def wake(self, replica: int) -> None:
        self.noted.append(f"wake {replica}")

    def orders(self, job: hp.Job, ready: Prepared) -> Callable[[int], int]:
        return lambda replica: replica

    def rehearse(self, job: hp.Job, ready: Prepared) -> None:
        self.noted.append("rehearse")

    def save(self, path: str, model: hp.Model, state: Any) -> None:
        self.saved.append(os.path.basename(path))

    def rescue(self, path: str, model: hp.Model, state: Any) -> str:
        self.save(path, model, state)
        return f"/temporary/{os.path.basename(path)}"

    async def run(self, *arguments: Any) -> None:
        self.noted.append("run")
        self._running = asyncio.ensure_future(self._replicas())
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self._running.result()

    def lives(self, replica: int) -> bool:
        return self._running is not None and not self._running.done()

    def kill(self, replica: int) -> None:
        self.noted.append(f"kill {replica}")

    async def stop(self, grace_s: float) -> None:
        self.noted.append("stop")
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
