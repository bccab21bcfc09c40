"""Words, numbers and lines of a text, for the parsers of formats in which an example is a line.

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

__all__ = ["BLANK", "NEWLINE", "ONE", "count", "line_of", "number_word", "word"]

NEWLINE, _PLUS, _MINUS, _POINT, _E, _ZERO = (np.uint8(ord(mark)) for mark in "\n+-.e0")
_LOWER, _NINE, _TEN, ONE = np.uint8(32), np.uint8(9), np.uint64(10), np.uint64(1)
BLANK = np.zeros(256, np.bool_)
BLANK[list(b" \t\r\v\f")] = True
"""Of each byte: whether it stands between two words of a line."""
_MOST_DIGITS, _MOST_EXACT = 19, np.uint64(2**53)
"""So many digits fit into 64 bits; integers up to the other are float64."""
_POWERS = np.array([float(10**k) for k in range(23)])
"""Powers of ten, all exact."""
_SPLIT = 2.0**27 + 1
_BLOCK = 1 << 20


@njit(cache=True, nogil=True)
def count(text: Array, begin: int, end: int, first: int, last: int) -> tuple[int, int]:
    """Return how many line ends there are in text[begin:end], and how many bytes from ``first`` to ``last``."""
    low, span = np.uint8(first), np.uint8(last - first)
    n_lines = n_marks = 0
    for start in range(begin, end, _BLOCK):
        # Counts of 32 bits, in which 20 GB/s are counted; with 64 it is a tenth of that.
        lines = marks = np.uint32(0)
        for byte in text[start : min(start + _BLOCK, end)]:
            lines = np.uint32(lines + np.uint32(byte == NEWLINE))
            marks = np.uint32(marks + np.uint32(np.uint8(byte - low) <= span))
        n_lines += int(np.int64(lines))
        n_marks += int(np.int64(marks))
    return n_lines, n_marks


@njit(cache=True, nogil=True)
def _digits(text: Array, at: np.uint64, number: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return a number with the digits at ``at`` behind it, modulo 2^64, and where they end."""
    while np.uint8(text[at] - _ZERO) <= _NINE:
        number = number * _TEN + np.uint64(text[at] - _ZERO)
        at += ONE
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
def number_word(text: Array, at: np.uint64, ends: Array) -> tuple[bool, float, np.uint64]:
    """Return whether the word at ``at`` is a plain number, that number, and where the word ends.

    Args:
        ends: (256,) bool: of each byte whether a word ends before it.
    """
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += ONE
    first = at
    number, end = _digits(text, at, np.uint64(0))
    n_digits, power = int(np.int64(end - at)), 0
    if text[end] == _POINT:
        at = end + ONE
        number, end = _digits(text, at, number)
        power = -int(np.int64(end - at))
        n_digits -= power
    plain = n_digits > 0
    while n_digits > _MOST_DIGITS and (text[first] == _ZERO or text[first] == _POINT):
        n_digits -= int(text[first] == _ZERO)
        first += ONE
    plain = plain and n_digits <= _MOST_DIGITS
    if text[end] | _LOWER == _E:
        at = end + ONE
        down = text[at] == _MINUS
        if down or text[at] == _PLUS:
            at += ONE
        exponent, end = _digits(text, at, np.uint64(0))
        plain = plain and bool(0 < end - at <= _MOST_DIGITS)
        power += -int(np.int64(exponent)) if down else int(np.int64(exponent))
    result: float = np.float64(number)
    if plain and ends[text[end]] and -len(_POWERS) < power < len(_POWERS) and (number <= _MOST_EXACT or power <= 0):
        if number > _MOST_EXACT:
            result = _quotient(number, _POWERS[-power])
        else:
            result = result / _POWERS[-power] if power < 0 else result * _POWERS[power]
        return True, -result if negative else result, end
    while not ends[text[end]]:
        end += ONE
    return False, result, end


@njit(cache=True, nogil=True)
def word(text: Array, at: np.uint64) -> np.uint64:
    """Return where the next word of the line begins; at its end or its comment, that."""
    while BLANK[text[at]]:
        at += ONE
    return at


@njit(cache=True, nogil=True)
def line_of(text: Array, row: int, comment: int) -> int:
    """Return the line, counted from 1, of the example ``row``; the one behind the last where there is no such one.

    Args:
        comment: the byte with which a line begins that is no example; the line end: there are none.
    """
    at, line = np.uint64(0), 1
    while at < np.uint64(text.size):
        at = word(text, at)
        if text[at] != NEWLINE and text[at] != comment:
            if row == 0:
                break
            row -= 1
        while text[at] != NEWLINE:
            at += ONE
        at += ONE
        line += 1
    return line
