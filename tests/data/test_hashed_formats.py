"""Formats whose features have names: what a dozen lines of Python read, wherever the text is cut, and the same numbers for ever."""

from __future__ import annotations

import argparse
import gzip
import lzma
import re
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hogpour as hp
from hogpour.cli.predict import run as predict
from hogpour.core import host
from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError, DataError, LayoutError
from hogpour.data import formats, ranges
from hogpour.data.dataset import Encoding
from hogpour.data.formats.base import Table, Wanted
from hogpour.data.load import load, load_features

Row = tuple[Any, dict[int, float]]
"""The answer of an example, and its features in the order in which they came first."""

NUMBERS = {
    b"^": 0x3E594AF0AFBF879B, b"^word": 0xE7A7C04C0A81E8E8, b"f^9": 0x9D6B05CD10CB0F8E, b"user^42": 0x64FE19D651233126, "é^ü".encode(): 0x09A747DF2D0B9679, b"a^" + bytes(range(128, 160)): 0xEDEB01A20956FF68,
}  # fmt: skip
"""Names → their numbers in 64 bits. Model files were written by them."""


# -- in a dozen lines each ----------------------------------------------------------------------------------------------


def mixed(h: int) -> int:
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    h = (h ^ h >> 27) * 0x94D049BB133111EB % 2**64
    return h ^ h >> 31


def number_of(name: bytes) -> int:
    h = 14695981039346656037
    for byte in name:
        h = (h ^ byte) * 1099511628211 % 2**64
    return mixed(h)


