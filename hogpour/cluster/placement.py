"""Placement: which member serves which shard, and what it takes to keep that so. The coordinator's hands.

Shards are moved one after the other. A move is one message to the taker, ``Adopt``, which fetches the shard from its
owner; the map of the next epoch follows. Where a move fails, nobody knows how far the taker got, and still the shard
must not be served by two or by nobody. So: while the taker lives and has not answered, the same move is tried again;
when it has refused, or is dead, the owner is asked to go on (``Adopt`` with the owner itself as source), which has kept
what it gave up until a newer map says that somebody else has it. An owner that cannot has lost the shard. A taker to
which no connection can be made has not heard of the move, and another one is asked; where it may have heard of it
before, it is declared dead: its heartbeats come, but it is of no use, and it may join again.

Whoever is gone is fenced: every server is told to refuse its late pushes and to forget it, again and again until it has
answered or is gone itself. A member is given shards only when it has been told of all who went of late, and while it
can be reached from here and by the others, as far as they say.

Holds no vectors and knows no time: ``tick`` starts whatever is due, and nothing is tried twice within one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from hogpour.core.errors import PeerLost, RequestFailed
from hogpour.core.node_id import display_id
from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Requests
from hogpour.net.wire.dump import Adopt
from hogpour.net.wire.reach import Knock
from hogpour.net.wire.status import Fence

__all__ = ["Placement"]

_ADOPT_S = 60.0
"""For one shard: longer than the taker waits for the source (``server.handover``), so that it is who says that it
failed. A taker that dies is noticed by its lease, long before; one to which no connection can be made, at once."""

_TELL_S = 10.0

_UNHEARD = 5
"""So many tries to connect to a taker that may have heard of its move: longer than a cable is out of its socket."""

_REFUSALS = 3
"""A member that refused so many shards is offered no more. The home is asked for ever: there is nobody else."""

_FENCED = 256
"""So many of those who went last are told to a member that begins to serve."""


@dataclass(slots=True)
class _Server:
    """A member that serves shards, or may."""

    node: int
    address: str
    owed: set[int] = field(default_factory=set)
    """Members that are gone and of which it has not been told."""
    refusals: int = 0
    leaving: bool = False
    complained: bool = False
    """It has answered a fence with an error, which was logged."""
    reached: bool = True
    """False: no connection to it could be made, and none has been since."""
    shunned_by: set[int] = field(default_factory=set)
    """Members that cannot reach it: while one of them is here it is to serve nothing."""

    def __str__(self) -> str:
        return f"node {display_id(self.node)}" + (f" ({self.address})" if self.address else "")

    @property
    def going(self) -> bool:
        """Whether its shards are to be with others."""
        return self.leaving or bool(self.shunned_by)


@dataclass(slots=True)
class _Move:
    """A shard on its way."""

    shard: int
    source: int
    taker: int
    heard: bool = False
    """The taker may have been told."""
    unheard: int = 0
    """Tries since then in which it could not be."""
    back: bool = False
    """Given up: the source is to go on."""


class Placement:
    """Keeps each shard with one living server.

    Args:
        shards: the map to begin with; every shard is with one member, the home, which stays.
        peers: whom to ask at an address; empty: the home.
        log: told what happened, a line each time.
        fail: told why the cluster cannot go on.
        bury: declares a member dead that serves nothing.
        warrant: shard, source, taker, epoch → what the taker shows to the source.
        still: held while shards move: whoever holds it sees none move. None: nobody asks for that.

    Attributes:
        map: the newest one.
        spreading: shards are moved so that all servers have the same number of elements. Set it to False when the run
            ends: then they are moved only from those who leave, to the home.
    """

    def __init__(
        self,
        shards: ShardMap,
        *,
        peers: Callable[[str], Requests],
        log: Callable[[str], None],
        fail: Callable[[str], None],
        bury: Callable[[int], None],
        warrant: Callable[[int, int, int, int], bytes],
        still: asyncio.Lock | None = None,
    ) -> None:
        self.map, self.spreading = shards, True
        self._home = shards.owners[0]
        self._peers, self._log, self._fail = peers, log, fail
        self._bury, self._warrant = bury, warrant
        self._servers = {self._home: _Server(self._home, shards.addresses[0])}
        self._went: deque[int] = deque(maxlen=_FENCED)
        self._move: _Move | None = None
        self.still = still if still is not None else asyncio.Lock()
        self._locked = False
        self._tasks: dict[int | None, asyncio.Task[None]] = {}  # by the server that is told of fences; None: the moves
        self._changed = asyncio.Event()

    def shards_of(self, node: int) -> list[int]:
        """Return the shards that a member serves by the newest map."""
        return [shard for shard, owner in enumerate(self.map.owners) if owner == node]

    def serve(self, node: int, address: str) -> None:
        """Say that a member can serve shards."""
        if node not in self._servers:
            self._servers[node] = _Server(node, address, owed=set(self._went))

    def leave(self, node: int) -> None:
        """Say that a member wants to get rid of its shards; the home cannot."""
        assert node != self._home, "the home was asked to leave"
        if node in self._servers:
            self._servers[node].leaving = True

    def shun(self, node: int, by: int, why: str) -> bool:
        """Say that a member cannot reach one that serves shards; return whether others are to have them until the first
        one is gone: not those of the home."""
        server = self._servers.get(node)
        if server is not None and node != self._home:
            if not server.shunned_by:
                self._log(f"{server} {why}: firewall? its shards go to others, it computes only")
            server.shunned_by.add(by)
        return node != self._home

    def gone(self, node: int) -> list[int]:
        """Say that a member is no more, fence it, and return the shards that are lost with it."""
        lost = self.shards_of(node)
        self._servers.pop(node, None)
        self._went.append(node)
        for server in self._servers.values():
            server.owed.add(node)
            server.shunned_by.discard(node)
        if self._move is not None and node in (self._move.source, self._move.taker):
            if None in self._tasks:
                self._tasks[None].cancel()  # nobody will answer it
            if node == self._move.source:
                self._move = None
            else:
                self._move.back = True
        self.wake()
        return lost

    async def changed(self) -> None:
        """Wait until a shard was moved or a member went; for ever, which the caller ends."""
        await self._changed.wait()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def tick(self) -> None:
        """Start what is due and not under way. Raises what went wrong in what has ended: a bug."""
        for key, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[key]
                if not task.cancelled():
                    task.result()
        for server in self._servers.values():
            if server.owed or not server.reached:
                self._start(server.node, self._tell, server)
        if self._move is None and None not in self._tasks:
            self._let_go()
        if self._move is not None or self._next_move() is not None:
            self._start(None, self._move_shards)

    async def close(self) -> None:
        """Drop what is under way."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)  # no deadline: a request that is cancelled ends
        for task in tasks:
            if not task.cancelled():
                task.result()

    def _start(self, key: int | None, work: Callable[..., Coroutine[None, None, None]], *args: _Server) -> None:
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(work(*args))

    async def _tell(self, server: _Server) -> None:
        """Reach a server, and tell it of everybody who went. What it does not hear now it is told at the next tick."""
        while server.owed or not server.reached:
            node = min(server.owed, default=0)
            message = Fence(node) if server.reached else Knock()
            try:
                await self._peers(server.address).request(message, deadline_s=_TELL_S, retry=False)
            except PeerLost as error:
                if error.unheard:
                    self._miss(server, error)
                return
            except RequestFailed as error:
                if not server.complained:
                    self._log(f"{server} does not fence node {display_id(node)}: {error}")
                server.complained = True
                return
            if server.reached:
                server.owed.discard(node)
            else:
                server.reached = True
                self._log(f"{server} can be reached now")

    def _miss(self, server: _Server, error: PeerLost) -> None:
        """Give a server no more shards while it cannot be reached."""
        if server.reached:
            server.reached = False
            then = "it takes no more shards" if self.shards_of(server.node) else "it computes only"
            node = display_id(server.node)
            self._log(f"{server.address}, node {node}, cannot be reached from here: firewall? {then} ({error})")

    def _next_move(self) -> _Move | None:
        """Return the shard to move next, from whom to whom."""
        takers = [s for s in self._servers.values() if not s.going and not s.owed and s.reached and self._takes(s)]
        if not takers:
            return None
        load = dict.fromkeys((server.node for server in takers), 0)
        sizes = [b - a for a, b in zip(self.map.bounds, self.map.bounds[1:])]
        for shard, owner in enumerate(self.map.owners):
            if owner in load:
                load[owner] += sizes[shard]
        for leaving in (True, False):  # they wait for it
            for shard, owner in enumerate(self.map.owners):
                server = self._servers.get(owner)
                if server is not None and server.going and server.leaving >= leaving:
                    willing = min(load, key=lambda node: (self._servers[node].refusals, load[node], node))
                    return _Move(shard, owner, willing)
        least = min(load, key=lambda node: (load[node], node))
        most = max(load, key=lambda node: (load[node], -node))
        difference = load[most] - load[least]
        # A shard may overshoot a little, since sizes differ by a line; but the difference is halved at least.
        useful = [shard for shard in self.shards_of(most) if 4 * sizes[shard] <= 3 * difference]
        if not useful:
            return None
        return _Move(min(useful, key=lambda shard: (abs(difference - 2 * sizes[shard]), -shard)), most, least)

    def _takes(self, server: _Server) -> bool:
        return server.node == self._home or (self.spreading and server.refusals < _REFUSALS)

    async def _move_shards(self) -> None:
        """Move shard after shard until all are where they should be, or, until the next tick, something went wrong."""
        going_on = True
        while going_on:
            if self._move is None:
                self._let_go()
                if self._next_move() is None:
                    return
                await self.still.acquire()
                self._locked = True
                self._move = self._next_move()
                if self._move is None:
                    return
            going_on = await (self._bring_back(self._move) if self._move.back else self._bring(self._move))

    def _let_go(self) -> None:
        """Let those go on who wait until no shard moves."""
        if self._locked:
            self._locked = False
            self.still.release()

    async def _bring(self, move: _Move) -> bool:
        """Let the taker have the shard. Returns whether to go on at once."""
        source, taker, epoch = self._servers[move.source], self._servers[move.taker], self.map.epoch
        warrant = self._warrant(move.shard, move.source, move.taker, epoch)
        adopt = Adopt(move.shard, source.address, epoch, warrant)
        try:
            await self._peers(taker.address).request(adopt, deadline_s=_ADOPT_S, retry=False)
        except PeerLost as error:
            return self._not_told(move, taker, error)
        except RequestFailed as error:
            self._log(f"{taker} does not take shard {move.shard} from {source}: {error}")
            taker.refusals += 1
            move.back = True
            return True
        self.map = self.map.moved(move.shard, taker.node, taker.address)
        self._move = None
        self.wake()
        return True

    def _not_told(self, move: _Move, taker: _Server, error: PeerLost) -> bool:
        """Look what is to become of a move of which the taker may not have heard. Returns whether to go on at once."""
        if not error.unheard:
            move.heard, move.unheard = True, 0
            self._log(f"shard {move.shard} is still on its way to {taker}: {error}")
            return False
        self._miss(taker, error)
        move.unheard += 1
        if not move.heard:
            self._move = None
        elif move.unheard >= _UNHEARD and not self.shards_of(taker.node):
            self._bury(taker.node)
        return not move.heard

    async def _bring_back(self, move: _Move) -> bool:
        """Let the source go on with a shard that it may have given up."""
        source = self._servers[move.source]
        if move.taker in source.owed:  # a taker that is not as dead as it seems must not fetch the shard after this
            return False
        adopt = Adopt(move.shard, source.address, self.map.epoch)
        try:
            await self._peers(source.address).request(adopt, deadline_s=_ADOPT_S)
        except PeerLost as error:
            self._log(f"shard {move.shard} is still on its way back to {source}: {error}")
            return False
        except RequestFailed as error:
            self._move = None
            where = f"between {source} and node {display_id(move.taker)}"
            self._fail(f"shard {move.shard} was lost {where}: {error}")
            return False
        # Where it was, but by a new map: whoever was refused meanwhile waits for one.
        self.map = self.map.moved(move.shard, source.node, source.address)
        self._move = None
        self.wake()
        return False
