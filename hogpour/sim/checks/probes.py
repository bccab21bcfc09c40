"""Probes: methods of production code that are replaced while a check looks at what they do."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Look", "probe", "replaced"]

Look = Generator[None, Any, None]
"""Looks at a call: to its ``yield`` before it, and with the result that this returns after it."""


@contextmanager
def replaced(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """Replace an attribute of a class or a module while this lasts."""
    old = owner.__dict__[name]
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, old)


def probe(function: Callable[..., Any], look: Callable[..., Look | None], alive: Callable[[], bool]) -> Any:
    """Return a function that does the same, and is seen by ``look``, which is given the same arguments.

    Args:
        look: a plain function looks before the call only.
        alive: whether anybody looks; asked before each call.
    """

    def seen(*arguments: Any, **named: Any) -> Any:
        looking = look(*arguments, **named) if alive() else None
        if looking is not None:
            next(looking, None)
        result = function(*arguments, **named)
        if looking is not None:
            with suppress(StopIteration):
                looking.send(result)
        return result

    return seen
