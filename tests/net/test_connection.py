"""The connection's rules, on two of them linked without sockets, whatever pieces the bytes come in."""

from __future__ import annotations

import struct

import pytest
from support.linked import TOKEN, End, linked

from hogpour.core.errors import LocalProtocolError, Refusal, RemoteProtocolError, RequestFailed
from hogpour.net import frame
from hogpour.net.connection import SCRATCH_BYTES, SKIP, Connection
from hogpour.net.wire import answers, kinds
from hogpour.net.wire.base import Failed, Message, Ok
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.handshake import Challenge, Hello, Proof, Welcome
from hogpour.net.wire.join import Leave
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.push import Push, Pushed
from hogpour.net.wire.window import PushWindow

PUSH = Push(3, 1, 0, 9, 17, 4, 0.5)


def header(kind: int, id: int = 1, n_body: int = 0, n_payload: int = 0, flags: int = 0, reserved: int = 0) -> bytes:
    return struct.pack("<4sBBHIIQ", b"HGPR", kind, flags, reserved, id, n_body, n_payload)


def refused(end: End, data: bytes) -> str:
    """What a connection says about bytes that it must not take."""
    with pytest.raises(RemoteProtocolError) as raised:
        end.receive(data)
    return str(raised.value)


# -- requests and answers -----------------------------------------------------------------------------------------------


def test_every_request_has_an_answer_and_handshakes_are_neither() -> None:
    requests = {cls.__name__ for cls in answers()}
    assert {"Fetch", "Push", "Dump", "Adopt", "Join", "Ready", "Leave", "Lease", "Heartbeat", "Status", "Where"} <= requests
    others = {cls for cls in kinds().values() if cls not in answers()}
    assert others == set(answers().values()) | {Failed, PushWindow, Hello, Challenge, Proof, Welcome}


def test_a_header_has_24_bytes_and_these_fields() -> None:
    data = frame.encode(Fetch(3, 1), 7)
    assert data[:24] == header(Fetch.KIND, 7, len(data) - 24)
    assert frame.read_header(data, 0, 0) == (Fetch, 7, len(data) - 24, 0)
    assert frame.decode(Fetch, data[24:]) == Fetch(3, 1)


def test_many_requests_are_in_flight_and_answered_in_any_order() -> None:
    connector, acceptor = linked()
    send = connector.connection.send
    acceptor.receive(send(Fetch(0, 1), 1) + send(PUSH, 2, 4) + b"abcd" + send(Leave(1), 3))
    assert acceptor.arrived == [(1, Fetch(0, 1), None), (2, PUSH, b"abcd"), (3, Leave(1), None)]
    send = acceptor.connection.send
    answers = send(Ok(), 3) + send(Fetched(0, 5), 1, 3) + b"xyz" + send(Failed(Refusal.BUSY, "later"), 2)
    connector.receive(answers)
    assert connector.arrived == [(3, Ok(), None), (1, Fetched(0, 5), b"xyz"), (2, Failed(Refusal.BUSY, "later"), None)]
    acceptor.receive(connector.connection.send(Fetch(0, 1), 1))  # an answered id is free again
    assert len(acceptor.arrived) == 4


def conversation(cut: int | None) -> tuple[End, End]:
    """A handshake, requests and answers with and without payloads and with a large body; each side's bytes in two
    pieces, cut at ``cut``."""
    connector, acceptor = linked(lambda n: () if cut is None else (cut,))
    lease = Lease(1, list(range(300, 12_000)), [], 1)  # a body larger than the scratch
    send = connector.connection.send
    data = send(Fetch(0, 1), 1) + send(PUSH, 2, 40) + b"p" * 40 + send(lease, 3) + send(PUSH, 4, 20_000) + b"q" * 20_000
    acceptor.receive(data, () if cut is None else (cut,))
    send = acceptor.connection.send
    data = send(Pushed(3, 18, 1), 2) + send(Fetched(0, 5), 1, 50) + b"f" * 50 + send(Failed(Refusal.WRONG, "é"), 3)
    connector.receive(data, () if cut is None else (cut,))
    return connector, acceptor


