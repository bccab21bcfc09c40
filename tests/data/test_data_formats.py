"""What each format reads: round trips of small files, compressed and not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hogpour.core.errors import DataError, DataWarning, ResourceError
from hogpour.data.formats import base, csv, idx, npz, svmlight
from hogpour.data.formats.base import Wanted
from hogpour.data.load import load, load_features

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
finite = st.floats(-(2.0**99), 2.0**99, width=32)
compressions = pytest.mark.parametrize("suffix", list(COMPRESS))


def idx_bytes(array: npt.NDArray[Any], kind: int = 0x08) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@given(
    arrays(
        st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_]), array_shapes(min_dims=2)
    ),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_npz_returns_what_was_saved(x: npt.NDArray[Any], fortran: bool, compressed: bool) -> None:
    file = np.asfortranarray(x) if fortran else x
    with TemporaryDirectory() as folder:
        (np.savez_compressed if compressed else np.savez)(Path(folder, "a.npz"), x=file, y=np.arange(len(x)))
        table = npz.read(Path(folder, "a.npz"), Wanted())
    assert table.x.dtype == x.dtype
    assert table.x.tobytes() == x.tobytes()
    assert table.y is not None
    assert table.y.tolist() == list(range(len(x)))


def test_npz_needs_no_y_where_none_is_needed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 1)))
    assert npz.read(tmp_path / "a.npz", Wanted(predicting=True)).y is None


@compressions
@pytest.mark.parametrize(
    ("images", "labels"),
    [("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), ("images.idx3", "labels.idx1")],
)
def test_idx_finds_the_labels_of_the_images(tmp_path: Path, suffix: str, images: str, labels: str) -> None:
    x = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    (tmp_path / (images + suffix)).write_bytes(COMPRESS[suffix](idx_bytes(x)))
    (tmp_path / (labels + suffix)).write_bytes(COMPRESS[suffix](idx_bytes(np.array([1, 0, 1, 2], np.uint8))))
    data = load(images + suffix, base=tmp_path, validation=0)
    assert data.train.shape == (3, 2)
    assert sorted(data.train.x[:, 0, 0].tolist()) == [float(np.float32(i) / np.float32(255)) for i in (0, 6, 12, 18)]
    assert sorted(data.train.y.tolist()) == [0, 1, 1, 2]


def test_idx_labels_whose_name_would_be_too_long_are_none(tmp_path: Path) -> None:
    """It was an OSError."""
    name = f"images{'x' * 243}.idx3"
    (tmp_path / name).write_bytes(idx_bytes(np.zeros((1, 1, 1), np.uint8)))
    with pytest.raises(DataError, match=r"no such file; expected the labels of images"):
        idx.read(tmp_path / name, Wanted())


def test_idx_labels_may_be_compressed_otherwise(tmp_path: Path) -> None:
    (tmp_path / "images.idx3.gz").write_bytes(gzip.compress(idx_bytes(np.zeros((1, 1, 1), np.uint8))))
    (tmp_path / "labels.idx1").write_bytes(idx_bytes(np.array([7], np.uint8)))
    table = idx.read(tmp_path / "images.idx3.gz", Wanted())
    assert table.y is not None
    assert table.y.tolist() == [7]


@pytest.mark.parametrize(
    ("kind", "dtype"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_idx_reads_every_type_and_needs_no_labels(tmp_path: Path, kind: int, dtype: str) -> None:
    x = np.arange(6).reshape(2, 3).astype(dtype)
    (tmp_path / "images.idx2").write_bytes(idx_bytes(x, kind))
    table = idx.read(tmp_path / "images.idx2", Wanted(predicting=True))
    assert table.y is None
    assert table.x.tolist() == x.tolist()


@st.composite
def sparse(draw: st.DrawFn) -> tuple[list[int], npt.NDArray[np.float32]]:
    x = draw(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=finite))
    # A column without a value does not exist in the file; the first decides whether indices begin at 0 or 1.
    x[0, [0, -1]] = 1
    return draw(st.lists(st.integers(-5, 5), min_size=len(x), max_size=len(x))), x


@given(sparse(), st.sampled_from(list(COMPRESS)), st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_svmlight_returns_the_rows_that_were_written(
    rows: tuple[list[int], npt.NDArray[np.float32]], suffix: str, first: int
) -> None:
    y, x = rows
    text = "# a comment\n"
    for label, row in zip(y, x):
        text += f"{label} " + " ".join(f"{i + first}:{v!r}" for i, v in enumerate(row.tolist()) if v) + " # end\n"
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.svm" + suffix)
        path.write_bytes(COMPRESS[suffix](text.encode()))
        table = svmlight.read(path, Wanted())
    assert table.x.toarray().tolist() == x.tolist()  # type: ignore[union-attr]
    assert table.y is not None
    assert table.y.tolist() == y
    assert table.first_index == first


def test_svmlight_test_rows_are_read_like_the_training_rows(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("-1 1:1 3:0.5\n+1 2:2\n")
    (tmp_path / "a.t").write_text("+1 2:4\n")
    data = load("a", "a.t", format="svmlight", base=tmp_path)
    assert data.test is not None
    assert data.train.label_names == ("-1", "1")
    assert data.test.x.tolist() == [[0.0, 4.0, 0.0]]
    assert data.test.y.tolist() == [1]
    features = load_features("a.t", data.encoding, format="svmlight", base=tmp_path)
    assert features.x.tolist() == [[0.0, 4.0, 0.0]]


def test_svmlight_rows_whose_labels_are_unknown_all_alike_have_none(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("-1 1:1 3:0.5\n+1 2:2\n")
    (tmp_path / "b.svm").write_text("0 2:4\n0 1:1\n")
    encoding = load("a.svm", base=tmp_path, validation=0).encoding
    features = load_features("b.svm", encoding, base=tmp_path)
    assert features.y is None
    assert features.x.tolist() == [[0.0, 4.0, 0.0], [1.0, 0.0, 0.0]]
    assert features.no_y == f"{tmp_path}/b.svm: line 1: the label 0 is not known to the model; known: -1, 1"


def test_svmlight_indices_from_0_hold_for_the_test_file_too(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("1 0:1 1:5\n0 1:1\n")
    (tmp_path / "b.svm").write_text("1 1:7\n")
    data = load("a.svm", "b.svm", base=tmp_path)
    assert data.test is not None
    assert data.test.x.tolist() == [[0.0, 7.0]]


def test_svmlight_takes_a_number_of_features(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("1 1:1\n0\n")
    assert load("a.svm", base=tmp_path, n_features=4, validation=0).train.shape == (4,)


def test_svmlight_labels_and_values_are_not_rounded(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("16777217 1:16777217\n16777218 1:16777218\n")
    table = svmlight.read(tmp_path / "a.svm", Wanted())
    assert table.y is not None
    assert table.y.tolist() == [16777217, 16777218] == table.x.toarray()[:, 0].tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize(("first", "columns"), [(0, [0.0, 3.0]), (1, [3.0, 0.0]), (None, [3.0, 0.0])])
def test_svmlight_takes_the_index_of_the_first_feature(tmp_path: Path, first: int | None, columns: list[float]) -> None:
    """A file whose indices begin at 0 need not have an index 0 in its training part."""
    (tmp_path / "a.svm").write_text("1 1:3\n0 1:3\n")
    (tmp_path / "b.svm").write_text("1 1:3\n")
    data = load("a.svm", "b.svm", base=tmp_path, n_features=2, first_index=first)
    assert data.test is not None
    assert data.test.x.tolist() == [columns]
    assert data.encoding.first_index == (1 if first is None else first)


def test_svmlight_features_that_a_model_does_not_know_are_left_out_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("1 1:1 3:2\n0 1:1\n1 2:1\n")
    (tmp_path / "b.svm").write_text("# new\n1 1:5 9:1\n\n0 3:7\n0 4:1 7:1 9:1\n")
    encoding = load("a.svm", base=tmp_path, validation=0).encoding
    with pytest.warns(DataWarning) as warned:
        features = load_features("b.svm", encoding, base=tmp_path)
    (warning,) = warned
    assert str(warning.message) == (
        f"{tmp_path}/b.svm: features that the model does not know are left out: 3, such as index 9 (line 2)"
    )
    assert features.x.tolist() == [[5.0, 0.0, 0.0], [0.0, 0.0, 7.0], [0.0, 0.0, 0.0]]
    assert features.y is not None
    assert features.y.tolist() == [1, 0, 0]


def test_svmlight_that_would_become_much_larger_than_its_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 rows of indices 1 and 2 and a mistyped one took 3.9 GB without a word."""
    monkeypatch.setattr(base, "_LARGE", 1e6)
    (tmp_path / "a.svm").write_text("0 1:1 2:1\n" * 20 + "1 20000:1\n")
    with pytest.raises(DataError) as refused:
        load("a.svm", base=tmp_path, validation=0)
    assert str(refused.value) == (
        f"{tmp_path}/a.svm: 0.00021 MB would become 0.0 GB of float32 values, as the highest feature index is 20000 "
        '(line 21); begin the model with a layer that takes sparse examples, such as "sparse_linear", or say that they '
        "are meant: data.n_features = 20000"
    )
    assert load("a.svm", base=tmp_path, validation=0, sparse=True).train.shape == (20000,)
    load("a.svm", base=tmp_path, validation=0, n_features=20000)
    (tmp_path / "b.svm").write_text("".join(f"{k % 2} {k + 1}:1\n" for k in range(400)))
    load("b.svm", base=tmp_path, validation=0)


