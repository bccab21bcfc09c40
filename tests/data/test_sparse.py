"""Sparse examples from a table to what a network takes: renumbered by frequency, scaled, and in an order of pieces."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

import hogpour as hp
from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError, DataError, LayoutError
from hogpour.data.blocks import Blocks, piece
from hogpour.data.dataset import Encoding
from hogpour.data.kernels.order import order_by_pieces
from hogpour.data.load import encoded, load
from hogpour.data.sparse import by_frequency, encoded_rows, fit_scaling


def rows_of(x: list[list[float]]) -> Csr:
    return Csr.from_dense(np.array(x, float))


def test_rows_keep_their_order_under_other_numbers() -> None:
    """The second field of an example stays the second one, although its feature has a lower number than the first's."""
    rows = rows_of([[0, 2, 0, 4], [1, 0, 0, 5], [0, 3, 0, 6]])
    got = encoded_rows("a file", rows, fit_scaling("a file", "none", rows), by_frequency(rows))
    assert got.indices.tolist() == [1, 0, 2, 0, 1, 0]
    assert got.values.tolist() == [2, 4, 1, 5, 3, 6]


def test_the_most_frequent_feature_comes_first_and_of_equals_the_lower() -> None:
    rows = rows_of([[0, 1, 1, 0, 0, 3], [0, 1, 0, 0, 2, 0], [0, 1, 3, 0, 0, 0]])
    assert by_frequency(rows).tolist() == [1, 2, 4, 5, 0, 3]


def test_values_that_are_all_1_are_left_out() -> None:
    rows = rows_of([[0, 2, 0], [2, 0, 0]])
    scaling = fit_scaling("a file", "unit", rows)
    got = encoded_rows("a file", rows, scaling, by_frequency(rows))
    assert got.values.size == 0
    assert got.toarray().tolist() == [[0, 1, 0], [1, 0, 0]]
    assert encoded_rows("a file", rows, fit_scaling("a file", "none", rows), by_frequency(rows)).values.tolist() == [2, 2]


def test_what_would_make_zeros_another_number_is_refused() -> None:
    rows = rows_of([[0, 2, 0], [-2, 0, 0]])
    with pytest.raises(ConfigError, match='"standard" moves zeros to another value'):
        fit_scaling("a file", "standard", rows)
    with pytest.raises(ConfigError, match=r'"unit" moves zeros .* as feature 0, counted from 0, has \(-2\)'):
        fit_scaling("a file", "unit", rows)


def test_scaling_to_infinity_is_refused() -> None:
    rows = rows_of([[1e-30, 0], [0, 1]])
    scaling = fit_scaling("a file", "unit", rows)
    with pytest.raises(DataError, match="so far from those of the training set"):
        encoded_rows("a file", rows_of([[1e20, 0]]), scaling, by_frequency(rows))


def test_a_sparse_matrix_stays_sparse_and_an_encoding_repeats_what_was_done() -> None:
    rng = np.random.default_rng(0)
    x = np.where(rng.random((30, 6)) < [0.1, 0.9, 0.3, 0.5, 0.05, 0.0], rng.integers(1, 9, (30, 6)), 0)
    data = hp.arrays(csr_matrix(x).astype(float), np.arange(30) % 2, scale="unit", validation=0.2)
    assert isinstance(data.train.x, Csr)
    assert data.encoding.sparse
    words, tensors = data.encoding.to_dict(), data.encoding.to_tensors()
    again = Encoding.from_dict(words, tensors)
    order = data.encoding.by_frequency
    for given_x in (csr_matrix(x), x):
        got = encoded(hp.data.given.features(given_x, "x"), again, "x")
        assert isinstance(got, Csr)
        assert got.toarray() == pytest.approx((x / np.maximum(x.max(axis=0), 1))[:, order])
    assert data.train.n + data.test.n == 30
    for nothing in (csr_matrix((0, 6)), np.empty((0, 6))):
        assert encoded(hp.data.given.features(nothing, "x"), again, "x").shape == (0, 6)


@pytest.mark.parametrize(
    ("order", "n"), [(np.arange(3, dtype=np.uint32), 10**13), (np.zeros(3, np.uint32), 3), (np.arange(3), 3)]
)
def test_an_order_that_is_none_of_the_features_is_refused(order: np.ndarray, n: int) -> None:
    words = hp.arrays(csr_matrix(np.eye(4)), [0, 1, 0, 1], validation=0).encoding.to_dict() | {"shape": (n,)}
    with pytest.raises(LayoutError, match=rf"^by_frequency: .*, expected uint32 \({n},\), each feature once$"):
        Encoding.from_dict(words, {"by_frequency": order})


