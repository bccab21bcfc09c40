"""On the first node nobody is believed what only itself can say."""

from __future__ import annotations

import pytest

from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.dump import Adopt, Dump
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.gate import Attend, Commit, Counted
from hogpour.net.wire.heartbeat import Heartbeat
from hogpour.net.wire.join import Join, Leave
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.operate import Operate
from hogpour.net.wire.push import Push
from hogpour.net.wire.status import Fence, Status
from hogpour.node.authority import of_others

HOME, OTHER = 1, 2


def says(message: Message) -> Message:
    payload = [memoryview(b"")] * message.PAYLOAD
    handlers = of_others({type(message): lambda *_: Reply(Ok())}, HOME)
    return handlers[type(message)](message, *payload).message  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "message",
    [Fence(OTHER), Fence(HOME), Adopt(0, ""), Commit(3, [0], [Counted(2, 0, 1, 0)], 1.0), Operate(OTHER, 9, [0], []),
     Dump(0, True), Dump(0, False)],
    ids=lambda message: type(message).__name__,
)  # fmt: skip
def test_no_member_speaks_as_the_coordinator(message: Message) -> None:
    """Fence(home) refused the first node's own pushes for good; Dump(0, True) left a shard with nobody."""
    with pytest.raises(RequestFailed, match=r"is the coordinator's to say, which is this node$") as caught:
        says(message)
    assert caught.value.code == Refusal.WRONG


OF_A_NODE = [
    lambda node: Push(0, node, 0, 1, 0, 1, 1.0),
    lambda node: Fetch(0, node),
    lambda node: Attend(node, 7, True),
    lambda node: Heartbeat(node, 2, 0, 0, 0.0, 0, 0.0),
    lambda node: Lease(node, [], [], 1),
    lambda node: Leave(node),
    lambda node: Dump(0, True, node),
]


@pytest.mark.parametrize("make", OF_A_NODE)
def test_no_member_speaks_in_the_name_of_the_first_node(make) -> None:
    with pytest.raises(RequestFailed, match=r"in the name of the first node, which asks itself without one$"):
        says(make(HOME))
    assert says(make(OTHER)) == Ok()


@pytest.mark.parametrize("message", [Join("a", ""), Status()])
def test_whoever_has_no_number_yet_is_heard(message: Message) -> None:
    assert says(message) == Ok()
