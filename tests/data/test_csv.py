"""What is a header, which column is what, and what else people write into csv files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core.errors import DataError
from hogpour.data.load import Data, Encoding, load, load_features

ADVICE = "set data.header = false if the file has no header, data.header = true if this is one"
Loaded = Callable[..., Data]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """Return a function that loads a text, all of it for training."""

    def load_text(text: str, **options: Any) -> Data:
        (tmp_path / "a.csv").write_bytes(text.encode())
        return load("a.csv", base=tmp_path, **{"validation": 0, **options})

    return load_text


def refused(loaded: Loaded, text: str, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        loaded(text, **options)
    return str(error.value).partition("a.csv: ")[2]


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("5.1,3.5,1.4,setosa", "5.1"),
        ("5.1,3.5,?,0", "5.1"),
        ("a,?,b,c", "?"),
        ("39, State-gov, 77516, <=50K", "39"),
        ("T,2,8,3", "2"),
        (",-1e3,x,y", "-1e3"),
        ("1,1,1,1", "1"),
        ("a,b,c,.5", ".5"),
        ("a,b,nan,c", "nan"),
        ("0,1,2,y", "0"),
    ],
)
def test_a_first_line_that_looks_like_an_example_is_not_taken_for_a_header(loaded: Loaded, first: str, name: str) -> None:
    """It was, and the first example was lost without a word."""
    assert refused(loaded, f"{first}\n{first}\n") == (
        f"line 1 looks like an example: a column has the name {name!r}; {ADVICE}"
    )


def test_without_header_columns_are_numbered_and_no_example_is_lost(loaded: Loaded) -> None:
    text = "5.1,3.5,1.4,setosa\n4.9,3.0,1.3,setosa\n6.0,2.0,5.0,virginica\n"
    data = loaded(text, header=False)
    assert data.encoding.label_names == ("setosa", "virginica")
    assert (data.encoding.label, data.encoding.columns, data.encoding.n_columns) == ("4", ("1", "2", "3"), 4)
    assert sorted(data.train.x[:, 0].tolist()) == [float(np.float32(x)) for x in (4.9, 5.1, 6.0)]
    assert refused(loaded, "a,b,y\n1,2,0\n", header=False) == "line 1, column '1': got 'a', expected a number"


def test_columns_without_names_are_found_by_their_place_when_predicting(loaded: Loaded, tmp_path: Path) -> None:
    data = loaded("9,no,1,2\n9,yes,3,4\n", header=False, label="2", ignore=("1",))
    encoding = Encoding.from_dict(data.encoding.to_dict(), {})
    for text, answers in (("8,yes,10,20\n", [1]), ("8,10,20\n", None)):
        (tmp_path / "b.csv").write_text(text)
        features = load_features("b.csv", encoding, base=tmp_path)
        assert features.x.tolist() == [[10.0, 20.0]]
        assert (None if features.y is None else features.y.tolist()) == answers
    (tmp_path / "b.csv").write_text("10,20\n")
    with pytest.raises(DataError) as error:
        load_features("b.csv", encoding, base=tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/b.csv: line 1: got 2 cells, expected 4 as in the training file, or 3 without the label"
    )
    (tmp_path / "b.csv").write_text("8,10,20\n")
    with pytest.raises(DataError, match=r"line 1: got 3 cells, expected 4 as in the training file$"):
        load("a.csv", "b.csv", base=tmp_path, header=False, label="2")


def test_a_switch_of_numpy_holds_for_the_test_file_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("8,0\n9,1\n")
    data = load("a.csv", "a.csv", base=tmp_path, header=np.False_)  # type: ignore[arg-type]
    assert data.test is not None
    assert data.test.x.tolist() == [[8.0], [9.0]]


def test_numbers_may_name_columns_where_the_job_says_so(loaded: Loaded, tmp_path: Path) -> None:
    data = loaded("0,1,y\n5,6,0\n7,8,1\n", header=True)
    assert data.encoding.columns == ("0", "1")
    (tmp_path / "b.csv").write_text("1,0\n60,50\n")
    assert load_features("b.csv", data.encoding, base=tmp_path).x.tolist() == [[50.0, 60.0]]


def test_a_file_to_predict_that_lacks_its_header_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    encoding = loaded("a,b,y\n5,6,0\n7,8,1\n").encoding
    (tmp_path / "b.csv").write_text("5,6,0\n7,8,1\n")
    with pytest.raises(DataError, match=r"has no column 'a'; line 1 looks like an example$"):
        load_features("b.csv", encoding, base=tmp_path)
    np.savez(tmp_path / "a.npz", x=[[1.0, 2.0], [3.0, 4.0]], y=[0, 1])
    with pytest.raises(DataError, match=r"line 1 looks like an example: a column has the name '5'; expected a header$"):
        load_features("b.csv", load("a.npz", base=tmp_path, validation=0).encoding, base=tmp_path)


_name = st.one_of(st.text("abc ", min_size=1, max_size=3).filter(lambda s: s.strip()), st.floats().map(repr), st.just("?"))


@given(st.lists(_name, min_size=2, max_size=5), st.integers(1, 3))
def test_every_line_is_an_example_or_the_file_is_refused(names: list[str], n: int) -> None:
    """The header, where there is one, holds no number: nothing that could have been an example."""
    lines = [",".join(names)] + [",".join([*("1" * (len(names) - 1)), str(k)]) for k in range(n + 1)]
    with TemporaryDirectory() as folder:
        Path(folder, "a.csv").write_text("\n".join(lines))
        try:
            data = load("a.csv", base=Path(folder), validation=0)
        except DataError:
            return
    assert data.train.n == n + 1
    assert not any(is_float(name) for name in names)


def is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "?"
    return True


TABLE = "x,y,t\n1,a,7\n2,b,8\n3,a,9\n4,a,7\n"


def test_the_label_is_the_last_column_that_is_not_ignored(loaded: Loaded) -> None:
    encoding = loaded(TABLE, ignore=("t",)).encoding
    assert (encoding.label, encoding.columns, encoding.label_names) == ("y", ("x",), ("a", "b"))
    encoding = loaded(TABLE, ignore=("y",)).encoding
    assert (encoding.label, encoding.columns) == ("t", ("x",))


def test_an_ignored_label_is_refused(loaded: Loaded) -> None:
    assert refused(loaded, TABLE, label="t", ignore=("t",)) == "the column 't' is the label, and is to be ignored"
    assert refused(loaded, TABLE, ignore=("x", "y", "t")) == "has no feature columns, got only 'x', 'y', 't'"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a,b,y\n1,2,no\n3,4,yes\n", {}),
        ("\n\n  \na,b,y\n1,2,no\n\n   \n3,4,yes\n\n", {}),
        ("# my data\n#\na,b,y\n1,2,no\n3,4,yes\n", {}),
        ("\ufeffa,b,y\n1,2,no\n3,4,yes\n", {}),
        ('a, "b", "y"\n1, "2", "no"\n3, "4", "yes"\n', {}),
        ("a,b,y\r\n1,2,no\r\n3,4,yes\r\n", {}),
        (",a,b,y\n0,1,2,no\n1,3,4,yes\n", {"ignore": ("",)}),
        ("a,b,y,\n1,2,no,\n3,4,yes,\n", {"ignore": ("",)}),
        (",a,,b,y\n0,1,0,2,no\n1,3,0,4,yes\n", {"ignore": ("",)}),
        ("\n# my data\n1,2,no\n\n3,4,yes\n", {"header": False}),
    ],
)
def test_what_else_people_write(loaded: Loaded, text: str, options: dict) -> None:
    train = loaded(text, **options).train
    assert sorted(train.x.tolist()) == [[1.0, 2.0], [3.0, 4.0]]
    assert train.label_names == ("no", "yes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",a,y\n0,1,2\n", 'line 1: column 1 has no name; data.ignore = [""] leaves it out'),
        ("a,y,\n0,1,\n", 'line 1: column 3 has no name; data.ignore = [""] leaves it out'),
        ("\n\na,a,y\n0,1,\n", "line 3: two columns have the name 'a'"),
        ("fixed acidity;quality\n7.4;5\n", "has no feature columns, got only 'fixed acidity;quality'; separated by ';'? "
                                           'set data.separator = ";"'),
        ("\t".join("abcdefghijklmnopqrstuvwxyz"), "has no feature columns, got only 'a\\tb\\tc\\td\\te\\tf\\tg\\th\\ti\\tj\\tk"
                                                "\\tl\\tm\\tn\\to\\tp\\tq\\tr\\ts\\tt\\t'; separated by tabs? set "
                                                'data.separator = "\\t"'),
        ('"fixed acidity";"volatile acidity";"quality"\n7.4;0.7;5\n',
         "line 1: ',' expected after '\"'; separated by ';'? set data.separator = \";\""),
        ('"a"\t"b"\n1\t5\n', "line 1: ',' expected after '\"'; separated by tabs? set data.separator = \"\\t\""),
        ('a,y\n"1"0;,5\n', "line 2: ',' expected after '\"'"), ('a,y\r"1"0;5\r', "line 2: ',' expected after '\"'"),
        ("a|b|y\n1|2|3\n", "has no feature columns, got only 'a|b|y'; separated by '|'? set data.separator = \"|\""),
        ("a,y\n1,0\n# the rest\n2,1\n", "line 3: got 1 cells, expected 2 as in the first line"),
        ("a,y\n1,0\n2,nan\n", "line 3, column 'y': the label is missing"),
        ("a,y\n1,0\n\n1e999,1\n", "x holds 1 value not finite in float32, the first is inf at line 4, column 'a'"),
        ("a,y\n1,0\n0x10,1\n", "line 3, column 'a': got '0x10', expected a number"),
        ("a,y\n1,0\n\u00a02,1\n", "line 3, column 'a': got '\\xa02', expected a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_what_to_do(loaded: Loaded, text: str, message: str) -> None:
    assert refused(loaded, text) == message


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
def test_a_model_remembers_what_stands_between_cells(separator: str, loaded: Loaded, tmp_path: Path) -> None:
    text = f'a{separator}b{separator}y\n1{separator}2.5{separator}"x{separator}z"\n3{separator}-4{separator}x\n'
    data = loaded(text, separator=separator)
    assert sorted(data.train.x.tolist()) == [[1, 2.5], [3, -4]]
    again = Encoding.from_dict(json.loads(json.dumps(data.encoding.to_dict())), {})
    assert load_features("a.csv", again, base=tmp_path).x.tolist() == [[1, 2.5], [3, -4]]


def test_a_model_file_that_does_not_say_means_commas(loaded: Loaded) -> None:
    words = loaded("a,b,y\n1,2,0\n3,4,1\n").encoding.to_dict()
    del words["separator"]
    assert Encoding.from_dict(words, {}).separator == ","


def test_commas_where_something_else_is_expected_are_named_too(loaded: Loaded) -> None:
    assert refused(loaded, "a,b\n1,2\n", separator=";").endswith("separated by commas? set data.separator = \",\"")


@pytest.mark.parametrize("name", ["a.csv", "a.svm", "images.idx3", "a.npz", "a.npy"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x1f\x8b\x08\x00\x00", "compressed by gzip; its name must end in .gz"),
        (b"\xfd7zXZ\x00\x00", "compressed by xz; its name must end in .xz"),
        (b"BZh91AY&SYabc", "compressed by bzip2; its name must end in .bz2"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a spreadsheet or another document of Office (.xls); save the table as CSV"),
        (b"\x28\xb5\x2f\xfd\x00", "compressed by zstd; unpack it, or compress it by gzip, xz or bzip2"),
        ("a,y\n1,0\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    ],
)
def test_a_file_that_is_something_else_is_named_as_that(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    encoding = load("digits").encoding
    with pytest.raises(DataError) as error:
        load_features(name, encoding, base=tmp_path)
    assert str(error.value) == f"{tmp_path}/{name}: is {what}"


@pytest.mark.parametrize("name", ["a.csv", "a.svm", "images.idx3", "a.npy"])
def test_a_spreadsheet_is_named_as_one_where_no_archive_is_expected(tmp_path: Path, name: str) -> None:
    """It "was not UTF-8"."""
    (tmp_path / name).write_bytes(b"PK\x03\x04\x14\x00\x06\x00")
    with pytest.raises(DataError, match=r": is a zip archive, such as a spreadsheet's \(.xlsx\); save the table as CSV"):
        load_features(name, load("digits").encoding, base=tmp_path)