def test_svmlight_and_dense_files_become_sparse_where_that_is_asked(tmp_path) -> None:
    (tmp_path / "a.svm").write_text("1 2:3 7:1\n-1 2:1\n1 1:0.5 2:1\n")
    data = load("a.svm", validation=0, sparse=True, base=tmp_path)
    assert isinstance(data.train.x, Csr)
    assert data.train.shape == (7,)
    assert data.encoding.by_frequency.tolist()[:3] == [1, 0, 6]
    digits = load("digits", sparse=True)
    assert digits.train.shape == (64,)
    dense = load("digits")
    back = np.empty((digits.train.n, 64), np.float32)
    back[:, digits.encoding.by_frequency] = digits.train.x.toarray(np.float32)
    assert (back == dense.train.x.reshape(-1, 64)).all()


@given(st.integers(0, 2**62), st.integers(0, 9), st.integers(0, 50), st.integers(1, 60), st.integers(1, 20))
def test_an_order_by_pieces_is_one_of_all_and_keeps_neighbours_together(
    seed: int, epoch: int, start: int, n: int, size: int
) -> None:
    out = np.full(n, -1)
    order_by_pieces(seed, epoch, start, start + n, size, out)
    assert sorted(out.tolist()) == list(range(start, start + n))
    pieces = (out - start) // size
    changes = sum(a != b for a, b in pairwise(pieces.tolist()))
    assert changes == -(-n // size) - 1
    again = np.empty_like(out)
    order_by_pieces(seed, epoch, start, start + n, size, again)
    assert (again == out).all()


def test_orders_differ_by_seed_by_epoch_and_by_block_and_are_even() -> None:
    orders = []
    for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 100)):
        out = np.empty(100, np.int64)
        order_by_pieces(*key, key[2] + 100, 7, out)
        orders.append(tuple(out - key[2]))
    assert len(set(orders)) == 4
    places = np.zeros((5, 5))
    for seed in range(3000):
        out = np.empty(5, np.int64)
        order_by_pieces(seed, 0, 0, 5, 5, out)
        places[np.arange(5), out] += 1
    assert abs(places - 600).max() < 100  # 4.5 deviations


def test_blocks_of_sparse_examples_are_long_whatever_the_epochs() -> None:
    x = Csr(np.arange(0, 140_001, 14), np.zeros(140_000, np.uint32), np.empty(0, np.float32), 123)
    assert piece(x) == 1428
    assert piece(np.zeros((3, 2), np.float32)) == 0
    assert Blocks(10_000, 1, 2, 1, piece=1428).block_size == 2500
    assert Blocks(10_000_000, 1, 2, 5, piece=146).block_size == 7300
    assert Blocks(10_000, 32, 2, 1, piece=1428).block_size == Blocks(10_000, 32, 2, 1).block_size
    sizes = {Blocks(10_000, 1, 1, epochs, piece=1428).block_size for epochs in range(1, 30)}
    assert len(sizes) == 1, "a run that is resumed for more epochs has other blocks"
    blocks = Blocks(1000, 1, 2, 3, piece=100)
    order = blocks.example_order(5, 1, 0, 300, np.empty(400, np.int64))
    assert sorted(order.tolist()) == list(range(300))


def test_blocks_of_sparse_examples_come_in_an_order_of_each_epoch_unlike_that_of_examples() -> None:
    blocks = Blocks(3200, 1, 8, 1, piece=10)
    orders = [blocks.epoch_order(seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(blocks.n_blocks)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert blocks.epoch_order(0, 0).tolist() == orders[0]
    examples = np.empty(blocks.n_blocks, np.int64)
    order_by_pieces(0, 0, 0, blocks.n_blocks, blocks.n_blocks, examples)
    assert examples.tolist() != orders[0]
    first = np.zeros(16, np.int64)
    for seed in range(1600):
        first[blocks.epoch_order(seed, 0)[0]] += 1
    assert blocks.n_blocks == 16
    assert Blocks(1, 1, 1, 8, piece=100).epoch_order(0, 0).tolist() == [0]
    assert abs(first - 100).max() < 45  # 4.5 deviations
