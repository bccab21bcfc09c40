"""Segments: where arrays lie, and that nothing has a name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core.errors import ResourceError
from hogpour.shm.layout import LINE_BYTES, Layout
from hogpour.shm.segment import Segment, anonymous_file

arrays = st.lists(
    st.tuples(st.sampled_from(["float32", "int64", "uint8"]), st.lists(st.integers(0, 9), min_size=1, max_size=3)),
    max_size=5,
)


@given(arrays)
def test_arrays_begin_at_cache_lines_and_do_not_overlap(kinds: list[tuple[str, list[int]]]) -> None:
    layout = Layout.pack((str(k), tuple(shape), dtype) for k, (dtype, shape) in enumerate(kinds))
    buffer = bytearray(layout.size)
    views = layout.views(buffer)
    for k, (dtype, shape) in enumerate(kinds):
        assert layout.fields[k].offset % LINE_BYTES == 0
        assert views[str(k)].shape == tuple(shape)
        views[str(k)].view(np.uint8)[...] = k + 1
        assert views[str(k)].dtype == dtype
    for k in range(len(kinds)):
        assert (views[str(k)].view(np.uint8) == k + 1).all()


def test_two_arrays_of_one_name_are_refused() -> None:
    with pytest.raises(AssertionError, match="unique"):
        Layout.pack([("a", (1,), "int64"), ("a", (2,), "int64")])


def test_two_maps_of_a_segment_are_one_memory() -> None:
    layout = Layout.pack([("a", (3,), "float32")])
    mine = Segment.create(layout, "a test")
    other = Segment.attach(os.dup(mine.fd), layout)
    mine.arrays["a"][...] = [1, 2, 3]
    assert other.arrays["a"].tolist() == [1, 2, 3]
    mine.close()
    assert other.arrays["a"].tolist() == [1, 2, 3]
    other.close()


def test_a_segment_has_no_name() -> None:
    before = set(os.listdir("/dev/shm"))
    segment = Segment.create(Layout.pack([("a", (1000,), "int64")]), "a test")
    assert set(os.listdir("/dev/shm")) == before
    segment.close()


def test_a_view_keeps_the_memory_when_the_segment_is_closed() -> None:
    segment = Segment.create(Layout.pack([("a", (2,), "int64")]), "a test")
    view = segment.arrays["a"]
    view[1] = 5
    segment.close()
    assert view.tolist() == [0, 5]


def test_memory_that_the_machine_does_not_have_is_refused_at_once() -> None:
    layout = Layout.pack([("a", (1 << 50,), "float32")])
    with pytest.raises(ResourceError, match=r"^shared memory: the live vector needs 4503599\.627 GB, .* GB are available; use less"):
        Segment.create(layout, "the live vector")


@pytest.mark.parametrize(("error", "advice"), [(errno.ENOSPC, "use less data"), (errno.EFBIG, r"raise the limit of file sizes \(ulimit -f\)")])
def test_memory_that_a_limit_withholds_is_refused_at_once(error: int, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a limit of file sizes it said to use less data."""

    def no_space(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(ResourceError, match=rf"^shared memory: the data needs 0\.000 GB, which this machine does not give \(.*\); {advice}"):
        Segment.create(Layout.pack([("a", (1,), "float32")]), "the data")


def test_memory_is_reserved_when_the_segment_is_made() -> None:
    segment = Segment.create(Layout.pack([("a", (1 << 20,), "uint8")]), "a test")
    assert os.fstat(segment.fd).st_blocks * 512 >= 1 << 20
    segment.close()


def test_without_memfd_an_unlinked_file_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    segment = Segment.create(Layout.pack([("a", (4,), "int64")]), "a test", anonymous_file())
    segment.arrays["a"][...] = 3
    assert os.listdir(tmp_path) == []
    segment.close()
