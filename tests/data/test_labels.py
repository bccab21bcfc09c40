"""A label's name is the text of the file, and the training file alone decides whether labels are numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core.errors import DataError, DataWarning
from hogpour.data.dataset import Encoding
from hogpour.data.formats.base import Table
from hogpour.data.labels import codes_of, learn, values_of
from hogpour.data.load import load, load_features


def table(y: Any, label: str = "") -> Table:
    return Table(np.zeros((len(y), 1)), np.array(y), label=label)


def learnt(*y: Any) -> tuple[str, ...]:
    return learn("file", table(y))[0]


@pytest.mark.parametrize(
    ("y", "names", "numeric"),
    [
        (["2", "10", "9"], ("2", "9", "10"), True),
        (["1", "1.0", "+1", "1.", "1.000e+00", "-0"], ("0", "1"), True),
        (["0.0", "1.0", "unknown"], ("0.0", "1.0", "unknown"), False),
        (["007", "7", "12"], ("007", "12", "7"), False),
        (["00501", "10001"], ("00501", "10001"), False),
        (["1e3", "12"], ("12", "1e3"), False),
        (["1_0", "10"], ("10", "1_0"), False),
        (["\u0661", "1"], ("1", "\u0661"), False),
        (["9007199254740993", "9007199254740992"], ("9007199254740992", "9007199254740993"), False),
        (["NA", "US"], ("NA", "US"), False),
        (["none", "nan"], ("nan", "none"), False),
        ([2**53 + 1, 2**53], ("9007199254740992", "9007199254740993"), True),
        (np.array([1, 0], np.uint8), ("0", "1"), True),
    ],
)
def test_names_are_the_text_unless_all_are_plain_numbers(y: list, names: tuple[str, ...], numeric: bool) -> None:
    assert learn("file", table(y)) == (names, numeric)
    assert codes_of("file", table(y), names, numeric, "x").max() == len(names) - 1


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "NA", "?", "null", "None", "inf"])
def test_a_missing_label_among_numbers_is_no_label(missing: str) -> None:
    with pytest.raises(DataError, match=r"^file: row 2, counted from 0, column 'y': the label is missing$"):
        learn("file", table(["0", "1", missing], "y"))


def test_an_empty_label_among_text_is_missing() -> None:
    with pytest.raises(DataError, match="the label is missing"):
        learnt("a", "", "b")


@pytest.mark.parametrize("y", [["0", "0.5"], [0.0, 0.5], ["1", "-3.25e-1"]])
def test_real_numbers_are_rather_values(y: list) -> None:
    with pytest.raises(DataError, match=r"row 1, .* expected an integer; to predict real values, use a loss for values"):
        learnt(*y)


_texts = st.one_of(
    st.integers(-20, 20).map(str), st.integers(-20, 20).map(lambda k: f"{k}.0"),
    st.sampled_from(["007", "7", "1e3", "1000", "x", "nan", "inf", "1_0", "10", "a b", "{}", "\u0661", str(2**60)]),
)  # fmt: skip


@given(st.lists(_texts, min_size=1), st.data())
def test_a_label_is_the_same_one_whatever_stands_beside_it(y: list[str], data: st.DataObject) -> None:
    """Once a test file that happened to hold numbers only did not match its training file."""
    try:
        names, numeric = learn("train", table(y))
    except DataError:
        return
    whole = codes_of("train", table(y), names, numeric, "itself")
    rows = data.draw(st.lists(st.integers(0, len(y) - 1), min_size=1))
    assert codes_of("part", table([y[row] for row in rows]), names, numeric, "train").tolist() == whole[rows].tolist()
    assert set(names) <= set(y) or numeric


@pytest.mark.parametrize(
    ("y", "shown"),
    [(["may\nbe"], "may\\nbe"), (["maybe"], "maybe"), ([7], "7"), ([7.0], "7"), ([0.5], "0.5"), (["01"], "01"), (["{}"], "{}"), ([np.inf], "inf")],
)
def test_an_unknown_label_is_named_with_those_that_are_known(y: list, shown: str) -> None:
    with pytest.raises(DataError) as error:
        codes_of("part", table(y), ("0", "{1}"), True, "train")
    assert str(error.value) == f"part: row 0, counted from 0: the label {shown} is not known to train; known: 0, {{1}}"


@pytest.mark.parametrize(
    ("train", "other", "labels"),
    [
        ("x,y\n1,007\n2,X1\n3,12\n4,007\n5,X1\n", "x,y\n1,007\n", [0]),
        ("x,y\n1,0.0\n2,1.0\n3,unknown\n4,0.0\n", "x,y\n1,0.0\n", [0]),
        ("x,y\n1,0\n2,1\n3,0\n", "x,y\n1,1.0\n", [1]),
        ("x,y\n1,1e3\n2,7\n3,7\n", "x,y\n1,7\n2,1e3\n", [1, 0]),
    ],
)
def test_a_test_file_has_the_labels_of_its_training_file(tmp_path: Path, train: str, other: str, labels: list) -> None:
    (tmp_path / "a.csv").write_text(train)
    (tmp_path / "b.csv").write_text(other)
    data = load("a.csv", "b.csv", base=tmp_path)
    assert data.test is not None
    assert data.test.y.tolist() == labels
    again = Encoding.from_dict(data.encoding.to_dict(), {})
    features = load_features("b.csv", again, base=tmp_path)
    assert features.y is not None
    assert features.y.tolist() == labels


@pytest.mark.parametrize(("names", "numeric"), [(("-1", "1"), True), (("007", "12"), False), (("a", "b"), False)])
def test_the_model_file_of_before_says_by_its_names_what_labels_are(names: tuple[str, ...], numeric: bool) -> None:
    words = {"shape": (1,), "targets": "labels", "label_names": names, "scaling": "none", "columns": ()}
    assert Encoding.from_dict(words, {}).numeric_labels is numeric


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["1", "low"], "row 1, counted from 0, column 'y': got 'low', expected a number"),
        (["1", ""], "row 1, counted from 0, column 'y': got '', expected a number"),
        (["1_0", "1"], "row 0, counted from 0, column 'y': got '1_0', expected a number"),
        (["1", "inf"], "row 1, counted from 0, column 'y': y is inf, not finite in float32"),
        (["1e300", "1"], "row 0, counted from 0, column 'y': y is 1e+300, not finite in float32"),
    ],
)
def test_values_that_are_no_numbers(y: list, message: str) -> None:
    with pytest.raises(DataError) as error:
        values_of("file", table(y, "y"))
    assert str(error.value) == f"file: {message}"


@pytest.mark.parametrize("y", [[1.7e9, 1.7e9 + 1], ["1700000000", "1700000001"], [[0, 1700000000], [0, 1700000001]]])
def test_values_that_fall_together_in_float32_have_a_word(y: list) -> None:
    where = "1, counted from 0," if isinstance(y[0], list) else "0, counted from 0,"
    with pytest.warns(DataWarning, match=f"^file: y {where} lies between 1700000000 and 1700000001, .*: subtract an offset"):
        values_of("file", table(y))


def test_values_are_read_from_text() -> None:
    assert values_of("file", table(["1.5", " -2e1 ", ".5"])).tolist() == [[1.5], [-20.0], [0.5]]


def test_answers_that_cannot_be_used_do_not_stop_a_prediction(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,no\n2,yes\n3,no\n")
    encoding = load("a.csv", base=tmp_path).encoding
    for label, why in (
        ("maybe", "the label maybe is not known to the model; known: no, yes"),
        ("?", "the label ? is not known to the model; known: no, yes"),
        ("", "the label is missing"),
        ("0", "the label 0 is not known to the model; known: no, yes"),
    ):
        (tmp_path / "b.csv").write_text(f"x,y\n1,no\n2,{label}\n")
        features = load_features("b.csv", encoding, base=tmp_path)
        assert features.x.tolist() == [[1.0], [2.0]]
        assert features.y is None
        assert features.no_y == f"{tmp_path}/b.csv: line 3, column 'y': {why}"


def test_values_that_cannot_be_used_do_not_stop_a_prediction(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,0.5\n2,1.5\n")
    encoding = load("a.csv", base=tmp_path, targets="values", validation=0).encoding
    (tmp_path / "b.csv").write_text("x,y\n1,0.5\n2,?\n")
    features = load_features("b.csv", encoding, base=tmp_path)
    assert features.y is None
    assert features.no_y == f"{tmp_path}/b.csv: line 3, column 'y': got '?', expected a number"