@pytest.mark.slow
def test_the_bytes_may_be_cut_anywhere() -> None:
    """At every byte of everything except the inside of the large parts, where every 97th must do."""
    whole = conversation(None)
    assert [len(end.arrived) for end in whole] == [3, 4]
    assert whole[1].arrived[2][1] == Lease(1, list(range(300, 12_000)), [], 1)
    for cut in [*range(1, 260), *range(260, 55_700, 97), *range(35_300, 35_420)]:
        parts = conversation(cut)
        assert [end.arrived for end in parts] == [end.arrived for end in whole], f"cut at {cut}"


def test_the_bytes_may_come_one_by_one() -> None:
    connector, acceptor = linked(lambda n: [1] * n)
    data = connector.connection.send(PUSH, 1, 40) + b"p" * 40 + connector.connection.send(Fetch(0, 1), 2)
    acceptor.receive(data, [1] * len(data))
    assert acceptor.arrived == [(1, PUSH, b"p" * 40), (2, Fetch(0, 1), None)]


def test_a_connection_that_ends_between_frames_ends_well_and_anywhere_else_does_not() -> None:
    data = linked()[0].connection.send(PUSH, 1, 8) + b"12345678"
    for cut in range(len(data) + 1):
        acceptor = linked()[1]
        acceptor.receive(data[:cut])
        if cut in (0, len(data)):
            acceptor.connection.eof()
        else:
            with pytest.raises(
                RemoteProtocolError, match="^ended inside a header$" if cut < 24 else "^ended inside Push$"
            ):
                acceptor.connection.eof()


def test_the_end_before_the_proof_is_not_a_good_one() -> None:
    with pytest.raises(RemoteProtocolError, match="ended before Hello"):
        End("acceptor").connection.eof()


# -- where payloads go --------------------------------------------------------------------------------------------------


def test_a_payload_lands_in_its_place_and_the_target_is_the_rest_of_it() -> None:
    connector, acceptor = linked()
    data = connector.connection.send(PUSH, 1, 100_000)
    acceptor.receive(data + b"12345")
    assert len(acceptor.connection.target()) == 100_000 - 5
    acceptor.receive(b"x" * 99_000)
    assert len(acceptor.connection.target()) == 995
    assert acceptor.arrived == []
    acceptor.receive(b"y" * 995)
    assert acceptor.arrived == [(1, PUSH, b"12345" + b"x" * 99_000 + b"y" * 995)]
    assert acceptor.asked_for == [100_000]


@pytest.mark.parametrize("early", [0, 3, 8, 30, SCRATCH_BYTES])
@pytest.mark.parametrize("n", [8, 100_000])
def test_a_payload_without_a_place_waits(n: int, early: int) -> None:
    """What has come with its header is kept, the frames behind it too."""
    connector, acceptor = linked()
    data = connector.connection.send(PUSH, 1, n) + b"p" * n + connector.connection.send(Fetch(0, 1), 2)
    begin = len(data) - n - len(frame.encode(Fetch(0, 1), 2)) + early
    acceptor.room = False
    acceptor.receive(data[: min(begin, SCRATCH_BYTES)])
    assert acceptor.connection.blocked
    acceptor.connection.retry_place()
    assert acceptor.connection.blocked
    assert acceptor.arrived == []
    acceptor.room = True
    acceptor.connection.retry_place()
    assert not acceptor.connection.blocked
    acceptor.take()
    acceptor.receive(data[min(begin, SCRATCH_BYTES) :])
    assert acceptor.arrived == [(1, PUSH, b"p" * n), (2, Fetch(0, 1), None)]


def test_reading_on_without_a_place_is_our_own_mistake() -> None:
    connector, acceptor = linked()
    acceptor.room = False
    acceptor.receive(connector.connection.send(PUSH, 1, 100_000))
    with pytest.raises(LocalProtocolError, match="read on"):
        acceptor.receive(b"x" * 100_000)


