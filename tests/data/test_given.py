"""Arrays from Python: what cannot be used ends in one line that names the row, the column and what to do."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from hogpour.core.errors import ConfigError, DataError
from hogpour.data import given
from hogpour.data.load import arrays, load

X = np.arange(8.0).reshape(4, 2)
Y = [0, 1, 0, 1]
NOT_A_NUMBER = "expected a number"


class Frame:
    """As much of a DataFrame as is looked at."""

    def __init__(self, columns: dict[Any, list[Any]]) -> None:
        self.columns = list(columns)
        self._cells = list(columns.values())

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self._cells, dtype).T


class NA:
    """Pandas' missing value: it refuses to be anything else."""

    def __repr__(self) -> str:
        return "<NA>"

    def __eq__(self, other: object) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = object.__hash__


class Tensor:
    """A tensor that is a part of a computation, or lies on another device: it makes no array."""

    def __init__(self, requires_grad: bool, error: Exception | None = None) -> None:
        self.requires_grad, self.error = requires_grad, error

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if self.error:
            raise self.error
        raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu() first")


def message_of(x: Any, y: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        arrays(x, y, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, "x is None"),
        (7, "x is one value (int), expected an array"),
        ({1: 2}, "x is one value (dict), expected an array"),
        ([], "x has shape (0,), expected (examples, features ...)"),
        ([1, 2, 3, 4], "x has shape (4,), expected (examples, features ...)"),
        (np.zeros((0, 2)), "x has 0 examples, y has 4"),
        (csr_matrix(np.array(X) * 1j), "x is a sparse csr_matrix of complex128, expected one of numbers with two axes"),
        (csr_matrix((2, 2**32 + 1)), "x is a sparse matrix of 4294967297 columns, expected at most 4294967296"),
        ((row for row in X), "x is a generator, which can be walked through once; make a list of it"),
        (map(list, X), "x is a map, which can be walked through once; make a list of it"),
        ([[1, 2], [3], [4, 5], [6, 7]], "x makes no array: its rows have 1 to 2 numbers"),
        (Tensor(True), "x is a tensor with a gradient; take it out with .detach()"),
        (Tensor(False), "x makes no array: can't convert cuda:0 device type tensor to numpy."),
        (Tensor(False, OSError(5, "Input/output error")), "x makes no array: [Errno 5] Input/output error"),
        (Tensor(False, KeyError()), "x makes no array: KeyError"),
        (Tensor(False, ValueError("x" * 999)), f"x makes no array: {'x' * 200}"),
        (
            np.ma.masked_greater(X, 5),
            "x is a masked array, and 2 of its values are masked; fill them with .filled(...), or leave the examples out",
        ),
        (X + 1j, "x holds complex128, expected numbers; x.real is its real part"),
        (X.astype("M8[ns]"), "x holds datetime64[ns], expected numbers"),
        (X.astype("m8[s]"), "x holds timedelta64[s], expected numbers"),
        (np.zeros(4, [("a", float)]), "x holds void64, expected numbers"),
        ([[1, 2], [3, "v"], [4, 5], [6, 7]], f"x: row 1, column 1, counted from 0: got 'v', {NOT_A_NUMBER}"),
        ([[1, 2], [3, None], [4, 5], [6, 7]], f"x: row 1, column 1, counted from 0: got 'None', {NOT_A_NUMBER}"),
        ([[1, 2], [NA(), 3], [4, 5], [6, 7]], f"x: row 1, column 0, counted from 0: got '<NA>', {NOT_A_NUMBER}"),
        ([[10**400, 2]] * 4, f"x: row 0, column 0, counted from 0: got '1{'0' * 39}', {NOT_A_NUMBER}"),
        ([[datetime.date(2020, 1, 1)]] * 4, f"x: row 0, column 0, counted from 0: got '2020-01-01', {NOT_A_NUMBER}"),
        (np.array([["1"]] * 4), f"x: row 0, column 0, counted from 0: got '1', {NOT_A_NUMBER}"),
        (np.array([[b"1"]] * 4), f"x: row 0, column 0, counted from 0: got \"b'1'\", {NOT_A_NUMBER}"),
        (Frame({"c": [1, 2, 3, 4], "d": [1, 2, "v", 4]}), f"x: row 2, column 'd': got 'v', {NOT_A_NUMBER}"),
        (Frame({"c": [1, 2, 3, 4], "d": [5, 6, None, 8]}), f"x: row 2, column 'd': got 'None', {NOT_A_NUMBER}"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value[:40],
)
def test_x_that_cannot_be_used(x: Any, message: str) -> None:
    assert message_of(x, Y) == f"arrays: {message}"


def test_values_that_are_not_finite_are_named_by_the_names_of_a_frame() -> None:
    frame = Frame({"c": [1.0, 2.0, 3.0, 4.0], "d": [1.0, np.nan, 2.0, 3.0]})
    assert message_of(frame, Y) == (
        "arrays: x holds 1 value not finite in float32, the first is nan at row 1, counted from 0, column 'd'"
    )
    assert message_of(Frame({"c": [1.0], "d": [2.0], 1: [0.0], "1": [3.0]}), Y) == "arrays: x: two columns have the name '1'"


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y is None"),
        (3, "y is one value (int), expected an array"),
        (iter(Y), "y is a list_iterator, which can be walked through once; make a list of it"),
        (csr_matrix([Y]), "y is a sparse matrix; make it dense with .toarray()"),
        (["a", "b", "c", None], "y: row 3 is None, expected a number or text"),
        (["a", "b", float("nan"), "c"], "y: row 2 is nan, expected a number or text"),
        (np.array(["a", np.nan, "b", "c"], object), "y: row 1 is nan, expected a number or text"),
        ([1, 0, NA(), 1], "y: row 2 is <NA>, expected a number or text"),
        (["1", 1, "0", 0], "y: row 1 is 1, row 0 is '1', expected all numbers or all text"),
        ([1, 0, "x", 0], "y: row 2 is 'x', row 0 is 1, expected all numbers or all text"),
        ([b"cat", b"dog", b"cat", b"dog"], "y: row 0 is b'cat', bytes; .decode() makes text of them"),
        (np.array([b"cat"] * 4), "y holds bytes24, expected numbers or text; y.astype(str) makes text of them"),
        (np.array([b"cat", 1, 2, 3], object), "y: row 0 is b'cat', bytes; .decode() makes text of them"),
        ([1j, 2j, 1j, 2j], "y holds complex128, expected numbers or text"),
        (np.array(Y, "M8[D]"), "y holds datetime64[D], expected numbers or text"),
        ([[0], [1, 0], [1], [0]], "y makes no array: its rows have 1 to 2 numbers"),
        ([0.0, np.nan, 1.0, 0.0], "row 1, counted from 0: the label is missing"),
        ([0.0, np.inf, 1.0, 0.0], "row 1, counted from 0: the label is inf: numbers of so many digits are no longer "
                                  "exact; give labels as text"),
        ([0.0, 1e16, 1.0, 0.0], "row 1, counted from 0: the label is 10000000000000000: numbers of so many digits are no "
                                "longer exact; give labels as text"),
        (np.eye(4), "y has shape (4, 4), expected one label for each example; y.argmax(axis=1) makes labels of one-hot rows"),
        (np.array([0.5, 1, 0, 1], "g"), "row 0, counted from 0: the label is 0.5, expected an integer; to predict real values, use a loss "
                                        "for values"),
        ([1, 1, 1, 1], "all examples have the same label '1', expected two or more labels"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value[:40],
)  # fmt: skip
def test_y_that_cannot_be_used(y: Any, message: str) -> None:
    assert message_of(X, y, validation=0) == f"arrays: {message}"


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (["b", "a", "b", "a"], ("a", "b")),
        (np.array(["b", "a", "b", "a"], object), ("a", "b")),
        (np.array(["b", "a", "b", "a"], np.dtypes.StringDType()), ("a", "b")),
        (np.array([True, False, True, False], object), ("0", "1")),
        (np.array([3, 2, 3, 2.0], object), ("2", "3")),
        (np.ma.array([3, 2, 3, 2]), ("2", "3")),
        (np.array([2**63, 2**63 + 1] * 2, np.uint64), ("9223372036854775808", "9223372036854775809")),
        ([2**60, 2**60 + 1, 2**60, 2**60 + 1], ("1152921504606846976", "1152921504606846977")),
        ([2**70, 2**70 + 1, 2**70, 2**70 + 1], ("1180591620717411303424", "1180591620717411303425")),
        (np.array([[1], [0], [1], [0]]), ("0", "1")),
    ],
)
def test_y_of_any_container_has_the_names_of_its_labels(y: Any, names: tuple[str, ...]) -> None:
    encoding = arrays(X, y, validation=0).encoding
    assert encoding.label_names == names
    given_back = [one if isinstance(one, str) else str(int(one)) for one in encoding.labels.tolist()]
    assert given_back == list(names)


