"""A node asks itself as it asks others, without a socket."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.ends import octets

from hogpour.core.errors import LocalProtocolError, PeerLost, Refusal, RequestFailed
from hogpour.net.loopback import Loopback
from hogpour.net.requests import Handler, Reply, Requests
from hogpour.net.wire.base import Failed, Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Push, Pushed

PUSH = Push(0, 1, 0, 1, 0, 1, 1.0)


def asked(handler: Handler, message: Message, *payload: memoryview, into: memoryview | None = None) -> Message:
    local: Requests = Loopback({type(message): handler})
    return asyncio.run(local.request(message, payload, into=into, deadline_s=0.05))


@pytest.mark.parametrize("later", [False, True])
def test_the_answer_and_its_payload_are_there_and_let_go(later: bool) -> None:
    params, fetched, let_go = np.arange(6, dtype=np.float32), np.zeros(6, np.float32), []
    reply = Reply(Fetched(0, 3), [octets(params[:4]), octets(params[4:])], lambda: let_go.append(fetched[5]))

    async def wait(request: Fetch) -> Reply:
        return reply

    assert asked(wait if later else lambda request: reply, Fetch(0, 1), into=octets(fetched)) == Fetched(0, 3)
    np.testing.assert_array_equal(fetched, params)
    assert let_go == [5.0]


def test_a_gradient_is_handed_over_as_it_is() -> None:
    gradient, seen = np.ones(4, np.float32), []

    def push(request: Push, payload: memoryview) -> Reply:
        seen.append(payload)
        return Reply(Pushed(0, 1, 0))

    asked(push, PUSH, octets(gradient))
    assert seen[0].obj is gradient
    asked(push, PUSH, octets(gradient[:1]), octets(gradient[1:]))
    assert bytes(seen[1]) == gradient.tobytes()
    asked(push, PUSH)
    assert bytes(seen[2]) == b""


def test_it_fails_as_others_do() -> None:
    let_go = []
    failed = Reply(Failed(Refusal.BUSY, "later"), (), lambda: let_go.append(1))
    with pytest.raises(RequestFailed, match="later") as raised:
        asked(lambda request: failed, Fetch(0, 1))
    assert (raised.value.code, let_go) == ("busy", [1])
    with pytest.raises(RequestFailed, match="this node does not answer Push"):
        asyncio.run(Loopback({}).request(PUSH, deadline_s=1))


def test_an_answer_of_another_length_is_a_mistake_of_ours() -> None:
    reply = Reply(Fetched(0, 3), [memoryview(b"12345678")])
    with pytest.raises(LocalProtocolError, match="8 bytes with the answer to Fetch; 4 are wanted"):
        asked(lambda request: reply, Fetch(0, 1), into=memoryview(bytearray(4)))


def test_a_handler_that_never_answers_is_given_up() -> None:
    ended = []

    async def never(request: Fetch) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)
        raise AssertionError

    with pytest.raises(PeerLost, match=r"^this node: no answer to Fetch within 0\.05 s$"):
        asked(never, Fetch(0, 1))
    assert ended == [1]
