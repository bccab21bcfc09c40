"""What a supervisor says of a death. That it starts, restarts and reaps is tested with real processes in test_node."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from hogpour.core.progress import Notice
from hogpour.machine.supervisor import Supervisor

TRACEBACK = "Traceback (most recent call last):\n  File \"own.py\", line {line}\nRuntimeError: broken"


@pytest.fixture
def notices() -> list[Notice]:
    return []


@pytest.fixture
def supervisor(notices: list[Notice]) -> Supervisor:
    """A supervisor that has started nothing."""
    return Supervisor(2, 1, [], notices.append)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (-signal.SIGKILL, "was killed by SIGKILL (out of memory? see the kernel's log)"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (1, "ended with exit status 1"),
        (127, "ended with exit status 127"),
    ],
)
def test_a_silent_death_is_known_by_its_status(
    status: int, text: str, supervisor: Supervisor, notices: list[Notice]
) -> None:
    assert supervisor._cause(0, status, "") == text
    assert notices == []


def test_a_traceback_is_shown_once_and_its_last_line_is_the_cause(supervisor: Supervisor, notices: list[Notice]) -> None:
    first = supervisor._cause(0, 1, TRACEBACK.format(line=3))
    again = supervisor._cause(1, 1, TRACEBACK.format(line=5))
    assert first == again == "ended with exit status 1: RuntimeError: broken"
    assert notices == [Notice("replica_died", f"replica 0 said:\n{TRACEBACK.format(line=3)}")]


def test_another_error_is_shown_too(supervisor: Supervisor, notices: list[Notice]) -> None:
    supervisor._cause(0, 1, "RuntimeError: broken")
    assert supervisor._cause(0, 1, "MemoryError") == "ended with exit status 1: MemoryError"
    assert [notice.text for notice in notices] == ["replica 0 said:\nRuntimeError: broken", "replica 0 said:\nMemoryError"]


def test_last_words_before_a_signal_are_told(supervisor: Supervisor) -> None:
    cause = supervisor._cause(1, -signal.SIGABRT, "first\nTerminating: fork() called")
    assert cause == "was killed by SIGABRT: Terminating: fork() called"


class Crowded(Supervisor):
    """On a machine that starts no process, so many times."""

    times, tried = 0, 0

    async def _start(self, replica: int) -> Any:
        self.tried += 1
        if self.tried <= self.times:
            raise OSError(-1, "Unknown error -1")
        return "a process"


@pytest.fixture
def crowded(notices: list[Notice], monkeypatch: pytest.MonkeyPatch) -> Crowded:
    monkeypatch.setattr("hogpour.machine.supervisor._AGAIN_S", 0.0)
    return Crowded(1, 1, [], notices.append)


async def test_a_successor_is_started_as_soon_as_the_system_can(crowded: Crowded, notices: list[Notice]) -> None:
    """The run ended with "cannot be started again: Unknown error -1"."""
    crowded.times = 3
    assert await crowded._start_again(0) == "a process"  # type: ignore[comparison-overlap]
    assert [notice.text for notice in notices] == ["replica 0 cannot be started now: too few open files, or processes; tried for 0 s"]


async def test_a_successor_is_not_waited_for_in_vain_nor_after_a_stop(crowded: Crowded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogpour.machine.supervisor._TRIES", 4)
    crowded.times = 1000
    with pytest.raises(OSError, match="Unknown error"):
        await crowded._start_again(0)
    crowded.kill_all()
    with pytest.raises(OSError, match="Unknown error"):
        await crowded._start_again(0)
    assert crowded.tried == 5


def test_before_the_start_nothing_runs(supervisor: Supervisor) -> None:
    assert supervisor.alive == 0
    assert supervisor.pids == []
    assert supervisor.restarts == 0
