"""Messages, one file for each request and its answer. A message is found by its file; its number is its own."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import get_args

from hogpour.net.wire.base import Message, Request

__all__ = ["answers", "kinds"]


@cache
def kinds() -> dict[int, type[Message]]:
    """Return every message by its number."""
    found: dict[int, type[Message]] = {}
    for file in pkgutil.iter_modules(__path__):
        for cls in vars(importlib.import_module(f"{__name__}.{file.name}")).values():
            ours = getattr(cls, "__module__", "") == f"{__name__}.{file.name}"
            if ours and isinstance(cls, type) and issubclass(cls, Message) and hasattr(cls, "KIND"):
                assert cls.KIND not in found, f"{cls.__name__} and {found[cls.KIND].__name__} share {cls.KIND}"
                found[cls.KIND] = cls
    return found


@cache
def answers() -> dict[type[Message], type[Message]]:
    """Return the message that answers each request. What is not in it is no request."""
    return {cls: get_args(vars(cls)["__orig_bases__"][0])[0] for cls in kinds().values() if issubclass(cls, Request)}
