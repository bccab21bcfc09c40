"""The parameter server with a gate: what waits moves with a shard, and is freed with its dead node."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from support.server import SIZE, Kernels, Sum, fetched, now, ones, push, refused, sent, settle, soon, values
from support.server_gate import commit, committed, gated, outcome

import hogpour as hp
from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.quorum import Quorum
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.net.wire.held import Held, HeldPush
from hogpour.net.wire.push import Outcome
from hogpour.net.wire.status import Fence
from hogpour.server.server import ParameterServer


def hand_over(source: ParameterServer, taker: ParameterServer, shard: int = 0, *, node: int = 7) -> None:
    """What ``serving`` does."""
    reply = sent(now(source, Dump(shard, True, node)))
    dumped = reply.message
    assert isinstance(dumped, Dumped)
    held = []
    for number in range(dumped.held):
        answer = now(source, Held(shard, node, number))
        assert isinstance(answer.message, HeldPush)
        held.append((answer.message.push, answer.payload[0]))
    memory = memoryview(b"".join(reply.payload))
    taker.table.install(dumped, memory, source.table._shards[shard].start, held)


@pytest.mark.parametrize("optimiser", [hp.Sgd(0.1), hp.Adam(0.01), hp.Adagrad(0.1)], ids=lambda o: type(o).__name__)
async def test_a_shard_takes_along_what_waits_and_goes_on_to_the_same_bits(
    optimiser: Any, rng: np.random.Generator
) -> None:
    grads = rng.standard_normal((3, 3, SIZE)).astype(np.float32)

    async def train(moves: set[int]) -> tuple[bytes, ...]:
        server = gated(optimiser=optimiser)
        for step, of_nodes in enumerate(grads):
            for node, grad in enumerate(of_nodes, 1):
                now(server, push(step + 1, node=node, clock=step), grad)
                if 10 * step + node in moves:
                    taker = ParameterServer(optimiser, gate=Barrier(), inline_elements=SIZE)
                    hand_over(server, taker)
                    server = taker
            assert await committed(server, commit(step, 1, 2, 3, sequence=step + 1)) == [0]
        return tuple(vector.array.tobytes() for vector in server.table._shards[0].vectors)

    assert await train({2, 13, 21}) == await train(set())


async def test_what_moves_with_a_shard_is_told_with_it() -> None:
    source, taker = gated(), ParameterServer(Sum(), gate=Barrier())
    outcome(source, push(node=1), 2)
    outcome(source, push(node=2, steps=3, scale=0.5), 4)
    hand_over(source, taker)
    assert refused(source, push(node=3), ones())[0] == "moved"
    assert await committed(source, commit(0, 1, 2)) == []
    assert [(one.node, one.steps, one.scale) for one, _ in taker.table._shards[0].pending] == [(1, 1, 1.0), (2, 3, 0.5)]
    assert outcome(taker, push(node=2)) == Outcome.HELD
    assert len(taker.table._shards[0].pending) == 2
    assert await committed(taker, commit(0, 1, 2)) == [0]


async def test_a_shard_whose_step_was_applied_before_it_moved_has_it_where_it_is_now() -> None:
    source, taker = gated(), ParameterServer(Sum(), gate=Barrier())
    outcome(source, push(node=1), 2)
    await committed(source, commit(0, 1))  # and the answer is lost
    hand_over(source, taker)
    assert await committed(taker, commit(0, 1)) == [0]
    assert fetched(taker) == (1, [2.0])
    assert outcome(taker, push(node=1), 2) == Outcome.REPEATED


async def test_a_step_is_applied_before_a_shard_is_given_up_that_it_was_told_first(kernels: Kernels) -> None:
    server = gated(inline=False)
    await soon(server, push(node=1), ones(2))
    step = asyncio.ensure_future(committed(server, commit(0, 1)))
    await settle()
    dump = asyncio.ensure_future(soon(server, Dump(0, True)))
    await settle()
    assert not dump.done()
    await kernels.finish()
    assert await step == [0]
    reply = sent(await dump)
    assert reply.message == Dumped(0, 1, list(server.table._shards[0].dedup), 0)
    assert values(reply, 0) == [2.0]


async def test_a_step_that_waits_behind_a_dump_finds_no_shard(kernels: Kernels) -> None:
    server = gated(inline=False)
    await soon(server, push(node=1), ones(2))
    await soon(server, push(node=2), ones(2))
    step = asyncio.ensure_future(committed(server, commit(0, 1)))
    await settle()
    dump = asyncio.ensure_future(soon(server, Dump(0, True)))
    later = asyncio.ensure_future(committed(server, commit(1, 2)))
    await settle()
    await kernels.finish()
    sent(await dump)
    assert (await step, await later) == ([0], [])


def test_what_waits_is_handed_to_nobody_before_the_shard_is_given_up() -> None:
    server = gated()
    outcome(server, push(node=1))
    text = "shard 0: asked for gradient 0 of those that wait here, and there are 0"
    assert refused(server, Held(0, 7, 0)) == ("wrong", text)
    assert sent(now(server, Dump(0, True, 7))).message == Dumped(0, 0, [], 1)
    assert now(server, Held(0, 7, 0)).message == HeldPush(push(node=1))
    for number in (-1, 1):
        text = f"shard 0: asked for gradient {number} of those that wait here, and there are 1"
        assert refused(server, Held(0, 7, number)) == ("wrong", text)
    assert refused(server, Held(3, 7, 0))[0] == "moved"
    server.table.forget(7)
    assert refused(server, Held(0, 7, 0))[0] == "fenced"


async def test_a_snapshot_leaves_what_waits() -> None:
    server = gated()
    outcome(server, push(node=1), 2)
    assert sent(now(server, Dump(0, False))).message == Dumped(0, 0, [], 1)
    assert await committed(server, commit(0, 1)) == [0]


async def test_what_waits_of_a_node_that_is_fenced_is_freed_with_the_next_step() -> None:
    """Not before: the step that is being told may count it."""
    server = gated()
    for node in (1, 2):
        outcome(server, push(node=node), 2 * node)
    now(server, Fence(2))
    assert len(server.table._shards[0].pending) == 2
    await committed(server, commit(0, 1))
    assert (len(server.table._shards[0].pending), server.table.states()[0].dropped) == (0, 0)  # nobody will ask for it
    assert fetched(server) == (1, [2.0])


async def test_what_a_step_counts_that_was_decided_before_the_death_is_in_it() -> None:
    server = gated()
    for node in (1, 2):
        outcome(server, push(node=node), 2 * node)
    now(server, Fence(2))
    assert await committed(server, commit(0, 1, 2)) == [0]
    assert fetched(server) == (1, [3.0])


async def test_of_the_dead_no_window_comes_back_with_such_a_step() -> None:
    """It was freed when the node was fenced, and nobody would free it a second time."""
    server = gated()
    for node in (1, 2):
        outcome(server, push(node=node))
    now(server, Fence(2))
    await committed(server, commit(0, 1, 2))
    assert [window.node for window in server.table._shards[0].dedup] == [1]
    assert refused(server, push(node=2), ones())[0] == "fenced"


async def test_a_quorum_too_frees_what_the_dead_left() -> None:
    server = gated(gate=Quorum())
    for node in (1, 2, 3):
        outcome(server, push(node=node))
    now(server, Fence(2))
    await committed(server, commit(0, 1))
    assert [one.node for one, _ in server.table._shards[0].pending] == [3]