def test_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogpour.core.host.available_memory", lambda: 7)
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 1)), y=[0, 1, 0])
    with pytest.raises(ResourceError, match=r"need 0\.0 GB of memory, 0\.0 GB are available"):
        load("a.npz", base=tmp_path)


def test_npy_holds_what_is_to_be_predicted(tmp_path: Path) -> None:
    x = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    np.savez(tmp_path / "a.npz", x=x, y=[0, 1, 0])
    np.save(tmp_path / "b.npy", x)
    encoding = load("a.npz", base=tmp_path).encoding
    (tmp_path / "b.npy.gz").write_bytes(gzip.compress((tmp_path / "b.npy").read_bytes()))
    for name in ("b.npy", "b.npy.gz"):
        features = load_features(name, encoding, base=tmp_path)
        assert features.x.tolist() == x.tolist()
        assert (features.y, features.no_y) == (None, "")
    with pytest.raises(DataError, match=r"b\.npy: holds x alone, expected x and y: numpy\.savez"):
        load("b.npy", base=tmp_path)
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-8])
    with pytest.raises(DataError, match=r"header of x says shape \(3, 2\) float64, 48 bytes, the file holds 40$"):
        load_features("b.npy", encoding, base=tmp_path)


def test_npz_of_keras_has_two_parts(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.uint8).reshape(6, 2)
    np.savez(tmp_path / "a.npz", x_train=x[:4], y_train=[0, 1, 0, 1], x_test=x[4:], y_test=[1, 0])
    data = load("a.npz", "a.npz", base=tmp_path)
    assert data.test is not None
    assert (data.train.n, data.test.y.tolist()) == (4, [1, 0])
    assert np.array_equal(load_features("a.npz", data.encoding, base=tmp_path).x, data.test.x)


