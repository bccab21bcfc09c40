"""A run of ``hogpour node``, with a node that is made up."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import Any

import pytest
from support.progress import SNAPSHOT, SUMMARY

from hogpour.cli.node import train
from hogpour.core.errors import ReplicaDied, Stopped
from hogpour.core.progress import Notice, Progress, Summary


class FakeNode:
    """Hands out snapshots, then ends, or fails."""

    working = False

    def __init__(self, snapshots: list[Progress], end: Summary | Exception) -> None:
        self.snapshots, self.end = snapshots, end

    def __call__(self, *_: Any, **__: Any) -> FakeNode:
        return self

    async def __aenter__(self) -> FakeNode:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def __aiter__(self) -> Any:
        for snapshot in self.snapshots:
            yield snapshot

    async def wait(self) -> Summary:
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


class Stoppable(FakeNode):
    """Gets signals, before training or in it, and ends when it has heard all."""

    def __init__(self, snapshots: list[Progress], end: Summary, signals: list[int], early: bool) -> None:
        super().__init__(snapshots, end)
        self.signals, self.early, self.stops = signals, early, 0
        self.heard = asyncio.Event()

    def stop(self) -> None:
        self.stops += 1
        if self.stops == len(self.signals):
            self.heard.set()

    async def send(self) -> None:
        for number in self.signals:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)
        await self.heard.wait()

    async def __aenter__(self) -> FakeNode:
        if self.early:
            await self.send()
            raise Stopped("stopped before training began")
        return self

    async def wait(self) -> Summary:
        if not self.early:
            await self.send()
        return await super().wait()


class Record:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def progress(self, progress: Progress) -> None:
        self.told.append(progress)

    def notice(self, notice: Notice) -> None:
        self.told.append(notice)

    def finished(self, summary: Summary) -> None:
        self.told.append(summary)

    def close(self) -> None:
        self.told.append("closed")


@pytest.mark.parametrize(("outcome", "code"), [("finished", 0), ("stopped", 0), ("diverged", 1)])
def test_the_exit_code_says_how_a_run_ended(outcome: Any, code: int) -> None:
    record, summary = Record(), replace(SUMMARY, outcome=outcome)
    node = FakeNode([SNAPSHOT], summary)
    assert asyncio.run(train(node, record)) == code  # type: ignore[arg-type]
    assert record.told == [SNAPSHOT, "closed", summary]


@pytest.mark.parametrize(
    ("sent", "outcome", "early", "code"),
    [
        (("SIGINT",), "stopped", False, 0),
        (("SIGINT",), "stopped", True, 0),
        (("SIGTERM",), "stopped", False, 75),
        (("SIGTERM",), "stopped", True, 75),
        (("SIGHUP",), "stopped", False, 75),
        (("SIGQUIT",), "stopped", False, 75),
        (("SIGUSR1",), "stopped", False, 75),
        (("SIGUSR1",), "stopped", True, 75),
        (("SIGUSR2", "SIGUSR2", "SIGUSR1"), "stopped", False, 75),
        (("SIGTERM",), "finished", False, 0),
        (("SIGTERM",), "diverged", False, 1),
    ],
)
def test_the_exit_code_tells_a_run_that_a_system_stopped(
    sent: tuple[str, ...], outcome: Any, early: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's --signal=USR1@90 killed it without saving, and a Job that was drained counted as complete."""
    node = Stoppable([], replace(SUMMARY, outcome=outcome), [getattr(signal, name) for name in sent], early)
    left: list[int] = []

    def leave(code: int) -> None:
        left.append(code)
        raise SystemExit(code)

    monkeypatch.setattr("hogpour.cli.node._leave", leave)
    if early:
        with pytest.raises(SystemExit):
            asyncio.run(train(node, Record()))  # type: ignore[arg-type]
        assert left == [code]
    else:
        assert asyncio.run(train(node, Record())) == code  # type: ignore[arg-type]
    assert node.stops == len(sent)


def test_a_run_that_fails_leaves_the_terminal_as_it_was() -> None:
    record = Record()
    node = FakeNode([SNAPSHOT], ReplicaDied(0, 1, "replica 0 died"))
    with pytest.raises(ReplicaDied):
        asyncio.run(train(node, record))  # type: ignore[arg-type]
    assert record.told == [SNAPSHOT, "closed"]
