from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.data.blocks import Blocks, example_order, generator

blocks = st.builds(
    Blocks, n=st.integers(1, 3000), batch=st.integers(1, 200), replicas=st.integers(1, 9), epochs=st.integers(1, 3)
)
seeds = st.integers(0, 2**64)


@given(blocks, seeds)
def test_each_epoch_covers_each_example_exactly_once(blocks: Blocks, seed: int) -> None:
    counts = np.zeros((blocks.epochs, blocks.n), np.int64)
    orders = [blocks.epoch_order(seed, epoch) for epoch in range(blocks.epochs)]
    out = np.full(blocks.block_size, -1, np.int64)
    for ticket in range(blocks.total):
        epoch, _ = blocks.place(ticket)
        start, stop = blocks.range(ticket, orders[epoch])
        counts[epoch, example_order(seed, epoch, start, stop, out)] += 1
    assert (counts == 1).all()


@given(blocks)
def test_blocks_are_whole_batches_and_only_the_last_is_short(blocks: Blocks) -> None:
    assert blocks.block_size % blocks.batch == 0
    assert max(1024, blocks.batch) >= blocks.block_size
    in_place = np.arange(blocks.n_blocks)
    sizes = [stop - start for start, stop in (blocks.range(t, in_place) for t in range(blocks.n_blocks))]
    assert [blocks.block_size] * (blocks.n_blocks - 1) == sizes[:-1]
    assert 0 < sizes[-1] <= blocks.block_size


@given(blocks)
def test_tickets_of_an_epoch_follow_one_another(blocks: Blocks) -> None:
    assert blocks.total == blocks.epochs * blocks.n_blocks
    places = [blocks.place(ticket) for ticket in range(blocks.total)]
    assert [(e, r) for e in range(blocks.epochs) for r in range(blocks.n_blocks)] == places


@pytest.mark.parametrize(
    ("n", "batch", "replicas", "block_size", "n_blocks"),
    [(60000, 32, 2, 1024, 59), (1437, 32, 2, 64, 23), (1437, 32, 64, 32, 45), (10, 32, 2, 32, 1),
     (8192, 4096, 1, 4096, 2), (1024, 1, 1, 128, 8)],
)  # fmt: skip
def test_block_size_is_bounded_by_the_cursor_and_by_the_replicas(
    n: int, batch: int, replicas: int, block_size: int, n_blocks: int
) -> None:
    blocks = Blocks(n, batch, replicas, 1)
    assert (block_size, n_blocks) == (blocks.block_size, blocks.n_blocks)


@given(seeds, st.integers(0, 5), st.integers(0, 5))
def test_orders_are_deterministic(seed: int, epoch: int, block: int) -> None:
    blocks = Blocks(5000, 10, 2, 6)
    assert blocks.epoch_order(seed, epoch).tolist() == blocks.epoch_order(seed, epoch).tolist()
    first, second = np.zeros(40, np.int64), np.zeros(40, np.int64)
    example_order(seed, epoch, block, block + 40, first)
    example_order(seed, epoch, block, block + 40, second)
    assert first.tolist() == second.tolist()


@given(seeds, st.tuples(*[st.integers(0, 2)] * 3), st.tuples(*[st.integers(0, 2)] * 3))
def test_another_seed_epoch_or_block_gives_another_order(seed: int, one: tuple, other: tuple) -> None:
    first, second = np.zeros(100, np.int64), np.zeros(100, np.int64)
    one_block = example_order(seed + one[0], one[1], one[2], one[2] + 100, first) - one[2]
    other_block = example_order(seed + other[0], other[1], other[2], other[2] + 100, second) - other[2]
    assert (one == other) == (one_block.tolist() == other_block.tolist())


def test_each_epoch_has_an_order_of_its_own() -> None:
    blocks = Blocks(60000, 8, 2, 3)
    orders = [blocks.epoch_order(0, epoch).tolist() for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[0] != blocks.epoch_order(1, 0).tolist()


def test_example_order_leaves_the_rest_of_out_alone() -> None:
    out = np.full(10, -1, np.int64)
    order = example_order(0, 0, 100, 104, out)
    assert sorted(order.tolist()) == [100, 101, 102, 103]
    assert np.shares_memory(order, out)
    assert out[4:].tolist() == [-1] * 6


def test_example_order_refuses_an_out_that_is_too_short() -> None:
    with pytest.raises(AssertionError, match="example order: got room for 3 examples, expected 4"):
        example_order(0, 0, 0, 4, np.zeros(3, np.int64))


@pytest.mark.parametrize(("field", "low"), [("n", 1), ("batch", 1), ("replicas", 1), ("epochs", 0)])
def test_blocks_refuse_numbers_below_their_range(field: str, low: int) -> None:
    with pytest.raises(AssertionError, match=f"blocks: got {field} = {low - 1}, expected at least {low}"):
        Blocks(**({"n": 1, "batch": 1, "replicas": 1, "epochs": 1} | {field: low - 1}))


def test_streams_whose_keys_differ_by_a_trailing_zero_differ() -> None:
    assert generator(0, 1, 2).integers(1 << 62) != generator(0, 1, 2, 0).integers(1 << 62)
