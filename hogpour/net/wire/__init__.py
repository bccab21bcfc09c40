"""Messages, one file for each request and its answer. A message is found by its file; its number is its own."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hogpour.net.wire.base import Message

__all__ = ["answers", "kinds"]


@cache
def kinds() -> dict[int, type[Message]]:
    """Return every message by its number."""
    found: dict[int, type[Message]] = {}
    for file in pkgutil.iter_modules(__path__):
        for cls in vars(importlib.import_module(f"{__name__}.{file.name}")).values():
            ours = getattr(cls, "__module__", "") == f"{__name__}.{file.name}"
            if ours and isinstance(cls, type) and issubclass(cls, Message) and cls is not Message:
                assert cls.KIND not in found, f"{cls.__name__} and {found[cls.KIND].__name__} share {cls.KIND}"
                found[cls.KIND] = cls
    return found


@cache
def answers() -> dict[type[Message], type[Message]]:
    """Return the message that answers each request. What is not in it is no request."""
    named = {cls.__name__: cls for cls in kinds().values()}
    assert len(named) == len(kinds()), "two messages share a name"
    return {cls: named[cls.ANSWER] for cls in kinds().values() if cls.ANSWER}
