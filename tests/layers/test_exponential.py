"""The exponential of our own kernels: within one unit in the last place, and right at both ends."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.kernels.exponential import LEAST, MOST, exp


@njit()
def exps(x: Array, y: Array) -> None:
    for k in range(x.size):
        y[k] = exp(x[k])


def of(x: Array) -> Array:
    exps(x, y := np.empty_like(x))
    return y


def test_it_is_within_one_unit_in_the_last_place_in_every_binade() -> None:
    wide = np.geomspace(1e-40, 80, 100_000)
    x = np.concatenate([np.linspace(LEAST, MOST, 400_000), wide, -wide]).astype(np.float32)
    expected = np.exp(x.astype(np.float64))
    off = np.abs(of(x) - expected) / np.spacing(expected.astype(np.float32))
    assert off.max() < 1


def test_beyond_its_range_it_is_nothing_or_infinite() -> None:
    least, most = np.nextafter(LEAST, np.float32(-200)), np.nextafter(MOST, np.float32(200))
    x = np.array([-np.inf, -1e30, least, LEAST, 0, -0.0, MOST, most, 1e30, np.inf], np.float32)
    found = of(x)
    assert found[[0, 1, 2]].tolist() == [0, 0, 0]
    assert found[3] >= np.finfo(np.float32).tiny
    assert found[[4, 5]].tolist() == [1, 1]
    assert np.isfinite(found[6])
    assert np.isinf(found[7:]).all()
    assert np.isnan(of(np.array([np.nan], np.float32))).all()


def test_of_doubles_it_is_the_c_librarys() -> None:
    x = np.linspace(-700, 700, 1001)
    np.testing.assert_allclose(of(x), np.exp(x), rtol=1e-15)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 33])
def test_the_rest_of_a_vector_has_the_same_bits(n: int) -> None:
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    assert of(x[:n].copy()).tobytes() == of(x)[:n].tobytes()
