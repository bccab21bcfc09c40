"""Bad data ends in one line that names the file, and the row, column or key, and says what was expected."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hogpour.core.errors import ConfigError, DataError, InputError, LayoutError, ResourceError
from hogpour.data.formats.base import explain
from hogpour.data.load import Encoding, load, load_features

Refused = Callable[..., str]
NOT_A_LABEL = "expected an integer; to predict real values, use a loss for values"
GOOD = {"x": np.zeros((3, 2)), "y": [0, 1, 0]}


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Return a function that loads, expects to be refused, and returns the message with the folder as FOLDER."""

    def message(*files: str, error: type[InputError] = DataError, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            load(*files, base=tmp_path, **options)
        assert type(caught.value) is error
        text = str(caught.value).replace(str(tmp_path), "FOLDER")
        assert "\n" not in text
        return text

    return message


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npz_bytes(**arrays: Any) -> bytes:
    raw = io.BytesIO()
    np.savez(raw, **arrays)
    return raw.getvalue()


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 0.95}, "data.validation = 0.95, expected 0 to 0.9"),
        ({"validation": 1.0}, "data.validation = 1.0, expected 0 to 0.9"),
        ({"validation": -0.1}, "data.validation = -0.1, expected 0 to 0.9"),
        ({"targets": "classes"}, "targets = 'classes': expected one of 'labels', 'values'"),
        ({"scale": "max"}, "data.scale = 'max': expected one of 'none', 'unit', 'standard'"),
        ({"n_features": -1}, "data.n_features = -1, expected 0 or more"),
        ({"first_index": 2}, "data.first_index = 2, expected 0 to 1"),
        ({"label": 1}, "data.label = 1: expected str, got int"),
        ({"ignore": "id"}, "data.ignore = 'id': expected array, got str"),
        ({"header": "no"}, "data.header = 'no': expected bool | null, got str"),
        ({"seed": -1}, "run.seed = -1, expected 0 to 2^63 - 1"),
        ({"seed": None}, "run.seed = None: expected int, got None"),
        ({"format": "parquet"}, 'format "parquet" is not known; known: csv, fasttext, idx, libffm, npy, npz, svmlight, vw'),
    ],
)
def test_options_out_of_range(refused: Refused, options: dict, message: str) -> None:
    assert refused("digits", error=ConfigError, **options) == message


# Any file


def test_a_missing_file_names_the_nearest(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "train.npz").touch()
    assert refused("trian.npz") == "FOLDER/trian.npz: no such file; did you mean 'train.npz'?"
    assert refused("other.csv") == "FOLDER/other.csv: no such file"
    assert refused("data/a.npz") == "FOLDER/data/a.npz: no such file; there is no folder FOLDER/data"


