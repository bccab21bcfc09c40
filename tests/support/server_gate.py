"""What the tests of a parameter server with a gate share: servers that hold, and steps in short."""

from __future__ import annotations

from typing import Any

import pytest
from support.server import now, ones, served, soon

from hogpour.algos.gate.barrier import Barrier
from hogpour.core.errors import RequestFailed
from hogpour.net.wire.gate import Commit, Committed, Counted
from hogpour.net.wire.push import Outcome, Push, Pushed
from hogpour.server.server import ParameterServer


def gated(shards: int = 1, gate: Any = None, optimiser: Any = None, **more: Any) -> ParameterServer:
    return served(optimiser, shards, gate=gate or Barrier(), **more)


def commit(step: int, *nodes: int, shards: tuple[int, ...] = (0,), sequence: int = 1, staleness: int = 0) -> Commit:
    """A step of one gradient of each of these nodes."""
    return Commit(step, list(shards), [Counted(node, 0, sequence, staleness) for node in nodes], 1.0)


async def committed(server: ParameterServer, message: Commit) -> list[int]:
    """The shards that have the step; said before anything waits, where nothing keeps it."""
    reply = (await soon(server, message)).message
    assert isinstance(reply, Committed)
    return reply.shards


def outcome(server: ParameterServer, message: Push, value: float = 1.0) -> Outcome:
    reply = now(server, message, ones(value)).message
    assert isinstance(reply, Pushed)
    return reply.outcome


async def refused_commit(server: ParameterServer, message: Commit) -> tuple[str, str]:
    with pytest.raises(RequestFailed) as caught:
        await soon(server, message)
    return caught.value.code, str(caught.value)
