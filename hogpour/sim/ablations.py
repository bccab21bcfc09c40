"""Safeguards that can be switched off, to show that the sweep notices: without one, the seed that it names fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from hogpour import federation, member
from hogpour.coordinator import Coordinator
from hogpour.gatekeeper import Gatekeeper
from hogpour.link import Link
from hogpour.net.membership import Membership
from hogpour.net.peer import Peer
from hogpour.net.wire.join import Join
from hogpour.origins import Origins
from hogpour.placement import Placement
from hogpour.server import Server
from hogpour.serving import Serving
from hogpour.shard import Shard
from hogpour.shm.accrual import Accrual, released
from hogpour.sim.witness import replaced
from hogpour.tickets import Ledger
from hogpour.windows import Windows

__all__ = ["ABLATIONS", "Ablation"]


@dataclass(frozen=True, slots=True)
class Ablation:
    """A safeguard."""

    why: str
    """What it is there for."""
    owner: Any
    """Class or module."""
    name: str
    """Of what is replaced there."""
    make: Callable[[Any], Any]
    """Returns what stands for it, given what was there."""
    seed: int
    """Fails without it, and passes with it."""
    shows: str
    """How: what the violation begins with."""

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch it off while this lasts."""
        with replaced(self.owner, self.name, self.make(self.owner.__dict__[self.name])):
            yield


def _no_deadline(request: Any) -> Any:
    async def patient(self: Peer, message: Any, payload: Any = (), **named: Any) -> Any:
        return await request(self, message, payload, **named | {"deadline_s": 1e9})

    return patient


def _no_retry(request: Any) -> Any:
    async def once(self: Peer, message: Any, payload: Any = (), **named: Any) -> Any:
        return await request(self, message, payload, **named | {"retry": False})

    return once


def _no_second_grant(grant: Any) -> Any:
    return lambda self, node, holds, want: grant(self, node, self.held(node), want)


def _no_order(_: Any) -> Any:
    def release(self: Link, push: Any, tickets: tuple[int, ...]) -> None:
        released(self._words, push)
        self._rouse(push.replica, 1)
        self._open[push.replica].pop(push.sequence, None)
        self._done(tickets)

    return release


def _no_renewal(_: Any) -> Any:
    def beat(self: Membership, node: int, now: float) -> Any:
        found = self._members.get(node)
        if found is not None:
            found.heard = now
        return found

    return beat


def _no_way_back(_: Any) -> Any:
    async def bring_back(self: Placement, move: Any) -> bool:
        self._move = None
        return False

    return bring_back


def _newest_fetch(params_of: Any) -> Any:
    def newest(self: Origins, node: int, clock: int) -> Any:
        return params_of(self, node, max(self._held.get(node, ()), default=clock))

    return newest


def _held_by_nobody(bring: Any) -> Any:
    async def bring_nothing(self: Serving, shard: int, source: str) -> None:
        await bring(self, shard, source)
        self.server._shards[shard].held.free(0, {push.node for push, _ in self.server._shards[shard].held}, late=False)

    return bring_nothing


def _told_once(commit: Any) -> Any:
    async def once(self: Gatekeeper, step: int, arrivals: Any) -> None:
        tell = self._tell

        async def told(address: str, what: Any) -> list[int]:
            await tell(address, what)
            return what.shards

        self._tell = told  # type: ignore[method-assign]
        try:
            await commit(self, step, arrivals)
        finally:
            self._tell = tell  # type: ignore[method-assign]

    return once


def _never_late(arrive: Any) -> Any:
    return lambda self, what: arrive(self, msgspec.structs.replace(what, step=self.step))


ABLATIONS: Mapping[str, Ablation] = {
    "window": Ablation(
        "a push that comes again is applied once", Windows, "repeats", lambda _: lambda *_: False, 13, "once: ",
    ),
    "lease": Ablation(
        "a silent member is declared dead, and others get its portions", Membership, "expire",
        lambda _: lambda *_: [], 10, "ends: ",
    ),
    "renewal": Ablation(
        "a member that is heard from is not declared dead", Membership, "beat", _no_renewal, 17, "calm: ",
    ),
    "fence": Ablation(
        "nothing of a member that was declared dead is applied any more", Server, "forget", lambda _: lambda *_: None,
        14, "fenced: ",
    ),
    "run": Ablation(
        "nothing of a run before this one is applied", Server, "check_member", lambda _: lambda *_: None, 54, "kept: ",
    ),
    "attempt": Ablation(
        "a block is done when it was done under the lease that holds it", member, "leased",
        lambda _: lambda ticket, lease: ticket, 1087, "leases: ",
    ),
    "frozen push": Ablation(
        "an accrual buffer is not written before its push is answered", Accrual, "free",
        lambda _: property(lambda self: True), 179, "whole: ",
    ),
    "frozen fetch": Ablation(
        "a shard's array is not written while somebody reads it", Shard, "thaw", lambda _: lambda *_: [], 17, "whole: ",
    ),
    "deadline": Ablation(
        "nobody waits for ever for an answer", Peer, "request", _no_deadline, 2, "ends: ",
    ),
    "retry": Ablation(
        "what was asked on a connection that broke is asked again", Peer, "request", _no_retry, 165, "ends: ",
    ),
    "second grant": Ablation(
        "tickets whose grant was lost on the way are granted again", Ledger, "grant", _no_second_grant, 75, "ends: ",
    ),
    "order": Ablation(
        "a block is reported when every push with gradients of it is acknowledged", Link, "_release", _no_order, 9,
        "leases: ",
    ),
    "way back": Ablation(
        "a shard that its taker did not get is served by its source again", Placement, "_bring_back", _no_way_back, 86,
        "ends: ",
    ),
    "stale": Ablation(
        "a node that was declared dead serves none of what it had before", Server, "abandon", lambda _: lambda *_: None,
        13710, "once: ",
    ),
    "before": Ablation(
        "a node that comes back where it served says that it serves nothing yet", federation, "_BEFORE",
        lambda before: {Join: before[Join]}, 449, "ends: ",
    ),
    "origins": Ablation(
        "what a shard remembers of a node goes with the node", Origins, "forget", lambda _: lambda *_: None, 7,
        "origins: ",
    ),
    "own fetch": Ablation(
        "a late gradient is amended by the parameters that it was computed on", Origins, "params_of", _newest_fetch, 15,
        "origins: ",
    ),
    "presence": Ablation(
        "no gate waits for a member that is dead or has left", Gatekeeper, "forget", lambda _: lambda *_: None, 112,
        "ends: ",
    ),
    "slack": Ablation(
        "nobody gets further ahead of the slowest than s", Gatekeeper, "_may_go", lambda _: lambda *_: True, 44,
        "gates: ",
    ),
    "retire": Ablation(
        "no gate waits for replicas that have ended", Link, "retire", lambda _: lambda *_: None, 460, "ends: ",
    ),
    "held": Ablation(
        "gradients that wait for their step move with their shard", Serving, "_bring", _held_by_nobody, 52, "ends: ",
    ),
    "told again": Ablation(
        "a step is told again until every shard has it", Gatekeeper, "_commit", _told_once, 868, "kept: ",
    ),
    "late": Ablation(
        "a gradient of an earlier step is dropped where late ones are", Gatekeeper, "arrive", _never_late, 52, "ends: ",
    ),
    "handing over": Ablation(
        "a member that leaves stays until its shards are with others", Coordinator, "_may_go",
        lambda _: lambda *_: True, 9, "ends: ",
    ),
}  # fmt: skip
