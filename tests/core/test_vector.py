"""Loops over whole vectors."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.core.kernels.vector import vector_is_finite

MOST = np.finfo(np.float32).max


@pytest.mark.parametrize("size", [0, 1, 7, 8, 33])
def test_whatever_is_not_finite_is_found_wherever_it_is(size: int) -> None:
    finite = np.resize(np.array([MOST, -MOST, 0.0, -0.0, 1e-45], np.float32), size)
    assert vector_is_finite(finite)
    for element in range(size):
        for value in (np.inf, -np.inf, np.nan, -np.nan):
            bad = finite.copy()
            bad[element] = value
            assert not vector_is_finite(bad)
