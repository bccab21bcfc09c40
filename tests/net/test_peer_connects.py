"""Connections of a peer over loopback: found, refused, proven, closed, cut, and made again."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.ends import TOKEN, Run, facing, fetched, listening, octets, talking, until
from support.linked import End

from hogpour.core.errors import PeerLost, RemoteProtocolError
from hogpour.net.address import split
from hogpour.net.listener import Listener
from hogpour.net.peer import Peer
from hogpour.net.requests import Reply
from hogpour.net.staging import Staging
from hogpour.net.wire.fetch import Fetch, Fetched

pytestmark = pytest.mark.real


async def free_address() -> str:
    """An address where nobody listens, and somebody may later."""
    async with listening({}) as (listener, _):
        return listener.address


def test_nobody_there_is_said_after_the_stated_time(run: Run) -> None:
    async def main() -> None:
        peer = Peer(await free_address(), TOKEN)
        began = asyncio.get_running_loop().time()
        with pytest.raises(PeerLost) as raised:
            await peer.request(Fetch(0, 1), deadline_s=0.2)
        assert str(raised.value) == f"{peer.address}: no answer to Fetch within 0.2 s: connection refused"
        assert 0.19 <= asyncio.get_running_loop().time() - began < 5
        with pytest.raises(PeerLost, match="no answer to Fetch: connection refused"):
            await peer.request(Fetch(0, 1), deadline_s=10, retry=False)
        await peer.close()

    run(main())


def test_who_comes_late_is_found(run: Run) -> None:
    async def main() -> None:
        address = await free_address()
        peer = Peer(address, TOKEN)
        answer = asyncio.ensure_future(peer.request(Fetch(5, 1), deadline_s=10))
        await until(lambda: peer._pause_s >= 0.1)
        listener = Listener({Fetch: fetched}, TOKEN, staging=Staging(1), payload_limit=1, log=print)
        host, port = split(address)
        await listener.start(host, port)
        assert await answer == Fetched(5, 1)
        assert peer._pause_s == 0
        await peer.close()
        await listener.close()

    run(main())


@pytest.mark.parametrize("retry", [True, False])
def test_a_connection_that_breaks_is_made_again_and_the_request_asked_again_if_it_may(run: Run, retry: bool) -> None:
    calls: list[int] = []

    def fetch(request: Fetch) -> Reply:
        calls.append(request.shard)
        if len(calls) == 2:
            raise RemoteProtocolError("for the test")
        return Reply(Fetched(request.shard, len(calls)))

    async def main() -> None:
        async with talking({Fetch: fetch}) as (peer, _, _):
            await peer.request(Fetch(0, 1), deadline_s=5)
            if retry:
                assert await peer.request(Fetch(7, 1), deadline_s=5) == Fetched(7, 3)
            else:
                with pytest.raises(PeerLost, match="no answer to Fetch: closed by the other end"):
                    await peer.request(Fetch(7, 1), deadline_s=5, retry=False)
                assert calls == [0, 7]
            assert await peer.request(Fetch(8, 1), deadline_s=5) == Fetched(8, len(calls))

    run(main())


def test_connections_cut_two_hundred_times_lose_no_request(run: Run) -> None:
    """Every third request finds its connection cut; each is answered in the end, and with its own payload."""
    calls = [0]

    def fetch(request: Fetch) -> Reply:
        calls[0] += 1
        if calls[0] % 3 == 0:
            raise RemoteProtocolError("for the test")
        return Reply(Fetched(request.shard, 1), [octets(np.full(9, request.shard, np.float32))])

    async def main() -> None:
        async with talking({Fetch: fetch}) as (peer, _, _):
            for k in range(400):
                into = np.zeros(9, np.float32)
                assert await peer.request(Fetch(k, 1), into=octets(into), deadline_s=10) == Fetched(k, 1)
                assert (into == k).all()
        assert calls[0] == 599

    run(main())


def test_closing_ends_a_try_to_connect(run: Run) -> None:
    async def main() -> None:
        peer = Peer(await free_address(), TOKEN)
        answer = asyncio.ensure_future(peer.request(Fetch(0, 1), deadline_s=5))
        await until(lambda: peer._pause_s > 0)
        await peer.close()
        with pytest.raises(PeerLost, match="closed by this node"):
            await answer

    run(main())


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "this is no hogpour peer: it begins with b'HTTP'"), (b"220 mail\r\n", "this is no hogpour peer: it begins with b'220 '")],
)  # fmt: skip
def test_a_wrong_address_is_said_at_once(run: Run, greeting: bytes, reason: str) -> None:
    async def main() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting)
            await reader.read()
            writer.close()

        async with facing(greet) as peer:
            with pytest.raises(RemoteProtocolError) as raised:
                await peer.request(Fetch(0, 1), deadline_s=5)
            assert str(raised.value) == f"{peer.address}: {reason}"

    run(main())


@pytest.mark.parametrize("n_bytes", [0, 10, 50])
def test_a_connection_that_is_closed_before_the_proof_is_made_again(run: Run, n_bytes: int) -> None:
    """A node that goes, or that turns away whoever has not proven the token because there are too many, closes with a
    FIN; the request was failed then as if this were no node of the cluster, and the whole run with it."""

    async def main() -> None:
        closed = 0

        async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal closed
            closed += 1
            end = End("acceptor")
            end.receive(await reader.read(4096))
            writer.write(end.sends()[:n_bytes])
            writer.close()

        server = await asyncio.start_server(closes, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        peer = Peer(f"{host}:{port}", TOKEN)
        try:
            with pytest.raises(PeerLost, match=r"no answer to Fetch within 0\.2 s: ended (before|inside) (a header|Challenge)$"):
                await peer.request(Fetch(0, 1), deadline_s=0.2)
            assert closed > 1
            server.close()
            await server.wait_closed()
            async with listening({Fetch: fetched}) as (listener, _):
                peer._port = int(listener.address.rpartition(":")[2])
                assert await peer.request(Fetch(5, 1), deadline_s=10) == Fetched(5, 1)
        finally:
            await peer.close()

    run(main())


def test_who_accepts_and_says_nothing_is_no_connection(run: Run) -> None:
    async def main() -> None:
        async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with facing(ignore, connect_s=0.05) as peer:
            with pytest.raises(PeerLost, match=r"no answer to Fetch within 0\.3 s: connected, and no proof of the token within 0\.1 s$"):
                await peer.request(Fetch(0, 1), deadline_s=0.3)

    run(main())


class SlowNames(asyncio.SelectorEventLoop):
    """A loop whose resolver takes longer than a connection may."""

    async def getaddrinfo(self, host: object, *rest: object, **more: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host == "slow.example":
            await asyncio.sleep(0.05)
            return [(2, 1, 6, "", (address, 0)) for address in ("127.0.0.2", "127.0.0.1")]
        return await super().getaddrinfo(host, *rest, **more)  # type: ignore[arg-type]


def test_a_resolver_may_take_its_time_and_give_addresses_where_nobody_is() -> None:
    """Its time was counted as that of the other node, which then never got a connection."""

    async def main() -> None:
        async with listening({Fetch: fetched}) as (listener, _):
            peer = Peer(f"slow.example:{split(listener.address)[1]}", TOKEN, connect_s=0.04)
            assert await peer.request(Fetch(0, 1), deadline_s=5) == Fetched(0, 1)
            await peer.close()

    with asyncio.Runner(loop_factory=SlowNames) as runner:
        runner.run(main())


class Stalls(asyncio.SelectorEventLoop):
    """A loop whose process may stand still, for as long as is said."""

    stood_s = 0.0

    def time(self) -> float:
        return super().time() + self.stood_s


def test_a_proof_that_came_while_this_process_stood_still_counts() -> None:
    """The deadline for it passed in the same turn of the loop, and the request failed on a connection that was good."""

    async def main() -> None:
        connections = 0

        async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            end = End("acceptor")
            while not end.connection.ready:
                end.receive(await reader.read(4096))
                writer.write(end.sends())
            loop.stood_s = 5.0
            while not end.arrived:
                end.receive(await reader.read(4096))
            writer.write(end.connection.send(Fetched(0, 1), end.arrived[0][0]))
            await reader.read()
            writer.close()

        async with facing(welcome) as peer:
            assert await peer.request(Fetch(0, 1), deadline_s=9, retry=False) == Fetched(0, 1)
        assert connections == 1

    loop = Stalls()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
