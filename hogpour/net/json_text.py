"""JSON texts that other nodes wrote: the job, the state of a cluster."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hogpour.core.errors import RemoteProtocolError
from hogpour.core.text import all_printable, excerpt

__all__ = ["read_json"]

_T = TypeVar("_T")


def read_json(text: bytes, kind: type[_T], what: str) -> _T:
    """Return what a text says, with every text in it printable.

    Args:
        what: who wrote what, for the error message.

    Raises:
        RemoteProtocolError: it is no JSON, or not of this type.
    """
    try:
        return msgspec.convert(all_printable(msgspec.json.decode(text)), kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"{what} cannot be read: {excerpt(error)}") from error