def number(word: bytes) -> float:
    """Raise ValueError where a word is no finite number."""
    if not re.fullmatch(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", word, re.IGNORECASE) or not isfinite(float(word)):
        raise ValueError
    return float(word)


def put(row: dict[int, float], name: bytes, value: float, bits: int) -> None:
    index = number_of(name) % 2**bits
    row[index] = row[index] + value if index in row else value


def vw_row(line: bytes, bits: int) -> Row:
    before, bar, rest = line.partition(b"|")
    words, row = before.split(), dict[int, float]()
    touching = before[-1:].strip() != b""
    if not bar or (touching and words[-1][0] in b"+-.0123456789"):
        raise ValueError
    if words and (touching or words[-1][:1] == b"'"):
        words.pop()
    label, *weight = map(number, words) if words else [float("nan")]
    if weight not in ([], [1]):
        raise ValueError
    for part in rest.split(b"|"):
        namespace, *features = part.split() if part[:1].strip() else [b"", *part.split()]
        namespace, colon, scale = namespace.partition(b":")
        factor = number(scale) if colon else 1.0
        for feature in features:
            name, colon, value = feature.partition(b":")
            if not name:
                raise ValueError
            put(row, namespace + b"^" + name, factor * (number(value) if colon else 1.0), bits)
    return label, row


def ffm_row(line: bytes, bits: int) -> Row:
    label, *words = line.split()
    row: dict[int, float] = {}
    for word in words:
        field, feature, value = word.split(b":")
        if not field or not feature:
            raise ValueError
        put(row, field + b"^" + feature, number(value), bits)
    return number(label), row


def fasttext_row(line: bytes, bits: int, most: int = 2) -> Row:
    label, words, row = b"", line.split(), dict[int, float]()
    if words[0].startswith(b"__label__"):
        label = words.pop(0)[9:]
        if not label or b"\0" in label:
            raise ValueError
    if any(word.startswith(b"__label__") for word in words):
        raise ValueError
    for k in range(len(words)):
        for length in range(min(k + 1, most), 0, -1):
            h, *others = (number_of(b"^" + word) for word in words[k + 1 - length : k + 1])
            for other in others:
                h = mixed((h * 0x9E3779B97F4A7C15 + other) % 2**64)
            row[h % 2**bits] = row.get(h % 2**bits, 0) + 1.0
    return label, row


SLOW: dict[str, Callable[[bytes, int], Row]] = {"vw": vw_row, "libffm": ffm_row, "fasttext": fasttext_row}


def slow(format: str, text: bytes, bits: int) -> list[Row] | int:
    """Return all examples, or the number of the first wrong line."""
    rows: list[Row] = []
    for k, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            try:
                rows.append(SLOW[format](line, bits))
            except ValueError:
                return k
    try:
        return [(label.decode() if isinstance(label, bytes) else label, row) for label, row in rows]
    except UnicodeDecodeError as error:  # looked at when all is parsed
        return text[: text.index(b"__label__" + error.object)].count(b"\n") + 1


def read(format: str, text: bytes, **wanted: Any) -> Table:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.txt")
        path.write_bytes(text)
        return formats.find(path, "", format).read(path, Wanted(**{"sparse": True, "hash_bits": 18, "word_ngrams": 2} | wanted))


def same(format: str, text: bytes, bits: int = 18) -> bool:
    """Check what is read, or refused, against ``slow``; return whether it was read."""
    expected = slow(format, text, bits)
    if isinstance(expected, int):
        with pytest.raises(DataError, match=rf"a\.txt: line {expected}: ") as refused:
            read(format, text, hash_bits=bits)
        assert "\n" not in str(refused.value)
        return False
    table = read(format, text, hash_bits=bits)
    assert isinstance(table.x, Csr)
    assert table.y is not None
    assert table.x.shape == (len(expected), 2**bits)
    assert list(map(str, table.y.tolist())) == [str(label) for label, _ in expected]
    held = [[(index, value) for index, value in row.items() if value != 0] for _, row in expected]
    assert np.diff(table.x.indptr).tolist() == [len(row) for row in held]
    assert table.x.indices.tolist() == [index for row in held for index, _ in row]
    assert [value.hex() for value in table.x.values.tolist()] == [value.hex() for row in held for _, value in row]
    return True


# -- numbers of names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS, ids=repr)
def test_a_name_has_the_number_that_it_always_had(name: bytes) -> None:
    assert number_of(name) == NUMBERS[name]
    field, _, feature = name.partition(b"^")
    for format, text in (("vw", b"1 |%b %b" % (field, feature)), ("libffm", b"1 %b:%b:1" % (field, feature))):
        if feature and (field or format == "vw"):
            table = read(format, text, hash_bits=30)
            assert isinstance(table.x, Csr)
            assert table.x.indices.tolist() == [NUMBERS[name] % 2**30]


# -- what is read -------------------------------------------------------------------------------------------------------

VW = [
    b"1 |f a b:2\n-1 |f a\n", b"1 1.0 'tag|f:2 a:.5 b|g a |f a\n\n0|\n".replace(b"0|", b"0 |"), b"| a\n|f\n 2 tag|f b\n3 'only|a tag\ntag|f a\n", b"1e-30 1 |f a:1e-30 b:12345678901234567890 a:-1e-30\r\n",
    b"1 |f:0 a b\n1 |f a:0 b:1 b:-1\n", b"\xef\xbb\xbf1 |\xc3\xa9 \xff\0\n", b"0.5 'tag |f a|g|h:3|:2 b\n", b"", b"\n \t\r\n", b"1 |f a#b 'c\n#|\n",
]  # fmt: skip
FASTTEXT = [b"__label__a b c b c b\n__label__\xc3\xa9\tx\r\n\n__label__a\n", b"x __label_a\n__label__1 " + b"w " * 5, b"", b"\xef\xbb\xbf__label__a|: ^ \0\n"]
FFM = [b"1 f:a:1 f:b:2 g:a:.5\n0\n\n-1 0:0:0 1:1:1e-30", b"1\tf:a:1\r\n", b"12345678901234567890 \xff:\0:+1\n", b"", b"\xef\xbb\xbf1 |:|:1 #:#:1 f:a:1 f:a:2\n"]


@pytest.mark.parametrize(("format", "text"), [*(("vw", text) for text in VW), *(("libffm", text) for text in FFM), *(("fasttext", text) for text in FASTTEXT)])
def test_what_files_really_contain_is_read(format: str, text: bytes) -> None:
    assert same(format, text)
    assert same(format, text, 2)


names = st.binary(min_size=1, max_size=9).map(lambda name: bytes(set(name) - set(b" \t\r\v\f\n:|"))).filter(bool)
values = st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), st.integers(-9, 10**20).map(str), st.sampled_from(["1", "0", "2.5e-9"])).map(str.encode)
features = st.lists(st.one_of(names, st.tuples(names, values).map(b":".join)), max_size=9).map(b" ".join)
spaces = st.tuples(st.one_of(st.just(b""), names, st.tuples(names, values).map(b":".join)), features).map(b" ".join)
vw_lines = st.tuples(st.sampled_from([b"", b"1 ", b"-1 ", b"0.1 1 ", b"1 'a ", b"2 b"]), st.lists(spaces, min_size=1, max_size=3).map(b"|".join)).map(b"|".join)
ffm_lines = st.tuples(values, st.lists(st.tuples(names, names, values).map(b":".join), max_size=9).map(b" ".join)).map(b" ".join)
text_lines = st.tuples(st.sampled_from([b"", b"__label__a ", b"__label__\xc3\xa9 "]), st.lists(st.one_of(names, st.sampled_from([b"a", b"b"])), max_size=12).map(b" ".join)).map(b"".join)
LINES = {"vw": vw_lines, "libffm": ffm_lines, "fasttext": text_lines}


