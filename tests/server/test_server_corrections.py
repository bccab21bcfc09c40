"""The parameter server with a correction: what is amended by what, what is counted, and what goes with its node."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.server import Kernels, fetched, now, ones, push, sent, served, settle, soon

import hogpour as hp
from hogpour.core.node_id import first_node
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.status import Fence
from hogpour.server import shard as shard_file
from hogpour.server.server import ParameterServer

RATE = hp.Sgd(0.5)


def compensated(**options: object) -> ParameterServer:
    return served(RATE, correction=hp.DelayCompensation(0.25), **options)


def fetch(server: ParameterServer, node: int, shard: int = 0) -> None:
    sent(now(server, Fetch(shard, node)))


def test_a_late_gradient_is_amended_by_what_its_node_had_fetched() -> None:
    server = compensated()
    fetch(server, 1)
    fetch(server, 2)
    now(server, push(1, node=1), ones(2))  # on time: w = -1
    assert fetched(server)[1] == [-1.0]
    now(server, push(1, node=2), ones(2))  # g + λ g² (w - w_bak) = 2 + 0.25·4·(-1) = 1
    assert fetched(server)[1] == [-1.5]
    assert (server.table.states()[0].amended, server.table.states()[0].staleness) == (1, (1, 1))


def test_the_fetch_that_a_push_names_counts_and_not_the_newest_one() -> None:
    server = compensated()
    fetch(server, 2)
    now(server, push(1, node=1), ones(2))
    fetch(server, 2)  # for another replica of that node
    now(server, push(1, node=2, clock=0), ones(2))
    assert fetched(server)[1] == [-1.5]


def test_a_push_whose_fetch_nobody_knows_is_applied_as_it_is() -> None:
    server = compensated()
    now(server, push(1, node=1), ones(2))
    now(server, push(1, node=2, clock=0), ones(2))  # its shard came from another server, say
    assert fetched(server)[1] == [-2.0]
    assert server.table.states()[0].amended == 0


def test_a_node_that_is_fenced_leaves_nothing_and_can_bring_nothing_back() -> None:
    server = compensated()
    fetch(server, 2)
    origins = server.table._shards[0].history
    assert origins is not None
    assert origins.params_of(2, 0) is not None
    now(server, Fence(2))
    assert origins.params_of(2, 0) is None
    fetch(server, 2)  # a reader is served, but remembered it is not
    assert origins.params_of(2, 0) is None


def test_of_a_node_of_another_run_nothing_is_kept() -> None:
    server = compensated()
    server.table.node = first_node(b"\0\0\0\7")
    fetch(server, 1)  # a member of the run before, which has not heard that it is over
    origins = server.table._shards[0].history
    assert origins is not None
    assert origins.nodes == set()
    fetch(server, server.table.node)
    assert origins.nodes == {server.table.node}


def test_beyond_the_limit_a_push_is_applied_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_file, "MOST_MEMBERS", 1)
    server = served(RATE, correction=hp.AdaptiveCompensation())
    for node in (1, 2):
        fetch(server, node)
        now(server, push(1, node=node), ones(2))
    assert fetched(server)[1] == [-2.0]
    origins = server.table._shards[0].history
    assert origins is not None
    assert origins.nodes == {1}


def test_the_rate_is_divided_by_the_staleness_before_the_optimiser_sees_it() -> None:
    server = served(RATE, correction=hp.InverseStaleness())
    for sequence in range(1, 5):
        now(server, push(sequence, clock=0), ones(2))  # staleness 0, 1, 2, 3
    assert fetched(server)[1] == [np.float32(-(1 + 1 + 1 / 2 + np.float32(1) / 3))]
    assert server.table.states()[0].amended == 2


def test_with_plain_nothing_is_remembered() -> None:
    server = served(RATE)
    fetch(server, 1)
    assert server.table._shards[0].history.limit == 0


async def test_a_kernel_on_a_thread_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels()
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", kernels.run_in_executor, raising=False)
    server = compensated(inline=False)
    for node in (1, 2):
        sent(await soon(server, Fetch(0, node)))
    for node in (1, 2):
        pushing = asyncio.ensure_future(soon(server, push(1, node=node), ones(2)))
        await settle()
        await kernels.finish()
        await pushing
    assert fetched(server) == (2, [-1.5])


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_vector_is_trained_to_the_same_bits_however_it_is_cut(shards: int, rng: np.random.Generator) -> None:
    n = 6 * 16
    start, *grads = rng.standard_normal((9, n)).astype(np.float32)
    bounds = [n // shards * k for k in range(shards + 1)]
    server = ParameterServer(RATE, hp.AdaptiveCompensation())
    for shard in range(shards):
        server.table.open(shard, start[bounds[shard] : bounds[shard + 1]].copy(), start=bounds[shard])
        for node in range(1, 5):
            fetch(server, node, shard)
    for k, grad in enumerate(grads):
        for shard in range(shards):
            part = grad[bounds[shard] : bounds[shard + 1]]
            now(server, push(1 + k // 4, shard, node=1 + k % 4, clock=0 if k < 4 else k - 3), part)
            fetch(server, 1 + k % 4, shard)
    got = np.concatenate([server.table._shards[shard].params for shard in range(shards)])
    whole = start.copy()
    _serial(whole, grads)
    assert got.tobytes() == whole.tobytes()


def _serial(w: np.ndarray, grads: list[np.ndarray]) -> None:
    """DC-ASGD-a with 4 workers in turn, a second time and without any of the machinery but its kernel."""
    from hogpour.algos.correction.adaptive_compensation import adaptive_sgd, mean_square

    real = np.float32
    backups, squares = [w.copy() for _ in range(4)], [np.zeros_like(w) for _ in range(4)]
    for k, grad in enumerate(grads):
        if k == 0:
            mean_square(grad, squares[0], real(0.95))
            RATE.apply(w, grad, (), lr_scale=1.0, t=1)
        else:
            adaptive_sgd(w, grad, backups[k % 4], squares[k % 4], real(2), real(0.95), real(1e-7), real(0.5))
        backups[k % 4] = w.copy()


