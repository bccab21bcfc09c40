"""What a setting may be, written once: in its annotation, for its check, its error and the reference.

    units: Annotated[int, Range(1)]
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from math import inf
from sys import float_info
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from hogpour.core import registry
from hogpour.core.errors import ConfigError

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
    """Base of dataclasses whose fields are settings: each is stored as the plain type of its annotation, or refused.

    A field may have a ``Range``, or the ``kind`` of the registry in its metadata. A class with a ``__post_init__`` of
    its own calls this one by name: in a dataclass with slots ``super()`` is another class.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        cls: type = type(self)
        for name, hint in _settings(cls):
            object.__setattr__(self, name, _checked(getattr(self, name), hint, name))
        for name, kind in _choices(cls):
            registry.check_kind(getattr(self, name), kind, name)
        check_ranges(self, cls)


def check_ranges(config: object, cls: type) -> None:
    """Raise ConfigError where a field of ``cls`` is out of its range; None, where it may be, is in all."""
    for name, limit in _ranges(cls):
        value = getattr(config, name)
        if value is not None and not limit.low <= value <= limit.high:
            raise ConfigError(f"{name} = {value}, expected {limit}")


def _checked(value: Any, hint: Any, name: str) -> Any:
    """Return a setting as the plain type of its annotation; one that is of a class, or several that are, as it is."""
    if _is_plain(hint):
        return registry.typed(value, hint, name)
    if get_origin(hint) is tuple:
        cls = get_args(hint)[0]
        if not isinstance(value, list | tuple) or not all(isinstance(one, cls) for one in value):
            raise ConfigError(f"{name} = {registry.shown(value)}: expected objects of {cls.__name__}")
        return tuple(value)
    if isinstance(hint, type) and not isinstance(value, hint):
        raise ConfigError(f"{name} = {registry.shown(value)}: expected a {hint.__name__}")
    return value


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is tuple or get_origin(hint) is UnionType:
        return all(_is_plain(one) for one in get_args(hint))
    return hint in (bool, int, float, str, type(None), ...) or get_origin(hint) is Literal


@cache
def _settings(cls: type[Any]) -> list[tuple[str, Any]]:
    hints = get_type_hints(cls)
    return [(f.name, hints[f.name]) for f in fields(cls) if f.init and "kind" not in f.metadata]


@cache
def _choices(cls: type[Any]) -> list[tuple[str, str]]:
    return [(f.name, f.metadata["kind"]) for f in fields(cls) if "kind" in f.metadata]


@cache
def _ranges(cls: type[Any]) -> list[tuple[str, Range]]:
    hints = get_type_hints(cls, include_extras=True)
    return [(f.name, limit) for f in fields(cls) for limit in getattr(hints[f.name], "__metadata__", ())]
