"""Whatever somebody sends to the open port, or does not: that connection ends with one reason, and others go on."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from support.ends import TOKEN, Run, listening, octets, talking, until
from support.linked import NONCES
from support.strangers import Stranger

from hogpour.core.errors import Refusal, RemoteProtocolError, RequestFailed, ResourceError
from hogpour.net import frame
from hogpour.net.listener import IN_FLIGHT, Listener
from hogpour.net.peer import Peer
from hogpour.net.requests import Reply
from hogpour.net.staging import Staging
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.handshake import Hello
from hogpour.net.wire.join import Leave
from hogpour.net.wire.push import Push, Pushed
from hogpour.net.wire.where import Where

pytestmark = pytest.mark.real

PUSH = Push(0, 1, 0, 1, 0, 1, 1.0)


def fetched(request: Fetch) -> Reply:
    return Reply(Fetched(request.shard, 1))


# -- strangers ----------------------------------------------------------------------------------------------------------

HELLO = frame.encode(Hello(frame.VERSION, NONCES["connector"]), 0)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "this is no hogpour peer: it begins with b'GET '"),
        (b"\x16\x03\x01\x02\x00\x01", "this is no hogpour peer: it begins with b'\\x16\\x03\\x01\\x02'"),
        (b"SSH-2.0-x\r\n", "this is no hogpour peer: it begins with b'SSH-'"),
        (frame.encode(Fetch(0, 1), 1), "sent Fetch where Hello was expected"),
        (frame.encode(Hello(9, NONCES["connector"]), 0), "the node that connects speaks version 9 of hogpour's protocol, "
         f"the one that listens version {frame.VERSION}: update hogpour on the one that listens"),
        (HELLO + HELLO, "sent Hello where Proof was expected"),
        (frame._HEADER.pack(b"HGPR", 10, 0, 0, 0, 1 << 31, 0), "sent Hello of 2147483648 bytes; at most 1024"),
    ],
)  # fmt: skip
def test_a_stranger_is_turned_away_with_one_reason(run: Run, sent: bytes, reason: str) -> None:
    async def main() -> None:
        async with talking({Fetch: fetched}) as (peer, listener, lines):
            await peer.request(Fetch(0, 1), deadline_s=5)
            stranger = await Stranger.open(listener.address)
            name = "{}:{}".format(*stranger.writer.get_extra_info("sockname"))
            stranger.writer.write(sent)
            await stranger.ended()
            await until(lambda: bool(lines))
            assert await peer.request(Fetch(1, 1), deadline_s=5) == Fetched(1, 1)
        assert lines == [f"{name}: {reason}"]

    run(main())


@pytest.mark.parametrize(("sent", "reason"), [(b"", "ended before Hello"), (HELLO[:30], "ended inside Hello"), (HELLO[:9], "ended inside a header")])  # fmt: skip
def test_who_leaves_before_the_proof_is_named(run: Run, sent: bytes, reason: str) -> None:
    async def main() -> None:
        async with listening({}) as (listener, lines):
            stranger = await Stranger.open(listener.address)
            stranger.writer.write(sent)
            await stranger.close()
            await until(lambda: bool(lines))
        assert lines[0].endswith(f": {reason}")
        assert len(lines) == 1

    run(main())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (frame._HEADER.pack(b"HGPR", 22, 0, 0, 1, 30, (1 << 30) + 1), "sent Push with 1073741825 bytes of payload; at most 1073741824"),
        (frame.encode(Fetch(0, 1), 1)[:26], "ended inside Fetch"),
        (frame.encode(PUSH, 1, 100) + b"1234", "ended inside Push"),
        (b"\0" * 24, "this is no hogpour peer: it begins with b'\\x00\\x00\\x00\\x00'"),
    ],
)  # fmt: skip
def test_a_member_that_breaks_the_rules_loses_its_connection_only(run: Run, sent: bytes, reason: str) -> None:
    staging = Staging(1 << 20)

    async def main() -> None:
        async with talking({Fetch: fetched}, staging=staging) as (peer, listener, lines):
            await peer.request(Fetch(0, 1), deadline_s=5)
            member = await Stranger.prove(listener.address)
            member.writer.write(sent)
            member.writer.write_eof()
            await member.ended()
            await until(lambda: bool(lines))
            assert await peer.request(Fetch(1, 1), deadline_s=5) == Fetched(1, 1)
        assert [line.partition(": ")[2] for line in lines] == [reason]
        assert staging.taken_bytes == 0

    run(main())


def test_a_wrong_token_is_refused_at_both_ends(run: Run) -> None:
    async def main() -> None:
        async with listening({Fetch: fetched}) as (listener, lines):
            peer = Peer(listener.address, b"the token of another cluster")
            with pytest.raises(RequestFailed) as raised:
                await peer.request(Fetch(0, 1), deadline_s=5)
            await peer.close()
            assert (raised.value.code, str(raised.value)) == ("refused", f"{listener.address}: wrong token")
            await until(lambda: bool(lines))
        assert [line.partition(": ")[2] for line in lines] == ["wrong token"]

    run(main())


def test_who_is_silent_is_turned_away(run: Run) -> None:
    async def main() -> None:
        async with listening({}, handshake_s=0.05) as (listener, lines):
            stranger = await Stranger.open(listener.address)
            await stranger.ended()
            await until(lambda: bool(lines))
        assert [line.partition(": ")[2] for line in lines] == ["did not prove the token within 0.05 s"]

    run(main())


@pytest.mark.slow
def test_a_crowd_of_idle_strangers_keeps_nobody_out(run: Run) -> None:
    """A thousand here, or as many as the limit of descriptors allows; of ten thousand it would say the same."""
    n = min(1000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 3)

    async def main() -> None:
        async with talking({Fetch: fetched}) as (peer, listener, lines):
            crowd = []
            for _ in range(n // 50):
                crowd += await asyncio.gather(*[Stranger.open(listener.address) for _ in range(50)])
                assert len(listener._sessions) <= 64 + 50
            assert await peer.request(Fetch(0, 1), deadline_s=5) == Fetched(0, 1)
            await asyncio.gather(*[stranger.close() for stranger in crowd])
            await until(lambda: len(listener._sessions) == 1)
        told = [line for line in lines if "more" not in line]
        counted = [int(line.split()[2].replace(",", "")) for line in lines if "more" in line]
        assert len(told) + sum(counted) == len(crowd)
        assert len(told) < len(crowd) // 4
        assert told[0].endswith(": had not proven the token when others came")

    run(main())


def test_there_is_a_limit_of_members(run: Run) -> None:
    async def main() -> None:
        async with listening({}, max_connections=2) as (listener, lines):
            members = [await Stranger.prove(listener.address) for _ in range(2)]
            third = await Stranger.open(listener.address)
            await third.ended()
            await until(lambda: bool(lines))
            assert [line.partition(": ")[2] for line in lines] == ["2 connections are there already"]
            await members[0].close()
            await until(lambda: len(listener._sessions) == 1)
            members[0] = await Stranger.prove(listener.address)
            for member in members:
                await member.close()

    run(main())


def test_lines_are_few_and_the_rest_is_counted() -> None:
    from hogpour.net.log_lines import LogLines

    said: list[str] = []
    lines = LogLines(said.append)
    for k in range(10_000):
        lines.say(str(k), 5.0 + k / 20_000)
    lines.say("later", 6.2)
    assert said == [*map(str, range(10)), "… and 9,990 more", "later"]


# -- members that do not do their part ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_who_does_not_read_is_not_read_either_and_then_dropped(run: Run) -> None:
    """A thousand requests, whose answers of 1 MB would be a gigabyte: few are taken in, none is kept for long."""
    params, calls, let_go = np.zeros(1 << 18, np.float32), [], []

    def fetch(request: Fetch) -> Reply:
        calls.append(request)
        return Reply(Fetched(0, 1), [octets(params)], lambda: let_go.append(request))

    async def main() -> None:
        async with listening({Fetch: fetch}, write_s=0.2) as (listener, lines):
            member = await Stranger.prove(listener.address, limit=1024)
            for id in range(1, 20_000):
                member.writer.write(member.end.connection.send(Fetch(id, 1), id))
            await until(lambda: bool(lines))
            assert [line.partition(": ")[2] for line in lines] == ["read nothing for 0.2 s"]
            scratch = 16 * 1024 // len(frame.encode(Fetch(1, 1), 1))
            assert len(calls) <= IN_FLIGHT + 2 * scratch
            assert let_go == calls
            await member.close()

    run(main())


def test_who_stops_inside_a_frame_is_dropped(run: Run) -> None:
    staging = Staging(1 << 20)

    async def main() -> None:
        async with listening({}, arrive_s=0.05, staging=staging) as (listener, lines):
            member = await Stranger.prove(listener.address)
            member.writer.write(frame.encode(PUSH, 1, 1000) + b"123")
            await until(lambda: staging.taken_bytes > 0)
            await member.ended()
            await until(lambda: bool(lines))
        assert [line.partition(": ")[2] for line in lines] == ["stopped inside a frame for 0.05 s"]
        assert staging.taken_bytes == 0

    run(main())


# -- handlers -----------------------------------------------------------------------------------------------------------


def test_handlers_fail_in_words(run: Run) -> None:
    def moved(request: Fetch) -> Reply:
        raise RequestFailed(Refusal.MOVED, f"shard {request.shard} is served elsewhere")

    async def broken(request: Push, payload: memoryview) -> Reply:
        raise ValueError("x" * 9000)

    def confused(request: Leave) -> Reply:
        return Reply(Fetched(0, 0))

    async def main() -> None:
        staging = Staging(1 << 20)
        handlers = {Fetch: moved, Push: broken, Leave: confused}
        async with talking(handlers, staging=staging) as (peer, _, lines):
            found = []
            for request, payload in [(Fetch(3, 1), b""), (PUSH, b"1234"), (Leave(1), b""), (Where(), b"")]:
                views = [memoryview(payload)] if payload else []
                with pytest.raises(RequestFailed) as raised:
                    await peer.request(request, views, deadline_s=5)
                found.append((raised.value.code, str(raised.value)))
            assert found == [
                ("moved", "shard 3 is served elsewhere"),
                ("wrong", "ValueError: " + "x" * 988),
                ("wrong", "LocalProtocolError: Fetched for request 3, which is answered with Ok"),
                ("wrong", "this node does not answer Where"),
            ]
            assert len(lines) == 2
            assert ": a handler failed: ValueError: xxx" in lines[0]
            assert staging.taken_bytes == 0

    run(main())


@pytest.mark.parametrize("later", [False, True])
def test_a_handler_can_close_the_connection(run: Run, later: bool) -> None:
    async def wait(request: Push, payload: memoryview) -> Reply:
        raise RemoteProtocolError("pushed nonsense")

    def at_once(request: Push, payload: memoryview) -> Reply:
        raise RemoteProtocolError("pushed nonsense")

    async def main() -> None:
        staging = Staging(1 << 20)
        async with listening({Push: wait if later else at_once}, staging=staging) as (listener, lines):
            member = await Stranger.prove(listener.address)
            member.writer.write(member.end.connection.send(PUSH, 1, 4) + b"1234")
            assert await member.ended() == b""
            await until(lambda: bool(lines))
        assert [line.partition(": ")[2] for line in lines] == ["pushed nonsense"]
        assert staging.taken_bytes == 0

    run(main())


class Gate:
    """A handler that waits until the test lets it go."""

    def __init__(self) -> None:
        self.open, self.entered, self.left = asyncio.Event(), 0, 0
        self.seen: list[bytes] = []

    async def push(self, request: Push, payload: memoryview) -> Reply:
        self.entered += 1
        try:
            await self.open.wait()
            self.seen.append(bytes(payload[:4]))
        finally:
            self.left += 1
        return Reply(Pushed(request.shard, 1, 0))


def test_a_full_staging_makes_senders_wait_their_turn(run: Run) -> None:
    async def main() -> None:
        gate, staging = Gate(), Staging(1 << 20)
        async with talking({Push: gate.push, Fetch: fetched}, staging=staging) as (peer, listener, lines):
            other = Peer(listener.address, TOKEN)
            gradients = [np.full(1 << 18, k, np.float32) for k in range(4)]
            pushes = [
                asyncio.ensure_future((peer, other)[k % 2].request(PUSH, [octets(gradients[k])], deadline_s=10))
                for k in range(4)
            ]
            await until(lambda: gate.entered == 1)
            assert await _still(lambda: gate.entered == 1)
            assert staging.held_bytes == 1 << 20
            gate.open.set()
            assert await asyncio.gather(*pushes) == [Pushed(0, 1, 0)] * 4
            assert sorted(np.frombuffer(b"".join(gate.seen), np.float32)) == [0, 1, 2, 3]
            assert staging.held_bytes == 1 << 20
            await other.close()
        assert lines == []
        assert staging.taken_bytes == 0

    run(main())


async def _still(true: Callable[[], bool]) -> bool:
    for _ in range(20):
        await asyncio.sleep(0.001)
    return true()


@pytest.mark.parametrize("limit", [1, 3 * 4096, 1 << 20])
def test_small_pushes_that_arrive_together_have_memory_of_their_own_and_stay_in_order(run: Run, limit: int) -> None:
    """They lie in one scratch, and were once all placed in the memory of the first; with little staging some wait for
    what the others give back, and must not overtake them."""

    async def main() -> None:
        gate, staging = Gate(), Staging(limit)
        seen: list[tuple[int, bytes]] = []

        def push(request: Push, payload: memoryview) -> Reply:
            seen.append((request.sequence, bytes(payload)))
            return Reply(Pushed(0, 1, 0))

        def waits(request: Push, payload: memoryview) -> Reply | Awaitable[Reply]:
            return push(request, payload) if request.sequence % 3 else gate.push(request, payload)

        async with listening({Push: waits}, staging=staging) as (listener, lines):
            member, n = await Stranger.prove(listener.address), IN_FLIGHT - 1
            gate.open.set()
            for k in range(1, n + 1):
                frame = member.end.connection.send(Push(0, 1, 0, k, 0, 1, 1.0), k, 20)
                member.writer.write(frame + bytes([k]) * 20)
            await member.answers(n)
            await member.close()
        assert seen == [(k, bytes([k]) * 20) for k in range(1, n + 1) if k % 3]
        assert gate.seen == [bytes([k]) * 4 for k in range(3, n + 1, 3)]
        assert lines == []
        assert staging.taken_bytes == 0

    run(main())


@pytest.mark.slow
def test_a_long_queue_for_staging_is_not_served_one_inside_the_other(run: Run) -> None:
    """Each answer makes room for the next one; three hundred of them, nested, would be deeper than Python goes."""
    answered: list[int] = []

    def push(request: Push, payload: memoryview) -> Reply:
        answered.append(request.sequence)
        return Reply(Pushed(0, 1, 0))

    async def main() -> None:
        staging = Staging(4096)
        blocker = staging.take(4096)
        assert blocker is not None
        async with listening({Push: push}, staging=staging) as (listener, lines):
            members = [await Stranger.prove(listener.address) for _ in range(300)]
            for k, member in enumerate(members):
                member.writer.write(member.end.connection.send(Push(0, 1, 0, k + 1, 0, 1, 1.0), 1, 8) + b"12345678")
                await until(lambda k=k: len(staging._waiting) == k + 1)
            staging.give(blocker)
            await until(lambda: len(answered) == 300)
            assert answered == list(range(1, 301))
            for member in members:
                await member.close()
        assert lines == []

    run(main())


def test_who_waits_for_staging_and_goes_holds_up_nobody(run: Run) -> None:
    async def main() -> None:
        gate, staging = Gate(), Staging(4096)
        async with listening({Push: gate.push}, staging=staging) as (listener, _):
            members = [await Stranger.prove(listener.address) for _ in range(3)]
            for member in members:
                member.writer.write(member.end.connection.send(PUSH, 1, 4096) + b"x" * 4096)
                await until(lambda: gate.entered == 1)
            await until(lambda: len(staging._waiting) == 2)
            next(s for s in listener._sessions if s._waiting).transport.abort(None)
            await until(lambda: len(staging._waiting) == 1)
            gate.open.set()
            await until(lambda: gate.left == 2)
            for member in members:
                await member.close()
        assert staging.taken_bytes == 0

    run(main())


def test_the_payload_is_the_handlers_until_its_end_even_without_a_connection(run: Run) -> None:
    async def main() -> None:
        gate, staging = Gate(), Staging(1 << 20)
        async with listening({Push: gate.push}, staging=staging) as (listener, _):
            member = await Stranger.prove(listener.address)
            member.writer.write(member.end.connection.send(PUSH, 1, 4) + b"1234")
            await until(lambda: gate.entered == 1)
            await member.close()
            await until(lambda: not listener._sessions)
            assert staging.taken_bytes == 4096
            gate.open.set()
            await until(lambda: staging.taken_bytes == 0)
            assert gate.seen == [b"1234"]

    run(main())


@pytest.mark.parametrize("reads", [True, False])
def test_a_reply_is_let_go_exactly_once(run: Run, reads: bool) -> None:
    params, let_go = np.zeros(4 << 20, np.float32), []

    def fetch(request: Fetch) -> Reply:
        return Reply(Fetched(0, 1), [octets(params)], lambda: let_go.append(len(let_go)))

    async def main() -> None:
        async with listening({Fetch: fetch}) as (listener, _):
            member = await Stranger.prove(listener.address, limit=1024)
            member.writer.write(member.end.connection.send(Fetch(0, 1), 1))
            await until(lambda: any(s._unfinished for s in listener._sessions))
            assert let_go == []
            if reads:
                member.end.connection._place = lambda *given: memoryview(bytearray(given[2]))
                await member.answers(1)
            await member.close()
            await until(lambda: not listener._sessions)
        assert let_go == [0]

    run(main())


# -- the end ------------------------------------------------------------------------------------------------------------


def test_draining_finishes_what_is_in_flight_and_nothing_more(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        async with talking({Push: gate.push}) as (peer, listener, lines):
            idle = await Stranger.prove(listener.address)
            push = asyncio.ensure_future(peer.request(PUSH, [memoryview(b"1234")], deadline_s=5))
            await until(lambda: gate.entered == 1)
            drain = asyncio.ensure_future(listener.drain(5))
            await idle.ended()
            with pytest.raises(OSError):
                await Stranger.open(listener.address)
            assert not drain.done()
            gate.open.set()
            assert await push == Pushed(0, 1, 0)
            await drain
            assert not listener._sessions
        assert lines == []

    run(main())


def test_draining_ends_after_its_time(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        async with listening({Push: gate.push}) as (listener, _):
            member = await Stranger.prove(listener.address)
            member.writer.write(member.end.connection.send(PUSH, 1, 4) + b"1234")
            await until(lambda: gate.entered == 1)
            await listener.drain(0.05)
            assert gate.left == 1
            assert await member.ended() == b""

    run(main())


def test_a_port_in_use_says_by_whom(run: Run) -> None:
    async def main() -> None:
        async with listening({}) as (listener, _):
            other = Listener({}, TOKEN, staging=Staging(1), payload_limit=1, log=print)
            host, _, port = listener.address.partition(":")
            with pytest.raises(ResourceError) as raised:
                await other.start(host, int(port))
            assert str(raised.value).startswith(f"{listener.address} is in use by process {os.getpid()} (")
            await other.close()

    run(main())


def test_an_address_of_another_machine_cannot_be_listened_on(run: Run) -> None:
    async def main() -> None:
        listener = Listener({}, TOKEN, staging=Staging(1), payload_limit=1, log=print)
        with pytest.raises(ResourceError, match=r"^192\.0\.2\.1:7000 cannot be opened: "):
            await listener.start("192.0.2.1", 7000)
        await listener.close()

    run(main())
