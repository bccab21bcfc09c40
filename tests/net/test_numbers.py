"""Every number that comes in has a range; what cannot be sent is our own error, and nobody else's matter."""

from __future__ import annotations

import math
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from support.ends import Run, talking

from hogpour.core.errors import LocalProtocolError, RemoteProtocolError
from hogpour.net import frame
from hogpour.net.requests import Reply
from hogpour.net.wire import kinds
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.gate import Counted
from hogpour.net.wire.heartbeat import Heartbeat
from hogpour.net.wire.join import Joined
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.push import Push
from hogpour.net.wire.window import PushWindow

BEAT = [1, 2, 100, 90, 5.0, 4, 2.0, 0, 0.0, 0]
PUSH = [0, 1, 2, 3, 4, 5, 0.5]
JOINED = [1, b"{}", "/base", 3, 3.0, 7.0]

UNLIMITED = {("Heartbeat", "loss"), ("Lease", "losses"), ("Operated", "results"), ("Operate", "program")}
"""Not finite where training diverges; and what only servers and the coordinator tell each other."""


def numbers_of(hint: Any) -> list[Any]:
    """The numbers in a type that have no range."""
    if hint in (int, float):
        return [hint]
    if get_origin(hint) is not None and any(isinstance(one, msgspec.Meta) for one in getattr(hint, "__metadata__", ())):
        return []
    return [one for part in get_args(hint) for one in numbers_of(part)]


@pytest.mark.parametrize("cls", [*kinds().values(), Counted], ids=lambda cls: cls.__name__)
def test_every_number_of_a_message_has_a_range(cls: type[Message]) -> None:
    hints = get_type_hints(cls, include_extras=True)
    bare = {name for name in cls.__struct_fields__ if numbers_of(hints[name])}
    assert {(cls.__name__, name) for name in bare} <= UNLIMITED


@pytest.mark.parametrize(
    ("cls", "fields", "place", "wrong"),
    [
        (Heartbeat, BEAT, 2, 2**64 - 1),
        (Heartbeat, BEAT, 2, 2**53),
        (Heartbeat, BEAT, 1, 2**31),
        (Heartbeat, BEAT, 6, math.nan),
        (Heartbeat, BEAT, 8, math.inf),
        (Push, PUSH, 0, -1),
        (Push, PUSH, 3, 0),
        (Push, PUSH, 4, -1),
        (Push, PUSH, 5, 0),
        (Push, PUSH, 6, -0.5),
        (Push, PUSH, 6, 1.1e6),
        (Push, PUSH, 6, math.nan),
        (Lease, [1, [], [], 4], 3, -1),
        (Lease, [1, [], [], 4], 1, [-1]),
        (Joined, JOINED, 4, math.nan),
        (Joined, JOINED, 4, 0.0),
        (Joined, JOINED, 5, math.inf),
        (PushWindow, [1, 0, 5, 1], 2, 2**64 - 1),
    ],
)  # fmt: skip
def test_a_number_out_of_its_range_is_no_message(cls: type[Message], fields: list[Any], place: int, wrong: Any) -> None:
    assert isinstance(frame.decode(cls, msgspec.msgpack.encode(fields)), cls)
    changed = [*fields[:place], wrong, *fields[place + 1 :]]
    with pytest.raises(RemoteProtocolError, match=f"^sent a {cls.__name__} that is none: Expected "):
        frame.decode(cls, msgspec.msgpack.encode(changed))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Fetch(2**64, 1), "can't serialize ints"),
        (Fetch(0, -(2**63) - 1), "can't serialize ints"),
        (Joined(1, b"", "\ud800", 1, 1.0, 1.0), "surrogates not allowed"),
        (Fetch(object(), 1), "Encoding objects of type object is unsupported"),
    ],
)
def test_what_cannot_be_encoded_is_our_own_error(message: Message, why: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"^{type(message).__name__} cannot be encoded: .*{why}"):
        frame.encode(message, 1)


@pytest.mark.real
def test_an_answer_and_a_request_that_cannot_be_encoded_harm_no_other(run: Run) -> None:
    async def main() -> None:
        def answer(fetch: Fetch) -> Reply[Fetched]:
            return Reply(Fetched(fetch.shard, 2**64 if fetch.shard else 1))

        async with talking({Fetch: answer}) as (peer, _, lines):
            with pytest.raises(LocalProtocolError):
                await peer.request(Fetch(2**64, 1), deadline_s=5)  # before there is a connection
            for _ in range(2):
                with pytest.raises(Exception, match="Fetched cannot be encoded"):
                    await peer.request(Fetch(1, 1), deadline_s=5)
                assert await peer.request(Fetch(0, 1), deadline_s=5) == Fetched(0, 1)
                with pytest.raises(LocalProtocolError):
                    await peer.request(Fetch(2**64, 1), deadline_s=5)
            assert len(lines) == 2

    run(main())
