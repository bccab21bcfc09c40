"""The numbers that a setting may be, written once: in its annotation, for its check, its error and the reference.

    units: Annotated[int, Range(1)]
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from math import inf
from sys import float_info
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

__all__ = ["FINITE", "TINY", "AboveZero", "Checked", "Count", "Fraction", "Natural", "Nonnegative", "Positive", "Range",
           "check_ranges"]  # fmt: skip

FINITE = float_info.max
"""As the upper end of a range: every number but infinity."""
TINY = 5e-324
"""As the lower end of a range: every number above 0. The smallest float."""


class Range(NamedTuple):
    """A closed range. NaN is in none."""

    low: float
    high: float = inf
    words: str = ""
    """Instead of the two numbers; for an open end, whose number is the float next to it."""

    def __str__(self) -> str:
        if self.words or self.high < inf:
            low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in self[:2])
            return self.words or f"{low} to {high}"
        return f"at least {self.low}" if self.low else "0 or more"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
AboveZero = Annotated[float, Range(TINY, FINITE, "above 0 and finite")]
Positive = Annotated[float, Range(1e-30, 1e30)]
"""What float32 can still compute with, as the next."""
Nonnegative = Annotated[float, Range(0, 1e30)]


class Checked:
    """Base of dataclasses whose fields may have a ``Range``: one that is out of it is refused.

    A class with a ``__post_init__`` of its own calls this one by name: in a dataclass with slots ``super()`` is another
    class.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        check_ranges(self, type(self))


def check_ranges(config: object, cls: type) -> None:
    """Raise ValueError where a field of ``cls`` is out of its range, or None where it may not be."""
    for name, limit, optional in _ranges(cls):
        value = getattr(config, name)
        if not (optional if value is None else limit.low <= value <= limit.high):
            raise ValueError(f"{name} = {value}, expected {limit}")


@cache
def _ranges(cls: type[Any]) -> list[tuple[str, Range, bool]]:
    """Return fields, their ranges, and whether they may be None."""
    hints = get_type_hints(cls, include_extras=True)
    return [
        (f.name, limit, type(None) in get_args(hints[f.name].__origin__))
        for f in fields(cls)
        for limit in getattr(hints[f.name], "__metadata__", ())
    ]
