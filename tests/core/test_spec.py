"""The flat vector: offsets, views and the fingerprint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core.spec import ALIGNMENT, Spec

shapes = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6)


@given(shapes)
def test_tensors_are_aligned_and_do_not_overlap(sizes: list[tuple[int, ...]]) -> None:
    spec = Spec.pack((f"t{k}", shape) for k, shape in enumerate(sizes))
    ends = 0
    for tensor in spec.tensors:
        assert tensor.offset % ALIGNMENT == 0
        assert tensor.offset >= ends
        ends = tensor.offset + tensor.size
    assert spec.n >= ends
    assert spec.n - ends < ALIGNMENT
    assert spec.n_parameters == sum(int(np.prod(s)) for s in sizes)


def test_views_share_the_memory_of_the_flat_vector() -> None:
    spec = Spec.pack([("a", (2, 3)), ("b", (5,))])
    flat = spec.zeros()
    views = spec.views(flat)
    views["a"][1, 2] = 7
    views["b"][...] = 1
    assert flat[5] == 7
    assert flat[6:16].tolist() == [0] * 10
    assert flat[16:21].tolist() == [1] * 5
    assert views["a"].flags.c_contiguous


def test_views_of_a_vector_of_another_length_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"flat vector: got shape \(15,\), expected \(16,\)"):
        Spec.pack([("a", (2,))]).views(np.zeros(15))


@pytest.mark.parametrize("other", [[("a", (6,)), ("b", (5,))], [("a", (2, 3)), ("c", (5,))], [("a", (2, 3))]])
def test_the_fingerprint_tells_names_and_shapes_apart(other: list[tuple[str, tuple[int, ...]]]) -> None:
    spec = Spec.pack([("a", (2, 3)), ("b", (5,))])
    assert spec.fingerprint != Spec.pack(other).fingerprint
    assert spec.fingerprint == Spec.pack([("a", (2, 3)), ("b", (5,))]).fingerprint


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(AssertionError, match="unique"):
        Spec.pack([("a", (2,)), ("a", (3,))])
