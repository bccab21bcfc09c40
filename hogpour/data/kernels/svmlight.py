"""The bytes of svmlight lines to numbers, in one pass over a range of whole lines.

Text is uint8, and its last byte is a line end, as is that of every range: a loop that stops at one needs no other
bound. Places in it are unsigned, as numba asks of every signed one whether it counts from the end; where such a number
meets one that may be negative it is made signed first, as numba would make float64 of both.

A number whose digits are an integer up to 2^53 and whose power of ten is at most 22 is the product or the quotient of
two float64 that are exact, so one operation rounds it correctly (Clinger 1990, How to read floating point numbers
accurately). With up to 19 digits, as Python writes them, a quotient is corrected by what is left over. All others are
left to Python's ``float``.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit

__all__ = ["LARGEST_INDEX", "count", "line_of", "parse"]

LARGEST_INDEX = 2**31 - 1

_NEWLINE, _PLUS, _MINUS, _POINT, _COLON, _E, _ZERO = (np.uint8(ord(mark)) for mark in "\n+-.:e0")
_LOWER, _NINE, _TEN, _ONE = np.uint8(32), np.uint8(9), np.uint64(10), np.uint64(1)
_BLANK, _ENDS = np.zeros(256, np.bool_), np.zeros(256, np.bool_)
_BLANK[list(b" \t\r\v\f")] = _ENDS[list(b" \t\r\v\f\n#")] = True
"""Of each byte: whether it stands between two words of a line, and whether a word ends before it."""
_MOST_DIGITS, _MOST_EXACT = 19, np.uint64(2**53)
"""So many digits fit into 64 bits; integers up to the other are float64."""
_POWERS = np.array([float(10**k) for k in range(23)])
"""Powers of ten, all exact."""
_SPLIT = 2.0**27 + 1
_BLOCK = 1 << 20


@njit(cache=True, nogil=True)
def count(text: Array, begin: int, end: int) -> tuple[int, int]:
    """Return how many line ends and colons there are in text[begin:end]: no more examples, and no more features."""
    n_lines = n_colons = 0
    for first in range(begin, end, _BLOCK):
        # Counts of 32 bits, in which 20 GB/s are counted; with 64 it is a tenth of that.
        lines = colons = np.uint32(0)
        for byte in text[first : min(first + _BLOCK, end)]:
            lines = np.uint32(lines + np.uint32(byte == _NEWLINE))
            colons = np.uint32(colons + np.uint32(byte == _COLON))
        n_lines += int(np.int64(lines))
        n_colons += int(np.int64(colons))
    return n_lines, n_colons


@njit(cache=True, nogil=True)
def _digits(text: Array, at: np.uint64, number: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return a number with the digits at ``at`` behind it, modulo 2^64, and where they end."""
    while np.uint8(text[at] - _ZERO) <= _NINE:
        number = number * _TEN + np.uint64(text[at] - _ZERO)
        at += _ONE
    return number, at


@njit(cache=True, nogil=True)
def _quotient(number: np.uint64, divisor: float) -> float:
    """Return the nearest float64 to a number below 10^19 by one of ``_POWERS``.

    The rest, number - near · divisor, is a multiple of a power of two, and at most 1.5 · 5^22 of it: it has 53 bits,
    and is found exactly. The quotient is the middle of two float64, or away from it by half their distance / 5^22 at
    least, while the correction is rounded by less: 5^22 < 2^52. So what is added at last is rounded to the right side.
    """
    high = np.float64(number)
    near = high / divisor
    # The exact product, by halves of both whose products are exact (Dekker 1971).
    upper, left = _SPLIT * near, _SPLIT * divisor
    upper, left = upper - (upper - near), left - (left - divisor)
    lower, right = near - upper, divisor - left
    product = near * divisor
    error = (upper * left - product + upper * right + lower * left) + lower * right
    rest = (high - product - error) + np.float64(np.int64(number - np.uint64(high)))
    return near + rest / divisor


