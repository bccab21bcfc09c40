"""Text that others wrote, as a terminal may be given it, or a file."""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["all_printable", "encodable", "excerpt", "printable"]

_EXCERPT = 200
"""Characters of an error about what another wrote."""


def printable(text: str) -> str:
    """Return a text in one line, without what would move a terminal's cursor; all letters and spaces stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else "�" for c in text)


def excerpt(error: Exception) -> str:
    """Return the beginning of what an error says of what another wrote, which it may quote as it is and whole."""
    return printable(str(error)[:_EXCERPT])


def all_printable(value: Any) -> Any:
    """Return what a JSON text says with each text in it, keys too, ``printable``."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [all_printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(key): all_printable(one) for key, one in value.items()}
    return value


def encodable(value: Any) -> Any:
    """Return a text that UTF-8 can write: bytes in a path that are none stand as escapes. Anything else as it is."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
