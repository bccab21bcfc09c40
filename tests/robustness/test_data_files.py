"""Data files of every format: cut off, with wrong bytes, of another format, encoding or separator, with odd cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.robustness import REFUSED, TAKEN_OR_REFUSED, Case, cuts, flips, hold, params
from support.trained import BESIDE, DATA, MODEL, model

from hogpour.data.load import load

pytestmark = pytest.mark.robustness

TEXT = ("a.csv", "a.svm")
HEAD = {"a.npy": 128, "images.idx3": 16, "a.npz": 60, "a.csv.gz": 10}
"""Bytes of the headers, in which damage does most."""

CELLS = ("nan", "-inf", "1e999", "", "?", "word", "1_0", "\u0661", "0x1p3", '"', "'", "\0", "1 2", "é", "9" * 400, " ", "#", "1;2",
         "=1+1", "\t", "1\r", "a\nb", "-", "1:2", "99999999999:1", "qid:3", "\ufeff1", "x" * 200_000)  # fmt: skip


def case(name: str, what: str, content: bytes, predict: bool, codes: frozenset[int], model_of: str = "") -> Case:
    """A damaged file, to predict with a model of the whole one, or to train on."""
    says = (name, "labels.idx1")
    if predict or name == "a.npy":
        files = {name: content, MODEL: model(model_of or name), **BESIDE}
        return Case(name=f"predict-{name}-{what}", files=files, run=("predict", MODEL, name), says=says, codes=codes)
    return Case(name=f"load-{name}-{what}", files={name: content, **BESIDE}, run=lambda: load(name, validation=0.0), says=says, codes=codes)


def damaged() -> Iterator[Case]:
    """Beginnings of files, and files with a wrong byte. A text that is cut off may be a shorter one."""
    for name, content in DATA.items():
        for k, part in enumerate(cuts(content, 8, 1)):
            yield case(name, f"cut{k}", part, k % 2 == 0, TAKEN_OR_REFUSED if name in TEXT else REFUSED)
        for k, other in enumerate(flips(content, 10, 2)):
            yield case(name, f"flip{k}", other, k % 2 == 0, TAKEN_OR_REFUSED)
    for name, first in HEAD.items():
        for k, other in enumerate(flips(DATA[name], 16, 3, first=first)):
            yield case(name, f"head{k}", other, k % 2 == 0, TAKEN_OR_REFUSED)
    directory = DATA["a.npz"][::-1]
    for k, other in enumerate(flips(directory, 16, 4, first=130)):
        yield case("a.npz", f"directory{k}", other[::-1], k % 2 == 0, TAKEN_OR_REFUSED)


def odd() -> Iterator[Case]:
    """Files in which a cell that is drawn is another: of the header, of the features, or of the labels."""
    draw = np.random.default_rng(5)
    for k, cell in enumerate(CELLS):
        for name, mark in (("a.csv", ","), ("a.svm", " ")):
            lines = DATA[name].decode().splitlines()
            at = int(draw.integers(len(lines)))
            cells = lines[at].split(mark)
            cells[draw.integers(len(cells))] = cell
            lines[at] = mark.join(cells)
            yield case(name, f"cell-{cell[:12]!a}", "\n".join(lines).encode(), bool(k % 2), TAKEN_OR_REFUSED)


def others() -> Iterator[Case]:
    """Whole files under a name that is not theirs, and texts in other encodings and with other separators."""
    for k, name in enumerate(DATA):
        for other, content in DATA.items():
            if name.split(".")[1:] != other.split(".")[1:]:
                yield case(name, f"as-{other}", content, bool(k % 2), TAKEN_OR_REFUSED if (name, other) == ("a.csv", "a.svm") else REFUSED)
    for name in TEXT:
        text = DATA[name].decode()
        for encoding in ("utf-16", "utf-16-le", "utf-32-be", "cp037"):
            yield case(name, encoding, text.encode(encoding), encoding > "utf-2", REFUSED)
        yield case(name, "one line of a million", b"1" * 10**6, True, TAKEN_OR_REFUSED)
        for what, content in {
            "nothing": b"", "a line end": b"\n", "blanks": b"  \n\n ", "a comment": b"# words\n", "zeros": bytes(99), "latin-1": b"\xe9,\xe8\n1,0\n",
            "no numbers": b"a b c\nd e f\n", "html": b"<html>\n<body>\n", "json": b'[{"a": 1}]\n',
        }.items():  # fmt: skip
            yield case(name, what, content, what > "f", REFUSED)
    for mark in (";", "\t", "|", " ", ", ,", "\u2063", ":"):
        yield case("a.csv", f"separator-{mark!a}", DATA["a.csv"].decode().replace(",", mark).encode(), False, REFUSED)
        yield case("a.svm", f"colon-{mark!a}", DATA["a.svm"].decode().replace(":", mark if mark != ":" else "::").encode(), True, REFUSED)
    for index in ("-1", "2147483648", "9223372036854775808", "1" * 60, "1.5", "1e3", "+1", "0x2", " "):
        for predict in (False, True):
            yield case("a.svm", f"index-{index[:12]}", f"0 1:1\n1 {index}:1\n".encode(), predict, TAKEN_OR_REFUSED)
    for k, name in enumerate(
        ("none.csv", "folder/none.csv", "m.safetensors", "a", ".", "..", "/", "x" * 300 + ".csv", "a\0.csv", "a\nb.csv", "caf\udce9.csv",
         "\x1b[2J.csv", "a.csv/b.csv", "/dev/null", "/proc/self/mem.csv")
    ):  # fmt: skip
        said = "\\" if not name.isprintable() else name
        files = {"a.csv": DATA["a.csv"], MODEL: model()}
        yield Case(name=f"path-{name[:20]!a}", files=files, run=("predict", MODEL, name), says=(said,))
        yield Case(name=f"path-load-{name[:20]!a}", files=files, run=lambda name=name: load(name), says=(said,))
        if k % 2:
            yield Case(name=f"path-model-{name[:20]!a}", files=files, run=("predict", name, "a.csv"), says=(said,))


@pytest.mark.parametrize("case", params([*damaged(), *odd(), *others()], 9))
def test_a_data_file_is_taken_or_refused_in_a_line_that_names_it(case: Case, tmp_path: Path) -> None:
    hold(case, tmp_path)


@pytest.mark.parametrize("name", DATA)
def test_the_files_that_are_damaged_are_good_ones(name: str, tmp_path: Path) -> None:
    for predict in (False, True):
        hold(case(name, "", DATA[name], predict, frozenset({0})), tmp_path)