@njit(cache=True, nogil=True)
def _number(text: Array, at: np.uint64) -> tuple[bool, float, np.uint64]:
    """Return whether the word at ``at`` is a plain number, that number, and where the word ends."""
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += _ONE
    first = at
    number, end = _digits(text, at, np.uint64(0))
    n_digits, power = int(np.int64(end - at)), 0
    if text[end] == _POINT:
        at = end + _ONE
        number, end = _digits(text, at, number)
        power = -int(np.int64(end - at))
        n_digits -= power
    plain = n_digits > 0
    while n_digits > _MOST_DIGITS and (text[first] == _ZERO or text[first] == _POINT):
        n_digits -= int(text[first] == _ZERO)
        first += _ONE
    plain = plain and n_digits <= _MOST_DIGITS
    if text[end] | _LOWER == _E:
        at = end + _ONE
        down = text[at] == _MINUS
        if down or text[at] == _PLUS:
            at += _ONE
        exponent, end = _digits(text, at, np.uint64(0))
        plain = plain and bool(0 < end - at <= _MOST_DIGITS)
        power += -int(np.int64(exponent)) if down else int(np.int64(exponent))
    result: float = np.float64(number)
    if plain and _ENDS[text[end]] and -len(_POWERS) < power < len(_POWERS) and (number <= _MOST_EXACT or power <= 0):
        if number > _MOST_EXACT:
            result = _quotient(number, _POWERS[-power])
        else:
            result = result / _POWERS[-power] if power < 0 else result * _POWERS[power]
        return True, -result if negative else result, end
    while not _ENDS[text[end]]:
        end += _ONE
    return False, result, end


@njit(cache=True, nogil=True)
def _word(text: Array, at: np.uint64) -> np.uint64:
    """Return where the next word of the line begins; at its end or its comment, that."""
    while _BLANK[text[at]]:
        at += _ONE
    return at


@njit(cache=True, nogil=True)
def _is_query(text: Array, at: np.uint64) -> bool:
    """Whether the word at ``at`` begins with "qid:"."""
    for mark in b"qid:":
        if text[at] != mark:
            return False
        at += _ONE
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
        at = _word(text, at)
        if not _ENDS[text[at]]:
            start = at
            plain, labels[n_rows], at = _number(text, start)
            if not plain:
                odd[n_odd, 0], odd[n_odd, 1], odd[n_odd, 2] = start, at, -1 - n_rows
                n_odd += 1
            at = _word(text, at)
            if _is_query(text, at):
                while not _ENDS[text[at]]:
                    at += _ONE
                at = _word(text, at)
            least = np.uint64(0)
            while not _ENDS[text[at]]:
                start, index = at, np.uint64(0)
                while np.uint8(text[at] - _ZERO) <= _NINE and index <= LARGEST_INDEX:
                    index = index * _TEN + np.uint64(text[at] - _ZERO)
                    at += _ONE
                if at == start or text[at] != _COLON or not least <= index <= LARGEST_INDEX:
                    return n_rows, n_features, n_odd, int(np.int64(start))
                least, start = index + _ONE, at + _ONE
                indices[n_features] = index
                digit = np.uint8(text[start] - _ZERO)  # counts are mostly one: asked here, three times as fast
                if digit <= _NINE and _ENDS[text[start + _ONE]]:
                    values[n_features], at = digit, start + _ONE
                else:
                    plain, values[n_features], at = _number(text, start)
                    if not plain:
                        odd[n_odd, 0], odd[n_odd, 1], odd[n_odd, 2] = start, at, n_features
                        n_odd += 1
                n_features += 1
                at = _word(text, at)
            ends[n_rows] = n_features
            n_rows += 1
        while text[at] != _NEWLINE:
            at += _ONE
        at += _ONE
    return n_rows, n_features, n_odd, -1


@njit(cache=True, nogil=True)
def line_of(text: Array, row: int) -> int:
    """Return the line, counted from 1, of the example ``row``; the one behind the last where there is no such one."""
    at, line = np.uint64(0), 1
    while at < np.uint64(text.size):
        at = _word(text, at)
        if not _ENDS[text[at]]:
            if row == 0:
                break
            row -= 1
        while text[at] != _NEWLINE:
            at += _ONE
        at += _ONE
        line += 1
    return line
