"""What a message is: a typed struct whose fields travel as MessagePack, and perhaps a payload of raw bytes behind it.

A message file holds an answer and its request. Decoding makes plain values of stated types and nothing else: no code,
no references, no pickle. Fields are sent in order, without names; a change of any message is a change of
``frame.VERSION``.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Generic, TypeVar

import msgspec

from hogpour.core.errors import Refusal

__all__ = ["Answer", "Before", "Failed", "Message", "Ok", "Request", "Speaker"]


class Before(Enum):
    """What a node answers before it has begun: it may have been started anew where others know a node of before."""

    ELSEWHERE = Refusal.MOVED, "{}: this node serves nothing yet"
    """It may have served here in a former life: the asker learns from the coordinator what is so, and goes on."""
    NO_MEMBERS = Refusal.FENCED, "this node has no members yet: it must be joined again"
    """A first node, to members of its former life: they join again, and hear so."""
    READING = Refusal.BUSY, "the first node still reads its data"
    UNKNOWN = Refusal.WRONG, "this node does not answer {}"
    OK = None
    """It applies nothing of anybody, and is told of the dead again when it is given shards; and has no members left."""


class Speaker(Enum):
    """Who may ask something of a node; see ``net.authority``."""

    ANYBODY = "whoever knows the token"
    NAMED = "anybody, and ``node`` is 0 where that is not who speaks"
    MEMBER = "the node that it names by ``node``"
    COORDINATOR = "the coordinator"
    WARRANTED = "the coordinator, or whoever shows a ``warrant`` of it, at which the handler looks"


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One message. Subclasses say which number stands for them in the header of a frame."""

    KIND: ClassVar[int]
    """1 .. 255, unique."""
    PAYLOAD: ClassVar[bool] = False
    """Whether raw bytes may follow."""
    SHORTER: ClassVar[bool] = False
    """Whether the payload of an answer may be shorter than the memory that is given for it."""
    BODY_LIMIT: ClassVar[int] = 1024
    """Bytes that the fields may take; checked before anything is read."""
    BEFORE: ClassVar[Before] = Before.ELSEWHERE
    SPEAKER: ClassVar[Speaker] = Speaker.MEMBER
    """Both where it is a request."""


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
