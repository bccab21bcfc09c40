"""Each operation of a register tile does what its formula says; a masked one touches live lanes only."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from hogpour.layers.kernels.tile import (
    LANES,
    tile_add,
    tile_dots,
    tile_load,
    tile_outer,
    tile_rows,
    tile_store,
    tile_sum,
    tile_zeros,
)

ROWS, COLS = 3, 2
DTYPES = [np.float32, np.float64]


@njit(cache=True)
def whole_outer(x, w, y, w_step):  # type: ignore[no-untyped-def]
    acc = tile_rows(w, 1, w_step, ROWS, COLS, 0)
    acc = tile_outer(acc, x, 2, w, 3, w_step, 0)
    acc = tile_add(acc, x, 1, LANES, 0)
    tile_store(acc, y, 4, COLS * LANES + 1, 0)


@njit(cache=True)
def masked_outer(x, w, y, w_step, live):  # type: ignore[no-untyped-def]
    acc = tile_load(x, 5, 7, live, ROWS, 1, 1)
    acc = tile_outer(acc, x, 2, w, 3, w_step, live)
    acc = tile_add(acc, x, 1, 9, live)
    tile_store(acc, y, 4, LANES + 1, live)


@njit(cache=True)
def masked_dots(a, b, y, live):  # type: ignore[no-untyped-def]
    acc = tile_zeros(a, ROWS, COLS, 1)
    for k in range(0, live, LANES):
        acc = tile_dots(acc, a, k, live, b, k, live, live - k)
    tile_sum(acc, y, 1, COLS + 1)


@njit(cache=True)
def many_sums(a, y, live):  # type: ignore[no-untyped-def]
    acc = tile_dots(tile_zeros(a, 5, 5, 1), a, 0, live, a, 0, live, live)
    tile_sum(acc, y, 0, 5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_tile_adds_an_outer_product_and_its_rows(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(6 * LANES).astype(dtype), rng.standard_normal(20).astype(dtype)
    y = np.full(4 + ROWS * (COLS * LANES + 1) + 5, np.nan, dtype)
    whole_outer(x, w, y, 4)
    expected = np.full_like(y, np.nan)
    for r in range(ROWS):
        at = 4 + r * (COLS * LANES + 1)
        run = w[1 + 4 * r] + w[3 + 4 * r] * x[2 : 2 + COLS * LANES] + x[1 + r * LANES :][: COLS * LANES]
        expected[at : at + COLS * LANES] = run
    np.testing.assert_allclose(y, expected, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("live", [1, 7, LANES - 1, LANES])
def test_a_masked_tile_touches_live_lanes_only(live: int, dtype: type) -> None:
    """x ends with the last live lane and y keeps its NaN everywhere else."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(5 + 14 + live).astype(dtype), rng.standard_normal(20).astype(dtype)
    y = np.full(4 + ROWS * (LANES + 1), np.nan, dtype)
    masked_outer(x, w, y, 5, live)
    expected = np.full_like(y, np.nan)
    for r in range(ROWS):
        at = 4 + r * (LANES + 1)
        expected[at : at + live] = x[5 + 7 * r :][:live] + w[3 + 5 * r] * x[2 : 2 + live] + x[1 + 9 * r :][:live]
    np.testing.assert_allclose(y, expected, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 40])
def test_dot_products_of_any_length_are_summed_over_their_lanes(n: int, dtype: type) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((ROWS, n)).astype(dtype), rng.standard_normal((COLS, n)).astype(dtype)
    y = np.full(1 + ROWS * (COLS + 1) + 1, np.nan, dtype)
    masked_dots(a.reshape(-1), b.reshape(-1), y, n)
    got = y[1 : 1 + ROWS * (COLS + 1)].reshape(ROWS, COLS + 1)
    np.testing.assert_allclose(got[:, :COLS], a @ b.T, rtol=0, atol=100 * np.finfo(dtype).eps)
    assert np.isnan(got[:, COLS]).all()
    assert np.isnan(y[[0, -1]]).all()


def test_more_sums_than_lanes_keep_their_order() -> None:
    """25 sums of whole numbers, exact: the tree of sums spans two vectors, and one row of y both."""
    a = np.random.default_rng(3).integers(-9, 9, (5, LANES)).astype(np.float64)
    y = np.full((5, 5), np.nan)
    many_sums(a.reshape(-1), y.reshape(-1), LANES)
    np.testing.assert_array_equal(y, a @ a.T)
