"""The link of one node: from accrual buffers to the shards, and from the shards to the live vector.

Replicas seal and ask through words in shared memory and ring; ``moved`` looks at the words and starts what is due. For
every shard a push leaves before the fetch that was asked for with it, and the pairs of all shards are in flight
together: while shard 1 is answered, shard 2 is still on its way out. Shards of this node's own are reached without
a socket and without a copy beside the one into the live vector.

What is frozen and until when: a sealed buffer until every shard has answered, then ``released``. Fetches have a file of
their own (``fetches``), as has what a link knows of where shards are (``routes``).

Where the exchange ``pulls``, nothing that is accrued leaves. What replicas ask for is then a pull of every shard: its
fetch lands, and what comes of it is pushed to that shard, from memory of the link's own that is frozen until all have
answered; the next pull waits for that. Buffers that were sealed before carry tickets, and are given back then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import Exchange
from hogpour.algos.gate.base import Gate
from hogpour.algos.optim.base import Optimiser
from hogpour.client.fetches import Fetches
from hogpour.client.routes import Routes
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Handler, Reply, Requests
from hogpour.net.staging import Staging
from hogpour.net.wire.base import Message
from hogpour.net.wire.gate import LATE, UNDECIDED, Arrive, Arrived
from hogpour.net.wire.operate import Sum
from hogpour.net.wire.push import DROPPED, Push, Pushed
from hogpour.shm.accrual import Sealed, newest, released, sealed
from hogpour.shm.mailbox import BUFFER, LANDING, Mailbox

__all__ = ["ParameterClient"]

_LANDINGS = 1024
"""Landings whose clocks are remembered: a window of accrual seldom spans more than a few."""


class ParameterClient:
    """Pushes and fetches for the replicas of one node.

    Args:
        live: arrays of the live segment, with those of ``outlet.outlet_arrays``.
        gate: whether pushes are decided on, and fetches wait for that.
        reach: address → who answers there; "" is the coordinator's.
        own: what answers requests for the shards that this node serves itself.
        own_address: at which the shard map names this node; None where it serves none.
        attend: tells the coordinator that a replica of an incarnation takes part, or does not.
        arrive: tells it that all shards have a push, and returns what becomes of it.
        rule: that replicas step by; where an exchange pulls, it is asked how far ahead the live vector is.
        relocate: asked when a shard is not where the map says; returns a map of a later epoch.
        wake: rings the bell of a replica.
        staging: where fetches land.
        done: told the tickets whose every gradient is acknowledged.
        fenced: told which incarnation was declared dead; its unanswered pushes are dropped.
        patience_s: how long a shard may not answer before the run fails.

    Attributes:
        node: incarnation; set again when the node has joined again.
        pushes: acknowledged, counted once for all shards.
        staleness: sum over these pushes of the mean staleness over shards.
        dropped: acknowledged as too late for their step; not counted in ``pushes``.
        waited_s: seconds that pushes waited at the gate for others, all together.
    """

    def __init__(
        self,
        live: Mapping[str, npt.NDArray[Any]],
        exchange: Exchange,
        gate: Gate,
        shard_map: ShardMap,
        *,
        node: int,
        reach: Callable[[str], Requests],
        own: Mapping[type[Message], Handler],
        own_address: str | None,
        attend: Callable[[int, int, bool], Awaitable[None]],
        arrive: Callable[[Arrive], Awaitable[Arrived]],
        relocate: Callable[[int], Awaitable[ShardMap]],
        wake: Callable[[int], None],
        staging: Staging,
        done: Callable[[tuple[int, ...]], None],
        fenced: Callable[[int], None],
        patience_s: float,
        rule: Optimiser | None = None,
    ) -> None:
        self.node = node
        self.pushes, self.staleness = 0, 0.0
        self.dropped, self.waited_s, self._bytes_pushed = 0, 0.0, 0
        self._gate, self._attend, self._arrive = gate, attend, arrive
        self._passing: dict[int, set[int]] = {}  # replica → its pushes that the gate has not let pass, by sequence
        self._attending: dict[int, bool] = {}  # replica → what the coordinator knows of it
        self._telling: dict[int, bool] = {}  # replica → what it is being told
        self._exchange, self._wake = exchange, wake
        self._done, self._fenced, self._own = done, fenced, own
        self._words, self._tickets, self._params = live["accrual"], live["accrual_tickets"], live["params"]
        self._mailbox = Mailbox(live["mailbox"])
        self._routes = Routes(shard_map, own_address, reach, relocate, patience_s)
        self._fetches = Fetches(self._params, self._routes, own, staging, exchange.on_params)
        self._bytes = [[memoryview(buffer).cast("B") for buffer in buffers] for buffers in live["accrued"]]
        self._live, self._rule = live, rule
        self._back = np.zeros(self._params.size if exchange.pulls else 0, np.float32)  # pushed after pulls
        self._pulls, self._riding = 0, list[Sealed]()  # pulls begun; buffers whose tickets are told after the next one
        self._sent: dict[int, int] = {}  # replica → highest sequence that was taken up
        # replica → its pushes by sequence, from the oldest unanswered one on; with their tickets, once answered
        self._open: dict[int, dict[int, tuple[int, ...] | None]] = {}
        self._scale = 1.0  # of the newest gradient that rode on a pull
        self._landings: dict[int, tuple[int, ...]] = {}  # landing → clocks of its shards
        self._number, self._fetching, self._again = 0, False, False
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order of their beginning
        self._parts: dict[asyncio.Task[Any], None] = {}  # that these wait for
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def bytes(self) -> int:
        """Bytes of parameters and gradients that went to other nodes and came from them."""
        return self._bytes_pushed + self._fetches.bytes

    async def land(self) -> None:
        """Fetch all shards and let the replicas know; returns when they are in the live vector."""
        ticks = self._mailbox.wanted()
        await _all([self._start(self._fetches.fetch(shard, self.node)) for shard in range(self._routes.map.n_shards)])
        self._complete(ticks)

    def moved(self) -> None:
        """Start what is due; called when a replica rang. Cheap where nothing is."""
        # The wishes first: a replica seals and then asks, so what was asked for by now was sealed before.
        ticks = self._mailbox.wanted()
        attends = [self._mailbox.attends(replica) for replica in range(len(ticks))] if self._gate.closes else []
        due = [push for replica in range(len(self._words)) for push in self._new(replica)]
        if attends:
            ticks = self._gated(ticks, attends, due)
        fetch = any(tick > self._mailbox.landed(replica) for replica, tick in enumerate(ticks))
        if fetch and self._fetching:
            self._again, fetch = True, False
        if self._exchange.pulls:
            self._ride(due)
            if fetch:
                self._fetching = True
                self._keep(self._pulled(ticks, self.node))
            return
        if not due and not fetch:
            return
        pushes: list[list[int | asyncio.Task[int]]] = [[] for _ in due]
        fetches: list[asyncio.Task[None] | None] = []
        # Tasks begin in this order, and a request is written before its first wait: push before fetch, shard by shard.
        for shard in range(self._routes.map.n_shards):
            for push, parts in zip(due, pushes, strict=True):
                if push.steps:
                    parts.append(self._begin_push(push, shard))
            if fetch:
                fetches.append(self._begin_fetch(shard))
        for push, parts in zip(due, pushes, strict=True):
            waiting = [part for part in parts if not isinstance(part, int)]
            if waiting or (attends and parts):
                self._keep(self._answered(push, parts, waiting, self.node, min(self._clocks_of(push))))
            else:
                self._acknowledge(push, parts)
        if fetch:
            if waiting := [part for part in fetches if part is not None]:
                self._fetching = True
                self._keep(self._landed(ticks, waiting))
            else:
                self._complete(ticks)

    def follow(self, shard_map: ShardMap) -> None:
        """Take in a map that may be newer."""
        self._routes.follow(shard_map)

    async def broken(self) -> None:
        """Wait, without a deadline, until something cannot go on; raises what it was."""
        await asyncio.shield(self._broken)

    async def drain(self) -> None:
        """Wait until everything that was started is answered; each part has a deadline of its own."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def close(self) -> None:
        """End at once what is in flight."""
        for task in self._tasks:
            task.cancel()
        await self.drain()
        for part in self._parts:  # of tasks that were cancelled before their first step; those of others have ended
            part.cancel()
        if self._parts:
            await asyncio.wait(list(self._parts))  # no deadline: what is cancelled ends
        self._broken.cancel()

    def drop_pushes(self) -> None:
        """Give every sealed buffer back unsent: this incarnation was declared dead, its portions are others' now."""
        self._attending.clear()
        for replica in range(len(self._words)):
            for push in self._new(replica):
                self._release(push, ())
            self._wake(replica)
        riding, self._riding = self._riding, []
        for push in riding:
            self._release(push, ())
        if self._exchange.pulls:
            self.moved()  # what was refused the old incarnation is still asked for

    def retire(self) -> None:
        """Say that no replica takes part any more: all have ended. Those that wait for others still do."""
        for replica in range(len(self._words)):
            self._mailbox.attend(replica, False)
        self.moved()

    # -- pushes

    def _new(self, replica: int) -> list[Sealed]:
        """Return the buffers that were sealed since the last look."""
        before = self._sent.get(replica, 0)
        if newest(self._words, replica) <= before:
            return []
        new = [push for push in sealed(self._words, self._tickets, replica) if push.sequence > before]
        if new:
            self._sent[replica] = new[-1].sequence
        for push in new:
            self._open.setdefault(replica, {})[push.sequence] = None
        return new

    def _begin_push(self, push: Sealed, shard: int) -> int | asyncio.Task[int]:
        """Push one shard's part of a sealed buffer; where the shard is this node's own and idle, it is done at once."""
        part = self._routes.map.range(shard)
        payload = self._bytes[push.replica][push.buffer][4 * part.start : 4 * part.stop]
        return self._send(self._message(push, shard), payload)

    def _message(self, push: Sealed, shard: int) -> Push | Sum:
        clock = self._clocks_of(push)[shard]
        return Push(shard, self.node, push.replica, push.sequence, clock, push.steps, push.scale)

    def _send(self, message: Push | Sum, payload: memoryview) -> int | asyncio.Task[int]:
        reply: Awaitable[Reply[Pushed]] | None = None
        if self._routes.leads_home(message.shard):
            with suppress(RequestFailed):  # it is refused below once more
                given: Reply[Pushed] | Awaitable[Reply[Pushed]] = self._own[type(message)](message, payload)
                if isinstance(given, Reply):
                    return given.message.staleness
                reply = given
        return self._start(self._push(message, payload, reply))

    def _clocks_of(self, push: Sealed) -> tuple[int, ...]:
        """Return the clocks of the shards that the first gradient of a push was computed on. Those that are not kept
        any more were before the oldest that are."""
        return self._landings.get(push.landing) or self._landings[min(self._landings)]

    async def _push(self, message: Push | Sum, payload: memoryview, reply: Awaitable[Reply[Pushed]] | None) -> int:
        """Push to whoever serves the shard, wherever it moves meanwhile; return the staleness, or what else became of
        it (``wire.push``).

        Args:
            reply: what this node's own server has promised.
        """

        async def attempt(address: str) -> Pushed:
            nonlocal reply
            promised, reply = reply, None
            if promised is not None:
                return (await promised).message  # no deadline: it is this process that works on it
            requests = self._routes.reach(address)
            async with self._routes.lane(address):
                answer = await requests.request(message, [payload], deadline_s=self._routes.patience_s)
            self._bytes_pushed += payload.nbytes
            return answer

        answer = await self._routes.ask(message.shard, attempt)
        return answer.staleness

    async def _answered(
        self, push: Sealed, parts: list[int | asyncio.Task[int]], waiting: list[asyncio.Task[int]], node: int, step: int
    ) -> None:
        try:
            answers = [part for part in parts if isinstance(part, int)] + (await _all(waiting) if waiting else [])
            if self._gate.closes:
                await self._pass(push, answers, node, step)
            else:
                self._acknowledge(push, answers)
        except RequestFailed as error:
            if error.code != Refusal.FENCED:
                raise
            self._free(push)
            self._report(push, ())
            self._fenced(node)
        self._passed(push)

    def _acknowledge(self, push: Sealed, staleness: list[Any]) -> None:
        """Every shard has answered a push."""
        if staleness:
            self.pushes += 1
            self.staleness += sum(max(0, one) for one in staleness) / len(staleness)
        self._release(push, push.tickets)

    def _release(self, push: Sealed, tickets: tuple[int, ...]) -> None:
        """Give a buffer back, and tell which blocks are done."""
        self._free(push)
        self._report(push, tickets)

    def _free(self, push: Sealed) -> None:
        """Give a buffer back; doing it again changes nothing."""
        released(self._words, push)
        self._rouse(push.replica, BUFFER)

    def _report(self, push: Sealed, tickets: tuple[int, ...]) -> None:
        # A push names blocks whose gradients may be in the one before it, which may be on its way still: after a lost
        # connection they overtake each other, and one without gradients waits for nobody.
        pushes = self._open[push.replica]
        pushes[push.sequence] = tickets
        for sequence, done in list(pushes.items()):
            if done is None:
                break
            del pushes[sequence]
            if done:
                self._done(done)

    def _rouse(self, replica: int, reason: int) -> None:
        """Wake a replica if that is what it waits for: a ring costs both of them more than a step may take."""
        if self._mailbox.waits_for(replica) & reason:
            self._wake(replica)

    # -- the gate

    def _gated(self, ticks: list[int], attends: list[bool], due: list[Sealed]) -> list[int]:
        """Return which wishes the gate allows by now: not those of a replica whose push it has not let pass, nor of one
        that takes part and is not known to. Tells the coordinator who takes part."""
        for push in due:
            if push.steps:
                self._passing.setdefault(push.replica, set()).add(push.sequence)
        allowed = []
        for replica, present in enumerate(attends):
            passing, known = replica in self._passing, self._attending.get(replica, False)
            # Counted out before its push has passed, the others could decide without it.
            if present != known and replica not in self._telling and (present or not passing):
                self._telling[replica] = present
                self._keep(self._tell(replica, present, self.node))
            closed = passing or (present and not known)
            allowed.append(self._mailbox.landed(replica) if closed else ticks[replica])
        return allowed

    async def _tell(self, replica: int, present: bool, node: int) -> None:
        """Tell the coordinator that a replica takes part, or does not."""
        try:
            await self._attend(node, replica, present)
            if node == self.node:
                self._attending[replica] = present
        except RequestFailed as error:
            if error.code != Refusal.FENCED:
                raise
            self._fenced(node)
            if node == self.node:
                return  # the next incarnation says it again, when it has joined
        finally:
            del self._telling[replica]
        self.moved()

    async def _pass(self, push: Sealed, answers: list[int], node: int, step: int) -> None:
        """Bring a push that every shard has through the gate."""
        loop = asyncio.get_running_loop()
        if not self._gate.holds:
            self._acknowledge(push, answers)
        # Also where a shard says DROPPED, since it has the next step: others may not have it yet, and a fetch would
        # bring what is late again. The answer waits until they do.
        asked, began = Arrive(node, push.replica, push.sequence, step), loop.time()
        answer = await self._arrive(asked)
        early = self._gate.counts_late and self._gate.holds and answer.outcome == UNDECIDED
        if early:  # its origin goes on meanwhile; its blocks are done when it is in the shards, not before
            self.waited_s += loop.time() - began
            self._free(push)
            self._passed(push)
        while answer.outcome == UNDECIDED:
            answer = await self._arrive(asked)
        if not early:
            self.waited_s += loop.time() - began
        if answer.outcome == LATE or DROPPED in answers:
            self._drop(push)
        elif self._gate.holds:
            self._acknowledge(push, [answer.staleness])

    def _drop(self, push: Sealed) -> None:
        """Count a push that came too late. Its examples are used up."""
        self.dropped += 1
        self._release(push, push.tickets)

    def _passed(self, push: Sealed) -> None:
        """Let its replica fetch, unless another one of it is on its way; doing it again changes nothing."""
        passing = self._passing.get(push.replica)
        if passing is None or push.sequence not in passing:
            return
        passing.discard(push.sequence)
        if not passing:
            del self._passing[push.replica]
            self.moved()

    # -- pulls

    def _ride(self, due: list[Sealed]) -> None:
        for push in due:
            if push.steps:
                self._riding.append(push)
            else:
                self._acknowledge(push, [])  # its tickets are told after those of the buffers before it

    async def _pulled(self, ticks: list[int], node: int) -> None:
        """Pull all shards, push what comes of it, and tell the tickets of those that ride."""
        self._pulls += 1
        riding, self._riding = self._riding, []
        sequence, steps = self._pulls, max(1, sum(push.steps for push in riding))
        self._scale = riding[-1].scale if riding else self._scale
        velocities, ahead = self._ahead(self._scale)
        missing = self._routes.map.n_shards

        async def pull(shard: int) -> int:
            nonlocal missing
            part = self._routes.map.range(shard)
            back = self._back[part]
            rows = [row[part] for row in velocities]
            await self._fetches.fetch(
                shard, self.node, take=lambda params, fetched: self._exchange.pull(params, fetched, back, rows, ahead)
            )
            missing -= 1
            if not missing:
                self._complete(ticks)
            return await self._push_back(shard, node, sequence, steps)

        try:
            staleness = await _all([self._start(pull(shard)) for shard in range(self._routes.map.n_shards)])
        except RequestFailed as error:
            if error.code != Refusal.FENCED:
                raise
            for push in riding:
                self._release(push, ())
            self._fenced(node)  # when it has joined again, ``drop_pushes`` has what is missing asked for again
        else:
            self._acknowledge_pull(riding, sequence, node, staleness)
        finally:
            self._fetching = False
        if self._again:
            self._again = False
            self.moved()

    def _acknowledge_pull(self, riding: list[Sealed], sequence: int, node: int, staleness: list[int]) -> None:
        """Every shard has answered the push of a pull."""
        self.pushes += 1
        self.staleness += sum(staleness) / len(staleness)
        for push in riding:
            self._release(push, push.tickets)

    async def _push_back(self, shard: int, node: int, sequence: int, steps: int) -> int:
        """Push what came of the pull of a shard, as one replica more than there are; return the staleness."""
        part = self._routes.map.range(shard)
        payload = self._back[part].data.cast("B")
        clock = self._fetches.clocks[shard]
        sent = self._send(Push(shard, node, len(self._words), sequence, clock, steps, 1.0), payload)
        return sent if isinstance(sent, int) else await sent

    def _ahead(self, lr_scale: float) -> tuple[list[npt.NDArray[Any]], float]:
        """Return what the live vector is ahead by: rows of all replicas, and times what."""
        named = self._rule.ahead(lr_scale) if self._rule is not None else None
        if named is None:
            return [], 0.0
        row, ahead = named
        return [self._live[f"{row}.{replica}"] for replica in range(len(self._words))], ahead

    # -- fetches

    def _begin_fetch(self, shard: int) -> asyncio.Task[None] | None:
        """Bring one shard into the live vector; None where it is there, because this node serves it."""
        found = self._fetches.at_once(shard, self.node)
        if found is True:
            return None
        return self._start(self._fetches.fetch(shard, self.node, found or None))

    async def _landed(self, ticks: list[int], parts: list[asyncio.Task[None]]) -> None:
        try:
            await _all(parts)
        finally:
            self._fetching = False
        self._complete(ticks)
        if self._again:
            self._again = False
            self.moved()

    def _complete(self, ticks: list[int]) -> None:
        self._number += 1
        self._landings[self._number] = tuple(self._fetches.clocks)
        self._mailbox.land(ticks, self._number)
        for replica in range(len(ticks)):
            self._rouse(replica, LANDING)
        self._landings.pop(self._number - _LANDINGS, None)

    # -- both

    def _start(self, part: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(part)
        self._parts[task] = None
        task.add_done_callback(self._parts.pop)
        return task

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._broken.done():
            self._broken.set_exception(error)


async def _all(parts: list[Any]) -> list[Any]:
    """Wait for all; when one fails or the caller is cancelled, end the others before that is told."""
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)  # no deadline: each has its own
    finally:
        for part in parts:
            part.cancel()
        await asyncio.wait(parts)  # no deadline: what is cancelled ends
        # Every error is looked at, or Python complains of those that are not.
        errors = [error for part in parts if not part.cancelled() and (error := part.exception()) is not None]
    if errors:
        raise errors[0]
    return [part.result() for part in parts]
