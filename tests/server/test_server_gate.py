"""The parameter server with a gate: what waits, what a step takes and what it frees."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest
from support.server import SIZE, Kernels, Sum, fetched, now, ones, push, refused, sent, served, settle, soon, values
from support.server_gate import commit, committed, gated, outcome, refused_commit

import hogpour as hp
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.gate.slack import Slack
from hogpour.net.wire.dump import Dump
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.gate import Commit, Committed, Counted
from hogpour.net.wire.push import Outcome, Pushed
from hogpour.server import shard as module
from hogpour.server.server import ParameterServer
from hogpour.server.turns import MAX_TURNS

# -- what waits


async def test_a_push_waits_and_a_step_is_the_mean_of_what_it_counts() -> None:
    server = gated()
    assert outcome(server, push(node=1), 2) == Outcome.HELD
    assert outcome(server, push(node=2), 4) == Outcome.HELD
    assert fetched(server) == (0, [0.0])
    assert await committed(server, commit(0, 1, 2)) == [0]
    assert fetched(server) == (1, [3.0])


async def test_a_push_that_comes_again_waits_once() -> None:
    server = gated()
    assert [outcome(server, push(node=1), 2) for _ in range(3)] == [Outcome.HELD] * 3
    assert server.table.states()[0].repeated == 0
    await committed(server, commit(0, 1))
    assert outcome(server, push(node=1), 2) == Outcome.REPEATED
    assert fetched(server) == (1, [2.0])
    assert (server.table.states()[0].repeated, server.table.states()[0].dropped) == (1, 0)


async def test_what_its_origin_does_with_its_memory_is_nothing_to_what_waits() -> None:
    server, grad = gated(), ones(2)
    now(server, push(node=1), grad)
    grad[:] = 100
    await committed(server, commit(0, 1))
    assert fetched(server) == (1, [2.0])


async def test_what_is_computed_on_parameters_of_an_earlier_step_is_dropped() -> None:
    server = gated()
    outcome(server, push(node=1), 2)
    await committed(server, commit(0, 1))
    assert outcome(server, push(node=2, clock=0)) == Outcome.DROPPED
    assert outcome(server, push(node=2, clock=1)) == Outcome.HELD
    assert (fetched(server), server.table.states()[0].dropped) == ((1, [2.0]), 1)


async def test_where_late_ones_count_they_wait_like_others() -> None:
    server = gated(gate=Quorum())
    outcome(server, push(node=1), 2)
    await committed(server, commit(0, 1))
    assert outcome(server, push(node=2, clock=0), 5) == Outcome.HELD
    await committed(server, commit(1, 2, staleness=1))
    state = server.table.states()[0]
    assert fetched(server) == (2, [7.0])
    assert (state.dropped, state.pushes, state.staleness, state.mean_staleness) == (0, 2, (1, 1), 0.5)


async def test_what_came_too_late_for_its_step_is_freed_with_it() -> None:
    server = gated()
    for node in (1, 2, 3):
        outcome(server, push(node=node), node)
    await committed(server, commit(0, 1, 3))
    assert fetched(server) == (1, [2.0])
    assert (len(server.table._shards[0].pending), server.table.states()[0].dropped) == (0, 1)


async def test_a_quorum_frees_nothing_that_is_late() -> None:
    server = gated(gate=Quorum())
    for node in (1, 2, 3):
        outcome(server, push(node=node), node)
    await committed(server, commit(0, 3))
    assert fetched(server) == (1, [3.0])
    assert len(server.table._shards[0].pending) == 2
    await committed(server, commit(1, 2, 1, staleness=1))
    assert fetched(server) == (2, [4.5])


def test_where_nothing_is_held_a_push_is_applied_as_it_comes() -> None:
    server = gated(gate=Slack())
    assert now(server, push(node=1, clock=0), ones(2)).message == Pushed(0, 1, 0)
    assert now(server, push(node=2, clock=0), ones(3)).message == Pushed(0, 2, 1)
    assert fetched(server) == (2, [5.0])


@pytest.mark.parametrize(("limit", "who"), [("MOST_ORIGINS", ""), ("MOST_OF_A_NODE", " of node 1")])
def test_no_more_than_so_many_gradients_wait(limit: str, who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 2)
    server = gated()
    assert [outcome(server, push(sequence)) for sequence in (1, 2)] == [Outcome.HELD] * 2
    text = f"shard 0: keeps 2 gradients that wait for their step{who}, no room for another"
    assert refused(server, push(3), ones()) == ("busy", text)
    assert outcome(server, push(2)) == Outcome.HELD  # it is there already
    if who:
        assert outcome(server, push(node=2)) == Outcome.HELD


def test_what_makes_no_sense_is_refused_before_it_waits() -> None:
    server = gated()
    assert refused(server, push(sequence=0), ones())[0] == "wrong"
    assert refused(server, push(), np.zeros(3, np.float32)) == ("wrong", f"shard 0: got 12 bytes, expected {4 * SIZE}")
    assert len(server.table._shards[0].pending) == 0


# -- steps


async def test_a_step_is_summed_in_the_order_that_it_is_told() -> None:
    """1e8 + 1 - 1e8 is 0 in float32, and 1e8 - 1e8 + 1 is 1."""
    for order, expected in (((1, 2, 3), 0.0), ((1, 3, 2), np.float32(1) / np.float32(3))):
        server = gated()
        for node, value in ((3, -1e8), (2, 1.0), (1, 1e8)):
            outcome(server, push(node=node), value)
        await committed(server, commit(0, *order))
        assert fetched(server) == (1, [expected])


async def test_a_step_that_is_told_again_is_not_applied_again() -> None:
    server = gated()
    outcome(server, push(node=1), 2)
    for _ in range(2):
        assert await committed(server, commit(0, 1)) == [0]
    outcome(server, push(2, node=1, clock=1), 3)
    assert await committed(server, commit(1, 1, sequence=2)) == [0]
    assert await committed(server, commit(0, 1)) == [0]  # of long ago
    assert fetched(server) == (2, [5.0])
    assert server.table.states()[0].pushes == 2


async def test_of_the_shards_that_are_asked_for_those_that_are_here_have_it() -> None:
    server = gated(3)
    for shard in (0, 1, 2):
        outcome(server, push(node=1, shard=shard), 2)
    sent(now(server, Dump(1, True)))  # it is given up
    assert await committed(server, commit(0, 1, shards=(0, 1, 2, 7))) == [0, 2]
    assert [state.clock for state in server.table.states()] == [1, 1]


async def test_a_step_that_was_left_out_is_refused() -> None:
    server = gated()
    outcome(server, push(node=1))
    assert await refused_commit(server, commit(3, 1)) == ("wrong", "shard 0: at clock 0, told of step 3")
    assert await refused_commit(server, commit(0)) == ("wrong", "step 0: has no gradients")
    assert fetched(server) == (0, [0.0])


@pytest.mark.parametrize("read", [False, True])
async def test_a_gradient_that_a_step_lacks_counts_as_zeros_of_its_origin(read: bool) -> None:
    """A member that said that one had arrived which no shard has once ended the run."""
    liar, honest = gated(2), gated(2)
    for server in (liar, honest):
        for shard in (0, 1):
            server.table._shards[shard].params[:] = 5
            outcome(server, push(node=1, shard=shard, scale=0.5), 2)
    for shard in (0, 1):
        outcome(honest, push(node=2, shard=shard), 0)
    outcome(liar, push(node=2, shard=1), 0)
    reading = now(liar, Fetch(0, 9)) if read else None
    answers = [(await soon(server, commit(0, 1, 2, shards=(0, 1)))).message for server in (liar, honest)]
    assert answers == [Committed([0, 1], (2,)), Committed([0, 1])]
    assert fetched_all(liar) == fetched_all(honest)
    assert [list(shard.dedup) for shard in liar.table._shards.values()] == [list(shard.dedup) for shard in honest.table._shards.values()]
    if reading is not None:
        sent(reading)
    assert liar._copies.used_bytes == 0


async def test_lies_take_no_memory() -> None:
    server = gated()
    for step in range(8):
        await soon(server, commit(step, 2, sequence=step + 1))
    assert len(server.table._shards[0].pending._free) == 1


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
async def test_a_step_that_would_move_backwards_or_too_far_is_refused(share: float) -> None:
    server = gated()
    outcome(server, push(node=1), 2)
    code, text = await refused_commit(server, Commit(0, [0], [Counted(1, 0, 1, 0)], share))
    assert (code, text) == ("wrong", f"step 0 has a share of {share} of the rate, expected more than 0, at most 1")
    assert await committed(server, commit(0, 1)) == [0]


async def test_a_step_that_counts_one_gradient_twice_is_refused() -> None:
    server = gated()
    outcome(server, push(node=1), 2)
    assert await refused_commit(server, commit(0, 1, 1)) == ("wrong", "step 0 counts a gradient twice")
    assert await committed(server, commit(0, 1)) == [0]


async def test_where_two_shards_cannot_apply_a_step_both_errors_are_looked_at() -> None:
    """The second one was left to the loop, which logs what nobody took."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    server = gated(3)
    await committed(server, commit(0, 1, shards=(1,)))
    text = "shard 0: at clock 0, told of step 1"
    assert await refused_commit(server, commit(1, 1, shards=(0, 1, 2))) == ("wrong", text)
    gc.collect()
    assert said == []
    assert [state.clock for state in server.table.states()] == [0, 2, 0]


