"""A peer says who it is on each connection, and what it may not say is refused: over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.ends import TOKEN, Run, listening

from hogpour.core.errors import RequestFailed
from hogpour.net.authority import Authority
from hogpour.net.credentials import Issuer, credential
from hogpour.net.listener import Listener
from hogpour.net.peer import Peer
from hogpour.net.peers import PeerPool
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.join import Leave
from hogpour.net.wire.status import Fence

pytestmark = pytest.mark.real

HOME, SERVER, MEMBER = 1, 2, 3
KEY = Issuer(b"s" * 32, HOME).key(SERVER)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[PeerPool, Listener, list[Message], list[str]]]:
    """A server that has begun, with what it was asked, and another node."""
    heard: list[Message] = []

    def hear(message: Message) -> Reply[Any]:
        heard.append(message)
        return Reply(Fetched(message.shard, 1) if isinstance(message, Fetch) else Ok())

    authority = Authority()
    authority.begin(SERVER, KEY)
    async with listening(dict.fromkeys((Fetch, Leave, Fence), hear), authority=authority) as (listener, lines):
        pool = PeerPool(None, listener.address, TOKEN)  # type: ignore[arg-type]
        try:
            yield pool, listener, heard, lines
        finally:
            await pool.close()


async def refused(peer: Any, message: Message) -> str:
    with pytest.raises(RequestFailed) as caught:
        await peer.request(message, deadline_s=5)
    return caught.value.code


def test_whoever_only_knows_the_token_speaks_for_nobody(run: Run) -> None:
    async def main() -> None:
        async with serving() as (pool, _, heard, lines):
            peer = pool.reach("")
            assert [await refused(peer, message) for message in (Leave(MEMBER), Fence(MEMBER))] == ["fenced", "wrong"]
            pool.identify(MEMBER, [""], [b"guessed"])
            assert [await refused(peer, message) for message in (Leave(MEMBER), Fence(MEMBER))] == ["fenced", "wrong"]
            await peer.request(Fetch(0, MEMBER), deadline_s=5)
            assert heard == [Fetch(0, 0)]
        assert lines == []

    run(main())


def test_each_connection_is_told_ahead_of_what_is_asked_and_once(run: Run) -> None:
    async def main() -> None:
        async with serving() as (pool, listener, heard, lines):
            pool.identify(MEMBER, [""], [credential(KEY, MEMBER)])
            peers: list[Any] = [pool.reach(""), pool.apart()]
            for peer in peers:
                assert isinstance(peer, Peer)
                assert await peer.request(Leave(MEMBER), deadline_s=5) == Ok()
                before = peer._link.transport.bytes_out
                await peer.request(Leave(MEMBER), deadline_s=5)
                once = peer._link.transport.bytes_out - before
                for session in list(listener._sessions):
                    session.transport.abort(None)
                assert await peer.request(Leave(MEMBER), deadline_s=5) == Ok()  # on a new connection
                before = peer._link.transport.bytes_out
                await peer.request(Leave(MEMBER), deadline_s=5)
                assert peer._link.transport.bytes_out - before == once
            assert heard == [Leave(MEMBER)] * 8
        assert lines == []

    run(main())


def test_a_node_that_joined_again_speaks_as_what_it_is_now(run: Run) -> None:
    async def main() -> None:
        async with serving() as (pool, _, heard, _):
            peer = pool.reach("")
            for node in (MEMBER, MEMBER + 1):
                pool.identify(node, ["", "elsewhere:1"], [credential(KEY, node), b""])
                pool.identify(node, [], [])  # nothing is to be shown
                await peer.request(Leave(node), deadline_s=5)
            assert await refused(peer, Leave(MEMBER)) == "fenced"
            assert heard == [Leave(MEMBER), Leave(MEMBER + 1)]

    run(main())
