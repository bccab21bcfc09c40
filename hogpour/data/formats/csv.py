"""csv: commas or what the job says, UTF-8, an example a line, numbers in feature columns; a header names the columns.

The label column may be text. Without a header the columns are called "1", "2" ... and are found by their place. Cells
are parsed by ``float`` in pieces of some thousand lines (0.3 s for 1.2 million cells on a 2-core EPYC); only when that
fails is the cell looked for that is to blame.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import DataError
from hogpour.core.registry import nearest
from hogpour.data.formats.base import Table, Wanted, is_number, need_memory, opened

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.csv",)

_PIECE_LINES = 4096
_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'", ",": "commas", " ": "spaces"}


def read(path: Path, wanted: Wanted) -> Table:
    """Read x (n, columns) float64 and y (n,) text."""
    pieces: list[npt.NDArray[np.float64]] = []
    answers: list[str] = []
    lines: list[int] = []
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        try:
            rows = csv.reader(text, delimiter=wanted.separator, strict=True, skipinitialspace=True)
            first = next((row for row in rows if not _is_blank(row) and not _is_comment(row)), [])
            names = _names(path, first, rows.line_num, wanted)
            label, columns = _columns(path, names, wanted)
            places = [names.index(column) for column in columns]
            examples = rows if wanted.header is not False else chain([first], rows)
            for numbers, piece in _pieces(path, rows, examples, len(names)):
                need_memory(path, f"more than {len(lines)} lines", 8 * len(places) * (len(lines) + len(piece)))
                pieces.append(_numbers(path, piece, numbers, names, places))
                lines += numbers
                if label:
                    answers += (row[names.index(label)].strip() for row in piece)
        except UnicodeDecodeError as exc:
            _blame_encoding(path, exc)
        except csv.Error as exc:
            with opened(path) as again:
                line = next(islice(again, rows.line_num - 1, None), b"").decode("utf-8", "replace")
            raise DataError(f"{path}: line {rows.line_num}: {exc}{_other_separator(line, wanted)}") from exc
    x = np.concatenate(pieces) if pieces else np.empty((0, len(places)))
    y = np.array(answers, np.str_) if label else None
    n_columns = (wanted.n_columns or len(names)) if wanted.header is False else 0
    return Table(x, y, label=label, columns=columns, n_columns=n_columns, line=lines.__getitem__)


def _is_blank(row: Sequence[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())


def _is_comment(row: Sequence[str]) -> bool:
    return len(row) == 1 and row[0].startswith("#")


def _names(path: Path, cells: Sequence[str], line: int, wanted: Wanted) -> list[str]:
    """Return the names of the columns, from the first line that is neither blank nor a comment."""
    if not cells:
        what = "an example" if wanted.header is False else "a header with the names of the columns"
        raise DataError(f"{path}: line 1 is empty, expected {what}")
    if wanted.header is False:
        return _numbered(path, len(cells), line, wanted)
    names = [cell.strip() for cell in cells]
    known = (*wanted.columns, wanted.label) if wanted.columns else names
    needed = [name for name in names if name in known and name not in wanted.ignore]
    odd = next((name for name in needed if is_number(name) or name == "?"), None)
    if odd is not None and wanted.header is None and not wanted.columns:
        todo = "set data.header = false if the file has no header, data.header = true if this is one"
        raise DataError(
            f"{path}: line {line} looks like an example: a column has the name {odd!r}; "
            f"{'expected a header' if wanted.predicting else todo}"
        )
    for place, name in enumerate(names):
        if name in needed and name in names[:place]:
            raise DataError(f"{path}: line {line}: two columns have the name {name!r}")
        if name in needed and not name:
            raise DataError(f"{path}: line {line}: column {place + 1} has no name; data.ignore = [\"\"] leaves it out")
    return names


def _numbered(path: Path, width: int, line: int, wanted: Wanted) -> list[str]:
    """Return "1", "2" ... as in the training file, of whose columns a file to predict may lack the label."""
    names = [str(place + 1) for place in range(wanted.n_columns or width)]
    without_label = [name for name in names if name != wanted.label]
    if width == len(names):
        return names
    if wanted.predicting and width == len(without_label):
        return without_label
    less = f", or {len(without_label)} without the label" if wanted.predicting else ""
    raise DataError(f"{path}: line {line}: got {width} cells, expected {len(names)} as in the training file{less}")


def _columns(path: Path, names: list[str], wanted: Wanted) -> tuple[str, tuple[str, ...]]:
    """Return the name of the label column, "" if there is none, and the names of the feature columns."""
    if wanted.label and wanted.label in wanted.ignore:
        raise DataError(f"{path}: the column {wanted.label!r} is the label, and is to be ignored")
    rest = [name for name in names if name not in wanted.ignore and name not in wanted.columns]
    label = wanted.label or (rest[-1] if rest else "")
    if wanted.predicting and not wanted.label:  # of a model that was trained on another format: there may be none
        spare = len(rest) if wanted.columns else len(rest) - wanted.n_features
        label = rest[-1] if spare == 1 else ""
    must = [wanted.label] if wanted.label and not wanted.predicting else []
    for name in (*wanted.ignore, *wanted.columns, *must):
        if name not in names:
            known = [repr(one)[1:-1] for one in names]
            hint = "; line 1 looks like an example" if any(map(is_number, names)) else nearest(name, known)
            raise DataError(f"{path}: has no column {name!r}{hint}")
    columns = wanted.columns or tuple(name for name in rest if name != label)
    if not columns:
        got = ", ".join(repr(name[:40]) for name in names[:8])
        raise DataError(f"{path}: has no feature columns, got only {got}{_other_separator(names[0], wanted)}")
    return label if label in names else "", columns


def _other_separator(text: str, wanted: Wanted) -> str:
    """Return what to do where another separator than the job's stands in a text; else ""."""
    mark = max(_SEPARATORS, key=text.count)
    if mark not in text or wanted.separator in text:
        return ""
    return f"; separated by {_SEPARATORS[mark]}? set data.separator = {json.dumps(mark)}"


