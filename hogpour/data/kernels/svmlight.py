"""The bytes of svmlight lines to numbers, in one pass over a range of whole lines."""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.data.kernels.text import BLANK, NEWLINE, ONE, number_word, word

__all__ = ["LARGEST_INDEX", "parse"]

LARGEST_INDEX = 2**31 - 1

_COLON, _ZERO = np.uint8(ord(":")), np.uint8(ord("0"))
_NINE, _TEN = np.uint8(9), np.uint64(10)
_ENDS = BLANK.copy()
_ENDS[list(b"\n#")] = True
"""Of each byte: whether a word ends before it."""


@njit(cache=True, nogil=True)
def _is_query(text: Array, at: np.uint64) -> bool:
    """Whether the word at ``at`` begins with "qid:"."""
    for mark in b"qid:":
        if text[at] != mark:
            return False
        at += ONE
    return True


@njit(cache=True, nogil=True)
def parse(
    text: Array, begin: int, end: int, labels: Array, ends: Array, indices: Array, values: Array, odd: Array
) -> tuple[int, int, int, int]:
    """Parse the lines text[begin:end].

    Args:
        labels, ends: (n_lines,) float64 and int64, written: the label of each example, and where its features end in
            the next two.
        indices, values: (n_colons,) uint32 and float64, written: of each feature.
        odd: (n_lines + n_colons, 3) int64, written: begin and end of each word that should be a number and is not a
            plain one; and the feature whose value it is, or -1 - the example whose label it is.

    Returns:
        Number of examples, of features and of odd words; and -1, or a place in the first wrong line, where it stopped.
    """
    n_rows = n_features = n_odd = 0
    at, stop = np.uint64(begin), np.uint64(end)
    while at < stop:
        at = word(text, at)
        if not _ENDS[text[at]]:
            start = at
            plain, labels[n_rows], at = number_word(text, start, _ENDS)
            if not plain:
                odd[n_odd, 0], odd[n_odd, 1], odd[n_odd, 2] = start, at, -1 - n_rows
                n_odd += 1
            at = word(text, at)
            if _is_query(text, at):
                while not _ENDS[text[at]]:
                    at += ONE
                at = word(text, at)
            least = np.uint64(0)
            while not _ENDS[text[at]]:
                start, index = at, np.uint64(0)
                while np.uint8(text[at] - _ZERO) <= _NINE and index <= LARGEST_INDEX:
                    index = index * _TEN + np.uint64(text[at] - _ZERO)
                    at += ONE
                if at == start or text[at] != _COLON or not least <= index <= LARGEST_INDEX:
                    return n_rows, n_features, n_odd, int(np.int64(start))
                least, start = index + ONE, at + ONE
                indices[n_features] = index
                digit = np.uint8(text[start] - _ZERO)  # counts are mostly one: asked here, three times as fast
                if digit <= _NINE and _ENDS[text[start + ONE]]:
                    values[n_features], at = digit, start + ONE
                else:
                    plain, values[n_features], at = number_word(text, start, _ENDS)
                    if not plain:
                        odd[n_odd, 0], odd[n_odd, 1], odd[n_odd, 2] = start, at, n_features
                        n_odd += 1
                n_features += 1
                at = word(text, at)
            ends[n_rows] = n_features
            n_rows += 1
        while text[at] != NEWLINE:
            at += ONE
        at += ONE
    return n_rows, n_features, n_odd, -1
