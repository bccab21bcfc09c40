"""The parameter server with a gate: what waits, what a step takes and what it frees, and how both move with a shard."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest
from support.server import SIZE, Kernels, Sum, fetched, now, ones, push, refused, sent, served, settle, soon, values

import hogpour as hp
from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.gate.slack import Slack
from hogpour.core.errors import RequestFailed
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.gate import Commit, Committed, Counted
from hogpour.net.wire.held import Held, HeldPush
from hogpour.net.wire.push import Outcome, Push, Pushed
from hogpour.net.wire.status import Fence
from hogpour.server import shard as module
from hogpour.server.server import ParameterServer
from hogpour.server.turns import MAX_TURNS


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


@pytest.fixture
async def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    kernels = Kernels()
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", kernels.run_in_executor, raising=False)
    return kernels


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


# -- a shard that moves


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


# -- the dead


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
