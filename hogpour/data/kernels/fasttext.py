"""The bytes of labelled texts to hashed words and runs of words, in one pass over a range of whole lines."""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.data.kernels.hashing import BEGIN, FEWEST_SLOTS, add, grown, mixed, with_byte
from hogpour.data.kernels.text import BLANK, NEWLINE, ONE, word

__all__ = ["EMPTY", "SECOND", "parse"]

EMPTY, SECOND = 1, 2
"""What may be wrong with a word."""

_PREFIX = np.frombuffer(b"__label__", np.uint8)
_ENDS = BLANK.copy()
_ENDS[ord("\n")] = True
"""Of each byte: whether a word ends before it."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def _is_label(text: Array, at: np.uint64) -> bool:
    """Whether the word at ``at`` begins with the prefix of labels."""
    for mark in _PREFIX:
        if text[at] != mark:
            return False
        at += ONE
    return True


@njit(cache=True, nogil=True)
def parse(
    text: Array, begin: int, end: int, mask: int, most: int, labels: Array, ends: Array, indices: Array, values: Array
) -> tuple[int, int, int, int]:
    """Parse the lines text[begin:end].

    Args:
        mask: 2^bits - 1: numbers of features are at most that.
        most: so many words that follow each other are a feature, and all fewer. The number of a run is, word by word,
            mixed(number so far · 0x9E3779B97F4A7C15 + number of the word), of 64 bits as each of them.
        labels, ends: (n_lines, 2) and (n_lines,) int64, written: begin and end of the label of each example, which are
            the same where it has none, and where its features end in the next two.
        indices, values: (most * n_words,) uint32 and float64, written: of each feature.

    Returns:
        Number of examples and of features; and what is wrong with the first word that is, 0 for nothing, and its place.
    """
    n_rows = n = 0
    slots = np.full(FEWEST_SLOTS, -1, np.int64)
    runs = np.empty(most, np.uint64)  # the numbers of the 1, 2 ... words before
    at, stop, bits, first_word = np.uint64(begin), np.uint64(end), np.uint64(mask), with_byte(BEGIN, np.uint8(ord("^")))
    while at < stop:
        at = word(text, at)
        if text[at] != NEWLINE:
            labels[n_rows, 0] = labels[n_rows, 1] = at
            if _is_label(text, at):
                start = at
                nul = False
                while not _ENDS[text[at]]:
                    nul = nul or text[at] == 0
                    at += ONE
                labels[n_rows, 0], labels[n_rows, 1] = start + np.uint64(_PREFIX.size), at
                if nul or labels[n_rows, 0] == labels[n_rows, 1]:
                    return n_rows, n, EMPTY, int(np.int64(start))
                at = word(text, at)
            first, n_words = n, 0
            while text[at] != NEWLINE:
                if _is_label(text, at):
                    return n_rows, n, SECOND, int(np.int64(at))
                h = first_word
                while not _ENDS[text[at]]:
                    h = with_byte(h, text[at])
                    at += ONE
                own = mixed(h)
                for k in range(min(n_words, most - 1), -1, -1):
                    runs[k] = mixed(runs[k - 1] * _FACTOR + own) if k else own
                    if 2 * (n - first) >= slots.size:
                        slots = grown(first, n, indices, slots)
                    n = add(runs[k] & bits, 1.0, first, n, indices, values, slots)
                n_words += 1
                at = word(text, at)
            ends[n_rows] = n
            n_rows += 1
        at += ONE
    return n_rows, n, 0, -1
