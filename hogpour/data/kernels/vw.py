"""The bytes of VowpalWabbit's and libffm's lines to hashed features, in one pass over a range of whole lines."""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.data.kernels.hashing import BEGIN, FEWEST_SLOTS, add, grown, mixed, number_or_given, with_byte
from hogpour.data.kernels.text import BLANK, NEWLINE, ONE, word

__all__ = ["BEHIND", "FEATURE", "FIELD", "IMPORTANCE", "LABEL", "NO_BAR", "SCALE", "TAG", "TOUCHES", "VALUE",
           "parse_libffm", "parse_vw"]  # fmt: skip

LABEL, IMPORTANCE, BEHIND, TAG, TOUCHES, NO_BAR, SCALE, FEATURE, VALUE, FIELD = range(1, 11)
"""What may be wrong with a word."""

_COLON, _BAR, _QUOTE, _CARET = (np.uint8(ord(mark)) for mark in ":|'^")
_BEGINS = np.zeros(256, np.bool_)
_BEGINS[list(b"+-.0123456789")] = True
"""Of each byte: whether a number may begin with it."""
_ENDS = BLANK.copy()
_ENDS[list(b"\n|")] = True
_NAME_ENDS = _ENDS.copy()
_NAME_ENDS[ord(":")] = True
_WORD_ENDS = BLANK.copy()
_WORD_ENDS[ord("\n")] = True
"""Of each byte: whether a word of VowpalWabbit, a name in it, or a word of libffm ends before it."""


@njit(cache=True, nogil=True)
def _hashed_name(text: Array, at: np.uint64, h: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return a hash with the bytes of the name at ``at`` behind it, and where the name ends."""
    while not _NAME_ENDS[text[at]]:
        h = with_byte(h, text[at])
        at += ONE
    return h, at


@njit(cache=True, nogil=True)
def _before_bar(
    text: Array, at: np.uint64, given: Array, odd: Array, n_odd: int
) -> tuple[float, np.uint64, int, int]:
    """Return the label of the example at ``at``, NaN where it has none; its first bar, and the new ``n_odd``; and 0, or
    what is wrong with the word where it stopped instead of the bar."""
    label, n_words, line = np.nan, 0, at
    while text[at] != _BAR:
        start = at
        if text[at] == NEWLINE:
            return label, line, n_odd, NO_BAR
        end = start
        while not _ENDS[text[end]]:
            end += ONE
        if text[end] == _BAR and _BEGINS[text[start]]:
            return label, start, n_odd, TOUCHES
        if text[end] == _BAR or text[start] == _QUOTE:
            at = word(text, end)
            if text[at] == NEWLINE:
                return label, line, n_odd, NO_BAR
            return label, at if text[at] == _BAR else start, n_odd, 0 if text[at] == _BAR else TAG
        number, at, n_odd = number_or_given(text, start, _ENDS, given, odd, n_odd)
        if n_words == 0:
            label = number
            if number != number:
                return label, start, n_odd, LABEL
        elif n_words > 1 or number != number:
            return label, start, n_odd, BEHIND
        elif number != 1:
            return label, start, n_odd, IMPORTANCE
        n_words += 1
        at = word(text, at)
    return label, at, n_odd, 0


@njit(cache=True, nogil=True)
def parse_vw(
    text: Array, begin: int, end: int, mask: int,
    labels: Array, ends: Array, indices: Array, values: Array, given: Array, odd: Array,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """Parse the lines text[begin:end] of VowpalWabbit.

    Args:
        mask: 2^bits - 1: numbers of features are at most that.
        labels, ends: (n_lines,) float64 and int64, written: the label of each example, NaN where it has none, and where
            its features end in the next two.
        indices, values: (n_features,) uint32 and float64, written: of each feature.
        given, odd: as in ``number_or_given``.

    Returns:
        Number of examples, of features and of odd words; and what is wrong with the first word that is, 0 for nothing,
        and its place.
    """
    n_rows = n = n_odd = 0
    slots = np.full(FEWEST_SLOTS, -1, np.int64)
    at, stop, bits = np.uint64(begin), np.uint64(end), np.uint64(mask)
    while at < stop:
        at = word(text, at)
        if text[at] != NEWLINE:
            labels[n_rows], at, n_odd, what = _before_bar(text, at, given, odd, n_odd)
            if what:
                return n_rows, n, n_odd, what, int(np.int64(at))
            first = n
            while text[at] == _BAR:
                start, scale = at, 1.0
                namespace, at = _hashed_name(text, at + ONE, BEGIN)
                if text[at] == _COLON:
                    scale, at, n_odd = number_or_given(text, at + ONE, _ENDS, given, odd, n_odd)
                    if scale != scale:
                        return n_rows, n, n_odd, SCALE, int(np.int64(start))
                namespace = with_byte(namespace, _CARET)
                at = word(text, at)
                while text[at] != NEWLINE and text[at] != _BAR:
                    start, value = at, 1.0
                    h, at = _hashed_name(text, start, namespace)
                    if at == start:
                        return n_rows, n, n_odd, FEATURE, int(np.int64(start))
                    if text[at] == _COLON:
                        value, at, n_odd = number_or_given(text, at + ONE, _ENDS, given, odd, n_odd)
                        if value != value:
                            return n_rows, n, n_odd, VALUE, int(np.int64(start))
                    if 2 * (n - first) >= slots.size:
                        slots = grown(first, n, indices, slots)
                    n = add(mixed(h) & bits, scale * value, first, n, indices, values, slots)
                    at = word(text, at)
            ends[n_rows] = n
            n_rows += 1
        at += ONE
    return n_rows, n, n_odd, 0, -1


@njit(cache=True, nogil=True)
def parse_libffm(
    text: Array, begin: int, end: int, mask: int,
    labels: Array, ends: Array, indices: Array, values: Array, given: Array, odd: Array,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """Parse the lines text[begin:end] of libffm; as ``parse_vw``, but every example has a label."""
    n_rows = n = n_odd = 0
    slots = np.full(FEWEST_SLOTS, -1, np.int64)
    at, stop, bits = np.uint64(begin), np.uint64(end), np.uint64(mask)
    while at < stop:
        at = word(text, at)
        if text[at] != NEWLINE:
            start = at
            labels[n_rows], at, n_odd = number_or_given(text, start, _WORD_ENDS, given, odd, n_odd)
            if labels[n_rows] != labels[n_rows]:
                return n_rows, n, n_odd, LABEL, int(np.int64(start))
            first = n
            at = word(text, at)
            while text[at] != NEWLINE:
                start, h = at, BEGIN
                for mark in (_CARET, _COLON):
                    name = at
                    while text[at] != _COLON and not _WORD_ENDS[text[at]]:
                        h = with_byte(h, text[at])
                        at += ONE
                    if at == name or text[at] != _COLON:
                        return n_rows, n, n_odd, FIELD, int(np.int64(start))
                    if mark == _CARET:
                        h = with_byte(h, mark)
                    at += ONE
                value, at, n_odd = number_or_given(text, at, _WORD_ENDS, given, odd, n_odd)
                if value != value:
                    return n_rows, n, n_odd, FIELD, int(np.int64(start))
                if 2 * (n - first) >= slots.size:
                    slots = grown(first, n, indices, slots)
                n = add(mixed(h) & bits, value, first, n, indices, values, slots)
                at = word(text, at)
            ends[n_rows] = n
            n_rows += 1
        at += ONE
    return n_rows, n, n_odd, 0, -1
