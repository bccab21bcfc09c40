"""What the tests of ``status`` share: ports of this process that answer for nodes."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from rich.console import Console
from support.cluster_views import CLUSTER, FIRST, SECOND
from support.ends import TOKEN

from hogpour.cli import status
from hogpour.core.cluster_state import ClusterState, ShardState
from hogpour.net.listener import Listener
from hogpour.net.requests import Handler, Reply
from hogpour.net.staging import Staging
from hogpour.net.wire.status import Described, Report, Reported, Status


@asynccontextmanager
async def node(describe: Handler | None, report: Handler | None = None) -> AsyncIterator[Listener]:
    """A node's port; what is None is not answered there."""
    handlers = {kind: handler for kind, handler in ((Status, describe), (Report, report)) if handler is not None}
    listener = Listener(handlers, TOKEN, staging=Staging(1 << 16), payload_limit=1 << 16, log=lambda line: None)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.close()


def describing(cluster: ClusterState) -> Handler:
    return lambda message: Reply(Described(msgspec.json.encode(cluster)))


def reporting(*shards: ShardState) -> Handler:
    return lambda message: Reply(Reported(msgspec.json.encode(shards)))


def served_by(address: str) -> ClusterState:
    """Two shards of the first node, whose own address is another one than that at which it was asked, and one of the
    second node, which is at this address."""
    members = (replace(FIRST, address="0.0.0.0:7000"), replace(SECOND, address=address))
    return replace(CLUSTER, members=members)


async def shown(listener: Listener, **how: bool) -> int:
    return await status.show(listener.address, TOKEN, **{"watch": False, "as_json": False, **how})


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
