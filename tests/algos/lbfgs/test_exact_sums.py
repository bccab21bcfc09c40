"""Sums that are exact: against rational arithmetic, and the same however vectors are cut."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference_lbfgs import dot

from hogpour.algos.lbfgs.exact_sums import (
    WORDS,
    add_rounded,
    combine,
    exact_dot,
    exact_magnitude,
    largest,
    settle_sums,
    value_of,
)

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def dotted(a: np.ndarray, b: np.ndarray, cuts: tuple[int, ...] = ()) -> list[int]:
    """The words of a · b, of vectors that are cut at these lines."""
    total = np.zeros(WORDS, np.int64)
    bounds = [0, *(16 * cut for cut in cuts), a.size]
    for start, stop in pairwise(bounds):
        words = np.zeros(WORDS, np.int64)
        exact_dot(a[start:stop], b[start:stop], words)
        total += words
    return total.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=48, max_size=48))
def test_a_dot_is_the_exact_sum_of_its_lines_rounded_once(pairs: list[tuple[float, float]]) -> None:
    a, b = (np.array(column, np.float32) for column in zip(*pairs))
    assert value_of(dotted(a, b)) == dot(a, b)
    assert value_of(dotted(a, b, (1, 2))) == value_of(dotted(a, b))


def test_what_a_sum_in_floats_would_lose_is_there() -> None:
    a = np.zeros(48, np.float32)
    a[0], a[16], a[32] = 1e19, 1e-19, -1e19
    b = np.array([1e19] * 16 + [1e-19] * 16 + [1e19] * 16, np.float32)
    assert value_of(dotted(a, b)) == float(Fraction(float(a[16])) * Fraction(float(b[16])))


def test_the_least_and_the_largest_products_have_room() -> None:
    tiny, huge = np.float32(1e-45), np.float32(3.4e38)
    for number in (tiny, huge, -huge):
        a = np.full(32, number, np.float32)
        assert value_of(dotted(a, np.abs(a))) == 32 * float(number) * abs(float(number))


def test_what_is_not_finite_makes_a_sum_so() -> None:
    a = np.array([np.inf] + [1.0] * 31, np.float32)
    assert math.isnan(value_of(dotted(a, np.ones(32, np.float32))))
    assert value_of(dotted(np.zeros(0, np.float32), np.zeros(0, np.float32))) == 0


def test_a_combination_is_rounded_once_and_may_be_one_of_its_vectors() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 40_000)).astype(np.float32)
    expected = (2.0 * a.astype(np.float64) - 0.1 * b.astype(np.float64) + 3.0 * c.astype(np.float64)).astype(np.float32)
    combine(b, [(2.0, a), (-0.1, b), (3.0, c)])
    assert b.tobytes() == expected.tobytes()


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)))
def test_gradients_may_be_added_in_any_order(order: list[int]) -> None:
    rng = np.random.default_rng(3)
    addends = (rng.standard_normal((12, 16)) * 10.0 ** rng.integers(-6, 1, (12, 1))).astype(np.float32)
    grid = 2.0**-50
    sums = [np.zeros(16, np.int64), np.zeros(16, np.int64)]
    for total, indices in zip(sums, (range(12), order), strict=True):
        for index in indices:
            add_rounded(total, addends[index], 1 / grid)
    assert sums[0].tolist() == sums[1].tolist()
    out, params = np.empty(16, np.float32), rng.standard_normal(16).astype(np.float32)
    settle_sums(out, sums[0], grid, 0.5, params)
    exact = [float(sum(Fraction(float(x)) for x in addends[:, k])) + 0.5 * float(params[k]) for k in range(16)]
    assert out == pytest.approx(exact, rel=1e-6)


def test_the_largest_magnitude() -> None:
    assert largest(np.array([1, -3, 2], np.float32)) == 3
    assert largest(np.zeros(0, np.float32)) == 0
    assert largest(np.array([1, np.nan], np.float32)) == math.inf
    assert largest(np.array([-np.inf, 1], np.float32)) == math.inf


@settings(max_examples=30, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_magnitudes_are_summed_exactly(values: list[float]) -> None:
    words = np.zeros(WORDS, np.int64)
    exact_magnitude(np.array(values, np.float32), words)
    assert value_of(words.tolist()) == math.fsum(map(abs, values))
