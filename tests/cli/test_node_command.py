"""A run of ``hogpour node``, with a node that is made up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from support.progress import SNAPSHOT, SUMMARY

from hogpour.cli.node import train
from hogpour.core.errors import ReplicaDied
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


def test_a_run_that_fails_leaves_the_terminal_as_it_was() -> None:
    record = Record()
    node = FakeNode([SNAPSHOT], ReplicaDied(0, 1, "replica 0 died"))
    with pytest.raises(ReplicaDied):
        asyncio.run(train(node, record))  # type: ignore[arg-type]
    assert record.told == [SNAPSHOT, "closed"]
