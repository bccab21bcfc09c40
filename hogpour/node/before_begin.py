"""What a node answers before it has begun: it may have been started anew where others know a node of before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.requests import Handler, Reply
from hogpour.net.wire.base import Message, Ok
from hogpour.net.wire.dump import Dump
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.gate import Arrive, Attend, Commit
from hogpour.net.wire.heartbeat import Heartbeat
from hogpour.net.wire.held import Held
from hogpour.net.wire.join import Join, Leave, Ready
from hogpour.net.wire.lease import Lease
from hogpour.net.wire.operate import Operate, Sum
from hogpour.net.wire.push import Push
from hogpour.net.wire.status import Fence
from hogpour.net.wire.where import Where

__all__ = ["BEFORE"]


def _not_yet(*_: object) -> NoReturn:
    raise RequestFailed(Refusal.BUSY, "the first node still reads its data")


def _nothing_here(message: Message, *_: object) -> NoReturn:
    """Answer for a node that served here before, and died or left: whoever asks learns from the coordinator what is so.

    As for a message that nobody here knows, the asker would have ended its run.
    """
    raise RequestFailed(Refusal.MOVED, f"{type(message).__name__}: this node serves nothing yet")


def _nobody_known(message: Message) -> NoReturn:
    """Answer for a first node that was started anew, to members of its former life: they join again, and hear so."""
    raise RequestFailed(Refusal.FENCED, "this node has no members yet: it must be joined again")


def _agreed(message: Message) -> Reply[Ok]:
    """A node without shards applies nothing of anybody, and is told of the dead again when it is given some; whoever
    leaves a node without members has left."""
    return Reply(Ok())


BEFORE: Mapping[type[Message], Handler] = {
    Join: _not_yet,
    **dict.fromkeys((Push, Fetch, Dump, Held, Commit, Operate, Sum), _nothing_here),
    **dict.fromkeys((Fence, Leave), _agreed),
    **dict.fromkeys((Heartbeat, Lease, Attend, Arrive, Ready, Where), _nobody_known),
}