async def test_a_step_that_is_cancelled_before_its_turn_is_applied_to_nothing(kernels: Kernels) -> None:
    server = gated(inline=False)
    for node in (1, 2):
        await soon(server, push(node=node), ones(2))
    first = asyncio.ensure_future(committed(server, commit(0, 1)))
    await settle()
    second = asyncio.ensure_future(committed(server, commit(1, 2)))
    await settle()
    for step in (second, first):  # their connection is gone
        step.cancel()
    await settle()
    assert (first.done(), second.cancelled()) == (False, True)  # a kernel runs to its end
    await kernels.finish()
    assert first.cancelled()
    assert fetched(server) == (1, [2.0])
    assert kernels.waiting == []


async def test_every_gradient_of_a_step_is_counted() -> None:
    server = gated(gate=Quorum(), correction=hp.InverseStaleness())
    for node in (1, 2, 3):
        outcome(server, push(node=node, steps=node))
    counted = [Counted(1, 0, 1, 0), Counted(2, 0, 1, 1), Counted(3, 0, 1, 2)]
    await committed(server, Commit(0, [0], counted, 1.0))
    state = server.table.states()[0]
    assert (state.clock, state.pushes, state.steps, state.origins, state.amended) == (1, 3, 6, 3, 1)
    assert (state.staleness, state.mean_staleness) == ((1, 1, 1), 1.0)