def test_a_folder_that_cannot_be_listed_does_not_hide_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listdir(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", listdir)
        message = explain(tmp_path / "a.csv", FileNotFoundError(2, "No such file"))
    assert message == f"{tmp_path}/a.csv: no such file"


def test_a_folder_or_a_pipe_is_not_a_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    os.mkfifo(tmp_path / "b.npz")
    assert refused("a.npz") == "FOLDER/a.npz: not a file"
    assert refused("b.npz") == "FOLDER/b.npz: not a file"


def test_an_unknown_suffix_lists_the_formats(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a9a.xz").touch()
    assert refused("a9a.xz") == (
        "FOLDER/a9a.xz: the name tells no format; give one by format = ..., known: csv (*.csv); fasttext (*.ft *.ft.txt *.fasttext); "
        "idx (*[-.]idx[0-9]-ubyte *[-.]idx[0-9]); libffm (*.ffm *.libffm); npy (*.npy); "
        "npz (*.npz); svmlight (*.svm *.svmlight *.libsvm); vw (*.vw)"
    )


def test_an_unreadable_file(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert explain(path, PermissionError(13, "Permission denied")) == f"{path}: may not be read by this user"
    assert explain(path, OSError(5, "Input/output error")) == f"{path}: cannot be read (Input/output error)"
    if os.geteuid():  # root may read everything
        path.write_bytes(b"")
        path.chmod(0)
        assert refused("a.npz") == "FOLDER/a.npz: may not be read by this user"


@pytest.mark.parametrize("name", ["a.csv", "a.svm", "images.idx3", "a.npz"])
@pytest.mark.parametrize(
    ("suffix", "why"),
    [
        (".gz", "Not a gzipped file (b'pl')"),
        (".xz", "Input format not supported by decoder"),
        (".bz2", "Invalid data stream"),
    ],
)
def test_a_file_that_is_not_compressed_as_its_name_says(
    refused: Refused, tmp_path: Path, name: str, suffix: str, why: str
) -> None:
    (tmp_path / (name + suffix)).write_bytes(b"plain text")
    assert refused(name + suffix) == f"FOLDER/{name}{suffix}: truncated or corrupt ({why})"


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_truncated_compressed_npz(refused: Refused, tmp_path: Path, suffix: str, compress: Any) -> None:
    (tmp_path / f"a.npz{suffix}").write_bytes(compress(npz_bytes(**GOOD))[:-20])
    assert refused(f"a.npz{suffix}") == (
        f"FOLDER/a.npz{suffix}: truncated or corrupt "
        "(Compressed file ended before the end-of-stream marker was reached)"
    )


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 20, 40])
def test_text_in_a_truncated_gz_is_not_taken_for_a_shorter_file(refused: Refused, tmp_path: Path, cut: int) -> None:
    for name, text in (("a.csv.gz", "a,b\n1,0\n2,1\n"), ("a.svm.gz", "1 1:1\n0 1:2\n")):
        whole = gzip.compress(text.encode())
        (tmp_path / name).write_bytes(whole[: max(3, len(whole) - cut)])
        assert refused(name) == (
            f"FOLDER/{name}: truncated or corrupt (Compressed file ended before the end-of-stream marker was reached)"
        )


def test_too_little_memory_is_said_before_it_is_taken(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = type("Memory", (), {"available": 1e9})
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    (tmp_path / "images.idx3.gz").write_bytes(
        gzip.compress(idx_bytes(np.zeros((0, 1, 1), np.uint8))[:4] + b"\0\1\0\0" * 3)
    )
    assert refused("images.idx3.gz", error=ResourceError) == (
        "FOLDER/images.idx3.gz: 65536 x 65536 x 65536 uint8 need 281475.0 GB of memory, 1.0 GB are available"
    )
    (tmp_path / "a.svm").write_text("1 2000000000:1\n0 1:1\n")
    assert refused("a.svm", error=ResourceError, validation=0, n_features=2000000000) == (
        "FOLDER/a.svm: 2 x 2000000000 float32 values need 16.0 GB of memory, 1.0 GB are available"
    )
    memory.available = 7
    (tmp_path / "a.csv").write_text("a,b\n1,0\n2,1\n")
    assert refused("a.csv", error=ResourceError) == (
        "FOLDER/a.csv: more than 0 lines need 0.0 GB of memory, 0.0 GB are available"
    )


def test_running_out_of_memory_while_reading(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    (tmp_path / "a.npz").write_bytes(npz_bytes(**GOOD))
    monkeypatch.setattr("hogpour.data.formats.npy.fill", full)
    assert refused("a.npz", error=ResourceError) == "FOLDER/a.npz: not enough memory to read it"


# What the examples are


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 2)), "y": [0, 1]}, "x has 3 examples, y has 2"),
        ({"x": np.zeros((0, 2)), "y": []}, "holds no examples"),
        ({"x": np.zeros((1, 2)), "y": [0]}, "holds 1 example: none can be held back to validate; set data.validation = 0"),
        ({"x": np.zeros(3), "y": [0, 1, 0]}, "x has shape (3,), expected (examples, features ...)"),
        ({"x": np.zeros((3, 0)), "y": [0, 1, 0]}, "x has shape (3, 0), expected (examples, features ...)"),
        (
            {"x": [[0, 1], [np.nan, 1], [-np.inf, np.nan]], "y": [0, 1, 0]},
            "x holds 3 values not finite in float32, the first is nan at row 1, column 0, counted from 0",
        ),
        (  # once accepted: the greatest float32, made a float16 to compare with, is infinite
            {"x": np.array([[0, 1], [np.inf, 3]], np.float16), "y": [0, 1]},
            "x holds 1 value not finite in float32, the first is inf at row 1, column 0, counted from 0",
        ),
        (
            {"x": [[[0, 1], [2, 1e39]]], "y": [0]},
            "x holds 1 value not finite in float32, the first is 1e+39 at row 0, column 1, 1, counted from 0",
        ),
        (
            {"x": np.zeros((3, 1)), "y": [0, 0.5, 1]},
            f"row 1, counted from 0: the label is 0.5, {NOT_A_LABEL}",
        ),
        (
            {"x": np.zeros((2, 1)), "y": [0, np.nan]},
            "row 1, counted from 0: the label is missing",
        ),
        ({"x": np.zeros((2, 1)), "y": np.zeros((2, 3))}, "y has shape (2, 3), expected one label for each example; y.argmax(axis=1) makes labels of one-hot rows"),
    ],
)
def test_examples_that_cannot_be_used(refused: Refused, tmp_path: Path, arrays: dict, message: str) -> None:
    (tmp_path / "a.npz").write_bytes(npz_bytes(**arrays))
    assert refused("a.npz") == f"FOLDER/a.npz: {message}"


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["1.5", "b"], "row 1, counted from 0: got 'b', expected a number"),
        (np.zeros((2, 3, 4)), "y has shape (2, 3, 4), expected one or more numbers for each example"),
        ([1.0, np.nan], "row 1, counted from 0: y is nan, not finite in float32"),
        ([1e300, 0.0], "row 0, counted from 0: y is 1e+300, not finite in float32"),
    ],
)
def test_values_that_cannot_be_used(refused: Refused, tmp_path: Path, y: Any, message: str) -> None:
    (tmp_path / "a.npz").write_bytes(npz_bytes(x=np.zeros((2, 1)), y=y))
    assert refused("a.npz", targets="values") == f"FOLDER/a.npz: {message}"


