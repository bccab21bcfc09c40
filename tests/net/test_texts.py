"""Text from other nodes is printable from where it comes in."""

from __future__ import annotations

from typing import Any, Literal, get_type_hints

import msgspec
import pytest
from support.linked import TOKEN, End

from hogpour.core.cluster_state import ShardState
from hogpour.core.errors import Refusal, RemoteProtocolError, RequestFailed
from hogpour.net import frame
from hogpour.net.json_text import read_json
from hogpour.net.wire import kinds
from hogpour.net.wire.base import Failed, Message
from hogpour.net.wire.heartbeat import HeartbeatReply
from hogpour.net.wire.join import Join, Leave
from hogpour.net.wire.operate import Operate

EVIL = "\x1b]0;PWNED\x07\x1b[2J\n\x9b1A"
SHOWN = "�]0;PWNED��[2J��1A"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Failed(Refusal.REFUSED, EVIL), "text"),
        (Join(EVIL, "a:1"), "name"),
        (Join("elm", EVIL), "address"),
        (Leave(3, EVIL), "reason"),
        (HeartbeatReply("run", EVIL, 1, False, 1, 0, 1.0), "reason"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Message) else value,
)
def test_a_text_is_printable_once_it_is_here(message: Message, field: str) -> None:
    body = frame.encode(message, 1)[frame.HEADER_BYTES :]
    assert getattr(frame.decode(type(message), body), field) == SHOWN


def test_a_message_that_is_none_is_told_in_a_line() -> None:
    """The decoder names the value that it does not know, which the other end wrote, as it is and as long as it is."""
    fields = [3, 1, [0], [[EVIL + 100_000 * "x"]]]
    with pytest.raises(RemoteProtocolError) as caught:
        frame.decode(Operate, msgspec.msgpack.encode(fields))
    assert str(caught.value).startswith(f"sent a Operate that is none: Invalid value '{SHOWN}")
    assert len(str(caught.value)) < 400


def sample(hint: Any) -> Any:
    """The texts of a field, wherever they are in its type; None: it has none."""
    return [EVIL] if hint == list[str] else EVIL if hint is str else None


def test_no_message_has_a_text_where_the_decoder_does_not_look() -> None:
    for cls in kinds().values():
        for name, hint in get_type_hints(cls).items():
            if name not in cls.__struct_fields__ or sample(hint) is not None:
                continue
            assert "str" not in str(hint).replace("Struct", ""), f"{cls.__name__}.{name}: {hint}"


def test_a_stranger_s_refusal_moves_no_cursor_before_any_proof() -> None:
    connector = End("connector", TOKEN)
    with pytest.raises(RequestFailed) as caught:
        connector.receive(frame.encode(Failed(Refusal.REFUSED, EVIL), 0))
    assert str(caught.value) == SHOWN


def test_a_job_from_elsewhere_is_printable_throughout() -> None:
    assert read_json(b'{"a\\u001b": ["\\n"]}', dict[str, Any], "the job of a:1") == {"a�": ["�"]}


def test_a_job_that_is_none_is_told_in_a_line() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read_json(b'{"' + 10_000 * b"x" + b'": 1}', dict[Literal["a"], int], "the job of a:1")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"no job", dict[str, Any]),
        (b"[1, 2]", dict[str, Any]),
        (b"[" * 100_000, dict[str, Any]),
        (b"\xff", dict[str, Any]),
        (b"", dict[str, Any]),
        (b'[{"shard": "\\u001b"}]', list[ShardState]),
    ],
    ids=["no json", "a list", "brackets", "no utf-8", "nothing", "another type"],
)
def test_what_is_no_such_json_is_one_line(text: bytes, kind: Any) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^the job of a:1 cannot be read: ") as caught:
        read_json(text, kind, "the job of a:1")
    assert str(caught.value).isprintable()
