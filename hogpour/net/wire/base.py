"""What a message is: a typed struct whose fields travel as MessagePack, and perhaps a payload of raw bytes behind it.

A message file holds an answer and its request. Decoding makes plain values of stated types and nothing else: no code,
no references, no pickle. Fields are sent in order, without names; a change of any message is a change of
``frame.VERSION``.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import msgspec

from hogpour.core.errors import Refusal

__all__ = ["Answer", "Failed", "Message", "Ok", "Request"]


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One message. Subclasses say which number stands for them in the header of a frame."""

    KIND: ClassVar[int]
    """1 .. 255, unique."""
    PAYLOAD: ClassVar[bool] = False
    """Whether raw bytes may follow."""
    BODY_LIMIT: ClassVar[int] = 1024
    """Bytes that the fields may take; checked before anything is read."""


Answer = TypeVar("Answer", bound=Message)


class Request(Message, Generic[Answer], frozen=True):
    """A message that is answered: with ``Answer`` when it was done, else with ``Failed``."""


class Ok(Message, frozen=True):
    """The answer that says no more than that the request was done."""

    KIND = 1


class Failed(Message, frozen=True):
    """The answer that says why a request was not done."""

    KIND = 2
    BODY_LIMIT = 8192

    code: Refusal
    """For programs."""
    text: str
    """For people: one line."""
