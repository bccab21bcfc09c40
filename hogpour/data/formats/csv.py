"""csv with a header: commas, UTF-8, one example a line, numbers in every feature column.

The label column may be text. Cells are parsed by ``float`` in pieces of some thousand lines (0.3 s for 1.2 million
cells on a 2-core EPYC); only when that fails is the cell looked for that is to blame.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import DataError
from hogpour.core.registry import nearest
from hogpour.data.formats.base import Table, Wanted, need_memory, opened

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.csv",)

_PIECE_LINES = 4096


def read(path: Path, wanted: Wanted) -> Table:
    """Read x (n, columns) float32 and y (n,): float64 for values, text for labels."""
    pieces: list[npt.NDArray[np.float32]] = []
    answers: list[str] = []
    lines: list[int] = []
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        try:
            rows = csv.reader(text, strict=True)
            names = _header(path, next(rows, []), wanted.ignore)
            label, columns = _columns(path, names, wanted)
            places = [names.index(column) for column in columns]
            for numbers, piece in _pieces(path, rows, len(names)):
                need_memory(path, f"more than {len(lines)} lines", 4 * len(places) * (len(lines) + len(piece)))
                pieces.append(_numbers(path, piece, numbers, names, places))
                lines += numbers
                if label:
                    answers += (row[names.index(label)].strip() for row in piece)
        except UnicodeDecodeError as exc:
            raise DataError(f"{path}: not UTF-8 text ({exc.reason})") from exc
        except csv.Error as exc:
            raise DataError(f"{path}: line {rows.line_num}: {exc}") from exc
    x = np.concatenate(pieces) if pieces else np.empty((0, len(places)), np.float32)
    y = _answers(path, answers, lines, label, wanted) if label else None
    return Table(x, y, label=label, columns=columns, lines=np.array(lines, np.int64))


def _header(path: Path, cells: Sequence[str], ignore: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise DataError(f"{path}: line 1 is empty, expected a header with the names of the columns")
    if all(_is_number(name) for name in names):
        raise DataError(f"{path}: line 1 holds numbers only, expected a header with the names of the columns")
    for place, name in enumerate(names):
        if not name and name not in ignore:
            raise DataError(f"{path}: line 1: column {place + 1} has no name")
        if name in names[:place]:
            raise DataError(f"{path}: line 1: two columns have the name {name!r}")
    return names


def _columns(path: Path, names: list[str], wanted: Wanted) -> tuple[str, tuple[str, ...]]:
    """Return the name of the label column, "" if there is none, and the names of the feature columns."""
    label = wanted.label or names[-1]
    if not (wanted.need_y or wanted.label) and wanted.n_features == len(names) - len(wanted.ignore):
        label = ""  # nothing but features
    for name in (*wanted.ignore, *wanted.columns, *([label] if wanted.need_y else [])):
        if name not in names:
            raise DataError(f"{path}: has no column {name!r}{nearest(name, names)}")
    columns = wanted.columns or tuple(name for name in names if name != label and name not in wanted.ignore)
    if not columns:
        raise DataError(f"{path}: has no feature columns, got only {', '.join(map(repr, names))}")
    return label if label in names else "", columns


def _pieces(path: Path, rows: Iterator[list[str]], width: int) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Yield line numbers and rows, some thousand at a time; blank lines are left out."""
    numbers: list[int] = []
    piece: list[list[str]] = []
    for row in rows:
        if not row:
            continue
        number: int = rows.line_num  # type: ignore[attr-defined]
        if len(row) != width:
            raise DataError(f"{path}: line {number}: got {len(row)} cells, expected {width} as in the header")
        numbers.append(number)
        piece.append(row)
        if len(piece) == _PIECE_LINES:
            yield numbers, piece
            numbers, piece = [], []
    if piece:
        yield numbers, piece


def _numbers(
    path: Path, piece: list[list[str]], numbers: list[int], names: list[str], places: list[int]
) -> npt.NDArray[np.float32]:
    cells = chain.from_iterable([row[place] for place in places] for row in piece)
    try:
        x = np.fromiter(map(float, cells), np.float64, len(piece) * len(places))
    except ValueError as exc:
        for number, row in zip(numbers, piece):
            for place in places:
                if not _is_number(row[place]):
                    raise DataError(_not_a_number(path, number, names[place], row[place])) from exc
        raise
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
        return x.astype(np.float32).reshape(len(piece), len(places))


def _answers(path: Path, answers: list[str], lines: list[int], label: str, wanted: Wanted) -> npt.NDArray[np.generic]:
    for number, answer in zip(lines, answers):
        if wanted.targets == "values" and not _is_number(answer):
            raise DataError(_not_a_number(path, number, label, answer))
        if not answer:
            raise DataError(f"{path}: line {number}, column {label!r}: the label is empty")
    if wanted.targets == "values":
        return np.array(list(map(float, answers)), np.float64)
    return np.array(answers, np.str_)


def _not_a_number(path: Path, line: int, column: str, cell: str) -> str:
    return f"{path}: line {line}, column {column!r}: got {cell[:40]!r}, expected a number"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