def test_a_test_set_that_does_not_fit_the_training_set(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz_bytes(**GOOD))
    (tmp_path / "b.npz").write_bytes(npz_bytes(x=np.zeros((3, 5)), y=[0, 1, 0]))
    assert refused("a.npz", "b.npz") == ("FOLDER/b.npz: examples have shape (5,), expected (2,) as in FOLDER/a.npz")
    (tmp_path / "b.npz").write_bytes(npz_bytes(x=np.zeros((3, 2)), y=[0, 7, 0]))
    assert refused("a.npz", "b.npz") == (
        "FOLDER/b.npz: row 1, counted from 0: the label 7 is not known to FOLDER/a.npz; known: 0, 1"
    )
    (tmp_path / "b.npz").write_bytes(npz_bytes(x=np.zeros((3, 2)), y=np.zeros((3, 2))))
    assert refused("a.npz", "b.npz", targets="values") == (
        "FOLDER/b.npz: y has 2 values an example, FOLDER/a.npz has 1"
    )


def test_values_that_scaling_makes_infinite(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz_bytes(x=[[0.0], [1e-30]], y=[0, 1]))
    (tmp_path / "b.npz").write_bytes(npz_bytes(x=[[1e30]], y=[0]))
    assert refused("a.npz", "b.npz", scale="unit") == (
        "FOLDER/b.npz: values lie so far from those of the training set that scaling makes them infinite"
    )


def test_features_that_do_not_fit_the_model(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz_bytes(**GOOD))
    (tmp_path / "b.npz").write_bytes(npz_bytes(x=np.zeros((3, 5))))
    (tmp_path / "c.npz").write_bytes(npz_bytes(x=np.zeros((1, 2)), y=[3]))
    encoding = load("a.npz", base=tmp_path).encoding
    with pytest.raises(DataError) as error:
        load_features("b.npz", encoding, base=tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/b.npz: examples have shape (5,), expected (2,) as in the model's training set"
    )
    features = load_features("c.npz", encoding, base=tmp_path)
    assert features.y is None
    assert features.no_y == (
        f"{tmp_path}/c.npz: row 0, counted from 0: the label 3 is not known to the model; known: 0, 1"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"label_names": "ab"}, "encoding.label_names = 'ab': expected array, got str"),
        ({"n_columns": 1.5}, "encoding.n_columns = 1.5: expected int, got float"),
        ({"numeric_labels": "yes"}, "encoding.numeric_labels = 'yes': expected bool, got str"),
        ({"y_dtype": "M8[s]"}, "encoding: does not say how the data were encoded (TypeError(\"labels of type 'M8[s]'\"))"),
        ({"y_dtype": "U100000000"}, "encoding: does not say how the data were encoded (TypeError(\"labels of type 'U100000000'\"))"),
        ({"y_dtype": ","}, "encoding: does not say how the data were encoded (TypeError(\"labels of type ','\"))"),
        ({"colums": []}, "encoding: does not say how the data were encoded (KeyError('colums'))"),
    ],
)
def test_an_encoding_of_other_types_is_refused(words: dict, message: str) -> None:
    good = load("digits").encoding.to_dict()
    with pytest.raises(InputError) as error:
        Encoding.from_dict({**good, **words}, {})
    assert str(error.value) == message


