"""Who is believed what: on a connection nobody speaks as the coordinator, or as another member, who is not."""

from __future__ import annotations

from typing import Any

import pytest

from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.node_id import first_node
from hogpour.net.authority import Authority, Caller
from hogpour.net.credentials import Issuer, credential
from hogpour.net.requests import Handler, Reply
from hogpour.net.wire import answers
from hogpour.net.wire.base import Message, Ok, Speaker
from hogpour.net.wire.dump import Adopt, Dump
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.gate import Arrive, Attend, Commit, Counted
from hogpour.net.wire.heartbeat import Heartbeat
from hogpour.net.wire.held import Held
from hogpour.net.wire.identify import Identify
from hogpour.net.wire.join import Join, Leave, Ready
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.operate import Operate, Sum
from hogpour.net.wire.push import Push
from hogpour.net.wire.reach import Knock, Unreachable
from hogpour.net.wire.status import Fence, Report, Status
from hogpour.net.wire.where import Where

HOME = first_node(b"\0\0\0\3")
SERVER, VICTIM, INTRUDER = HOME + 1, HOME + 2, HOME + 3
ISSUER = Issuer(b"s" * 32, HOME)


class Port:
    """The connections to one node, which says what it was asked."""

    def __init__(self, node: int = SERVER, *, begun: bool = True) -> None:
        self.node, self.authority, self.heard = node, Authority(), list[Message]()
        if begun:
            self.begin()

    def begin(self) -> None:
        self.authority.begin(self.node, ISSUER.key(self.node))

    def connect(self, node: int = 0, shown: bytes | None = None) -> Caller:
        handlers: dict[type[Message], Handler] = dict.fromkeys(answers(), self._hear)
        caller = Caller(self.authority, handlers)
        if node:
            says(caller, Identify(node, credential(ISSUER.key(self.node), node) if shown is None else shown))
        return caller

    def _hear(self, message: Message, *_: memoryview) -> Reply[Ok]:
        self.heard.append(message)
        return Reply(Ok())


def says(caller: Caller, message: Message) -> Message:
    handler = caller.get(type(message))
    assert handler is not None
    reply: Any = handler(message, *[memoryview(b"")] * message.PAYLOAD)
    return reply.message  # type: ignore[no-any-return]


def refused(caller: Caller, message: Message) -> tuple[str, str]:
    with pytest.raises(RequestFailed) as caught:
        says(caller, message)
    return caught.value.code, str(caught.value)


OF_THE_COORDINATOR = [
    Fence(VICTIM), Fence(HOME), Adopt(0, ""), Adopt(0, "", 1, b"w"), Commit(3, [0], [Counted(2, 0, 1, 0)], 1.0), Operate(HOME, 9, [0], []),
    Operate(INTRUDER, 9, [0], []), Dump(0, True), Dump(0, False), Dump(0, True, INTRUDER), Held(0, INTRUDER, 0),
]  # fmt: skip


@pytest.mark.parametrize("port", [HOME, SERVER], ids=["first node", "server"])
@pytest.mark.parametrize("message", OF_THE_COORDINATOR, ids=lambda message: type(message).__name__)
def test_no_member_speaks_as_the_coordinator(message: Message, port: int) -> None:
    """Fence(home) refused the first node's own pushes for good; Dump(0, True) left a shard with nobody."""
    there = Port(port)
    for node in (0, INTRUDER):
        wrong = ("wrong", f"{type(message).__name__} is the coordinator's to say")
        assert refused(there.connect(node), message) == wrong
    assert there.heard == []


@pytest.mark.parametrize("message", OF_THE_COORDINATOR, ids=lambda message: type(message).__name__)
def test_the_coordinator_does(message: Message) -> None:
    there = Port()
    assert says(there.connect(HOME), message) == Ok()
    assert there.heard == [message]


@pytest.mark.parametrize("message", [Dump(0, True, INTRUDER, 1, b"w"), Held(0, INTRUDER, 0, 1, b"w")])
def test_whoever_shows_a_warrant_is_heard_by_the_handler_that_looks_at_it(message: Message) -> None:
    there = Port()
    assert says(there.connect(), message) == Ok()


