"""A shard in memory: the bits of its updates, and arrays that somebody reads while they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import numpy as np
import pytest
from support.server import (
    SIZE,
    Kernels,
    Sum,
    fetched,
    now,
    ones,
    push,
    sent,
    served,
    settle,
    soon,
    values,
)

from hogpour.algos.optim.adagrad import Adagrad
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.core.registry import available
from hogpour.core.shard_map import cut
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Message
from hogpour.net.wire.dump import Dump
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Pushed
from hogpour.server.server import ParameterServer


@pytest.fixture
async def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Every kernel of the test waits here."""
    fake = Kernels()
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", fake.run_in_executor, raising=False)
    return fake


# -- bits -------------------------------------------------------------------------------------------------------------


def largest_of(n: int, shards: int) -> int:
    """Bytes of a shard so that there are so many."""
    return next(b for b in range(64, 4 * n + 64, 64) if len(cut(n, b)) - 1 == shards)


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@pytest.mark.parametrize("name", available("optimiser"))
async def test_a_vector_is_trained_to_the_same_bits_however_it_is_cut(name: str, shards: int, inline: bool) -> None:
    rng, n = np.random.default_rng(5), 16 * 7 * 3
    kind = available("optimiser")[name]
    optimiser = kind(lr=0.1, weight_decay=0.01)
    start = rng.normal(size=n).astype(np.float32)
    grads = rng.normal(size=(12, n)).astype(np.float32)
    grads[:, ::5] = 0
    scales = np.linspace(1, 0.3, 12)

    expected = start.copy()
    rows = tuple(np.zeros(n, np.float32) for _ in optimiser.state)
    for t, (grad, scale) in enumerate(zip(grads, scales), 1):
        optimiser.apply(expected, grad, rows, lr_scale=float(scale), t=t)

    bounds = cut(n, largest_of(n, shards))
    server = ParameterServer(optimiser, inline_elements=n if inline else 0)
    for k in range(shards):
        server.table.open(k, start[bounds[k] : bounds[k + 1]], start=bounds[k])
    for t, (grad, scale) in enumerate(zip(grads, scales), 1):
        order = rng.permutation(shards)  # the shards know nothing of each other
        await asyncio.gather(*(
            soon(server, push(t, int(k), scale=float(scale)), grad[bounds[k] : bounds[k + 1]]) for k in order
        ))  # fmt: skip
    dumps = [sent(now(server, Dump(k, False))).payload for k in range(shards)]
    for part, row in enumerate((expected, *rows)):
        assert b"".join(bytes(dump[part]) for dump in dumps) == row.tobytes()
    assert server.table.states()[0].clock == 12


def test_a_push_is_scaled_by_its_schedule_and_counted_by_the_clock() -> None:
    optimiser = Sum()
    server = served(optimiser)
    server.table.open(5, ones(), [ones(2.0)], clock=41)
    assert now(server, push(1, 5, clock=40, scale=0.5), ones(4.0)).message == Pushed(5, 42, 1)
    assert optimiser.calls[-1] == 42
    reply = sent(now(server, Dump(5, False)))
    assert (values(reply, 0), values(reply, 1)) == ([3.0], [18.0])


def test_each_gradient_of_a_push_has_its_weight_decay() -> None:
    server = served(Sgd(0.5, weight_decay=0.125))
    now(server, push(1), ones(-8.0))  # w = 4
    now(server, push(2, steps=4, scale=0.5), ones(0.0))  # less half the rate times 4 of 0.125 · 4
    assert fetched(server) == (2, [3.5])


def test_the_optimiser_is_compiled_before_the_first_push() -> None:
    optimiser = Sum()
    ParameterServer(optimiser)
    assert optimiser.calls == [1, 1]  # on time, and late


# -- frozen readers ---------------------------------------------------------------------------------------------------


def test_a_fetch_is_answered_with_the_live_memory_itself() -> None:
    params = ones(3.0)
    server = ParameterServer(Sum())
    server.table.open(0, params)
    reply = now(server, Fetch(0, 1))
    assert reply.payload[0].readonly
    assert np.shares_memory(np.frombuffer(reply.payload[0], np.float32), params)


@pytest.mark.parametrize("request_", [Fetch(0, 1), Dump(0, False)])
def test_a_slow_reader_gets_the_shard_as_it_was_and_delays_nobody(request_: Message) -> None:
    server = served()
    now(server, push(1), ones())
    slow = now(server, request_)
    for sequence in (2, 3):
        now(server, push(sequence), ones())
    assert fetched(server) == (3, [3.0])
    assert [values(slow, part) for part in range(len(slow.payload))] == [[1.0]] * len(slow.payload)
    assert server._copies.used_bytes == 4 * SIZE * len(slow.payload)
    sent(slow)
    assert server._copies.used_bytes == 0


def test_readers_of_three_clocks_each_see_their_own() -> None:
    server = served()
    readers = []
    for sequence in (1, 2, 3):
        now(server, push(sequence), ones())
        readers.append(now(server, Fetch(0, 1)))
    now(server, push(4), ones())
    assert [values(reader) for reader in readers] == [[1.0], [2.0], [3.0]]
    for left, reader in zip((2, 1, 0), readers):
        sent(reader)
        assert server._copies.used_bytes == 4 * SIZE * left


def test_two_readers_of_one_clock_cost_one_copy_which_is_freed_with_the_last() -> None:
    server = served()
    readers = [now(server, Fetch(0, 1)) for _ in range(2)]
    now(server, push(1), ones())
    assert server._copies.used_bytes == 4 * SIZE
    sent(readers[0])
    assert server._copies.used_bytes == 4 * SIZE
    sent(readers[1])
    assert server._copies.used_bytes == 0


