"""The sparse form of vectors: what is read is what was written, to the bit, and nothing else is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.net import sparse_form

places = st.lists(st.integers(0, 70_000), max_size=60, unique=True)


@given(places, st.integers(70_001, 80_000), st.integers(0, 99))
def test_a_gradient_is_read_as_it_was_written(where: list[int], size: int, seed: int) -> None:
    vector = np.zeros(size, np.float32)
    vector[where] = np.random.default_rng(seed).normal(size=len(where))
    if where:
        vector[where[0]] = [np.nan, -0.0, np.inf, 1e-45][seed % 4]
    form = sparse_form.nonzeros(vector)
    assert form is not None
    n_entries, payload = form
    assert n_entries == len(where)
    out = np.zeros(size, np.float32)
    assert sparse_form.read(payload, n_entries, out) == ""
    assert out.tobytes() == vector.tobytes()
    assert payload.nbytes <= 4 * n_entries + 3 * n_entries  # gaps below 2^21


def test_neighbours_take_five_bytes_each() -> None:
    vector = np.zeros(1000, np.float32)
    vector[100:200] = 1
    form = sparse_form.nonzeros(vector)
    assert form is not None
    assert form[1].nbytes == 5 * 100
    assert bytes(form[1][400:]) == bytes([100] + [0] * 99)


def test_what_would_not_be_shorter_has_no_form() -> None:
    assert sparse_form.nonzeros(np.ones(100, np.float32)) is None
    half = np.zeros(100, np.float32)
    half[:50] = 1
    assert sparse_form.nonzeros(half) is not None


def test_changes_are_those_above_a_clock() -> None:
    params = np.arange(100, dtype=np.float32)
    changed = np.zeros(100, np.int32)
    changed[[3, 50, 99]] = [7, 8, 9]
    out = np.full(100, -1, np.float32)
    form = sparse_form.changes(params, changed, 7)
    assert form is not None
    assert sparse_form.read(form[1], form[0], out) == ""
    assert np.flatnonzero(out != -1).tolist() == [50, 99]
    nothing = sparse_form.changes(params, changed, 9)
    assert nothing is not None
    assert (nothing[0], nothing[1].nbytes) == (0, 0)
    assert sparse_form.read(nothing[1], 0, out) == ""


@pytest.mark.parametrize(
    ("n", "gaps", "text"),
    [
        (1, [], "4 bytes are no 1 elements"),
        (0, [1], "1 bytes are no 0 elements"),
        (2, [1] * 11, "19 bytes are no 2 elements"),
        (1, [100], "element 0 of 1 does not end within 100, or more follows"),
        (2, [98, 1], "element 1 of 2 does not end within 100, or more follows"),
        (1, [128], "element 0 of 1 does not end within 100, or more follows"),
        (2, [1, 1, 1], "element 2 of 2 does not end within 100, or more follows"),
        (1, [255, 255, 255, 255, 15], "element 0 of 1 does not end within 100, or more follows"),
        (2, [128, 128, 128, 128, 128, 0], "element 0 of 2 does not end within 100, or more follows"),
    ],
)
def test_what_does_not_fit_is_refused(n: int, gaps: list[int], text: str) -> None:
    payload = memoryview(np.ones(n, np.float32).tobytes() + bytes(gaps))
    assert sparse_form.read(payload, n, np.zeros(100, np.float32)) == text


@given(st.binary(max_size=60), st.integers(0, 12))
def test_no_bytes_write_beyond_the_vector(payload: bytes, n: int) -> None:
    memory = np.zeros(300, np.float32)
    sparse_form.read(memoryview(payload), n, memory[100:200])
    assert not memory[:100].any()
    assert not memory[200:].any()