@given(
    arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=finite),
    st.sampled_from(list(COMPRESS)),
    st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=40, deadline=None)
def test_csv_returns_the_numbers_that_were_written(x: npt.NDArray[np.float32], suffix: str, end: str) -> None:
    names = [f"f{i}" for i in range(x.shape[1])]
    lines = [",".join([*names, "answer"])] + [",".join([*map(repr, row), "0.5"]) for row in x.tolist()]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.csv" + suffix)
        path.write_bytes(COMPRESS[suffix]((end.join(lines) + end).encode()))
        table = csv.read(path, Wanted())
    assert table.x.tolist() == x.tolist()
    assert table.y is not None
    assert table.y.tolist() == ["0.5"] * len(x)
    assert (table.label, table.columns) == ("answer", tuple(names))


def test_csv_finds_columns_by_name_and_leaves_out_ignored_ones(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufeffid,"b, c",kind,a\nx1,1,yes,2\n\nx2, 3 ,no,4\n', encoding="utf-8")
    (tmp_path / "b.csv").write_text('a,kind,new,"b, c"\n20,no,?,10\n', encoding="utf-8")
    data = load("a.csv", "b.csv", label="kind", ignore=("id",), base=tmp_path)
    assert data.test is not None
    assert data.encoding.columns == ("b, c", "a")
    assert sorted(data.train.x.tolist()) == [[1.0, 2.0], [3.0, 4.0]]
    assert data.test.x.tolist() == [[10.0, 20.0]]
    assert (data.train.label_names, data.test.y.tolist()) == (("no", "yes"), [0])
    (tmp_path / "c.csv").write_text('a,"b, c"\n7,8\n', encoding="utf-8")
    features = load_features("c.csv", data.encoding, base=tmp_path)
    assert features.x.tolist() == [[8.0, 7.0]]
    assert features.y is None


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "a,b,c\n1,2,0\n"])
def test_csv_for_a_model_of_other_files_may_have_a_label_or_not(tmp_path: Path, text: str) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=[0, 1, 1])
    (tmp_path / "b.csv").write_text(text)
    features = load_features("b.csv", load("a.npz", base=tmp_path).encoding, base=tmp_path)
    assert features.x.tolist() == [[1.0, 2.0]]
    assert (features.y is None) == ("c" not in text)


def test_csv_of_more_lines_than_a_piece(tmp_path: Path) -> None:
    n = 2 * csv._PIECE_LINES + 5
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write("a,y\n" + "".join(f"{i},{i % 3}\n" for i in range(n)))
    table = csv.read(tmp_path / "a.csv.gz", Wanted())
    assert table.x.ravel().tolist() == list(range(n))
    assert [table.where(row) for row in (0, n - 1)] == ["line 2", f"line {n + 1}"]


def test_reading_leaves_no_file_open(tmp_path: Path) -> None:
    """A file that is left to the garbage collector warns, and a warning fails the test."""
    raw = io.BytesIO()
    np.savez(raw, x=np.zeros((3, 1)), y=[0, 1, 1])
    for suffix, compress in COMPRESS.items():
        (tmp_path / f"a.npz{suffix}").write_bytes(compress(raw.getvalue()))
        assert load(f"a.npz{suffix}", base=tmp_path).train.n == 2