def test_an_encoding_that_is_none() -> None:
    with pytest.raises(LayoutError) as error:
        Encoding.from_dict({"shape": [1]}, {})
    assert str(error.value) == "encoding: does not say how the data were encoded (KeyError('label_names'))"


# Anything at all


FILES = {
    "a.npz": npz_bytes(x=np.arange(6.0).reshape(3, 2), y=[0, 1, 0]),
    "images.idx3": idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 2, 2)),
    "a.svm": b"1 1:0.5 3:2\n0 2:1 # comment\n1 3:4\n",
    "a.csv": b'a,"b",y\n1,2,0\n"3",4,1\n5,6.5,0\n',
}


@cache
def trained_on(name: str) -> Encoding:
    """The encoding of the undamaged file."""
    with TemporaryDirectory() as folder:
        Path(folder, "labels.idx1").write_bytes(idx_bytes(np.array([0, 1, 0], np.uint8)))
        Path(folder, name).write_bytes(FILES[name])
        return load(name, base=Path(folder)).encoding


@pytest.mark.robustness
@pytest.mark.slow
@given(
    name=st.sampled_from(list(FILES)),
    compress=st.sampled_from([None, gzip.compress, lzma.compress]),
    changes=st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=3), st.integers(0, 3)), max_size=4),
    after=st.booleans(),
    options=st.sampled_from([{"scale": "standard"}, {"targets": "values"}, {"header": False}, {"first_index": 0}]),
)
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore::hogpour.core.errors.DataWarning")
def test_no_change_to_a_file_raises_anything_but_an_error_of_ours(
    name: str, compress: Any, changes: list[tuple[int, bytes, int]], after: bool, options: dict[str, Any]
) -> None:
    def damaged(content: bytes) -> bytes:
        for place, new, n_old in changes:
            place %= len(content) + 1
            content = content[:place] + new + content[place + n_old :]
        return content

    suffix = {None: "", gzip.compress: ".gz", lzma.compress: ".xz"}[compress]
    content = FILES[name] if after else damaged(FILES[name])
    content = compress(content) if compress else content
    with TemporaryDirectory() as folder:
        Path(folder, "labels.idx1").write_bytes(idx_bytes(np.array([0, 1, 0], np.uint8)))
        Path(folder, name + suffix).write_bytes(damaged(content) if after else content)
        messages = [folder, folder]
        try:
            data = load(name + suffix, base=Path(folder), **options)
            assert np.isfinite(data.train.x).all()
        except InputError as error:
            messages[0] = str(error)
        try:
            features = load_features(name + suffix, trained_on(name), base=Path(folder))
            assert np.isfinite(features.x).all()
        except InputError as error:
            messages[1] = str(error)
    assert all(folder in message and "\n" not in message for message in messages)


KINDS = ["?", "u1", "i8", "f2", "f8", "c8", "U3", "S3", "M8[s]", "m8[s]", [("a", "f4")]]


