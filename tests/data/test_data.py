"""From files to data sets: what comes out when the files are good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hogpour.core.errors import ConfigError, DataError
from hogpour.data import load as data
from hogpour.data.formats import find
from hogpour.data.load import Data, Dataset, Encoding, Scaling, load, load_features, shuffled

Npz = Callable[..., Path]


@pytest.fixture
def npz(tmp_path: Path) -> Npz:
    """Return a function that writes arrays to a file of that name."""

    def write(name: str = "train.npz", **arrays: Any) -> Path:
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def rows_of(*sets: Dataset | None) -> list[tuple[float, ...]]:
    return sorted(tuple(row.ravel().tolist()) for one in sets if one is not None for row in one.x)


def test_digits_have_a_stratified_test_part_that_no_seed_changes() -> None:
    first, second = load("digits"), load("digits", seed=1)
    assert first.test is not None
    assert second.test is not None
    assert (first.train.n, first.test.n) == (1438, 359)
    assert first.train.shape == (8, 8)
    assert np.bincount(first.test.y).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert (first.train.x.min(), first.train.x.max()) == (0.0, 1.0)
    assert np.array_equal(first.test.x, second.test.x)
    assert not np.array_equal(first.train.y, second.train.y)
    assert rows_of(first.train) == rows_of(second.train)


@pytest.mark.slow
def test_digits_equal_those_of_the_public_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from hogpour.data.formats import digits

    pixels, labels = digits._load()
    monkeypatch.setattr(digits, "find_spec", lambda name: type("Spec", (), {"submodule_search_locations": ["/none"]}))
    public_pixels, public_labels = digits._load()
    assert np.array_equal(pixels, public_pixels)
    assert np.array_equal(labels, public_labels)


def test_digits_can_be_tested_on_a_file(npz: Npz) -> None:
    other = npz("other.npz", x=np.zeros((3, 8, 8)), y=[0, 1, 9])
    data = load("digits", other)
    assert data.test is not None
    assert (data.train.n, data.test.n) == (1438, 3)


def test_a_file_called_digits_is_named_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "digits").write_bytes(b"")
    with pytest.raises(Exception, match="the name tells no format"):
        load("./digits", base=tmp_path)


def test_arrays_are_float32_and_int64_and_contiguous(npz: Npz) -> None:
    train = npz(x=np.asfortranarray(np.arange(24.0).reshape(6, 2, 2)), y=np.array([0, 1, 0, 1, 0, 1], np.uint8))
    data = load(train)
    assert data.test is not None
    for one in (data.train, data.test):
        assert (one.x.dtype, one.y.dtype) == (np.float32, np.int64)
        assert one.x.flags.c_contiguous
        assert one.y.flags.c_contiguous
        assert one.source == str(train)
        assert (one.n_labels, one.label_names) == (2, ("0", "1"))
    assert rows_of(data.train, data.test) == [tuple(range(i, i + 4)) for i in range(0, 24, 4)]


def test_bytes_become_0_to_1_and_other_integers_stay(npz: Npz) -> None:
    y = [0, 1, 2]
    data = load(npz(x=np.array([[0], [51], [255]], np.uint8), y=y), validation=0)
    assert rows_of(data.train) == [(0.0,), (float(np.float32(0.2)),), (1.0,)]
    data = load(npz(x=np.array([[0], [51], [255]], np.int32), y=y), validation=0)
    assert rows_of(data.train) == [(0.0,), (51.0,), (255.0,)]


@pytest.mark.parametrize(
    ("y", "names", "labels"),
    [
        ([0, 1, 2], ("0", "1", "2"), [0, 1, 2]),
        ([1, -1, 1], ("-1", "1"), [1, 0, 1]),
        ([10, 9, 2], ("2", "9", "10"), [2, 1, 0]),
        ([1.0, 0.0, 1.0], ("0", "1"), [1, 0, 1]),
        ([True, False, True], ("0", "1"), [1, 0, 1]),
        (["sh", "aa", "sh"], ("aa", "sh"), [1, 0, 1]),
        (["10", "9.0", "9"], ("9", "10"), [1, 0, 0]),
        ([[3], [4], [4]], ("3", "4"), [0, 1, 1]),
    ],
)
def test_labels_are_numbered_in_sorted_order(npz: Npz, y: list, names: tuple[str, ...], labels: list[int]) -> None:
    data = load(npz(x=[[0.0], [1.0], [2.0]], y=y), validation=0)
    assert data.test is None
    assert data.train.label_names == names
    assert data.encoding.label_names == names
    assert [label for _, label in sorted(zip(data.train.x[:, 0].tolist(), data.train.y.tolist()))] == labels


def test_the_test_set_uses_the_labels_and_the_order_of_its_own_file(npz: Npz) -> None:
    train = npz("train.npz", x=np.zeros((3, 1)), y=[5, 7, 9])
    data = load(train, npz("test.npz", x=[[3.0], [1.0], [2.0]], y=[9, 5, 9]))
    assert data.test is not None
    assert data.test.x[:, 0].tolist() == [3.0, 1.0, 2.0]
    assert data.test.y.tolist() == [2, 0, 2]
    assert data.test.label_names == ("5", "7", "9")


def test_values_keep_one_column_or_several(npz: Npz) -> None:
    x = [[0.0], [1.0]]
    one = load(npz(x=x, y=[0.5, 1.5]), targets="values", validation=0).train
    assert (one.y.dtype, one.y.shape, one.n_labels, one.label_names) == (np.float32, (2, 1), 0, ())
    two = load(npz(x=x, y=[[0.5, 1], [1.5, 2]]), targets="values", validation=0).train
    assert sorted(two.y.tolist()) == [[0.5, 1.0], [1.5, 2.0]]


@given(n=st.integers(3, 200), validation=st.floats(0, 0.9), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_validation_set_is_split_off_by_the_seed(n: int, validation: float, seed: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "train.npz")
        np.savez(path, x=np.arange(n, dtype=np.float32)[:, None], y=np.arange(n) % 2)
        data, again = (load(path, validation=validation, seed=seed) for _ in range(2))
    n_test = data.test.n if data.test else 0
    assert n_test == (min(n - 2, max(1, round(validation * n))) if validation else 0)
    assert rows_of(data.train, data.test) == [(float(i),) for i in range(n)]
    assert np.array_equal(data.train.x, again.train.x)
    for one in (data.train, data.test):
        assert one is None or np.array_equal(one.x[:, 0] % 2, one.y)


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=8), validation=st.floats(0.01, 0.9), seed=st.integers(0, 99)
)
@settings(max_examples=60, deadline=None)
def test_each_label_is_held_back_in_its_share_but_never_its_last_example(
    counts: list[int], validation: float, seed: int
) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    spare = len(y) - len(counts)
    if not spare:
        with pytest.raises(DataError, match="each of another label: none can be held back"):
            data.arrays(np.zeros((len(y), 1)), y, validation=validation, seed=seed)
        return
    split = data.arrays(np.arange(len(y))[:, None], y, validation=validation, seed=seed)
    assert split.test is not None
    held = np.bincount(split.test.y, minlength=len(counts))
    n_test = min(max(1, round(validation * len(y))), spare)
    assert split.test.n == n_test
    assert (held < counts).all()
    shares = np.array(counts) * n_test / len(y)
    capped = held == np.array(counts) - 1
    assert (held[~capped] >= np.floor(shares[~capped])).all()
    if (shares <= np.array(counts) - 1).all():
        assert (np.abs(held - shares) < 1).all()
    assert rows_of(split.train, split.test) == [(float(row),) for row in range(len(y))]
    for one in (split.train, split.test):
        assert np.array_equal(y[one.x[:, 0].astype(int)], one.y)


@pytest.mark.parametrize("seed", range(10))
def test_rare_labels_are_always_trained_and_validated(seed: int) -> None:
    """Of 15 positives in 1,000, between none and 4 were held back, and of 2 examples of a label sometimes both."""
    y = np.zeros(1000, np.int64)
    y[:15], y[15:17], y[17] = 1, 2, 3
    split = data.arrays(np.zeros((1000, 1)), y, seed=seed)
    assert split.test is not None
    assert split.test.n == 100
    held = np.bincount(split.test.y, minlength=4).tolist()
    assert held[1] in (1, 2)
    assert held[2] in (0, 1)
    assert held[3] == 0


def test_values_are_split_without_regard_to_what_they_are() -> None:
    split = data.arrays(np.arange(20)[:, None], np.arange(20.0), targets="values", seed=3)
    assert split.test is not None
    assert split.test.n == 2
    assert rows_of(split.train, split.test) == [(float(row),) for row in range(20)]


@pytest.mark.parametrize("y", [[0, 0, 0], ["no"] * 3, [0.0] * 3])
def test_one_label_is_refused(npz: Npz, y: list) -> None:
    """It trained to an accuracy of 1, and predicting with one unit ended in an IndexError."""
    with pytest.raises(DataError, match=rf"^{npz(x=np.zeros((3, 1)), y=y)}: all examples have the same label '(0|no)'"):
        load(npz(x=np.zeros((3, 1)), y=y))


def test_another_seed_splits_and_shuffles_otherwise(npz: Npz) -> None:
    train = npz(x=np.arange(100.0)[:, None], y=np.arange(100) % 2)
    first, second = load(train), load(train, seed=1)
    assert first.test is not None
    assert second.test is not None
    assert first.test.x.tolist() != second.test.x.tolist()
    assert first.train.x.tolist() != second.train.x.tolist()


def test_scaling_knows_the_training_part_only(npz: Npz) -> None:
    x = np.arange(20.0)[:, None]
    data = load(npz(x=x, y=np.arange(20) % 2), scale="unit")
    assert data.test is not None
    assert (data.train.x.min(), data.train.x.max()) == (0.0, 1.0)
    low, factor = data.scaling.offset, data.scaling.factor
    assert np.allclose(sorted((data.test.x / factor + low)[:, 0]), sorted(set(range(20)) - set(rows_back(data))))


def rows_back(data: Data) -> list[int]:
    return np.rint(data.train.x / data.scaling.factor + data.scaling.offset)[:, 0].astype(int).tolist()


def test_relative_paths_begin_in_base(npz: Npz, tmp_path: Path) -> None:
    npz("train.npz", x=np.zeros((3, 1)), y=[0, 1, 1])
    assert load("train.npz", base=tmp_path).train.source == str(tmp_path / "train.npz")
    assert load(tmp_path / "train.npz", base=Path("/nowhere")).train.n == 2


def test_shuffled_keeps_examples_and_answers_together() -> None:
    one = Dataset(np.arange(50, dtype=np.float32)[:, None], np.arange(50), 50, (), "test")
    other = shuffled(one, 3)
    assert sorted(other.y.tolist()) == one.y.tolist() != other.y.tolist()
    assert np.array_equal(other.x[:, 0], other.y)
    assert np.array_equal(other.y, shuffled(one, 3).y)
    assert not np.array_equal(other.y, shuffled(one, 4).y)
    assert one.y.tolist() == list(range(50))
    assert (one.rows, other.rows.tolist()) == (None, other.y.tolist())  # as those in memory, which have no file
    assert shuffled(other, 5).rows.tolist() == shuffled(other, 5).y.tolist()


@pytest.mark.parametrize("validation", [0, 0.3])
def test_examples_know_their_row_in_the_file(validation: float) -> None:
    made = data.arrays(np.arange(20)[:, None], np.arange(20) % 2, validation=validation)
    for dataset in filter(None, (made.train, made.test)):
        assert dataset.rows.tolist() == dataset.x[:, 0].tolist()


def test_features_are_encoded_as_in_training_and_need_no_answers(npz: Npz) -> None:
    train = npz("train.npz", x=[[0.0], [4.0], [2.0]], y=[7, 9, 7])
    encoding = load(train, scale="unit", validation=0).encoding
    features = load_features(npz("new.npz", x=[[1.0], [8.0]]), encoding)
    assert features.y is None
    assert features.x.tolist() == [[0.25], [2.0]]
    features = load_features(npz("new.npz", x=[[1.0], [8.0]], y=[9, 7]), encoding)
    assert features.y is not None
    assert features.y.tolist() == [1, 0]


def test_features_of_digits_are_their_test_part() -> None:
    data = load("digits", scale="standard")
    features = load_features("digits", data.encoding)
    assert data.test is not None
    assert np.array_equal(data.test.x, features.x)
    assert np.array_equal(data.test.y, features.y)


def test_an_encoding_survives_a_model_file(npz: Npz) -> None:
    encoding = load(npz(x=[[0.0, 1.0], [4.0, 1.0]], y=[-1, 1]), scale="standard", validation=0).encoding
    again = Encoding.from_dict(json.loads(json.dumps(encoding.to_dict())), encoding.scaling.to_tensors())
    assert again.to_dict() == encoding.to_dict()
    assert (again.shape, again.label_names, again.scaling.kind) == ((2,), ("-1", "1"), "standard")
    assert again.scaling.offset.tolist() == [2.0, 1.0]
    assert again.scaling.factor.tolist() == [0.5, 0.0]


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.npz", "npz"), ("A.CSV.GZ", "csv"), ("a.csv.bz2", "csv"), ("a.svm.xz", "svmlight"), ("a.t.libsvm", "svmlight"),
     ("a.svmlight", "svmlight"), ("images-idx3-ubyte.gz", "idx"), ("images.idx3", "idx"), ("a.idx3-ubyte", "idx"),
     ("a.vw.gz", "vw"), ("a.ffm", "libffm"), ("train.ft.txt.bz2", "fasttext")],
)  # fmt: skip
def test_the_format_follows_from_the_name(name: str, format: str) -> None:
    assert find(Path("folder", name), name, "").__name__ == f"hogpour.data.formats.{format}"


def test_a_given_format_goes_before_the_name() -> None:
    assert find(Path("digits"), "digits", "svmlight").__name__ == "hogpour.data.formats.svmlight"


def test_nothing_is_scaled_by_default() -> None:
    assert load("digits").scaling.kind == "none"
    assert isinstance(load("digits").scaling, Scaling)


def test_arrays_in_memory_become_data_as_files_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 3, 50)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    mine, read = data.arrays(x, y, scale="standard", seed=4), data.load(tmp_path / "a.npz", scale="standard", seed=4)
    assert mine.test is not None
    assert read.test is not None
    for a, b in ((mine.train, read.train), (mine.test, read.test)):
        assert a.x.tobytes() == b.x.tobytes()
        assert a.y.tobytes() == b.y.tobytes()


def test_half_a_test_set_in_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="test_x and test_y go together"):
        data.arrays(np.zeros((4, 1)), np.zeros(4), np.zeros((2, 1)))