@pytest.mark.parametrize("n", [8, 100_000])
@pytest.mark.parametrize("early", [0, 5])
def test_a_payload_that_nobody_wants_is_read_and_dropped(n: int, early: int) -> None:
    connector, acceptor = linked()
    connector.connection.send(Fetch(0, 1), 1)
    acceptor.receive(linked()[0].connection.send(Fetch(0, 1), 1))
    answer = acceptor.connection.send(Fetched(0, 1), 1, n) + b"x" * n
    connector.place = lambda id, message, n_bytes: SKIP  # type: ignore[method-assign]
    connector.connection._place = connector.place
    connector.receive(answer, (len(answer) - n + early,))
    assert connector.arrived == [(1, Fetched(0, 1), None)]


def test_a_payload_under_way_can_be_diverted_from_its_memory() -> None:
    connector, acceptor = linked()
    acceptor.receive(connector.connection.send(Fetch(0, 1), 1) + connector.connection.send(Fetch(1, 1), 2))
    memory = memoryview(bytearray(50_000))
    connector.connection._place = lambda id, message, n_bytes: memory
    connector.receive(acceptor.connection.send(Fetched(0, 1), 1, 50_000) + b"x" * 20_000)
    connector.connection.divert(2)  # another one: nothing changes
    connector.receive(b"x" * 10_000)
    connector.connection.divert(1)
    connector.receive(b"y" * 20_000 + acceptor.connection.send(Fetched(1, 1), 2))
    assert bytes(memory) == b"x" * 30_000 + bytes(20_000)
    assert connector.arrived == [(1, Fetched(0, 1), None), (2, Fetched(1, 1), None)]


# -- the handshake ------------------------------------------------------------------------------------------------------


def test_the_token_never_travels_and_every_proof_is_another_one() -> None:
    connector, acceptor = End("connector"), End("acceptor")
    sent = [connector.sends()]
    acceptor.receive(sent[-1])
    for end, other in ((acceptor, connector), (connector, acceptor), (acceptor, connector)):
        sent.append(end.sends())
        other.receive(sent[-1])
    assert connector.connection.ready
    assert acceptor.connection.ready
    assert not any(TOKEN in data for data in sent)
    proof, welcome = frame.decode(Proof, sent[2][24:]), frame.decode(Welcome, sent[3][24:])
    assert isinstance(proof, Proof)
    assert isinstance(welcome, Welcome)
    assert proof.mac != welcome.mac  # or a proof could be sent back to who made it


@pytest.mark.parametrize(
    ("connects", "listens", "text"),
    [
        (b"another token of 24 byte", TOKEN, "wrong token"),
        (b"", TOKEN, "wrong token: the node that connects has none (--insecure), the one that listens has one"),
        (TOKEN, b"", "wrong token: the node that listens has none (--insecure), the one that connects has one"),
    ],
)
def test_a_connector_with_another_token_is_refused_and_told_so(connects: bytes, listens: bytes, text: str) -> None:
    connector, acceptor = End("connector", connects), End("acceptor", listens)
    acceptor.receive(connector.sends())
    connector.receive(acceptor.sends())
    assert refused(acceptor, connector.sends()) == text
    with pytest.raises(RequestFailed) as raised:
        connector.receive(acceptor.sends())
    assert (raised.value.code, str(raised.value)) == (Refusal.REFUSED, text)
    assert not connector.connection.ready
    assert not acceptor.connection.ready


def test_an_acceptor_that_does_not_know_the_token_is_found_out() -> None:
    connector = End("connector")
    connector.receive(frame.encode(Challenge(b"a" * 32), 0))
    connector.sends()
    assert refused(connector, frame.encode(Welcome(b"m" * 32), 0)) == "does not know the token that it asks for"