@pytest.mark.robustness
@pytest.mark.parametrize("targets", ["labels", "values"])
@pytest.mark.parametrize("key", ["x", "y"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_npz_of_any_type_and_shape_is_read_or_refused(tmp_path: Path, kind: Any, key: str, targets: Any) -> None:
    good = {"x": np.arange(6.0).reshape(3, 2), "y": np.array([0, 1, 0])}
    for shape in [(), (0,), (3,), (3, 1), (3, 0), (3, 2), (2, 3), (3, 2, 2)]:
        (tmp_path / "a.npz").write_bytes(npz_bytes(**{**good, key: np.zeros(shape, kind)}))
        for options in ({"validation": 0}, {"scale": "unit"}):
            try:
                load("a.npz", base=tmp_path, targets=targets, **options)  # type: ignore[arg-type]
            except DataError as error:
                assert str(error).startswith(f"{tmp_path}/a.npz: ")  # noqa: PT017


# npz


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated or corrupt (File is not a zip file)"),
        (npz_bytes(**GOOD)[:-30], "truncated or corrupt (File is not a zip file)"),
        (npz_bytes(images=[1], y=[2]), "holds no array 'x', got 'images', 'y'"),
        (npz_bytes(x=np.zeros((2, 1))), "holds no array 'y', got 'x'"),
        (npz_bytes(x=np.array([["a"]]), y=[0]), "x holds str32, expected numbers"),
        (npz_bytes(x=np.zeros((1, 1)), y=np.zeros(1, np.complex64)), "y holds complex64, expected numbers or text"),
        (npz_bytes(x=np.array([[None]]), y=[0]), "x holds pickled objects, expected numbers"),
        (
            npz_bytes(x=np.zeros((1, 1)), y=np.array(["a"], object)),
            "y holds pickled objects, expected numbers, or text: save it as y.astype(str)",
        ),
        (
            npz_bytes(x=np.zeros((1, 1)), y=np.array([b"a"])),
            "y holds bytes8, expected numbers or text: save it as y.astype(str)",
        ),
        (npz_bytes(x=3, y=[0]), "x has shape (), expected (examples, features ...)"),
        (npz_bytes(x=np.zeros((1, 1)), y=3), "y is one value, expected one for each example"),
        (npz_bytes(x_train=np.zeros((1, 1))), "holds no array 'y_train', got 'x_train'"),
    ],
)
def test_npz_that_cannot_be_used(refused: Refused, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    assert refused("a.npz") == f"FOLDER/a.npz: {message}"


def test_npz_with_a_flipped_bit(refused: Refused, tmp_path: Path) -> None:
    content = bytearray(npz_bytes(x=np.zeros((100, 100)), y=np.zeros(100)))
    content[5000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    assert refused("a.npz") == "FOLDER/a.npz: truncated or corrupt (Bad CRC-32 for file 'x.npy')"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}",
            "header of x says shape (1000000, 1000000) float32, 4000000000000 bytes, the file holds 8",
        ),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -2)}",
            "x has no valid npy header (shape (-1, -2), 4 bytes an item)",
        ),
        (
            "{'descr': '<U0', 'fortran_order': False, 'shape': (2, 2)}",
            "x has no valid npy header (shape (2, 2), 0 bytes an item)",
        ),
        ("{'shape': (2, 1)}", "x has no valid npy header (Header does not contain the correct keys: ['shape'])"),
        ("{'descr': '<f4',", "x has no valid npy header (('EOF in multi-line statement', (2, 0)))"),
        ("{[1]: 2}", "x has no valid npy header (unhashable type: 'list')"),
        ("{1: 2, 'shape': 3}", "x has no valid npy header ('<' not supported between instances of 'str' and 'int')"),
        (
            "{'descr': 'f4,(2,', 'fortran_order': False, 'shape': (1,)}",
            "x has no valid npy header ('(' was never closed (<unknown>, line 1))",
        ),
    ],
)
def test_npz_whose_header_lies(refused: Refused, tmp_path: Path, member: str, message: str) -> None:
    header = member.encode().ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(8))
        archive.writestr("y.npy", b"")
    assert refused("a.npz") == f"FOLDER/a.npz: {message}"


