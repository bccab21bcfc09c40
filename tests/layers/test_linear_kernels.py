"""Both ways forward of a linear layer: processor and batch decide which is taken, and the bits are the same."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Cell
from hogpour.layers.kernels.exponential import fma
from hogpour.layers.kernels.linear import _CHUNK, _DEEP, _STRIP, linear_forward, linear_forward_copied
from hogpour.layers.linear import TILED_BATCH, Linear

BATCH = _DEEP + 2


@njit(cache=True)
def term_by_term(w: Array, y: Array, rows: Array, count: Array, packed: Array) -> None:
    for u in range(y.shape[0]):
        for k in range(BATCH):
            total = y.dtype.type(0)
            for r in range(count[0]):
                total = fma(w[rows[r], u], packed[r, k], total)
            y[u, k] = total


@pytest.mark.parametrize("found", [0, 1, _CHUNK, 2 * _CHUNK + 3])
def test_an_output_is_the_sum_of_its_terms_in_their_order(found: int, rng: np.random.Generator) -> None:
    units = _STRIP + 5
    rows, count = np.arange(1, 2 * found + 3, 2), np.array([found])
    w, packed = (rng.normal(size=shape).astype(np.float32) for shape in ((2 * found + 4, units), (found + 1, BATCH)))
    term_by_term(w, expected := np.zeros((units, BATCH), np.float32), rows, count, packed)
    turned = np.zeros((units, BATCH), np.float32)
    for forward in (linear_forward, linear_forward_copied):
        forward.on(1)(w, y := np.full((units, BATCH), np.nan, np.float32), rows, count, packed, turned)
        assert y.tobytes() == expected.tobytes()


@pytest.mark.parametrize("units", [1, 37])
def test_a_product_by_blas_has_the_batch_last_too(units: int, rng: np.random.Generator) -> None:
    batch, w, bias, y = TILED_BATCH + 1, rng.normal(size=(9, units)), rng.normal(size=units), np.zeros((units, TILED_BATCH + 1))
    x, layer = rng.normal(size=(9, batch)), Linear(units)
    scratch = tuple(np.zeros((*shape, batch), kind or x.dtype) for shape, kind in layer.scratch((9,)).values())
    layer.forward(Cell(x, y, np.zeros_like(y), None, (w, bias), (np.zeros_like(w), np.zeros_like(bias)), scratch, rng))
    np.testing.assert_allclose(y, w.T @ x + bias[:, None], rtol=1e-12, atol=1e-12)