@pytest.mark.parametrize(("version", "older"), [(frame.VERSION + 1, "listens"), (frame.VERSION - 1, "connects")])
def test_another_version_is_refused_and_told_who_must_update(version: int, older: str) -> None:
    acceptor = End("acceptor")
    text = (f"the node that connects speaks version {version} of hogpour's protocol, the one that listens version "
            f"{frame.VERSION}: update hogpour on the one that {older}")  # fmt: skip
    assert refused(acceptor, frame.encode(Hello(version, b"c" * 32), 0)) == text
    connector = End("connector")
    with pytest.raises(RequestFailed) as raised:
        connector.receive(acceptor.sends())
    assert (raised.value.code, str(raised.value)) == ("refused", text)


@pytest.mark.parametrize("n", [0, 31, 33])
def test_a_nonce_has_32_bytes(n: int) -> None:
    text = f"sent a nonce of {n} bytes; expected 32"
    assert refused(End("acceptor"), frame.encode(Hello(frame.VERSION, b"c" * n), 0)) == text
    assert refused(End("connector"), frame.encode(Challenge(b"a" * n), 0)) == text


@pytest.mark.parametrize(
    ("role", "message", "expected"),
    [
        ("acceptor", Fetch(0, 1), "sent Fetch where Hello was expected"),
        ("acceptor", Proof(b"m" * 32), "sent Proof where Hello was expected"),
        ("acceptor", Failed(Refusal.WRONG, ""), "sent Failed where Hello was expected"),
        ("connector", Welcome(b"m" * 32), "sent Welcome where Challenge was expected"),
        ("connector", Fetch(0, 1), "sent Fetch where Challenge was expected"),
    ],
)
def test_before_the_proof_only_the_next_step_of_it_is_legal(role: str, message: Message, expected: str) -> None:
    assert refused(End(role), frame.encode(message, 0)) == expected


def test_the_handshake_has_no_ids() -> None:
    assert refused(End("acceptor"), frame.encode(Hello(frame.VERSION, b"c" * 32), 4)) == "sent Hello with id 4; expected 0"


# -- what breaks the rules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"G", b"\x16\x03\x01\x02\x00", b"HGPS", b"\0" * 24])
def test_who_is_no_peer_is_told_by_its_first_bytes(data: bytes) -> None:
    """Even by one byte: a stranger that waits for an answer to a short line would sit there until its deadline."""
    assert refused(End("acceptor"), data) == f"this is no hogpour peer: it begins with {data[:4]!r}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (header(255), "sent a message of unknown kind 255"),
        (header(0), "sent a message of unknown kind 0"),
        (header(Fetch.KIND, flags=1), "sent Fetch with flags 1, 0; expected 0, 0"),
        (header(Fetch.KIND, reserved=513), "sent Fetch with flags 0, 513; expected 0, 0"),
        (header(Fetch.KIND, n_body=1025), "sent Fetch of 1025 bytes; at most 1024"),
        (header(Fetch.KIND, n_body=(1 << 32) - 1), "sent Fetch of 4294967295 bytes; at most 1024"),
        (header(Fetch.KIND, n_payload=4), "sent Fetch with 4 bytes of payload; it has none"),
        (header(Push.KIND, n_payload=(1 << 20) + 1), "sent Push with 1048577 bytes of payload; at most 1048576"),
        (header(Push.KIND, n_payload=(1 << 64) - 1), "sent Push with 18446744073709551615 bytes of payload; at most 1048576"),
        (header(Fetch.KIND, id=0), "sent Fetch with id 0, which is not free"),
        (header(Fetched.KIND), "sent Fetched, which is no request"),
        (header(Ok.KIND), "sent Ok, which is no request"),
        (header(Failed.KIND), "sent Failed, which is no request"),
        (header(PushWindow.KIND), "sent PushWindow, which is no request"),
        (header(Hello.KIND), "sent Hello, which is no request"),
        (header(Fetch.KIND, n_body=2) + b"\xc1\xc1", "sent a Fetch that is none: "),
        (header(Fetch.KIND, n_body=3) + b"\x92\x01\xa0", "sent a Fetch that is none: Expected `int`, got `str` - at `$[1]`"),
        (header(Fetch.KIND, n_body=4) + b"\x92\x01\x01\x01", "sent a Fetch that is none: MessagePack data is malformed"),
        (header(Fetch.KIND, n_body=0), "sent a Fetch that is none: "),
        (frame.encode(Fetch(0, 1), 1) * 2, "sent Fetch with id 1, which is not free"),
    ],
)  # fmt: skip
def test_a_frame_that_breaks_a_rule_is_refused_before_its_bytes_are_waited_for(data: bytes, expected: str) -> None:
    acceptor = linked()[1]
    assert refused(acceptor, data).startswith(expected)
    assert acceptor.asked_for == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame.encode(Fetched(0, 1), 2), "sent Fetched for request 2, which is not outstanding"),
        (frame.encode(Fetched(0, 1), 0), "sent Fetched for request 0, which is not outstanding"),
        (frame.encode(Pushed(0, 1, 0), 1), "sent Pushed where Fetched was expected"),
        (frame.encode(Fetch(0, 1), 1), "sent Fetch where Fetched was expected"),
        (frame.encode(Fetched(0, 1), 1) * 2, "sent Fetched for request 1, which is not outstanding"),
    ],
)
def test_an_answer_belongs_to_a_request_and_is_of_its_kind(data: bytes, expected: str) -> None:
    connector, _ = linked()
    connector.connection.send(Fetch(0, 1), 1)
    assert refused(connector, data) == expected


