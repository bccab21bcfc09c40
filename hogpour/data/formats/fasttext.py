"""Labelled texts as fastText takes them: a label, and words.

    __label__name word word ...

An example has one label, the first word of its line; it may be absent where a model predicts. Words are any bytes but
blanks: capitals and punctuation are the business of whoever writes the file. A word counts as often as it occurs. It is
hashed as VowpalWabbit's features without a namespace are; ``| word word`` is the same text there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import DataError
from hogpour.data.formats.base import Table, Wanted, need_memory
from hogpour.data.hashing import line_of_row, read_hashed

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.ft", "*.ft.txt", "*.fasttext")


def read(path: Path, wanted: Wanted) -> Table:
    """Read x as sparse rows (n, 2^bits) of float64, counts, and y (n,) text, empty where there is no label; None where
    there is none at all and a model predicts."""
    from hogpour.data.kernels import fasttext

    wrong = {
        fasttext.EMPTY: "got {}, expected a name behind __label__, without NUL",
        fasttext.SECOND: "got {} behind the first word, expected one label at the beginning of the line",
    }

    def parse(
        lines: npt.NDArray[np.uint8], begin: int, end: int, mask: int, *room: Any
    ) -> tuple[int, int, int, int, int]:
        n, nnz, what, place = fasttext.parse(lines, begin, end, mask, wanted.word_ngrams, *room[:4])
        return n, nnz, 0, what, place

    x, spans, text = read_hashed(path, wanted, parse, wrong, (np.int64, 2), wanted.word_ngrams)
    y = _names(path, text, spans)
    unknown = wanted.predicting and not (spans[:, 0] < spans[:, 1]).any()
    return Table(x, None if unknown else y, hash_bits=wanted.hash_bits, line=line_of_row(path))


def _names(path: Path, text: bytearray, spans: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """Return the text of the spans, (n,)."""
    places: dict[bytes, int] = {}
    found = [places.setdefault(bytes(text[begin:end]), len(places)) for begin, end in spans.tolist()]
    try:
        names = np.array([name.decode() for name in places] or [""])
    except UnicodeDecodeError as exc:
        row = found.index(places[exc.object])
        line = text.count(b"\n", 0, int(spans[row, 0])) + 1
        shown = exc.object.decode("utf-8", "replace")[:40]
        raise DataError(f"{path}: line {line}: the label {shown!r} is not UTF-8 text; save the file as UTF-8") from exc
    need_memory(path, f"labels of up to {names.itemsize // 4} characters", len(found) * names.itemsize)
    return names[np.array(found, np.int64)]
