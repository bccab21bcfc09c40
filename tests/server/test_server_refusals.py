"""What the parameter server refuses: bad requests, whoever is no member, and more than it has room for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import msgspec
import numpy as np
import pytest
from support.server import (
    SIZE,
    Kernels,
    Sum,
    call,
    fetched,
    now,
    ones,
    push,
    refused,
    served,
    settle,
    soon,
)

from hogpour.algos.optim.sgd import Sgd
from hogpour.core.errors import RequestFailed
from hogpour.net.wire.base import Ok
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.push import Push, Pushed
from hogpour.net.wire.status import Fence
from hogpour.net.wire.window import PushWindow
from hogpour.server import shard_table
from hogpour.server.server import ParameterServer
from hogpour.server.shard import MOST_OF_A_NODE, MOST_ORIGINS
from hogpour.server.turns import MAX_TURNS


def test_a_gradient_of_another_length_is_refused() -> None:
    server = served()
    assert refused(server, push(1), np.zeros(SIZE - 1, np.float32)) == ("wrong", "shard 0: got 124 bytes, expected 128")
    assert refused(server, push(1)) == ("wrong", "shard 0: got 0 bytes, expected 128")
    assert fetched(server) == (0, [0.0])


@pytest.mark.parametrize("bad", [push(0), push(1, clock=-1), push(1, steps=0), push(1, scale=float("nan")),
                                 push(1, scale=float("inf")), push(1, scale=-1.0), push(1, scale=2e6)])  # fmt: skip
def test_a_push_whose_numbers_make_no_sense_is_refused(bad: Push) -> None:
    server = served()
    code, text = refused(server, bad, ones())
    assert code == "wrong"
    assert text == (
        f"shard 0: got sequence {bad.sequence}, clock {bad.clock}, steps {bad.steps}, scale {bad.scale}; "
        "expected at least 1, 0 and 1, and a scale of 0 to 1e+06"
    )
    assert fetched(server) == (0, [0.0])


def test_a_shard_that_is_not_served_here_is_refused() -> None:
    for request, payload in ((push(1, 9), ones()), (Fetch(9, 1), None), (Dump(9, False), None)):
        assert refused(served(), request, payload) == ("moved", "shard 9 is not served here")


def test_a_fenced_node_is_refused_and_its_windows_are_freed() -> None:
    server = served(shards=2)
    for shard in (0, 1):
        now(server, push(1, shard, node=1), ones())
        now(server, push(1, shard, node=2), ones())
    assert now(server, Fence(2)).message == Ok()
    assert [state.origins for state in server.table.states()] == [1, 1]
    code, text = refused(server, push(2, node=2), ones())
    assert (code, text) == ("fenced", "node 2 is no member any more: it must join again")
    assert now(server, push(2, node=1), ones()).message == Pushed(0, 3, 2)


async def test_a_push_is_refused_whose_node_was_fenced_while_it_waited(kernels: Kernels) -> None:
    server = served(inline=False)
    requests = [asyncio.ensure_future(soon(server, push(s, node=2), ones())) for s in (1, 2)]
    await settle()
    server.table.forget(2)
    await kernels.finish()
    assert requests[0].result().message == Pushed(0, 1, 0)  # its kernel ran
    with pytest.raises(RequestFailed, match="node 2 is no member"):
        await requests[1]
    assert server.table.states()[0].origins == 0


def test_the_windows_of_a_node_that_is_gone_do_not_come_back_with_a_shard() -> None:
    server = served()
    server.table.forget(2)
    server.table.open(1, ones(), windows=[PushWindow(1, 0, 5, 1), PushWindow(2, 0, 5, 1)])
    assert server.table.states()[1].origins == 1


def test_no_more_than_so_many_nodes_are_remembered_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_table, "_MAX_REFUSED", 3)
    server = served()
    for node in (1, 2, 3, 2, 4):
        server.table.forget(node)
    assert list(server.table.refused) == [2, 3, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_refused_by_the_name_of_its_origin(value: float) -> None:
    server, grad = served(), ones()
    grad[-1] = value
    text = f"shard 0: a gradient of replica 3 of node 5 holds {value} at element {grad.size - 1}"
    assert refused(server, push(1, node=5, replica=3), grad) == ("wrong", text)
    grad[-1] = 1
    assert now(server, push(1, node=5, replica=3), grad).message == Pushed(0, 1, 0)


def test_no_more_than_so_many_replicas_are_remembered_of_a_node_and_of_all() -> None:
    """One member that made replicas up once took the room of all others."""
    server = served()
    nodes = MOST_ORIGINS // MOST_OF_A_NODE
    for node in range(1, nodes + 1):
        for replica in range(MOST_OF_A_NODE):
            now(server, push(1, node=node, replica=replica), ones())
        if node == 1:
            text = "shard 0: keeps 1024 windows of replicas of node 1, no room for another"
            assert refused(server, push(1, node=1, replica=MOST_OF_A_NODE), ones()) == ("busy", text)
    text = "shard 0: keeps 4096 windows of replicas, no room for another"
    assert refused(server, push(1, node=9), ones()) == ("busy", text)
    assert now(server, push(2, node=1, replica=7), ones()).message == Pushed(0, MOST_ORIGINS + 1, MOST_ORIGINS)
    server.table.forget(1)
    assert now(server, push(1, node=9), ones()).message == Pushed(0, MOST_ORIGINS + 2, MOST_ORIGINS + 1)


def test_all_that_a_shard_remembers_fits_into_the_answer() -> None:
    server = served()
    largest = (1 << 64) - 1
    windows = [PushWindow(largest - k, largest, largest, largest) for k in range(MOST_ORIGINS)]
    server.table.open(1, ones(), windows=windows)
    assert len(msgspec.msgpack.encode(now(server, Dump(1, False)).message)) < Dumped.BODY_LIMIT


async def test_no_more_than_so_many_requests_wait_for_a_shard(kernels: Kernels) -> None:
    server = served(inline=False)
    waiting = [call(server, push(1), ones()), *(call(server, Fetch(0, 1)) for _ in range(MAX_TURNS - 1))]
    assert refused(server, Fetch(0, 1)) == ("busy", "shard 0: 1024 requests wait for it")
    await kernels.finish()
    for request in waiting:
        assert isinstance(request, Awaitable)
        await request
    assert fetched(server)[0] == 1


def test_a_shard_is_served_once_and_with_all_of_its_rows() -> None:
    server = served()
    with pytest.raises(AssertionError, match="shard 0: is served already"):
        server.table.open(0, ones())
    with pytest.raises(AssertionError, match="shard 0: is dropped while it is served"):
        server.table.drop(0)
    with pytest.raises(AssertionError, match="shard 1: got 2 optimiser rows, expected 1"):
        server.table.open(1, ones(), [ones(), ones()])
    with pytest.raises(AssertionError, match="got float64"):
        server.table.open(1, np.ones(SIZE))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"expected \(32,\)"):
        server.table.open(1, ones(), [np.zeros(SIZE + 1, np.float32)])
    assert not server.table.serves(1)


def test_a_fenced_node_cannot_take_a_shard_over() -> None:
    """A taker that was declared dead and still reaches the source took a shard that the source was to go on serving."""
    server = ParameterServer(Sgd(1.0))
    server.table.open(0, np.zeros(16, np.float32))
    now(server, Fence(7))
    assert refused(server, Dump(0, True, 7)) == ("fenced", "node 7 is no member any more: it must join again")
    assert server.table.serves(0)
    with pytest.raises(RequestFailed, match="shard 5 is not served here"):
        server.table.reopen(5)


async def test_a_taker_that_is_fenced_while_it_waits_its_turn_does_not_get_the_shard(kernels: Kernels) -> None:
    """The source was told to go on, did, and then gave the shard up to a dead node when the turn came."""
    server = served(inline=False)
    first = asyncio.ensure_future(soon(server, push(1), ones()))
    dump = asyncio.ensure_future(soon(server, Dump(0, True, 7)))
    await settle()
    server.table.forget(7)
    await kernels.finish()
    assert first.result().message == Pushed(0, 1, 0)
    with pytest.raises(RequestFailed, match="node 7 is no member"):
        await dump
    assert server.table.serves(0)


def test_nothing_of_another_run_is_applied_or_given_away() -> None:
    """A first node that was started anew is called by members of its former life: seeds 430 and 1528 of the sweep."""
    run = 1 << 20
    server = ParameterServer(Sum())
    server.table.open(0, np.zeros(SIZE, np.float32))
    server.table.node = run + 1
    text = "node 7 is no member any more: it must join again"
    assert refused(server, push(node=7), ones()) == ("fenced", text)
    assert refused(server, Dump(0, True, 7)) == ("fenced", text)
    assert now(server, push(node=run + 7), ones()).message.clock == 1
    assert now(server, Dump(0, False)).message.clock == 1  # a snapshot