def test_what_came_whole_before_the_offence_is_handed_on() -> None:
    acceptor = linked()[1]
    refused(acceptor, frame.encode(Fetch(0, 1), 1) + b"garbage")
    assert acceptor.arrived == [(1, Fetch(0, 1), None)]


def test_we_do_not_break_the_rules_ourselves() -> None:
    connector, acceptor = linked()
    acceptor.receive(connector.connection.send(Fetch(0, 1), 1))
    with pytest.raises(LocalProtocolError, match="before the end of the handshake"):
        End("connector").connection.send(Fetch(0, 1), 1)
    for end, message, id, text in [
        (connector, Fetch(0, 1), 1, "request 1 is used or out of range"),
        (connector, Fetch(0, 1), 0, "request 0 is used or out of range"),
        (connector, Fetch(0, 1), 1 << 32, "request 4294967296 is used"),
        (connector, Fetched(0, 1), 2, "Fetched is no request"),
        (acceptor, Fetched(0, 1), 2, "answer to request 2, which was not asked or is answered"),
        (acceptor, Ok(), 1, "Ok for request 1, which is answered with Fetched"),
    ]:
        with pytest.raises(LocalProtocolError, match=text):
            end.connection.send(message, id)
    with pytest.raises(LocalProtocolError, match="Fetch with 4 bytes of payload; it has none"):
        connector.connection.send(Fetch(0, 1), 5, 4)
    with pytest.raises(LocalProtocolError, match="Failed of 9010 bytes; at most 8192"):
        frame.encode(Failed(Refusal.WRONG, "x" * 9000), 1)


def test_a_place_of_another_size_is_our_own_mistake() -> None:
    for n in (8, 50_000):
        connector, acceptor = linked()
        acceptor.connection._place = lambda id, message, n_bytes: memoryview(bytearray(7))
        with pytest.raises((LocalProtocolError, ValueError)):
            acceptor.receive(connector.connection.send(PUSH, 1, n) + b"x" * 8)


def test_a_connection_without_traffic_takes_a_scratch_and_little_else() -> None:
    end = Connection("acceptor", TOKEN, nonce=b"a" * 32, payload_limit=1 << 30, place=lambda *a: None)
    assert len(end.target()) == SCRATCH_BYTES == 16 * 1024
