"""The start of a run, step by step, with a made-up machine: what is said, and what is begun before something fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from support.machine import FakeMachine
from support.prepared import prepared, small_job

import hogpour as hp
from hogpour.core.errors import DataError, Stopped
from hogpour.machine.prepare import Prepared
from hogpour.node.backends import Alone, Backend
from hogpour.node.start import OpenedAlone, start_run, unless_stopped
from hogpour.node.training import Training

JOB = small_job()


@pytest.fixture
def machine() -> Iterator[FakeMachine]:
    with prepared(JOB) as ready:
        machine = FakeMachine(ready)
        yield machine
        machine.bell.close()


class Joined(OpenedAlone):
    """Stands for a node that joins a cluster whose job is ``JOB``."""

    in_cluster = True

    def __init__(self, noted: list[str]) -> None:
        self.noted = noted

    async def open(self) -> None:
        self.noted.append("open")

    def job(self, changes: Any) -> hp.Job:
        self.noted.append(f"job {changes}")
        return JOB

    async def begin(self, job: hp.Job, ready: Prepared, wake: Any, resume: bool) -> Backend:
        self.noted.append(f"begin, resume {resume}")
        wake(0)
        return Alone(job, ready)


async def start(machine: FakeMachine, opened: OpenedAlone, job: hp.Job | None, stop: asyncio.Event) -> Training:
    return await start_run(machine, opened, job, changes={"base": "/"}, resume=True, notify=lambda notice: None,
                           stop_asked=stop, news=asyncio.Event())  # fmt: skip


async def test_a_node_alone_begins_with_its_own_job(machine: FakeMachine) -> None:
    training = await start(machine, OpenedAlone(), JOB, asyncio.Event())
    assert machine.noted == ["start", "prepare"]
    assert (training.job, training.ready, type(training.backend)) == (JOB, machine.ready, Alone)
    training.backend.release()


async def test_a_node_that_joins_has_the_job_before_its_replicas_and_takes_part_last(machine: FakeMachine) -> None:
    training = await start(machine, Joined(machine.noted), None, asyncio.Event())
    assert machine.noted == ["open", "job {'base': '/'}", "start", "prepare", "begin, resume True", "wake 0"]
    assert training.job is JOB
    training.backend.release()


async def test_a_stop_before_the_cluster_is_joined_begins_nothing(machine: FakeMachine) -> None:
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(Stopped, match=r"^stopped before training began; nothing was written$"):
        await start(machine, Joined(machine.noted), None, stop)
    assert "start" not in machine.noted


async def test_data_that_cannot_be_read_end_the_start_before_the_cluster_knows_of_the_node(machine: FakeMachine) -> None:
    machine.fails = DataError("x.npz: no such file")
    with pytest.raises(DataError):
        await start(machine, Joined(machine.noted), None, asyncio.Event())
    assert machine.noted[-1] == "prepare"


async def test_what_others_have_to_answer_to_is_cancelled_by_a_stop() -> None:
    stop, cancelled = asyncio.Event(), list[int]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(1)

    asyncio.get_running_loop().call_soon(stop.set)
    with pytest.raises(Stopped):
        await unless_stopped(stop, work())
    assert cancelled == [1]