@pytest.mark.parametrize("number", [int, float, np.float16, Fraction, Decimal, bool])
def test_x_of_any_kind_of_number_is_taken(number: Any) -> None:
    cells = [[number(value % 2) for value in row] for row in X.tolist()]
    data = arrays(np.array(cells, object), Y, validation=0)
    assert sorted(data.train.x.tolist()) == [[0.0, 1.0]] * 4


def test_columns_of_a_frame_are_found_by_their_names() -> None:
    train = Frame({"b": [1, 2, 3, 4], "a": [5, 6, 7, 8]})
    other = Frame({"a": [50, 60], "text": ["v", "w"], "b": [10, 20]})
    data = arrays(train, Y, other, [0, 1])
    assert data.encoding.columns == ("b", "a")
    assert data.test is not None
    assert data.test.x.tolist() == [[10.0, 50.0], [20.0, 60.0]]
    assert given.features(other, "x", ("a",)).tolist() == [[50], [60]]
    with pytest.raises(DataError, match=r"^x has no column 'c'; it has 'a', 'text', 'b'$"):
        given.features(other, "x", ("c",))


def test_a_frame_whose_columns_are_only_counted_has_no_names() -> None:
    assert arrays(Frame({0: [1, 2, 3, 4], 1: [5, 6, 7, 8]}), Y).encoding.columns == ()
    assert given.features(Frame({0: [1], 1: [2]}), "x", ("b", "a")).tolist() == [[1, 2]]


