"""Fetches of a client, one shard at a time: where they land, who takes them in, and what is given back when."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from support.client import SIZE, Asked, Node
from support.cluster import settle

from hogpour.client.fetches import Fetches
from hogpour.core.errors import Refusal, RemoteProtocolError, RequestFailed
from hogpour.net.requests import Reply
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.fetch_changes import WHOLE, FetchChanges


def own_server(happened: list[str], *, refuses: bool = False) -> dict[Any, Any]:
    """A server of this node's own, whose shards hold 6."""

    def fetch(message: Fetch) -> Reply[Fetched]:
        if refuses and not happened:
            happened.append("refused")
            raise RequestFailed(Refusal.MOVED, "as the test says")
        happened.append("fetch")
        vector = memoryview(np.full(SIZE, 6.0, np.float32)).cast("B").toreadonly()
        return Reply(Fetched(message.shard, 3), [vector], lambda: happened.append("sent"))

    return {Fetch: fetch}


def fetches_of(node: Node) -> Fetches:
    return node.link._fetches


async def test_a_fetch_lands_in_its_shard_and_counts_what_came() -> None:
    node = Node(shards=2)
    fetching = asyncio.ensure_future(fetches_of(node).fetch(1, 7))
    await settle()
    (asked,) = node.open(Fetch)
    assert (asked.message, asked.at) == (Fetch(1, 7), "b")
    asked.fetched(5, 2.0)
    await fetching
    assert node.live["params"].tolist() == [0.0] * SIZE + [2.0] * SIZE
    assert (fetches_of(node).clocks, fetches_of(node).bytes_received) == ([0, 5], 4 * SIZE)
    assert node.staging.taken_bytes == 0


async def test_whoever_takes_a_fetch_in_sees_the_shards_part_of_the_live_vector_and_what_has_landed() -> None:
    node, seen = Node(shards=2), []
    node.live["params"][:] = np.arange(2 * SIZE)
    fetching = asyncio.ensure_future(
        fetches_of(node).fetch(1, 7, take=lambda params, fetched: seen.append((params.copy(), fetched.copy())))
    )
    await settle()
    node.open(Fetch)[0].fetched(5, 2.0)
    await fetching
    ((params, fetched),) = seen
    assert (params.tolist(), set(fetched)) == (list(range(SIZE, 2 * SIZE)), {2.0})
    assert node.live["params"].tolist() == list(range(2 * SIZE)), "it was taken in twice"


async def test_a_shard_of_its_own_is_there_at_once_and_let_go_of() -> None:
    happened: list[str] = []
    node = Node(shards=1, own=own_server(happened), own_address="a")
    assert fetches_of(node).at_once(0, 7) is True
    assert (happened, set(node.live["params"]), fetches_of(node).clocks) == (["fetch", "sent"], {6.0}, [3])
    assert fetches_of(node).bytes_received == 0


async def test_a_shard_of_somebody_else_is_not_there_at_once() -> None:
    node = Node(shards=1)
    assert fetches_of(node).at_once(0, 7) is False
    assert node.asked == []


async def test_a_refusal_of_its_own_server_is_followed_by_the_fetch() -> None:
    happened: list[str] = []
    node = Node(shards=1, own=own_server(happened, refuses=True), own_address="a")
    assert fetches_of(node).at_once(0, 7) is False
    await fetches_of(node).fetch(0, 7)
    assert (happened, set(node.live["params"])) == (["refused", "fetch", "sent"], {6.0})


@pytest.mark.parametrize("code", [Refusal.FENCED, Refusal.WRONG])
async def test_a_fetch_that_is_refused_gives_its_staging_back_and_changes_nothing(code: Refusal) -> None:
    node = Node(shards=1)
    fetching = asyncio.ensure_future(fetches_of(node).fetch(0, 7))
    await settle()
    node.open(Fetch)[0].failed(code)
    with pytest.raises(RequestFailed):
        await fetching
    assert (node.staging.taken_bytes, fetches_of(node).clocks, set(node.live["params"])) == (0, [0], {0.0})


def form(place: int, value: float) -> bytes:
    """One element that changed."""
    return np.float32(value).tobytes() + bytes([place])


async def asked_for(node: Node, incarnation: int = 7) -> tuple[asyncio.Task[None], Asked]:
    fetching = asyncio.ensure_future(fetches_of(node).fetch(0, incarnation))
    await settle()
    (asked,) = node.open(FetchChanges)
    return fetching, asked


async def test_a_sparse_fetch_brings_what_changed_since_the_copy_that_is_here() -> None:
    node = Node(shards=1, sparse=True)
    fetching, asked = await asked_for(node)
    assert asked.message == FetchChanges(0, 7, -1)
    asked.changed(3, WHOLE, np.ones(SIZE, np.float32).tobytes())
    await fetching
    node.live["params"][:] = 9.0  # as replicas do
    fetching, asked = await asked_for(node)
    assert asked.message == FetchChanges(0, 7, 3)
    asked.changed(5, 1, form(2, 4.0))
    await fetching
    assert node.live["params"].tolist() == [1.0, 1.0, 4.0] + [1.0] * (SIZE - 3)
    assert (fetches_of(node).clocks, fetches_of(node).bytes_received) == ([5], 4 * SIZE + 5)
    fetching, asked = await asked_for(node, 7 + (1 << 20))
    assert asked.message == FetchChanges(0, 7 + (1 << 20), -1), "the copy is of the run before"
    asked.failed(Refusal.WRONG)
    with pytest.raises(RequestFailed):
        await fetching


@pytest.mark.parametrize(
    ("n_entries", "payload", "n_bytes"),
    [(WHOLE, bytes(4), 4), (WHOLE, bytes(4), 5 * SIZE), (WHOLE, b"", 1 << 53), (1, form(2, 4.0), 1 << 53),
     (1, form(2, 4.0), 4), (2, form(2, 4.0), 5), (1, form(SIZE, 4.0), 5)],
)  # fmt: skip
async def test_changes_that_lie_are_refused_and_the_copy_is_whole_again_first(
    n_entries: int, payload: bytes, n_bytes: int
) -> None:
    node = Node(shards=1, sparse=True)
    fetching, asked = await asked_for(node)
    asked.changed(3, WHOLE, np.ones(SIZE, np.float32).tobytes())
    await fetching
    fetching, asked = await asked_for(node)
    asked.changed(5, n_entries, payload, n_bytes)
    with pytest.raises(RemoteProtocolError, match=r"^shard 0: changes since clock 3 cannot be read: "):
        await fetching
    assert (set(node.live["params"]), node.staging.taken_bytes) == ({1.0}, 0)
    assert fetches_of(node).bytes_received == 4 * SIZE
    fetching, asked = await asked_for(node)
    assert asked.message == FetchChanges(0, 7, -1)
    fetching.cancel()
