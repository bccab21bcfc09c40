"""The parser of svmlight: what a dozen lines of Python and scikit-learn read, wherever the text is cut into ranges."""

from __future__ import annotations

import lzma
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hogpour.core import host
from hogpour.core.csr import Csr
from hogpour.core.errors import DataError, ResourceError
from hogpour.data import ranges
from hogpour.data.formats import base, svmlight
from hogpour.data.formats.base import Table, Wanted
from hogpour.data.load import load

FILES = [
    b"1 1:1 2:2\n0 2:3 4:4\n", b"1 1:1\r\n0 2:2\r\n", b"-1\t3:0.5\t\t7:1e3 \n+1  1:-2.25", b"# a\n\n1 2:1 # b 3:1\n \t\n0 1:1#c\n#\n", b"2 qid:3 1:1 2:0\n1 qid:4:5\n0\n",
    b"1e0 0:1 000005:007\n.5 1:+1 2:-.5e-1 3:1.\n", b"1\x0b1:1\x0c2:2\n", b"nan 1:inf 2:-Infinity 3:10\n1e400 1:1e-400\n", b"1 2147483647:1\n", b"0\n1\n", b"1", b"\r\n", b"",
    b"1 1:0 2:-0 3:0e9\n0 9:0.0\n",
]  # fmt: skip


def slow(text: bytes) -> tuple[list[float], list[list[tuple[int, float]]]] | int:
    """Return labels and features of all examples; or the number of the first wrong line."""
    labels, rows = [], []
    for number, line in enumerate(text.split(b"\n"), 1):
        label, *words = line.split(b"#")[0].split() or [None]
        if label is not None:
            pairs = [word.partition(b":")[::2] for word in words[bool(words) and words[0][:4] == b"qid:" :]]
            try:
                labels.append(float("-" if b"_" in label else label))
                rows.append([(int(index if index.isdigit() else "-"), float("-" if b"_" in value else value)) for index, value in pairs])
            except ValueError:
                return number
            indices = [index for index, _ in rows[-1]]
            if indices != sorted(set(indices)) or max(indices, default=0) > 2**31 - 1:
                return number
    return labels, rows


def bits(numbers: Sequence[float]) -> list[str]:
    return [float(number).hex() for number in numbers]


def read(text: bytes, wanted: Wanted | None = None) -> Table:
    """As they are in the file: indices begin at 0."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.svm")
        path.write_bytes(text)
        return svmlight.read(path, wanted or Wanted(n_features=2**31, first_index=0))


def same(text: bytes) -> bool:
    """Check what is read, or refused, against ``slow``; return whether it was read."""
    expected = slow(text)
    if isinstance(expected, int):
        with pytest.raises(DataError, match=rf"a\.svm: line {expected}: (the label|got|the feature index) ") as refused:
            read(text)
        assert "\n" not in str(refused.value)
        return False
    table, (labels, rows) = read(text), expected
    assert isinstance(table.x, Csr)
    assert table.y is not None
    assert bits(table.y) == bits(labels)
    held = [[(index, value) for index, value in row if value != 0] for row in rows]
    assert np.diff(table.x.indptr).tolist() == [len(row) for row in held]
    assert table.x.indices.tolist() == [index for row in held for index, _ in row]
    assert bits(table.x.values) == bits([value for row in held for _, value in row])
    return True


@pytest.fixture
def tiny_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A range for every line, and threads for them."""
    monkeypatch.setattr(ranges, "_RANGE_BYTES", 1)
    monkeypatch.setattr(host, "cores", lambda: 2)


@pytest.mark.parametrize("text", FILES)
def test_what_files_really_contain_is_read(text: bytes) -> None:
    assert same(text)


@pytest.mark.parametrize("text", FILES)
def test_scikit_learn_reads_the_same(text: bytes, tmp_path: Path) -> None:
    from sklearn.datasets import load_svmlight_file

    if not text.strip():
        return
    (tmp_path / "a.svm").write_bytes(text)
    x, y = load_svmlight_file(str(tmp_path / "a.svm"), zero_based=True, dtype=np.float64)
    x.eliminate_zeros()
    table = read(text)
    assert isinstance(table.x, Csr)
    assert [table.x.indptr.tolist(), table.x.indices.tolist()] == [x.indptr.tolist(), x.indices.tolist()]
    assert bits(table.x.values) == bits(x.data)
    assert bits(table.y) == bits(y)  # type: ignore[arg-type]