@drawn(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2), min_size=2, max_size=9))
def test_lists_tuples_and_arrays_of_objects_are_the_same_numbers(rows: list[list[float]]) -> None:
    expected = np.array(rows)
    for same in (rows, [tuple(row) for row in rows], np.array(rows, object), np.array(rows, np.float32)):
        assert np.array_equal(given.features(same, "x"), expected)


_cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3), st.complex_numbers(),
    st.dates(), st.decimals(), st.lists(st.integers(), max_size=2),
)  # fmt: skip


@pytest.mark.robustness
@drawn(st.lists(st.lists(_cells, max_size=3), max_size=4), st.lists(_cells, max_size=4))
def test_nothing_raises_anything_but_an_error_of_ours(x: list[Any], y: list[Any]) -> None:
    for targets in ("labels", "values"):
        for pair in ((x, y), (X, y), (x, Y)):
            try:
                data = arrays(*pair, targets=targets, validation=0)  # type: ignore[arg-type]
            except DataError as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                assert np.isfinite(data.train.x).all()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "data.train = None: expected str, got None"),
        (3, "data.train = 3: expected str, got int"),
        (["a.csv", "b.csv"], "data.train = ['a.csv', 'b.csv']: expected str, got array"),
        ("", 'data.train is empty, expected a path or "digits"'),
    ],
)
def test_what_is_no_path_is_refused(path: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value) == message
    with pytest.raises(DataError, match=r"^'a\\x00\.csv': a path holds no NUL$"):
        load("a\0.csv")