# -- threads, and readers


async def test_a_large_step_is_applied_on_a_thread_and_what_comes_meanwhile_takes_its_turn(kernels: Kernels) -> None:
    server = gated(2, inline=False)
    for shard in (0, 1):
        for node in (1, 2):
            await soon(server, push(node=node, shard=shard), ones(2 * node))
    step = asyncio.ensure_future(committed(server, commit(0, 1, 2, shards=(0, 1))))
    await settle()
    assert len(kernels.waiting) == 2  # shards do not wait for each other
    late = asyncio.ensure_future(soon(server, push(node=3, clock=0), ones()))
    fetch = asyncio.ensure_future(soon(server, Fetch(0, 1)))
    again = asyncio.ensure_future(committed(server, commit(0, 1, 2, shards=(0, 1))))
    await settle()
    assert not any(task.done() for task in (step, late, fetch, again))
    await kernels.finish()
    assert late.result().message == Pushed(0, 1, outcome=Outcome.DROPPED)
    assert values(sent(fetch.result())) == [3.0]
    assert not step.done()
    await kernels.finish()
    assert (await step, await again) == ([0, 1], [0, 1])
    assert kernels.waiting == []
    assert fetched_all(server) == [(1, 3.0), (1, 3.0)]


def fetched_all(server: ParameterServer) -> list[tuple[int, float]]:
    return [(shard.clock, float(shard.params[0])) for shard in server.table._shards.values()]


