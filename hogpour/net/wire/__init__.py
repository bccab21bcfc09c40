"""Messages, one file for each request and its answer. A message is found by its file; its number is its own."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hogpour.net.wire.base import Message

__all__ = ["kinds"]


@cache
def kinds() -> dict[int, type[Message]]:
    """Return every message by its number."""
    found: dict[int, type[Message]] = {}
    for file in pkgutil.iter_modules(__path__):
        for cls in vars(importlib.import_module(f"{__name__}.{file.name}")).values():
            if isinstance(cls, type) and issubclass(cls, Message) and cls.__module__ == f"{__name__}.{file.name}":
                if cls is not Message:
                    assert cls.KIND not in found, f"{cls.__name__} and {found[cls.KIND].__name__} share {cls.KIND}"
                    found[cls.KIND] = cls
    return found
