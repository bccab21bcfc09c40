"""Requests over loopback: every one is answered, fails, or is given up in time; its memory is nobody else's."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.ends import TOKEN, Run, fetched, octets, talking, until
from support.linked import End

from hogpour.core.errors import PeerLost, RemoteProtocolError
from hogpour.net.frame import encode
from hogpour.net.peer import Peer
from hogpour.net.requests import Reply
from hogpour.net.staging import Staging
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Push, Pushed

pytestmark = pytest.mark.real


@pytest.mark.parametrize("n", [1, 256, 3_000_000])
def test_parameters_come_and_gradients_go(run: Run, n: int) -> None:
    params = np.arange(n, dtype=np.float32)

    def fetch(request: Fetch) -> Reply:
        return Reply(Fetched(request.shard, 7), [octets(params)])

    async def push(request: Push, payload: memoryview) -> Reply:
        await asyncio.sleep(0)
        params[:] += np.frombuffer(payload, np.float32)
        return Reply(Pushed(request.shard, 8, 0))

    async def main() -> None:
        async with talking({Fetch: fetch, Push: push}) as (peer, _, lines):
            fetched, gradient = np.empty_like(params), np.ones_like(params)
            for step in range(3):
                answer = await peer.request(Fetch(0, 1), into=octets(fetched), deadline_s=5)
                assert answer == Fetched(0, 7)
                np.testing.assert_array_equal(fetched, np.arange(n) + np.float32(step))
                request = Push(0, 1, 0, step + 1, 7, 1, 1.0)
                assert await peer.request(request, [octets(gradient)], deadline_s=5) == Pushed(0, 8, 0)
        assert lines == []

    run(main())


def test_requests_arrive_in_the_order_of_the_calls(run: Run) -> None:
    """Before there is a connection, and with it; with and without payloads that the kernel does not take at once."""
    seen: list[int] = []

    def push(request: Push, payload: memoryview) -> Reply:
        seen.append(request.sequence)
        return Reply(Pushed(0, 1, 0))

    async def main() -> None:
        async with talking({Push: push}) as (peer, _, _):
            for begin in (1, 101):
                payloads = [memoryview(bytes(1 << (2 * (k % 12)))) for k in range(30)]
                await asyncio.gather(*[
                    peer.request(Push(0, 1, 0, begin + k, 0, 1, 1.0), [payloads[k]], deadline_s=10) for k in range(30)
                ])  # fmt: skip
                assert seen == list(range(begin, begin + 30))
                seen.clear()

    run(main())


def test_who_never_answers_is_given_up_and_others_are_not(run: Run) -> None:
    async def never(request: Push, payload: memoryview) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        async with talking({Push: never, Fetch: fetched}) as (peer, _, lines):
            push = peer.request(Push(0, 1, 0, 1, 0, 1, 1.0), deadline_s=0.1)
            failed, answer = await asyncio.gather(push, peer.request(Fetch(1, 1), deadline_s=5), return_exceptions=True)
            assert answer == Fetched(1, 1)
            assert str(failed) == f"{peer.address}: no answer to Push within 0.1 s"
            assert isinstance(failed, PeerLost)
            assert await peer.request(Fetch(2, 1), deadline_s=5) == Fetched(2, 1)
            assert peer._asked == {}
        assert lines == []

    run(main())


class Slow:
    """Answers a fetch with zeros when the test says so, a million floats if nothing else is said."""

    def __init__(self, n: int = 1 << 20) -> None:
        self.go, self.asked, self.params = asyncio.Event(), asyncio.Event(), np.zeros(n, np.float32)

    async def fetch(self, request: Fetch) -> Reply:
        self.asked.set()
        await self.go.wait()
        return Reply(Fetched(request.shard, 1), [octets(self.params)])


@pytest.mark.parametrize("n", [4, 1 << 20])
@pytest.mark.parametrize("by", ["cancel", "deadline"])
def test_an_answer_that_nobody_waits_for_any_more_touches_no_memory(run: Run, n: int, by: str) -> None:
    async def main() -> None:
        slow = Slow(n)
        async with talking({Fetch: slow.fetch}) as (peer, _, lines):
            into = np.ones(n, np.float32)
            deadline_s = 5 if by == "cancel" else 0.05
            answer = asyncio.ensure_future(peer.request(Fetch(0, 1), into=octets(into), deadline_s=deadline_s))
            await slow.asked.wait()
            if by == "cancel":
                answer.cancel()
            await asyncio.wait([answer])
            assert isinstance(answer.exception(), PeerLost) if by == "deadline" else answer.cancelled()
            slow.go.set()
            again = np.ones(n, np.float32)
            await peer.request(Fetch(0, 1), into=octets(again), deadline_s=5)
            assert not again.any()
            assert into.all()
        assert lines == []

    run(main())


def test_an_answer_under_way_is_diverted_when_nobody_waits_for_it_any_more(run: Run) -> None:
    async def main() -> None:
        slow = Slow(1 << 22)
        slow.go.set()
        async with talking({Fetch: slow.fetch}) as (peer, _, lines):
            into = np.ones(1 << 22, np.float32)
            answer = asyncio.ensure_future(peer.request(Fetch(0, 1), into=octets(into), deadline_s=5))
            await until(lambda: not into[0])  # the payload has begun to arrive, and cannot be all there:
            answer.cancel()  # the next read comes in a later turn of the event loop
            await asyncio.wait([answer])
            assert answer.cancelled()
            kept = int(into.sum())
            assert kept > 0
            again = np.ones(1 << 22, np.float32)
            await peer.request(Fetch(0, 1), into=octets(again), deadline_s=5)
            assert not again.any()
            assert int(into.sum()) == kept
        assert lines == []

    run(main())


@pytest.mark.parametrize("by", ["cancel", "deadline"])
def test_a_gradient_given_up_while_it_is_sent_takes_the_connection_with_it(run: Run, by: str) -> None:
    """The other end has no memory for it, so it does not read, and the gradient stays with us: it must not be read by
    the event loop once request() is over."""

    async def main() -> None:
        staging = Staging(4096)
        blocker = staging.take(4096)
        assert blocker is not None
        handlers = {Push: lambda request, payload: Reply(Pushed(0, 1, 0)), Fetch: fetched}
        async with talking(handlers, staging=staging) as (peer, listener, lines):
            await peer.request(Fetch(0, 1), deadline_s=5)
            gradient = bytearray(32 << 20)
            deadline_s = 5 if by == "cancel" else 0.05
            push = peer.request(Push(0, 1, 0, 1, 0, 1, 1.0), [memoryview(gradient)], deadline_s=deadline_s)
            sending = asyncio.ensure_future(push)
            await until(lambda: bool(staging._waiting))
            if by == "cancel":
                sending.cancel()
            await asyncio.wait([sending])
            assert peer._link is None
            assert isinstance(sending.exception(), PeerLost) if by == "deadline" else sending.cancelled()
            del sending, push
            assert await peer.request(Fetch(1, 1), deadline_s=5) == Fetched(1, 1)
            staging.give(blocker)
            await until(lambda: len(listener._sessions) == 1)
            assert staging.taken_bytes == 0
        assert len(lines) == 1

    run(main())


def test_closing_fails_what_is_unanswered(run: Run) -> None:
    async def main() -> None:
        slow = Slow()
        async with talking({Fetch: slow.fetch}) as (peer, _, _):
            answer = asyncio.ensure_future(peer.request(Fetch(0, 1), deadline_s=5))
            await slow.asked.wait()
            await peer.close()
            text = f"{peer.address}: closed by this node"
            with pytest.raises(PeerLost, match=text):
                await answer
            with pytest.raises(PeerLost, match=text):
                await peer.request(Fetch(0, 1), deadline_s=5)

    run(main())


@pytest.mark.parametrize(("n", "wanted"), [(3, 4), (0, 4), (3, 0)])
def test_an_answer_of_another_length_fails_its_request_only(run: Run, n: int, wanted: int) -> None:
    def fetch(request: Fetch) -> Reply:
        return Reply(Fetched(0, 1), [memoryview(b"x" * n)])

    async def main() -> None:
        async with talking({Fetch: fetch}) as (peer, _, lines):
            into = memoryview(bytearray(wanted))
            for _ in range(2):
                with pytest.raises(RemoteProtocolError, match=f": {n} bytes with Fetched; {wanted} are wanted$"):
                    await peer.request(Fetch(0, 1), into=into, deadline_s=5)
            assert bytes(into) == bytes(wanted)
            assert peer._link is not None
        assert lines == []

    run(main())


def test_ids_start_again_at_one(run: Run) -> None:
    async def main() -> None:
        async with talking({Fetch: fetched}) as (peer, _, _):
            peer._asked._last_id = (1 << 32) - 2
            for shard in range(3):
                assert await peer.request(Fetch(shard, 1), deadline_s=5) == Fetched(shard, 1)
            assert peer._asked._last_id == 2

    run(main())


def test_an_answer_to_what_was_not_sent_yet_is_none(run: Run) -> None:
    """The gradient is still being read by our event loop; whoever asked may not have its memory back."""

    async def main() -> None:
        async def rogue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            end = End("acceptor")
            while not end.connection.ready:
                end.receive(await reader.read(4096))
                writer.write(end.sends())
            await reader.read(1)  # the request has begun to arrive; much of it is not even with the kernel
            writer.write(encode(Pushed(0, 1, 0), 1))
            await gone.wait()
            writer.transport.abort()

        gone = asyncio.Event()
        server = await asyncio.start_server(rogue, "127.0.0.1", 0, limit=1024)
        peer = Peer("{}:{}".format(*server.sockets[0].getsockname()), TOKEN)
        gradient = memoryview(bytearray(64 << 20))
        try:
            with pytest.raises(PeerLost, match=r"no answer to Push of 67\.1 MB: answered Push before it was sent"):
                await peer.request(Push(0, 1, 0, 1, 0, 1, 1.0), [gradient], deadline_s=5, retry=False)
        finally:
            gone.set()
            await peer.close()
            server.close()
            await server.wait_closed()

    run(main())