WORDS = [
    st.floats().map(repr), st.floats(width=32).map(repr), st.floats().map("{:.16g}".format), st.integers(-(10**24), 10**24).map(str),
    st.decimals(allow_nan=False).map(str), st.from_regex(r"[+-]?0{0,20}[0-9]{0,20}(\.[0-9]{0,24})?([eE][+-]?0{0,3}[0-9]{0,3})?", fullmatch=True),
    st.text("0123456789.+-eE_infaxNUL", min_size=1), st.sampled_from(["9007199254740993", "1e23", "0." + "0" * 400 + "1", "9" * 400, "0e99999999999999999999", "1e-0000000000000000000005"]),
]  # fmt: skip


@given(st.lists(st.one_of(WORDS), min_size=1, max_size=40))
@example(["1e18446744073709551617", "98765432109876543210", "0.98765432109876543210", "00.0098765432109876543"])  # 2^64 and more
@settings(max_examples=300)
def test_a_number_is_what_float_makes_of_it(words: list[str]) -> None:
    taken = []
    for word in words:
        try:
            float(word)
        except ValueError:
            assert not same(f"1 1:{word}\n".encode())
            assert not same(f"1\n{word} 1:1\n".encode())
        else:
            taken.append(word)
    assert same((f"{(taken or ['0'])[0]} " + " ".join(f"{k}:{word}" for k, word in enumerate(taken))).encode())


def test_numbers_of_17_digits_are_rounded_once(rng: np.random.Generator) -> None:
    """Python writes them; with one operation every fifth would be another number."""
    words = [repr(x) for x in (rng.standard_normal(20_000) * 10.0 ** rng.integers(-4, 4, 20_000)).tolist()]
    words += [f"{n}e-{k}" for n, k in zip(rng.integers(2**53, 10**18, 10_000).tolist(), rng.integers(0, 23, 10_000).tolist())]
    assert same(b"1 " + " ".join(f"{k}:{word}" for k, word in enumerate(words)).encode())


