"""A frame: a fixed header, a message, and perhaps a payload of raw bytes. Pure: knows no sockets and no connection.

    magic b"HGPR" | kind u8 | flags u8 = 0 | reserved u16 = 0 | id u32 | n_body u32 | n_payload u64     little-endian
    n_body bytes: the message as MessagePack
    n_payload bytes

Everything in a header is checked before anything is allocated or waited for: who is no peer learns so at its first
bytes, and nobody makes this node reserve memory by naming a large number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import get_type_hints

import msgspec

from hogpour.core.errors import LocalProtocolError, RemoteProtocolError
from hogpour.core.text import all_printable, excerpt
from hogpour.net.wire import kinds
from hogpour.net.wire.base import Message

__all__ = ["HEADER_BYTES", "MAGIC", "VERSION", "check_beginning", "decode", "encode", "read_header"]

VERSION = 8
"""Of the frames and all messages. ``Hello``, ``Challenge``, ``Failed`` and the header are the same in every version, so
that two versions can tell each other why they part."""

MAGIC = b"HGPR"
HEADER_BYTES = 24

_HEADER = struct.Struct("<4sBBHIIQ")
_FAST = struct.Struct("<QIIQ")
_KINDS = kinds()

# The first eight bytes are the same for all frames of a kind: one look-up tells that magic, kind, flags and reserved
# are as they must be, and which kind it is.
_WORDS = {cls: _FAST.unpack(_HEADER.pack(MAGIC, cls.KIND, 0, 0, 0, 0, 0))[0] for cls in _KINDS.values()}
_BY_WORD = {word: cls for cls, word in _WORDS.items()}



def _decoder(cls: type[Message]) -> Callable[[bytes | bytearray | memoryview], Message]:
    """Return what decodes a message. Every text in it becomes printable here, whoever wrote it and whoever shows it."""
    decode = msgspec.msgpack.Decoder(cls).decode
    texts = [name for name, hint in get_type_hints(cls).items() if hint in (str, list[str])]

    def decode_texts(body: bytes | bytearray | memoryview) -> Message:
        message = decode(body)
        for name in texts:
            msgspec.structs.force_setattr(message, name, all_printable(getattr(message, name)))
        return message

    return decode_texts if texts else decode


_DECODERS = {cls: _decoder(cls) for cls in _KINDS.values()}
_ENCODE = msgspec.msgpack.Encoder().encode


def read_header(
    data: bytes | bytearray | memoryview, offset: int, payload_limit: int
) -> tuple[type[Message], int, int, int]:
    """Return kind, id, n_body and n_payload of the header at ``offset``, all within their bounds.

    Raises:
        RemoteProtocolError: no header, an unknown kind, or a length above its limit.
    """
    word, id, n_body, n_payload = _FAST.unpack_from(data, offset)
    kind = _BY_WORD.get(word)
    if kind is None:
        raise RemoteProtocolError(_why_no_header(data, offset))
    if n_body > kind.BODY_LIMIT:
        raise RemoteProtocolError(f"sent {kind.__name__} of {n_body} bytes; at most {kind.BODY_LIMIT}")
    if n_payload:
        if not kind.PAYLOAD:
            raise RemoteProtocolError(f"sent {kind.__name__} with {n_payload} bytes of payload; it has none")
        if n_payload > payload_limit:
            text = f"sent {kind.__name__} with {n_payload} bytes of payload; at most {payload_limit}"
            raise RemoteProtocolError(text)
    return kind, id, n_body, n_payload


def _why_no_header(data: bytes | bytearray | memoryview, offset: int) -> str:
    magic, number, flags, reserved, *_ = _HEADER.unpack_from(data, offset)
    check_beginning(magic)
    kind = _KINDS.get(number)
    if kind is None:
        return f"sent a message of unknown kind {number}"
    return f"sent {kind.__name__} with flags {flags}, {reserved}; expected 0, 0"


def check_beginning(data: bytes | bytearray | memoryview) -> None:
    """Raise RemoteProtocolError if these first bytes of a header, perhaps fewer than four, are not ours."""
    begins = bytes(data[: len(MAGIC)])
    if not MAGIC.startswith(begins):
        raise RemoteProtocolError(f"this is no hogpour peer: it begins with {begins!r}")


def encode(message: Message, id: int, n_payload: int = 0) -> bytes:
    """Return header and body of a frame; the payload is written behind them.

    Raises:
        LocalProtocolError: it cannot be encoded, or the other end would refuse it.
    """
    try:
        body = _ENCODE(message)
    except (OverflowError, TypeError, ValueError) as error:
        raise LocalProtocolError(f"{type(message).__name__} cannot be encoded: {error}") from error
    n_body = len(body)
    if n_body > message.BODY_LIMIT:
        raise LocalProtocolError(f"{type(message).__name__} of {n_body} bytes; at most {message.BODY_LIMIT}")
    if n_payload and not message.PAYLOAD:
        raise LocalProtocolError(f"{type(message).__name__} with {n_payload} bytes of payload; it has none")
    return _FAST.pack(_WORDS[type(message)], id, n_body, n_payload) + body


def decode(kind: type[Message], body: bytes | bytearray | memoryview) -> Message:
    """Return the message of a body.

    Raises:
        RemoteProtocolError: the bytes are no message of this kind.
    """
    try:
        return _DECODERS[kind](body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"sent a {kind.__name__} that is none: {excerpt(error)}") from error