def test_npz_whose_member_is_no_array(refused: Refused, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\7\0")
        archive.writestr("y.npy", b"")
    assert refused("a.npz") == ("FOLDER/a.npz: x has no valid npy header (version 7.0, expected 1.0 or 2.0)")


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize(("shape", "axes"), [((8, *[1] * 64), "65 axes up to 8"), ((0, 2**70), f"2 axes up to {2**70}")])
def test_an_array_that_numpy_cannot_hold(refused: Refused, tmp_path: Path, shape: tuple, axes: str, fortran: bool) -> None:
    header = repr({"descr": "|u1", "fortran_order": fortran, "shape": shape}).encode().ljust(373) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        member = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
        archive.writestr("x.npy", member + bytes(shape[0]))
        archive.writestr("y.npy", b"")
    assert refused("a.npz").startswith(f"FOLDER/a.npz: an array of {axes} cannot be made (")


# idx


@pytest.mark.parametrize(
    ("sizes", "axes"), [([1] * 65, "65 axes up to 1"), ([0, *[2**32 - 1] * 3], "4 axes up to 4294967295")]
)
def test_idx_of_an_array_that_numpy_cannot_hold(refused: Refused, tmp_path: Path, sizes: list[int], axes: str) -> None:
    content = bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + bytes(sizes[0])
    (tmp_path / "images.idx3").write_bytes(content)
    assert refused("images.idx3").startswith(f"FOLDER/images.idx3: an array of {axes} cannot be made (")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0", "truncated, got 2 bytes, expected an idx header"),
        (b"\x1f\x8b\x08\0rest", "is compressed by gzip; its name must end in .gz"),
        (b"\1\0\x08\0rest", "begins with 0x01000800, expected an idx magic number such as 0x00000803"),
        (b"\0\0\x07\3rest", "begins with 0x00000703, expected an idx magic number such as 0x00000803"),
        (b"\0\0\x08\0rest", "begins with 0x00000800, expected an idx magic number such as 0x00000803"),
        (b"\0\0\x08\3rest", "truncated, got 8 bytes, expected a header of 16"),
        (idx_bytes(np.zeros((2, 3, 4), np.uint8))[:-1], "header says 2 x 3 x 4 uint8, 24 bytes, the file holds 23"),
        (idx_bytes(np.zeros((2, 3, 4), np.uint8)) + b"\0", "header says 2 x 3 x 4 uint8, 24 bytes, the file holds 25"),
    ],
)
def test_idx_that_cannot_be_used(refused: Refused, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "images.idx3").write_bytes(content)
    assert refused("images.idx3") == f"FOLDER/images.idx3: {message}"
    (tmp_path / "images.idx3.gz").write_bytes(gzip.compress(content))
    assert refused("images.idx3.gz") == f"FOLDER/images.idx3.gz: {message.replace('holds 25', 'holds more')}"


def test_idx_labels_that_are_missing_or_do_not_fit(refused: Refused, tmp_path: Path) -> None:
    images = idx_bytes(np.zeros((2, 3, 4), np.uint8))
    (tmp_path / "a-images.idx3").write_bytes(images)
    assert refused("a-images.idx3") == (
        "FOLDER/a-labels.idx1: no such file; expected the labels of a-images.idx3 there"
    )
    (tmp_path / "a-labels.idx1").write_bytes(images)
    assert refused("a-images.idx3") == "FOLDER/a-labels.idx1: labels have 3 dimensions, expected 1"
    (tmp_path / "a-labels.idx1").write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    assert refused("a-images.idx3") == "FOLDER/a-images.idx3: x has 2 examples, y has 3"
    (tmp_path / "b.idx3").write_bytes(images)
    assert refused("b.idx3") == (
        'FOLDER/b.idx3: the name has no "images" that "labels" could stand for; cannot find the labels'
    )