def test_the_middle_of_two_float64_and_what_is_next_to_it_are_rounded_to_the_right_side(rng: np.random.Generator) -> None:
    """x / 2 lies in the middle for each odd x of 54 bits. No 19 digits by 10^k are closer to it than these by 1."""
    words = []
    for k in range(1, 23):
        halves = max(1, 5**k // 30).bit_length()  # of x · 5^k, so that 19 digits are left
        for aside in (-1, 0, 1):
            for x in rng.integers(2**53, 2**54, 40).tolist():
                if aside:
                    x += (-aside * pow(5**k, -1, 2**halves) - x) % 2**halves
                number = (x * 5**k + aside) >> (halves if aside else 0)
                words += [f"{number}e-{k}"] if 2**53 < number < 10**19 else []
    assert len(words) > 1_500
    assert same(b"1 " + " ".join(f"{k}:{word}" for k, word in enumerate(words)).encode())


lines = st.one_of(st.sampled_from([b"", b" ", b"# 1:1", b"1", b"1 1:1#2:2", b"1 qid:1 5:5", b"0 1:0 3:3", b"-1 1:1.5 2:1e-9", b"0.12345678901234567891 7:0.12345678901234567891"]))


@given(st.lists(lines, max_size=12), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.integers(1, 60), st.integers(1, 3))
@example([b"1 1:1"] * 6, b"\n", 6, 2)
def test_it_does_not_matter_where_the_text_is_cut(some: list[bytes], end: bytes, size: int, cores: int) -> None:
    """What is left free in one range moves all that follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "_RANGE_BYTES", size)
        patch.setattr(host, "cores", lambda: cores)
        assert same(end.join(some))
        assert same(end.join([*some, b""]))


def test_ranges_are_parsed_by_several_threads_at_once(monkeypatch: pytest.MonkeyPatch, tiny_ranges: None) -> None:
    """Each waits for the other here."""
    both = threading.Barrier(2, timeout=20)
    each = ranges._each
    monkeypatch.setattr(ranges, "_each", lambda parsed, n: each(lambda k: (both.wait(), parsed(k))[1], n))
    assert same(b"1 1:1\n" * 5 + b"1 1:1")


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_file_is_read_as_it_is_or_refused_with_its_line(seed: int, tiny_ranges: None) -> None:
    draw = np.random.default_rng(seed)
    rows = [" ".join(f"{k}:{draw.normal():.{draw.integers(20)}g}" for k in range(draw.integers(9))) for _ in range(6)]
    text = bytearray("".join(f"{label} {row}\n" for label, row in zip(draw.integers(-1, 2, 6).tolist(), rows)).encode())
    for _ in range(draw.integers(1, 4)):
        at = int(draw.integers(len(text)))
        text[at : at + int(draw.integers(3))] = bytes(draw.choice(np.frombuffer(b"0159+-.:eE# \t\r\n\0xq_\xff", np.uint8), draw.integers(3)))
    same(bytes(text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1 +1:1", "got '+1:1', expected index:value"), (b"1 1_0:1", "got '1_0:1', expected index:value"), (b"1 :1", "got ':1', expected index:value"),
        (b"1 1:", "got '1:', expected index:value"), (b"1 1:#2", "got '1:', expected index:value"), (b"1 1:1:1", "got '1:1:1', expected index:value"),
        (b"1 qid 1:1", "got 'qid', expected index:value"), (b"1,2 1:1", "the label is '1,2', expected a number"), (b"1:1", "the label is '1:1', expected a number"),
        (b"1 2:1 2:1", "the feature index 2 follows 2, expected ascending ones"), (b"1 0000002147483648:1", "the feature index is 0000002147483648, expected at most 2147483647"),
        (b"1 18446744073709551617:1", "the feature index is 18446744073709551617, expected at most 2147483647"),
        (b"\xef\xbb\xbf1 1:1", "the label is '\ufffd\ufffd\ufffd1', expected a number"), (b"no 1:1 2:x 1", "the label is 'no', expected a number"),
    ],
)  # fmt: skip
def test_the_first_wrong_word_is_named_with_its_line(line: bytes, message: str, tiny_ranges: None) -> None:
    for before in (b"", b"1 1:1\n\n# 1\n1 1:0.12345678901234567891\n"):
        with pytest.raises(DataError, match=re.escape(f"a.svm: line {before.count(b'%c' % 10) + 1}: {message}")):
            read(before + line + b"\n1 2:1 1:1\nx\n")


def test_a_value_of_0_is_left_out_and_its_index_counts() -> None:
    table = read(b"1 2:1 5:0\n0 0:0\n", Wanted())
    assert isinstance(table.x, Csr)
    assert (table.first_index, table.x.shape, table.x.nnz) == (0, (2, 6), 1)
    assert table.x.toarray().tolist() == [[0, 0, 1, 0, 0, 0], [0] * 6]


def test_lines_of_examples_are_told_later_too(tmp_path: Path) -> None:
    (tmp_path / "a.svm.xz").write_bytes(lzma.compress(b"# x\n1 1:1\n\n  \n0\n1 2:1"))
    table = svmlight.read(tmp_path / "a.svm.xz", Wanted())
    assert table.line is not None
    assert [table.line(row) for row in range(3)] == [2, 5, 6]
    (tmp_path / "a.svm.xz").write_bytes(lzma.compress(b"1\n"))
    assert table.line(2) == 3  # of a file that was replaced: no place beyond its end is read


def test_rows_that_stay_sparse_need_no_memory_of_dense_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were refused, also where a machine has less."""
    monkeypatch.setattr(host, "available_memory", lambda: 10**7)
    monkeypatch.setattr(base, "_LARGE", 10**6)
    (tmp_path / "a.svm").write_bytes(b"0 1:1\n1 200000:1\n")
    assert load(tmp_path / "a.svm", validation=0, sparse=True).train.shape == (200000,)
    with pytest.raises(DataError, match=r"would become 0\.0 GB of float32 values"):
        load(tmp_path / "a.svm", validation=0)


def test_memory_for_the_features_themselves_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "available_memory", lambda: 10**10)
    (tmp_path / "a.svm").write_bytes(b"0 1:1\n1 2147483647:1\n")
    with pytest.raises(ResourceError, match=r"a\.svm: 2147483647 features need 51\.5 GB of memory, 10\.0 GB are avail"):
        load(tmp_path / "a.svm", validation=0, sparse=True)


@pytest.mark.parametrize(("memory", "what"), [(7, "its bytes"), (1000, "51 lines with 50 values")])
def test_memory_is_asked_for_before_it_is_taken(monkeypatch: pytest.MonkeyPatch, memory: int, what: str) -> None:
    monkeypatch.setattr(host, "available_memory", lambda: memory)
    with pytest.raises(ResourceError, match=rf"a\.svm: {what} need 0\.0 GB of memory, 0\.0 GB are available"):
        read(b"1 1:1\n" * 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a9a/a9a.xz", "imdb/imdb_bow_test.svm.xz", "reuters21578/modapte_earn_ltc_test.svm.xz"])
def test_real_files_are_read_as_scikit_learn_does(name: str, shared_data: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_svmlight_file

    path = tmp_path / "a.svm"
    path.write_bytes(lzma.decompress((shared_data / name).read_bytes()))
    x, y = load_svmlight_file(str(path), zero_based=True, dtype=np.float64)
    table = svmlight.read(path, Wanted(n_features=x.shape[1], first_index=0))
    assert isinstance(table.x, Csr)
    assert np.array_equal(table.x.indptr, x.indptr)
    assert np.array_equal(table.x.indices, x.indices)
    assert table.x.values.tobytes() == x.data.tobytes()
    assert np.array_equal(table.y, y)  # type: ignore[arg-type]
