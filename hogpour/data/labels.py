"""Answers: labels by their names, or values.

A label's name is the text of the file. Where every label of the training set is a plain number, they are numbers, and
named as integers: "1" and "1.0" are one label, and 10 comes after 9. That is decided once, by the training set, and
kept in the encoding; in a text with leading zeros, such as "007", every character counts.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import DataError
from hogpour.data.features import warn_of_rounding
from hogpour.data.formats.base import Table, is_number
from hogpour.data.scaling import is_finite

__all__ = ["are_numbers", "codes_of", "learn", "values_of"]

_PLAIN = re.compile(r"[+-]?(0|[1-9][0-9]{0,14})(\.[0-9]*(e[+-]?[0-9]+)?)?", re.IGNORECASE)
"""With an exponent only behind a point, as numpy writes; "1e3" is rather a code. Ids of more digits are text."""
_SHOWN = 60
_MISSING = {"", "?", "na", "n/a", "nan", "null", "none", "<na>", "inf", "-inf"}
"""What stands for a label that is not known, where the others are numbers."""


def learn(source: str, table: Table) -> tuple[tuple[str, ...], bool]:
    """Return the names of a training set's labels, in their order, and whether they are numbers."""
    found, codes = _distinct(source, table)
    bad = np.zeros(len(found), np.bool_)
    numbers: Any = found
    if found.dtype.kind == "U":
        texts = found.tolist()
        plain = [_PLAIN.fullmatch(text) is not None for text in texts]
        bad = np.array([not text for text in texts])
        if any(plain):
            missing = [not is_plain and text.lower() in _MISSING for text, is_plain in zip(texts, plain)]
            if all(map(max, missing, plain)):
                bad |= missing
        if bad.any():
            _blame(source, table, codes, bad, "the label is missing")
        if not all(plain):
            return tuple(texts), False
        numbers = np.array(texts, np.float64)
    if numbers.dtype.kind == "f":
        with np.errstate(over="ignore"):  # of longer floats
            numbers = numbers.astype(np.float64)
        _blame(source, table, codes, np.isnan(numbers), "the label is missing")
        _blame(source, table, codes, numbers != np.rint(numbers),
               "the label is {}, expected an integer; to predict real values, use a loss for values")  # fmt: skip
        _blame(source, table, codes, np.abs(numbers) >= 2**53,
               "the label is {}: numbers of so many digits are no longer exact; give labels as text")  # fmt: skip
    return tuple(map(str, sorted(set(map(int, numbers))))), True


def are_numbers(names: tuple[str, ...]) -> bool:
    """Return whether the labels of a model file that does not say so are numbers."""
    return all(_PLAIN.fullmatch(name) for name in names)


def codes_of(
    source: str, table: Table, names: tuple[str, ...], numeric: bool, known_by: str
) -> npt.NDArray[np.int64]:
    """Return y as labels, (n,) int64: the places of their names.

    Raises:
        DataError: a label is not one of them.
    """
    found, codes = _distinct(source, table)
    labels = {name: label for label, name in enumerate(names)}
    places = np.array([labels.get(_name(label, numeric), -1) for label in found.tolist()], np.int64)
    known = ", ".join(map(_shown, names[:20])) + (", ..." if len(names) > 20 else "")
    missing = found == "" if found.dtype.kind == "U" else found != found
    _blame(source, table, codes, missing, "the label is missing")
    _blame(source, table, codes, places < 0, f"the label {{}} is not known to {known_by}; known: {known}")
    return places[codes]


def values_of(source: str, table: Table) -> npt.NDArray[np.float32]:
    """Return y as values, (n, n_values) float32.

    Raises:
        DataError: they are no numbers, or not finite.
    """
    y = table.y
    assert y is not None
    if y.ndim > 2 or not y.size:
        raise DataError(f"{source}: y has shape {y.shape}, expected one or more numbers for each example")
    if y.dtype.kind == "U":
        for row, text in enumerate(y.ravel().tolist()):
            if not is_number(text):
                where = table.where(row // (y.size // len(y)), table.label)
                raise DataError(f"{source}: {where}: got {text[:40]!r}, expected a number")
        y = y.astype(np.float64)
    with np.errstate(over="ignore"):
        values = y.astype(np.float32).reshape(len(y), -1)
    if not is_finite(values):
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DataError(f"{source}: {table.where(row, table.label)}: y is {y[row]}, not finite in float32")
    warn_of_rounding(source, y, [y], [table.label] if table.label else [], "y", "subtract an offset from it")
    return values


def _distinct(source: str, table: Table) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the distinct labels as they stand, sorted, and for each example its place among them."""
    y = table.y
    assert y is not None
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = "; y.argmax(axis=1) makes labels of one-hot rows" if y.ndim == 2 and y.shape[1] else ""
        raise DataError(f"{source}: y has shape {y.shape}, expected one label for each example{hint}")
    return np.unique(y, return_inverse=True)


def _name(label: Any, numeric: bool) -> str:
    """Return what a label, text or a number, is called."""
    if isinstance(label, str):
        number = float(label) if numeric and _PLAIN.fullmatch(label) else None
    else:
        number = label
    if number is None or not (isinstance(number, int) or number.is_integer()):
        return str(label)
    return str(int(number))


def _shown(name: str) -> str:
    """Return a name for a message: in one line, not too long, without quotes."""
    return repr(name[:_SHOWN])[1:-1]


def _blame(source: str, table: Table, codes: npt.NDArray[np.int64], bad: npt.NDArray[np.bool_], what: str) -> None:
    """Raise DataError for the first example whose label is bad, if there is one; {} stands for the label."""
    rows = np.flatnonzero(bad[codes])
    if rows.size:
        assert table.y is not None
        row = int(rows[0])
        label = _shown(_name(table.y.ravel()[row : row + 1].tolist()[0], False))
        raise DataError(f"{source}: {table.where(row, table.label)}: {what.replace('{}', label, 1)}")