def _pieces(
    path: Path, reader: Iterator[list[str]], rows: Iterator[list[str]], width: int
) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Yield line numbers and rows, some thousand at a time; blank lines are left out."""
    numbers: list[int] = []
    piece: list[list[str]] = []
    for row in rows:
        if _is_blank(row):
            continue
        number: int = reader.line_num  # type: ignore[attr-defined]
        if len(row) != width:
            raise DataError(f"{path}: line {number}: got {len(row)} cells, expected {width} as in the first line")
        numbers.append(number)
        piece.append(row)
        if len(piece) == _PIECE_LINES:
            yield numbers, piece
            numbers, piece = [], []
    if piece:
        yield numbers, piece


def _numbers(
    path: Path, piece: list[list[str]], numbers: list[int], names: list[str], places: list[int]
) -> npt.NDArray[np.float64]:
    cells = [row[place] for row in piece for place in places]
    together = "".join(cells)
    try:
        if "_" in together or not together.isascii():
            raise ValueError("what float takes and is_number does not")
        return np.fromiter(map(float, cells), np.float64, len(cells)).reshape(len(piece), len(places))
    except ValueError:
        for number, row in zip(numbers, piece):
            for place in places:
                if not is_number(row[place]):
                    raise DataError(
                        f"{path}: line {number}, column {names[place]!r}: got {row[place][:40]!r}, expected a number"
                    ) from None
        raise


def _blame_encoding(path: Path, exc: UnicodeDecodeError) -> NoReturn:
    """Raise a DataError that names the first line which is not UTF-8."""
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as at:
                shown = line[max(0, at.start - 20) : at.end].decode("ascii", "backslashreplace")
                raise DataError(
                    f"{path}: line {number}: not UTF-8 text at {shown!r} ({at.reason}); save the file as UTF-8"
                ) from exc
    raise exc