def test_an_array_that_nobody_reads_is_updated_where_it_is() -> None:
    params = ones()
    server = ParameterServer(Sum())
    server.table.open(0, params)
    sent(now(server, Fetch(0, 1)))
    now(server, push(1), ones())
    assert params[0] == 2.0


def test_a_reader_that_is_let_go_twice_is_a_bug() -> None:
    reply = now(served(), Fetch(0, 1))
    sent(reply)
    with pytest.raises(AssertionError, match="twice"):
        sent(reply)


async def test_without_memory_for_a_copy_a_push_waits_for_the_reader_and_others_wait_behind_it() -> None:
    server = served(shards=2, copies_bytes=4 * SIZE - 1)
    slow = now(server, Fetch(0, 1))
    waits = asyncio.ensure_future(soon(server, push(1), ones()))
    behind = asyncio.ensure_future(soon(server, Fetch(0, 1)))
    again = asyncio.ensure_future(soon(server, push(2), ones()))
    await settle()
    assert not waits.done()
    assert not behind.done()
    assert now(server, push(1, 1), ones()).message == Pushed(1, 1, 0)  # another shard goes on
    assert values(slow) == [0.0]
    sent(slow)
    await settle()
    assert waits.result().message == Pushed(0, 1, 0)
    assert (behind.result().message, values(behind.result())) == (Fetched(0, 1), [1.0])
    assert not again.done()  # now that one is read
    sent(behind.result())
    await settle()
    assert again.result().message == Pushed(0, 2, 1)
    assert fetched(server) == (2, [2.0])
    assert not server._copies.waiting


async def test_a_copy_of_all_that_a_dump_reads_is_made_or_none() -> None:
    server = served(copies_bytes=4 * SIZE)
    slow = now(server, Dump(0, False))
    waits = asyncio.ensure_future(soon(server, push(1), ones()))
    await settle()
    assert (waits.done(), server._copies.used_bytes) == (False, 0)
    sent(slow)
    await settle()
    assert waits.result().message == Pushed(0, 1, 0)


async def test_memory_that_the_reader_of_one_shard_frees_is_there_for_another() -> None:
    server = served(shards=2, copies_bytes=4 * SIZE)
    readers = [now(server, Fetch(shard, 1)) for shard in (0, 1)]
    assert now(server, push(1, 0), ones()).message == Pushed(0, 1, 0)
    waits = asyncio.ensure_future(soon(server, push(1, 1), ones()))
    await settle()
    assert not waits.done()
    sent(readers[0])
    await settle()
    assert waits.result().message == Pushed(1, 1, 0)
    assert (values(readers[1]), server._copies.used_bytes) == ([0.0], 4 * SIZE)


async def test_what_is_copied_is_kept_until_it_has_been_copied(kernels: Kernels) -> None:
    server = served(inline=False)
    slow = now(server, Fetch(0, 1))
    update = asyncio.ensure_future(soon(server, push(1), ones()))
    await settle()
    sent(slow)  # its array is not free: a thread is about to read it
    assert server._copies.used_bytes == 4 * SIZE
    await kernels.finish()
    assert update.result().message == Pushed(0, 1, 0)
    assert server._copies.used_bytes == 0
    assert fetched(server) == (1, [1.0])


async def test_memory_that_a_copy_frees_when_it_is_done_is_there_for_another_shard(kernels: Kernels) -> None:
    server = served(shards=2, inline=False, copies_bytes=4 * SIZE)
    readers = [now(server, Fetch(shard, 1)) for shard in (0, 1)]
    updates = [asyncio.ensure_future(soon(server, push(1, shard), ones())) for shard in (0, 1)]
    await settle()
    sent(readers[0])
    assert len(kernels.waiting) == 1
    await kernels.finish()
    assert updates[0].done()
    await kernels.finish()
    assert updates[1].result().message == Pushed(1, 1, 0)
    assert values(readers[1]) == [0.0]


def test_a_view_of_something_larger_is_copied_and_an_array_is_taken_over() -> None:
    whole, alone = np.zeros(2 * SIZE, np.float32), ones()
    server = ParameterServer(Sum())
    server.table.open(0, whole[:SIZE])
    server.table.open(1, alone)
    for shard in (0, 1):
        now(server, push(1, shard), ones())
    assert (whole[0], alone[0]) == (0.0, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", [Sgd(0.1), Adagrad(0.1)])
async def test_kernels_in_threads_and_slow_readers_never_mix_two_clocks(optimiser: Optimiser) -> None:
    """Every element of a payload belongs to the same number of updates, while threads update what was fetched."""
    size, rng = 1 << 16, np.random.default_rng(3)
    server = ParameterServer(optimiser, inline_elements=0, copies_bytes=32 * size)
    server.table.open(0, np.zeros(size, np.float32))
    held: list[tuple[bytes, Reply]] = []

    async def reader() -> None:
        for _ in range(60):
            reply = await soon(server, Fetch(0, 1))
            assert len(values(reply)) == 1
            held.append((bytes(reply.payload[0]), reply))
            if len(held) > 3:
                before, old = held.pop(int(rng.integers(4)))
                assert bytes(old.payload[0]) == before
                sent(old)
            await asyncio.sleep(0)

    async def writer(node: int) -> None:
        for sequence in range(1, 41):
            await soon(server, push(sequence, node=node), np.ones(size, np.float32))

    async with asyncio.TaskGroup() as group:
        for node in (1, 2):
            group.create_task(writer(node))
        group.create_task(drain(reader(), held))
    assert server.table.states()[0].clock == 80
    assert server._copies.used_bytes == 0


async def drain(reader: Awaitable[None], held: list[tuple[bytes, Reply]]) -> None:
    await reader
    for _, reply in held:
        sent(reply)
