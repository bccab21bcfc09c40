"""The parameter server: order, at most once, what is cancelled, what fails, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
import numpy as np
import pytest
from support.server import (
    SIZE,
    Floats,
    Kernels,
    Sum,
    call,
    fetched,
    now,
    ones,
    push,
    refused,
    sent,
    served,
    settle,
    soon,
    values,
)

from hogpour.algos.optim.sgd import Sgd
from hogpour.core.cluster_state import ShardState
from hogpour.core.errors import RequestFailed
from hogpour.net.loopback import Loopback
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Message
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Outcome, Pushed
from hogpour.net.wire.status import Report, Reported
from hogpour.net.wire.window import PushWindow
from hogpour.server.server import ParameterServer

# -- at most once -----------------------------------------------------------------------------------------------------


def test_a_repeated_push_is_answered_and_not_applied() -> None:
    server = served()
    assert now(server, push(1), ones()).message == Pushed(0, 1, 0)
    assert now(server, push(1), ones()).message == Pushed(0, 1, outcome=Outcome.REPEATED)
    assert fetched(server) == (1, [1.0])
    assert server.table.states()[0].repeated == 1


def test_pushes_that_overtake_each_other_are_applied_once_each() -> None:
    server = served()
    order = [*range(64, 0, -1), *range(1, 65)]
    for sequence in order:
        now(server, push(sequence), ones())
    assert fetched(server) == (64, [64.0])
    assert now(server, push(65), ones()).message == Pushed(0, 65, 65 - 0 - 1)
    assert now(server, push(1), ones()).message == Pushed(0, 65, outcome=Outcome.REPEATED)  # as old as that: nobody can tell any more


def test_each_shard_counts_the_pushes_of_an_origin_by_itself() -> None:
    server = served(shards=2)
    for shard in (0, 1):
        assert now(server, push(1, shard), ones()).message == Pushed(shard, 1, 0)


async def test_a_shard_goes_to_another_server_with_all_that_it_remembers() -> None:
    here, there = served(), ParameterServer(Sum())
    for sequence in (1, 3):
        now(here, push(sequence), ones(2.0))
    into = bytearray(here.table.dump_bytes(SIZE))
    dumped = await Loopback(here.handlers()).request(Dump(0, True), into=memoryview(into), deadline_s=1.0)
    assert dumped == Dumped(0, 2, [PushWindow(1, 0, 3, 0b101)])
    assert isinstance(dumped, Dumped)
    there.table.install(dumped, memoryview(into), start=7)
    into[:] = bytes(len(into))  # the memory is the caller's again
    applied, repeated = Outcome.APPLIED, Outcome.REPEATED
    for sequence, *expected in ((1, 0, repeated), (2, 2, applied), (3, 0, repeated), (4, 3, applied)):
        reply = now(there, push(sequence), ones(2.0))
        assert isinstance(reply.message, Pushed)
        assert [reply.message.staleness, reply.message.outcome] == expected
    assert fetched(there) == (4, [8.0])
    assert values(sent(now(there, Dump(0, False))), 1) == [16.0]
    assert (there.table.states()[0].start, there.table.states()[0].stop) == (7, 7 + SIZE)


async def test_what_was_queued_is_applied_before_a_shard_is_given_up_and_what_comes_later_is_refused(kernels: Kernels) -> None:
    server = served(inline=False)
    first = asyncio.ensure_future(soon(server, push(1), ones()))
    second = asyncio.ensure_future(soon(server, push(2), ones()))
    dump = asyncio.ensure_future(soon(server, Dump(0, True)))
    late = asyncio.ensure_future(soon(server, push(3), ones()))
    fetch = asyncio.ensure_future(soon(server, Fetch(0, 1)))
    await settle()
    await kernels.finish()
    assert (first.done(), second.done(), dump.done()) == (True, False, False)
    await kernels.finish()
    assert second.result().message == Pushed(0, 2, 1)
    assert dump.result().message == Dumped(0, 2, [PushWindow(1, 0, 2, 0b11)])
    assert values(dump.result()) == [2.0]
    for refusal in (late, fetch):
        with pytest.raises(RequestFailed, match=r"^shard 0 is not served here$"):
            await refusal
    assert kernels.waiting == []


def test_a_shard_that_was_given_up_is_dumped_again_for_its_taker_and_served_for_nobody() -> None:
    server = served()
    now(server, push(1), ones())
    first = now(server, Dump(0, True))
    moved = ("moved", "shard 0 is not served here")
    for request, payload in ((push(2), ones()), (Fetch(0, 1), None), (Dump(0, False), None)):
        assert refused(server, request, payload) == moved
    assert now(server, Dump(0, True)).message == first.message
    assert (server.table.serves(0), server.table.states()) == (False, ())


def test_a_shard_that_nobody_took_is_served_again() -> None:
    server = served()
    now(server, Dump(0, True))
    server.table.reopen(0)
    assert now(server, push(1), ones()).message == Pushed(0, 1, 0)


def test_a_shard_that_somebody_took_is_dropped_and_may_come_back() -> None:
    server = served()
    sent(now(server, Dump(0, True)))
    server.table.drop(0)
    server.table.drop(0)
    assert refused(server, Dump(0, True)) == ("moved", "shard 0 is not served here")
    server.table.open(0, ones(9.0), clock=3)
    assert fetched(server) == (3, [9.0])


# -- order ------------------------------------------------------------------------------------------------------------


async def test_requests_for_a_shard_take_turns_while_other_shards_go_on(kernels: Kernels) -> None:
    server = served(shards=2, inline=False)
    done: list[str] = []

    async def say(name: str, message: Message, payload: Floats | None = None) -> None:
        reply = await soon(server, message, payload)
        done.append(f"{name} {values(reply)}" if reply.payload else name)
        if reply.sent:
            reply.sent()

    async with asyncio.TaskGroup() as group:
        group.create_task(say("fetch a", Fetch(0, 1)))
        group.create_task(say("push a", push(1, scale=1.0), ones()))
        group.create_task(say("fetch b", Fetch(0, 1)))
        group.create_task(say("push b", push(2, scale=10.0), ones()))
        group.create_task(say("fetch c", Fetch(0, 1)))
        group.create_task(say("other push", push(1, 1), ones()))
        group.create_task(say("other fetch", Fetch(1, 1)))
        await settle()
        assert done == ["fetch a [0.0]"]
        assert len(kernels.waiting) == 2  # one of each shard, never two of one
        kernels.waiting.reverse()
        await kernels.finish()
        assert done[1:] == ["other push", "other fetch [1.0]"]
        await kernels.finish()
        assert done[3:] == ["push a", "fetch b [1.0]"]
        await kernels.finish()
    assert done[5:] == ["push b", "fetch c [11.0]"]


async def test_a_small_shard_is_served_before_the_handler_returns_and_a_large_one_in_a_thread(kernels: Kernels) -> None:
    server = ParameterServer(Sum(), inline_elements=SIZE)
    server.table.open(0, np.zeros(SIZE, np.float32))
    server.table.open(1, np.zeros(SIZE + 16, np.float32))
    assert isinstance(call(server, push(1), ones()), Reply)
    large = call(server, push(1, 1), np.ones(SIZE + 16, np.float32))
    assert not isinstance(large, Reply)
    await kernels.finish()
    assert (await large).message == Pushed(1, 1, 0)


async def test_a_request_that_was_queued_earlier_is_not_overtaken_by_one_that_could_be_served_at_once() -> None:
    server = served(copies_bytes=0)
    slow = now(server, Fetch(0, 1))
    first = call(server, push(1), ones())  # nobody awaits it yet
    second = call(server, Dump(0, False))
    sent(slow)
    assert isinstance(first, Awaitable)
    assert isinstance(second, Awaitable)
    assert (await second).message == Dumped(0, 1, [PushWindow(1, 0, 1, 1)])
    assert (await first).message == Pushed(0, 1, 0)


async def test_a_repeated_push_is_answered_in_its_turn_too() -> None:
    server = served(copies_bytes=0)
    now(server, push(1), ones())
    slow = now(server, Fetch(0, 1))
    waits, repeated = call(server, push(2), ones()), call(server, push(1), ones())
    assert not isinstance(repeated, Reply)
    sent(slow)
    assert isinstance(waits, Awaitable)
    assert (await waits).message == Pushed(0, 2, 1)
    assert (await repeated).message == Pushed(0, 2, outcome=Outcome.REPEATED)


# -- cancellation and failure -----------------------------------------------------------------------------------------


async def cancelled(task: asyncio.Future[Any]) -> None:
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_push_that_is_cancelled_before_its_turn_is_not_applied_and_may_come_again(kernels: Kernels) -> None:
    server = served(inline=False)
    first = asyncio.ensure_future(soon(server, push(1), ones()))
    second = asyncio.ensure_future(soon(server, push(2), ones(10.0)))
    third = asyncio.ensure_future(soon(server, push(3), ones(100.0)))
    await settle()
    second.cancel()
    await cancelled(second)
    await kernels.finish()
    await kernels.finish()
    assert third.result().message == Pushed(0, 2, 1)
    assert (first.done(), kernels.waiting, fetched(server)) == (True, [], (2, [101.0]))
    again = asyncio.ensure_future(soon(server, push(2), ones(10.0)))
    await settle()
    await kernels.finish()
    assert again.result().message == Pushed(0, 3, 2)


async def test_a_push_that_is_cancelled_while_its_kernel_runs_ends_with_it(kernels: Kernels) -> None:
    """The kernel reads memory that is given back when the request ends."""
    server = served(inline=False)
    update = asyncio.ensure_future(soon(server, push(1), ones()))
    await settle()
    update.cancel()
    await settle()
    assert not update.done()
    await kernels.finish()
    await cancelled(update)
    assert fetched(server) == (1, [1.0])
    assert (await soon(server, push(1), ones())).message == Pushed(0, 1, outcome=Outcome.REPEATED)


async def test_whoever_waits_behind_a_push_that_was_cancelled_without_memory_goes_on() -> None:
    server = served(copies_bytes=0)
    slow = now(server, Fetch(0, 1))
    waits = asyncio.ensure_future(soon(server, push(1), ones()))
    behind = asyncio.ensure_future(soon(server, Fetch(0, 1)))
    await settle()
    waits.cancel()
    await cancelled(waits)
    assert sent(await behind).message == Fetched(0, 0)
    sent(slow)
    assert fetched(server) == (0, [0.0])


async def test_a_shard_is_not_frozen_by_a_reply_that_nobody_takes(kernels: Kernels) -> None:
    server = served(inline=False)
    update = asyncio.ensure_future(soon(server, push(1), ones()))
    fetch = asyncio.ensure_future(soon(server, Fetch(0, 1)))
    await settle()
    _, kernel = kernels.waiting.pop()
    kernel.set_result(None)
    await asyncio.sleep(0)  # the reply to the fetch is there, its task has not seen it
    assert not fetch.done()
    fetch.cancel()
    await cancelled(fetch)
    assert (await update).message == Pushed(0, 1, 0)
    assert server.table._shards[0].vectors[0].readers == 0


@pytest.mark.parametrize("inline", [True, False])
async def test_a_kernel_that_fails_fails_its_push_alone_and_is_not_tried_again(inline: bool) -> None:
    optimiser = Sum()
    server = served(optimiser, inline=inline)
    optimiser.fail.append(ZeroDivisionError("in a rule of the user's own"))
    slow = now(server, Fetch(0, 1))
    with pytest.raises(ZeroDivisionError):
        await soon(server, push(1), ones())
    sent(slow)
    assert server._copies.used_bytes == 0
    assert (await soon(server, push(1), ones())).message == Pushed(0, 0, outcome=Outcome.REPEATED)
    assert (await soon(server, push(2), ones())).message == Pushed(0, 1, 0)


async def test_a_kernel_that_fails_in_its_turn_does_not_stop_the_queue() -> None:
    optimiser = Sum()
    server = served(optimiser, copies_bytes=0)
    slow = now(server, Fetch(0, 1))
    requests = [asyncio.ensure_future(soon(server, push(sequence), ones())) for sequence in (1, 2)]
    await settle()
    optimiser.fail.append(ZeroDivisionError())
    sent(slow)
    with pytest.raises(ZeroDivisionError):
        await requests[0]
    assert (await requests[1]).message == Pushed(0, 1, 0)


async def test_without_an_executor_a_push_fails_and_holds_nothing(kernels: Kernels) -> None:
    server = served(inline=False)
    slow = now(server, Fetch(0, 1))
    kernels.closed = True
    with pytest.raises(RuntimeError, match="after shutdown"):
        await soon(server, push(1), ones())
    sent(slow)
    assert server._copies.used_bytes == 0
    assert not server.table._shards[0].turns


# -- what it tells ----------------------------------------------------------------------------------------------------


def test_staleness_is_counted_by_how_late_a_push_is() -> None:
    server = served()
    server.table.open(1, ones(), clock=100)
    for sequence, clock in enumerate((100, 101, 50, 105, 0), 1):
        now(server, push(sequence, 1, clock=clock, steps=sequence), ones())
    assert server.table.states()[1] == ShardState(
        shard=1, start=0, stop=SIZE, clock=105, pushes=5, repeated=0, dropped=0, amended=0, steps=15, origins=1,
        staleness=(3, *[0] * 51, 1, *[0] * 10, 1), mean_staleness=(52 + 104) / 5,
    )  # fmt: skip
    assert server.table.states()[0].mean_staleness == 0.0


def test_a_report_is_the_states_as_json() -> None:
    server = served(shards=2)
    now(server, push(1, 1), ones())
    reply = now(server, Report())
    assert isinstance(reply.message, Reported)
    assert msgspec.json.decode(reply.message.shards, type=tuple[ShardState, ...]) == server.table.states()


def test_a_report_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reported, "BODY_LIMIT", 100)
    code, text = refused(served(), Report())
    assert code == "busy"
    assert text.startswith("1 shards take ")


async def test_a_node_asks_itself_without_a_socket() -> None:
    server = served(Sgd(0.5))
    local = Loopback(server.handlers())
    grad, params = ones(), np.zeros(SIZE, np.float32)
    assert await local.request(push(1), [memoryview(grad)], deadline_s=1.0) == Pushed(0, 1, 0)
    assert await local.request(Fetch(0, 1), into=memoryview(params), deadline_s=1.0) == Fetched(0, 1)
    assert params.tolist() == [-0.5] * SIZE
    assert server.table._shards[0].vectors[0].readers == 0