OF_A_MEMBER = [
    lambda node: Push(0, node, 0, 1, 0, 1, 1.0),
    lambda node: Sum(0, node, 1, 0),
    lambda node: Attend(node, 7, True),
    lambda node: Arrive(node, 0, 1, 0),
    lambda node: Heartbeat(node, 2, 0, 0, 0.0, 0, 0.0),
    lambda node: Lease(node, [], [], 1),
    lambda node: Ready(node, "s", "d"),
    lambda node: Leave(node),
    lambda node: Unreachable(node, SERVER),
]


@pytest.mark.parametrize("port", [HOME, SERVER], ids=["first node", "server"])
@pytest.mark.parametrize("make", OF_A_MEMBER, ids=lambda make: type(make(1)).__name__)
def test_no_member_speaks_in_the_name_of_another(make: Any, port: int) -> None:
    there = Port(port)
    for caller in (there.connect(), there.connect(INTRUDER), there.connect(VICTIM, b"guessed")):
        for node in (VICTIM, HOME, 0):
            code, text = refused(caller, make(node))
            assert code == Refusal.FENCED
            assert text.endswith(": whoever says so has not shown to be that node")
    assert there.heard == []
    says(there.connect(INTRUDER), make(INTRUDER))
    assert there.heard == [make(INTRUDER)]


@pytest.mark.parametrize("make", [lambda node: Fetch(0, node), Where], ids=["Fetch", "Where"])
def test_who_asks_for_another_gets_what_anybody_gets(make: Any) -> None:
    """A fetch is remembered, for what its node pushes later; and a map goes with what its asker shows to others."""
    there = Port()
    for caller, believed in ((there.connect(), 0), (there.connect(INTRUDER), 0), (there.connect(VICTIM), VICTIM)):
        says(caller, make(VICTIM))
        assert there.heard.pop() == make(believed)


@pytest.mark.parametrize("message", [Join("a", ""), Status(), Report(), Knock()], ids=lambda message: type(message).__name__)
def test_whoever_has_no_number_is_heard(message: Message) -> None:
    assert says(Port().connect(), message) == Ok()


def test_what_is_shown_at_one_server_is_worth_nothing_at_another() -> None:
    """Whoever serves is shown credentials of all members; it could speak as them elsewhere."""
    shown = credential(ISSUER.key(SERVER), VICTIM)
    assert refused(Port(INTRUDER).connect(VICTIM, shown), Leave(VICTIM))[0] == Refusal.FENCED
    assert refused(Port(HOME).connect(HOME, credential(ISSUER.key(INTRUDER), HOME)), Fence(VICTIM))[0] == Refusal.WRONG


def test_a_node_speaks_as_its_newest_incarnation_alone() -> None:
    there = Port()
    caller = there.connect(VICTIM)
    says(caller, Leave(VICTIM))
    says(caller, Identify(VICTIM + 5, credential(ISSUER.key(SERVER), VICTIM + 5)))
    says(caller, Leave(VICTIM + 5))
    assert refused(caller, Leave(VICTIM))[0] == Refusal.FENCED
    says(caller, Identify(VICTIM, b"guessed"))
    assert refused(caller, Leave(VICTIM + 5))[0] == Refusal.FENCED


def test_whoever_came_before_the_node_had_begun_is_believed_then() -> None:
    there = Port(begun=False)
    server, liar = there.connect(HOME), there.connect(HOME, b"guessed")
    assert says(liar, Fence(VICTIM)) == Ok()  # it has no handlers then but those that do nothing
    there.begin()
    assert says(server, Fence(VICTIM)) == Ok()
    assert refused(liar, Fence(VICTIM))[0] == Refusal.WRONG


def test_a_node_that_joined_again_knows_those_who_have_not_heard_of_it() -> None:
    there = Port()
    old = credential(ISSUER.key(SERVER), VICTIM)
    there.authority.begin(SERVER + 9, ISSUER.key(SERVER + 9))
    assert says(there.connect(VICTIM, old), Leave(VICTIM)) == Ok()


def test_every_request_says_who_may_ask_it() -> None:
    for kind in answers():
        if kind.SPEAKER in (Speaker.NAMED, Speaker.MEMBER):
            assert "node" in kind.__struct_fields__, kind
        if kind.SPEAKER is Speaker.WARRANTED:
            assert "warrant" in kind.__struct_fields__, kind
