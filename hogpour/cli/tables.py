"""How rows, numbers and JSON lines look: every command prints them by these."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from hogpour.core.text import encodable

__all__ = ["Columns", "cell", "duration", "print_json"]

_HUGE = 1e6


class Columns:
    """A table that is printed row by row, while there is something to tell.

    Args:
        titles: of the columns, each with its width; a cell that is wider stays one space apart from the one before it.
    """

    def __init__(self, *titles: tuple[str, int]) -> None:
        self._titles = titles

    def head(self) -> str:
        """Return the line of the titles."""
        return "".join(title.rjust(width) for title, width in self._titles)

    def row(self, cells: Iterable[str]) -> str:
        """Return the line of a row."""
        pairs = zip(cells, self._titles, strict=True)
        return "".join(" " + cell.rjust(width - 1) for cell, (_, width) in pairs)


def cell(value: float | None, form: str = ".4f") -> str:
    """Return a number as text; "-" where there is none, and few digits where a loss is huge."""
    if value is None:
        return "-"
    return format(value, ".4e" if form == ".4f" and abs(value) >= _HUGE else form)


def duration(seconds: float, virtual: bool = False) -> str:
    """Return seconds as people say them; those of a simulation, which are exact and may be days, with more digits."""
    if seconds < (120 if virtual else 59.95):
        return f"{seconds:.{1 + virtual}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24) if virtual else (0, hours)
    if days:
        return f"{days} d {hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}" + " min" * virtual


def print_json(**fields: Any) -> None:
    """Print one JSON object on a line of its own, in ASCII. Dataclasses become objects; what is not finite, null."""
    fields = {key: encodable(value) for key, value in fields.items()}
    words = msgspec.json.decode(msgspec.json.encode(fields))  # msgspec writes NaN, which JSON has not, as null
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()
