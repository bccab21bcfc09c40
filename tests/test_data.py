from __future__ import annotations

import numpy as np

from hogpour.data import load


def test_digits_have_a_stratified_test_part_that_no_seed_changes() -> None:
    first, second = load("digits"), load("digits", seed=1)
    assert first.test is not None
    assert second.test is not None
    assert (first.train.n, first.test.n) == (1438, 359)
    assert np.bincount(first.test.y).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert np.array_equal(first.test.x, second.test.x)
    assert not np.array_equal(first.train.y, second.train.y)