@pytest.mark.parametrize("format", SLOW)
@given(data=st.data())
@settings(max_examples=60)
def test_it_does_not_matter_where_the_text_is_cut(format: str, data: st.DataObject) -> None:
    text = b"\n" + data.draw(st.sampled_from([b"\n", b"\r\n", b"\n\n"])).join(data.draw(st.lists(LINES[format], max_size=6)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "_RANGE_BYTES", data.draw(st.integers(1, 60)))
        patch.setattr(host, "cores", lambda: data.draw(st.integers(1, 3)))
        assert same(format, text, data.draw(st.sampled_from([1, 5, 18, 30])))


@pytest.mark.parametrize("format", SLOW)
@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_file_is_read_as_it_is_or_refused_with_its_line(format: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_RANGE_BYTES", 1)
    monkeypatch.setattr(host, "cores", lambda: 2)
    draw = np.random.default_rng(seed)
    whole = {"vw": b"1 1 'a|f:2 a b:0.5 cd|g 1:1e-30\n-1 |f a\n\n1 b| x y z\n0.5 |f a:12345678901234567890\n", "libffm": b"1 f:a:1 g:b:0.5\n0 f:a:1e-30\n\n1 fg:ab:12 f:f:-1\n",
             "fasttext": b"__label__1 a b a\n__label__e  x ab __label_\n\n__label__1\nx y\n"}  # fmt: skip
    text = bytearray(whole[format])
    for _ in range(draw.integers(1, 4)):
        at = int(draw.integers(len(text)))
        text[at : at + int(draw.integers(3))] = bytes(draw.choice(np.frombuffer(b"0159+-.:|'e# \t\r\n\0x_^\xff", np.uint8), draw.integers(3)))
    same(format, bytes(text))


@pytest.mark.parametrize("most", range(1, 6))
def test_runs_of_words_are_features(most: int) -> None:
    words = b"the film is not the film that the book is".split()
    table = read("fasttext", b" ".join(words), word_ngrams=most)
    assert isinstance(table.x, Csr)
    _, row = fasttext_row(b" ".join(words), 18, most)
    assert dict(zip(table.x.indices.tolist(), table.x.values.tolist())) == row
    assert table.x.values.sum() == sum(len(words) - k for k in range(most))


def test_words_are_the_features_of_no_namespace() -> None:
    texts, spaces = read("fasttext", b"__label__1 a b a c\n", word_ngrams=1), read("vw", b"1 | a b a c\n")
    assert isinstance(texts.x, Csr)
    assert isinstance(spaces.x, Csr)
    assert texts.x.indices.tolist() == spaces.x.indices.tolist()
    assert texts.x.values.tolist() == spaces.x.values.tolist() == [2, 1, 1]


def test_a_label_is_text_in_utf_8() -> None:
    with pytest.raises(DataError, match=re.escape("a.txt: line 4: the label 'caf�' is not UTF-8 text; save the file as UTF-8")):
        read("fasttext", b"__label__a b\n\n__label__caf\xc3\xa9 a\n__label__caf\xe9 a\n")


@pytest.mark.parametrize("format", ["vw", "fasttext"])
def test_a_missing_label_is_named_with_its_line_where_one_is_needed(format: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text({"vw": "1 | a\n| a\n0 | b\n", "fasttext": "__label__1 a\na\n__label__0 a\n"}[format])
    with pytest.raises(DataError, match=r"a: line 2: the label is missing"):
        load("a", format=format, sparse=True, validation=0, base=tmp_path)


def test_long_rows_are_summed_as_short_ones() -> None:
    words = [b"w%d:%d" % (k % 3000, k % 7) for k in range(9000)]
    for bits in (4, 10, 18):
        assert same("vw", b"1 |f " + b" ".join(words) + b"\n1 |f " + b" ".join(words[:50]), bits)


@pytest.mark.parametrize(
    ("format", "line", "message"),
    [
        ("vw", b"x |f a", "the label is 'x', expected a number"), ("vw", b"nan |f a", "the label is 'nan', expected a number"),
        ("vw", b"1 2 |f a", "the importance weight is '2', and none but 1 can be used: leave it out, or write 1"),
        ("vw", b"1 1e-30 |f a", "the importance weight is '1e-30', and none but 1 can be used: leave it out, or write 1"),
        ("vw", b"1 x |f a", "got 'x' behind the label, expected an importance weight of 1, a tag such as 'name, or |"),
        ("vw", b"1 1 0.5 |f a", "got '0.5' behind the label, expected an importance weight of 1, a tag such as 'name, or |"),
        ("vw", b"1 'a b |f a", "the tag \"'a\" is followed by a word, expected |"),
        ("vw", b"1|f a", "got '1|f', where a number touches |, which is the place of a tag; write a space between them"),
        ("vw", b"1 a b", "got 'a' behind the label"), ("vw", b"1 1:1", "got '1:1' behind the label"), ("vw", b" 1 'a", "begins with '1' and has no |, expected label |namespace feature:value ..."),
        ("vw", b"1 |f:x a", "got '|f:x', expected |namespace:scale with a finite number"), ("vw", b"1 |f :1", "got ':1', expected feature or feature:value"),
        ("vw", b"1 |f a:", "got 'a:', expected feature:value with a finite number"), ("vw", b"1 |f a:1:1", "got 'a:1:1', expected feature:value with a finite number"),
        ("vw", b"1 |f a:1_0", "got 'a:1_0', expected feature:value with a finite number"), ("vw", b"1 |f a:1e999", "got 'a:1e999', expected feature:value with a finite number"),
        ("vw", b"1 |f " + b"\xc3\xa9" * 99 + b":x", "got '" + "é" * 40 + "', expected feature:value with a finite number"),
        ("libffm", b"1:2:3", "the label is '1:2:3', expected a number"), ("libffm", b"1 2:3", "got '2:3', expected field:feature:value with a finite number"),
        ("libffm", b"1 :2:3", "got ':2:3', expected field:feature:value with a finite number"), ("libffm", b"1 2::3", "got '2::3', expected field:feature:value with a finite number"),
        ("fasttext", b"__label__ a", "got '__label__', expected a name behind __label__, without NUL"), ("fasttext", b"__label__a\0 a", "got '__label__a\\x00', expected a name"),
        ("fasttext", b"__label__a __label__b c", "got '__label__b' behind the first word, expected one label at the beginning of the line"),
        ("libffm", b"1 1:2:inf", "got '1:2:inf', expected field:feature:value with a finite number"),
    ],
)  # fmt: skip
def test_the_first_wrong_word_is_named_with_its_line(format: str, line: bytes, message: str) -> None:
    before = {"libffm": b"1 1e-30:1:1\n\n", "vw": b"1e-30 |\n\n", "fasttext": b"a\n\n"}[format]
    with pytest.raises(DataError, match=re.escape(f"a.txt: line 3: {message}")):
        read(format, before + line + b"\n1 |f a:x __label__\n")


def test_lines_of_examples_are_told_later_too(tmp_path: Path) -> None:
    (tmp_path / "a.vw.gz").write_bytes(gzip.compress(b"\n1 | a\n'# |\n \n-1 | b\n 1 | a:1e300\n"))
    with pytest.raises(DataError, match=re.escape("a.vw.gz: x holds 1 value not finite in float32, the first is 1e+300 at line 6, index ")):
        load("a.vw.gz", sparse=True, base=tmp_path)


# -- from the file to the prediction ------------------------------------------------------------------------------------

EXAMPLES = {
    "vw": (b"1 |f warm day\n-1 |f cold day\n1 |f warm night:2\n-1 |f cold\n" * 5, b"|f warm new\n|f cold\n"),
    "libffm": (b"1 f:warm:1 g:day:1\n0 f:cold:1 g:day:1\n1 f:warm:1 g:night:2\n0 f:cold:1\n" * 5, b"9 f:warm:1 g:new:1\n9 f:cold:1\n"),
    "fasttext": (b"__label__1 warm day\n__label__no cold day\n__label__1 warm night night\n__label__no cold\n" * 5, b"warm new\ncold\n"),
}  # fmt: skip
"""What a model is trained on, and what it has to say 1 and then another label of."""


@pytest.mark.parametrize("format", EXAMPLES)
def test_what_is_predicted_is_hashed_as_what_was_trained_on(format: str, tmp_path: Path) -> None:
    for name, text in zip(("a", "b"), EXAMPLES[format]):
        (tmp_path / name).write_bytes(text)
    data = load("a", format=format, hash_bits=10, word_ngrams=2, sparse=True, validation=0, base=tmp_path)
    assert data.train.shape == (1024,)
    encoding = Encoding.from_dict(data.encoding.to_dict(), data.encoding.to_tensors())
    features = load_features("b", encoding, format=format, base=tmp_path)
    assert isinstance(features.x, Csr)
    assert encoding.by_frequency[features.x.indices[0]] in read(format, EXAMPLES[format][0], hash_bits=10).x.indices  # type: ignore[union-attr]
    assert features.y is None
    assert features.no_y == ("" if format != "libffm" else f"{tmp_path}/b: line 1: the label 9 is not known to the model; known: 0, 1")


def test_an_older_model_file_says_nothing_of_hashing(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("1 1:1\n0 2:1\n")
    encoding = load("a.svm", sparse=True, validation=0, base=tmp_path).encoding
    words = encoding.to_dict()
    del words["hash_bits"], words["word_ngrams"]
    again = Encoding.from_dict(words, encoding.to_tensors())
    assert (again.hash_bits, again.word_ngrams) == (0, 1)


@pytest.mark.parametrize(("key", "number"), [("hash_bits", 3), ("hash_bits", -1), ("hash_bits", 2**40), ("word_ngrams", 0), ("word_ngrams", 10**12)])
def test_a_model_file_whose_hashing_cannot_be_is_refused(key: str, number: int, tmp_path: Path) -> None:
    """Kernels would write past the end of their arrays."""
    (tmp_path / "a.vw").write_text("1 | a\n0 | b\n")
    encoding = load("a.vw", hash_bits=2, sparse=True, validation=0, base=tmp_path).encoding
    with pytest.raises(LayoutError, match=rf"does not say how the data were encoded .*{key} = {number}"):
        Encoding.from_dict(encoding.to_dict() | {key: number}, encoding.to_tensors())


def test_hashed_and_numbered_features_are_not_taken_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("1 1:1\n0 4:1\n")
    (tmp_path / "a.vw").write_text("1 | a\n0 | b\n")
    with pytest.raises(DataError, match=r"a\.svm: features are numbered, expected hashed names as in .*a\.vw"):
        load("a.vw", "a.svm", hash_bits=2, sparse=True, base=tmp_path)
    with pytest.raises(DataError, match=r"a\.svm: features are numbered, expected hashed names as in the model's training set"):
        load_features("a.svm", load("a.vw", hash_bits=2, sparse=True, validation=0, base=tmp_path).encoding, base=tmp_path)
    with pytest.raises(DataError, match=r"a\.vw: features are hashed names, expected numbered ones as in the model's training set"):
        load_features("a.vw", load("a.svm", sparse=True, validation=0, base=tmp_path).encoding, base=tmp_path)


def test_dense_rows_of_hashed_features_are_refused_where_they_are_far_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.vw").write_text("1 | a\n0 | b\n" * 600)
    assert load("a.vw", hash_bits=4, base=tmp_path).train.shape == (16,)
    with pytest.raises(DataError, match=r"0\.0072 MB would become 1\.3 GB of float32 values, as features are hashed into 262144; begin the model with a layer "
                       r'that takes sparse examples, such as "sparse_linear", or set data\.hash_bits lower'):  # fmt: skip
        load("a.vw", base=tmp_path)


JOB = """
[data]
train = "a.txt"
format = "{format}"
validation = 0
{keys}

[model]
layers = [{{layer = "sparse_linear", units = 1}}]
loss = "logistic"

[algorithm]
optimiser = {{name = "adagrad", lr = 0.5}}

[run]
batch = 1
epochs = 5
replicas = 1
model = "{folder}/m.safetensors"
"""


@pytest.mark.parametrize(("keys", "says"), [("hash_bits = 0", "data.hash_bits = 0, expected 1 to 30"), ("hash_bits = 31", "data.hash_bits = 31, expected 1 to 30"),
                                            ('hash_bits = "18"', "data.hash_bits = '18': expected int, got str"), ("hash_bit = 3", "did you mean"),
                                            ("word_ngrams = 0", "data.word_ngrams = 0, expected 1 to 5"), ("word_ngrams = 6", "data.word_ngrams = 6, expected 1 to 5")])  # fmt: skip
def test_a_job_file_whose_hashing_is_wrong_is_refused_with_the_key(keys: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB.format(format="vw", keys=keys, folder=tmp_path))
    with pytest.raises(ConfigError, match=rf"job\.toml: .*{re.escape(says)}"):
        hp.read_job(str(tmp_path / "job.toml"))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("format", EXAMPLES)
async def test_a_job_file_trains_a_model_that_predicts(format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in zip(("a.txt", "b.txt"), EXAMPLES[format]):
        (tmp_path / name).write_bytes(text)
    (tmp_path / "job.toml").write_text(JOB.format(format=format, keys="hash_bits = 12\nword_ngrams = 2", folder=tmp_path))
    async with hp.Node(hp.read_job(str(tmp_path / "job.toml"))) as node:
        assert (await node.wait()).outcome == "finished"
    capsys.readouterr()
    assert predict(argparse.Namespace(model=f"{tmp_path}/m.safetensors", data=f"{tmp_path}/b.txt", format=format, json=False)) == 0
    assert capsys.readouterr().out == f"1\n{ {'vw': '-1', 'libffm': '0', 'fasttext': 'no'}[format]}\n"


@pytest.mark.long
@pytest.mark.real
async def test_the_sample_of_rcv1_is_learnt(shared_data: Path) -> None:
    files = {name: f"{shared_data}/rcv1-sample/{file}.xz" for name, file in (("train", "rcv1_small.dat"), ("test", "rcv1_small_test.data"))}
    job = hp.Job(data=hp.DataConfig(**files, format="vw"), model=[hp.SparseLinear(1)], loss="logistic", algorithm=hp.Hogwild(optimiser=hp.Adagrad(0.5)), batch=1, epochs=10, replicas=1)
    async with hp.Node(job) as node:
        summary = await node.wait()
    assert summary.accuracy is not None
    assert summary.accuracy >= 0.86


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize(("word_ngrams", "least"), [(1, 0.875), (2, 0.885)])
async def test_film_reviews_are_learnt_from_their_text(word_ngrams: int, least: float, shared_data: Path, tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows = [line.split("\t") for line in lzma.decompress((shared_data / f"imdb/{name}.tsv.xz").read_bytes()).decode().split("\n") if line]
        (tmp_path / name).write_text("".join(f"__label__{label} {text}\n" for label, _, text in rows))
    data = hp.DataConfig(train=f"{tmp_path}/train", test=f"{tmp_path}/test", format="fasttext", hash_bits=22, word_ngrams=word_ngrams)
    job = hp.Job(data=data, model=[hp.SparseLinear(1)], loss="logistic", algorithm=hp.Hogwild(optimiser=hp.Adagrad(0.05)), batch=1, epochs=5, replicas=2)
    async with hp.Node(job) as node:
        summary = await node.wait()
    assert summary.accuracy is not None
    assert summary.accuracy >= least
