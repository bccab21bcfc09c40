"""Files whose features have names: each is hashed into a number below 2^bits, and those of one number are summed.

No dictionary is kept, and none is needed to predict. Features may share a number: of 47,000 in 2^18 one in six does,
and each bit more halves that. Rows keep the order of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.errors import DataError
from hogpour.data.formats.base import Wanted, check_dense, is_number
from hogpour.data.ranges import Parsed, parsed_lines, text_of, without

__all__ = ["line_of_row", "read_hashed"]

_MARK = b"\xef\xbb\xbf"
"""With which some editors begin a text in UTF-8."""
_BLANKS = (0, ord(" "))
"""The first and the last of the bytes, one of which stands before or behind each word."""
_UNKNOWN = np.empty(0)
_SHOWN = 40


def read_hashed(
    path: Path,
    wanted: Wanted,
    parse: Callable[..., tuple[int, int, int, int, int]],
    wrong: Mapping[int, str],
    answer: tuple[Any, ...] = (np.float64,),
    most: int = 1,
) -> tuple[Csr, npt.NDArray[Any], bytearray]:
    """Return the rows of a file, float64 without zeros, what stands for their answers, and the text.

    Args:
        parse: a kernel such as ``kernels.vw.parse_vw``.
        wrong: what it may find → the message, in which {} stands for the word.
        answer: dtype and shape of what stands for an answer.
        most: features of a word, at most.

    Raises:
        DataError: a line is wrong; or the rows are to be dense, and would be far too large.
        ResourceError: there is not the memory.
    """
    if not wanted.hash_bits:
        raise DataError(f"{path}: features are hashed names, expected numbered ones as in the model's training set")
    text = _text(path)
    lines, n_features = np.frombuffer(text, np.uint8), 1 << wanted.hash_bits

    def parsed(begin: int, end: int, *room: npt.NDArray[Any]) -> Parsed:
        odd = np.empty(((end - begin) // 2 + 1, 2), np.int64)
        n, nnz, n_odd, what, place = parse(lines, begin, end, n_features - 1, *room, _UNKNOWN, odd)
        if n_odd:  # once more, with what they are
            known = np.array([_number(text[first:last]) for first, last in odd[:n_odd].tolist()])
            n, nnz, _, what, place = parse(lines, begin, end, n_features - 1, *room, known, odd)
        return n, nnz, (place, wrong[what].replace("{}", _shown(text, place), 1)) if what else None

    x, answers = parsed_lines(path, text, _BLANKS, most, parsed, answer, n_features)
    if not wanted.sparse and wanted.part == "train":
        check_dense(path, len(x), n_features, f"features are hashed into {n_features}", "set data.hash_bits lower")
    return without(x, x.values == 0, n_features), answers, text


def line_of_row(path: Path) -> Callable[[int], int]:
    """Return what says the line of an example, counted from 1: of those that are not blank."""

    def line(row: int) -> int:
        from hogpour.data.kernels.text import line_of

        return line_of(np.frombuffer(_text(path), np.uint8), row, ord("\n"))

    return line


def _text(path: Path) -> bytearray:
    text = text_of(path)
    if text.startswith(_MARK):
        text[: len(_MARK)] = b" " * len(_MARK)
    return text


def _number(word: bytearray) -> float:
    """Return the number that a word is, or NaN where it is none, or not finite."""
    digits = word.decode("latin-1")
    number = float(digits) if is_number(digits) else nan
    return number if isfinite(number) else nan


def _shown(text: bytearray, place: int) -> str:
    """Return the word at a place, or its beginning, for a message."""
    words = bytes(text[place : text.index(b"\n", place)][: 4 * _SHOWN]).split(None, 1)
    return repr(words[0].decode("utf-8", "replace")[:_SHOWN] if words else "")
