"""The parser under mutated frames: it takes them, or it says RemoteProtocolError, and it never reserves what a stranger
names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile import made
from support.linked import End, linked
from support.mutated_frames import FRAMES, frames_of

from hogpour.core.errors import Refusal, RemoteProtocolError, RequestFailed
from hogpour.net import frame
from hogpour.net.wire import answers
from hogpour.net.wire.base import Failed, Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.fetch_changes import FetchChanges
from hogpour.net.wire.handshake import Challenge, Hello, Proof
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.push import Push
from hogpour.sim.checks.ablations import SPEAKER

LIMIT = 1 << 20

PLAIN: list[tuple[Message, int, bytes]] = [
    (Fetch(0, 1), 1, b""),
    (Push(0, 1, 2, 3, 4, 5, 0.5), 2, b"p" * 64),
    (Lease(1, [1, 2, 300], [70_000], 4), 3, b""),
    (Hello(frame.VERSION, b"c" * 32), 0, b""),
    (Proof(b"m" * 32), 0, b""),
    (Failed(Refusal.BUSY, "later"), 4, b""),
    (Fetched(0, 1), 1, b"f" * 32),
]
CONVERSATION = [frame.encode(message, id, len(payload)) + payload for message, id, payload in PLAIN]

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "drop", "insert", "repeat", "number"]),
        st.integers(0, 400),
        st.integers(0, 255),
        st.sampled_from([0, 1, 23, 255, 1 << 15, (1 << 20) + 1, (1 << 31) - 1, (1 << 32) - 1]),
    ),
    max_size=6,
)


def mutated(data: bytes, changes: list[tuple[str, int, int, int]]) -> bytes:
    """Apply edits: bytes changed, dropped, inserted and repeated, and lengths replaced by large ones."""
    made = bytearray(data)
    for what, at, value, number in changes:
        at = min(at, max(0, len(made) - 1))
        if what == "flip" and made:
            made[at] ^= value
        elif what == "drop":
            del made[at : at + 1 + value % 40]
        elif what == "insert":
            made[at:at] = bytes([value]) * (1 + value % 5)
        elif what == "repeat":
            made[at:at] = made[at : at + 30]
        elif what == "number":
            made[at : at + 4] = number.to_bytes(4, "little")
    return bytes(made)


def feed(end: End, data: bytes, pieces: list[int]) -> str | None:
    """Receive everything; return the offence, if there is one. Anything but the two errors passes."""
    try:
        end.receive(data, pieces)
    except (RemoteProtocolError, RequestFailed) as error:
        return str(error)
    finally:
        assert all(n <= LIMIT for n in end.asked_for)
    return None


pieces = st.lists(st.integers(1, 64), max_size=20)
orders = st.lists(st.integers(0, len(CONVERSATION) - 1), max_size=5)


@pytest.mark.slow
@settings(max_examples=300)
@given(order=orders, changes=edits, pieces=pieces)
def test_an_acceptor_takes_or_refuses_whatever_comes(order, changes, pieces):
    acceptor = linked()[1]
    offence = feed(acceptor, mutated(b"".join(CONVERSATION[k] for k in order), changes), pieces)
    assert offence is None or "\n" not in offence
    if offence is None and acceptor.connection._body is not None:
        assert len(acceptor.connection._body) <= max(cls.BODY_LIMIT for cls in answers())
    assert all(type(message) in answers() for _, message, _ in acceptor.arrived)


@pytest.mark.slow
@settings(max_examples=300)
@given(order=orders, changes=edits, pieces=pieces)
def test_a_connector_takes_or_refuses_whatever_comes(order, changes, pieces):
    connector, _ = linked()
    connector.connection.send(Fetch(0, 1), 1)
    connector.connection.send(Push(0, 1, 2, 3, 4, 5, 0.5), 4)
    feed(connector, mutated(b"".join(CONVERSATION[k] for k in order), changes), pieces)
    assert len(connector.arrived) <= 2


@pytest.mark.slow
@settings(max_examples=300)
@given(role=st.sampled_from(["connector", "acceptor"]), changes=edits, pieces=pieces, raw=st.binary(max_size=200))
def test_nobody_gets_past_the_handshake_without_the_token(role, changes, pieces, raw):
    """Frames of a handshake with another token, changed at random, and random bytes."""
    end = End(role)
    frames = frame.encode(Hello(frame.VERSION, b"c" * 32), 0) + frame.encode(Proof(b"m" * 32), 0)
    frames = frames if role == "acceptor" else frame.encode(Challenge(b"a" * 32), 0) + CONVERSATION[0]
    offence = feed(end, mutated(frames, changes) + raw, pieces)
    assert not end.connection.ready
    assert end.arrived == []
    assert offence is None or len(offence) < 400


def test_hostile_members_push_whole_and_sparse_and_ask_since_never_and_the_future() -> None:
    rng = np.random.default_rng(0)
    pushes, fetches = ([made(kind, rng, [1]) for _ in range(100)] for kind in (Push, FetchChanges))
    assert {message.n_entries < 0 for message in pushes if isinstance(message, Push)} == {True, False}
    assert {-1, (1 << 53) - 1} <= {message.since for message in fetches if isinstance(message, FetchChanges)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_frames_a_member_sends_handlers_are_asked_what_it_may_ask(seed: int) -> None:
    target, frames = frames_of(seed)
    assert target.found == []
    assert frames.changes.total() == FRAMES
    assert target.asked > FRAMES / 20


@pytest.mark.long
@pytest.mark.parametrize("first", range(100, 200, 20))
def test_a_hundred_thousand_frames(first: int) -> None:
    assert {seed: found for seed in range(first, first + 20) if (found := frames_of(seed)[0].found)} == {}


def test_without_who_may_say_what_a_handler_is_asked_what_it_should_not_be() -> None:
    with SPEAKER.off():
        assert any("came to its handler" in text for text in frames_of(0, 200)[0].found)


@pytest.mark.parametrize("message", [message for message, _, _ in PLAIN], ids=lambda message: type(message).__name__)
@given(body=st.binary(max_size=60))
def test_a_body_is_a_message_or_refused(message, body):
    try:
        made = frame.decode(type(message), body)
    except RemoteProtocolError:
        return
    assert type(made) is type(message)
    assert frame.decode(type(message), frame.encode(made, 1)[frame.HEADER_BYTES :]) == made