# svmlight


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no examples"),
        ("# only a comment\n", "holds no examples"),
        ("1 1:1\nyes 1:1\n", "line 2: the label is 'yes', expected a number"),
        ("1 1:1\n\n# more\n1 2\n", "line 4: got '2', expected index:value"),
        ("1 1:one\n", "line 1: got '1:one', expected index:value"),
        ("1 1:1\n0 1:1_000\n", "line 2: got '1:1_000', expected index:value"),
        ("1 1:1\n1_0 1:1\n", "line 2: the label is '1_0', expected a number"),
        ("1 -1:2\n", "line 1: got '-1:2', expected index:value"),
        ("1 qid:1 3:1 2:1\n", "line 1: the feature index 2 follows 3, expected ascending ones"),
        ("1 5000000000:1\n", "line 1: the feature index is 5000000000, expected at most 2147483647"),
        (f"1 {'9' * 5000}:1\n", f"line 1: the feature index is {'9' * 40}, expected at most 2147483647"),
        ("1 1:1 qid:2\n", "line 1: got 'qid:2', expected index:value"),
        (
            "1 1:1\n0 1:1 2:nan\n",
            "x holds 1 value not finite in float32, the first is nan at line 2, index 2",
        ),
    ],
)
def test_svmlight_that_cannot_be_used(refused: Refused, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.svm").write_text(text)
    assert refused("a.svm") == f"FOLDER/a.svm: {message}"


def test_svmlight_with_more_features_than_in_training(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("1 1:1 3:1\n0 1:1\n")
    (tmp_path / "b.svm").write_text("1 1:1\n0 5:1\n")
    message = (
        "line 2: the feature index is 5, expected at most 3 (3 features); for more of them set data.n_features = 5"
    )
    assert refused("a.svm", "b.svm") == f"FOLDER/b.svm: {message}"
    assert refused("b.svm", n_features=3) == f"FOLDER/b.svm: {message}"
    (tmp_path / "b.svm").write_text("1 1:1\n0 0:1\n")
    assert refused("a.svm", "b.svm") == (
        "FOLDER/b.svm: line 2: the feature index is 0, but indices begin at 1; where they begin at 0, "
        "set data.first_index = 0"
    )


# csv


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is empty, expected a header with the names of the columns"),
        ("a,,b\n1,2,3\n", "line 1: column 2 has no name; data.ignore = [\"\"] leaves it out"),
        ("a,b,a\n1,2,3\n", "line 1: two columns have the name 'a'"),
        ("a;b\n1;2\n", "has no feature columns, got only 'a;b'; separated by ';'? set data.separator = \";\""),
        ("a\tb\n1\t2\n", "has no feature columns, got only 'a\\tb'; separated by tabs? set data.separator = \"\\t\""),
        ("# my data\n\na\n1\n", "has no feature columns, got only 'a'"),
        ("a,b\n", "holds no examples"),
        ("a,b\n1,0\n1,2,3\n", "line 3: got 3 cells, expected 2 as in the first line"),
        ("a,b\n1,0\n\n1\n", "line 4: got 1 cells, expected 2 as in the first line"),
        ("a,b,y\n1,2,0\n3,four,1\n", "line 3, column 'b': got 'four', expected a number"),
        ("a,b,y\n1,,0\n", "line 2, column 'b': got '', expected a number"),
        ("a,y\n1, \n", "line 2, column 'y': the label is missing"),
        ("a,y\n1_000,0\n", "line 2, column 'a': got '1_000', expected a number"),
        ("a,y\n1,0\n\u0661,1\n", "line 3, column 'a': got '\u0661', expected a number"),
        (
            "a,y\n1,0\n2,0.5\n",
            "line 3, column 'y': the label is 0.5, expected an integer; to predict real values, use a loss for values",
        ),
        (
            "a,y\n1,0\n\ninf,1\nnan,1\n",
            "x holds 2 values not finite in float32, the first is inf at line 4, column 'a'",
        ),
        ('a,y\n1,"0\n', "line 2: unexpected end of data"),
    ],
)
def test_csv_that_cannot_be_used(refused: Refused, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert refused("a.csv") == f"FOLDER/a.csv: {message}"


def test_csv_columns_that_are_missing(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("width,height,kind\n1,2,0\n3,4,1\n")
    (tmp_path / "b.csv").write_text("width,kind\n1,0\n")
    (tmp_path / "c.csv").write_text("width,height\n1,0\n")
    assert refused("a.csv", label="knid") == "FOLDER/a.csv: has no column 'knid'; did you mean 'kind'?"
    assert refused("a.csv", ignore=("age",)) == "FOLDER/a.csv: has no column 'age'; known: height, kind, width"
    assert refused("a.csv", "b.csv") == "FOLDER/b.csv: has no column 'height'; known: kind, width"
    assert refused("a.csv", "c.csv") == "FOLDER/c.csv: has no column 'kind'; known: height, width"


def test_csv_values_that_are_no_numbers(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,y\n1,low\n")
    assert refused("a.csv", targets="values") == "FOLDER/a.csv: line 2, column 'y': got 'low', expected a number"


def test_csv_in_another_encoding(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a,y\n1,déjà\n".encode("latin-1"))
    assert refused("a.csv") == (
        "FOLDER/a.csv: line 2: not UTF-8 text at '1,d\\\\xe9' (invalid continuation byte); save the file as UTF-8"
    )