@pytest.mark.parametrize("inline", [True, False])
async def test_a_reader_sees_the_shard_as_it_was_and_the_step_goes_on_in_a_copy(kernels: Kernels, inline: bool) -> None:
    server = gated(inline=inline)
    reading = await soon(server, Fetch(0, 9))
    for node in (1, 2):
        await soon(server, push(node=node), ones(2 * node))
    step = asyncio.ensure_future(committed(server, commit(0, 1, 2)))
    await settle()
    if not inline:
        await kernels.finish()
    assert await step == [0]
    assert values(reading) == [0.0]
    assert fetched(server) == (1, [3.0])
    sent(reading)
    assert server._copies.used_bytes == 0


async def test_a_step_waits_for_a_reader_where_there_is_no_memory_for_a_copy() -> None:
    server = gated(copies_bytes=0)
    reading = now(server, Fetch(0, 9))
    outcome(server, push(node=1), 2)
    step = asyncio.ensure_future(committed(server, commit(0, 1)))
    await settle()
    assert not step.done()
    sent(reading)
    assert await step == [0]
    assert fetched(server) == (1, [2.0])


async def test_a_step_whose_kernel_fails_is_told_and_the_next_request_has_its_turn() -> None:
    rule = Sum()
    server = gated(optimiser=rule)
    outcome(server, push(node=1), 2)
    rule.fail.append(FloatingPointError("as the test says"))
    with pytest.raises(FloatingPointError):
        await soon(server, commit(0, 1))
    assert fetched(server)[0] == 0
    outcome(server, push(node=2), 2)
    assert await committed(server, commit(0, 2)) == [0]


async def test_what_waits_takes_the_same_memory_again() -> None:
    server = gated()
    for step in range(5):
        for node in (1, 2):
            outcome(server, push(step + 1, node=node, clock=step))
        await committed(server, commit(step, 1, 2, sequence=step + 1))
    assert len(server.table._shards[0].pending._free) == 2


async def test_a_step_that_one_shard_has_no_room_for_leaves_no_turn_on_the_others(kernels: Kernels) -> None:
    """The turn on shard 0 was left behind, and nobody looked at what came of it."""
    server = gated(shards=2, inline=False)
    for shard in (0, 1):
        await soon(server, push(shard=shard), ones())
    waiting = [asyncio.ensure_future(soon(server, commit(0, 1, shards=(1,))))]
    await settle()
    waiting += [asyncio.ensure_future(soon(server, Fetch(1, 1))) for _ in range(MAX_TURNS - 1)]
    await settle()
    assert await refused_commit(server, commit(0, 1, shards=(0, 1))) == ("busy", "shard 1: 1024 requests wait for it")
    left = len(server.table._shards[0].turns), len(server.table._shards[0].pending)
    while kernels.waiting:  # before anything is found wrong: a task that is cancelled waits for its kernel
        await kernels.finish()
    await asyncio.gather(*waiting)
    assert left == (0, 1)
    last = asyncio.ensure_future(committed(server, commit(0, 1, shards=(0, 1))))
    await settle()
    await kernels.finish()
    assert await last == [0, 1]


async def test_a_step_is_applied_only_where_the_scheme_has_a_gate() -> None:
    said = await refused_commit(served(), commit(0, 1))
    assert said == ("wrong", "step 0: the scheme has no gate, no push waits for a step")
