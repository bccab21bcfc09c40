"""The shards that a node serves, and the members that it serves them to: what the node says to its parameter server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from hogpour.algos.correction.base import Correction
from hogpour.core.cluster_state import ShardState
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.node_id import display_id, same_run
from hogpour.net.requests import Reply
from hogpour.net.wire.base import Answer
from hogpour.net.wire.dump import Dumped
from hogpour.net.wire.push import Push
from hogpour.net.wire.window import PushWindow
from hogpour.server.copies import Copies, owned
from hogpour.server.shard import Shard, moved
from hogpour.server.turns import Running, TurnQueue

__all__ = ["ShardTable"]

_MAX_PAST = 4096
"""Shards that were dropped and whose counts are kept."""

_MAX_REFUSED = 1 << 16
"""Incarnations that are remembered as gone. The connections of older ones were closed long ago."""


class ShardTable:
    """The shards of one parameter server, by number.

    Args:
        rows: of the optimiser.
        correction: how late pushes are amended.
        copies: memory for shards that are updated while somebody still reads them as they were.
        inline_elements: a shard of more than this has its kernels run in the event loop's executor.

    Attributes:
        refused: incarnations that are dead or have left, the oldest entry first.
        node: incarnation of this node; 0: not known. What nodes of another run push is refused: a first node that was
            started anew is called by those that have not heard of it.
    """

    def __init__(self, rows: int, correction: Correction, copies: Copies, inline_elements: int) -> None:
        self.node = 0
        self._rows, self._correction, self._copies, self._inline_elements = rows, correction, copies, inline_elements
        self._shards: dict[int, Shard] = {}
        self._past: deque[ShardState] = deque(maxlen=_MAX_PAST)  # of shards that were dropped
        self.refused: dict[int, None] = {}

    def open(
        self,
        shard: int,
        params: npt.NDArray[np.float32],
        rows: Sequence[npt.NDArray[np.float32]] | None = None,
        *,
        start: int = 0,
        clock: int = 0,
        windows: Iterable[PushWindow] = (),
    ) -> None:
        """Serve a shard from now on.

        Args:
            shard: its number; not served yet, or given up before.
            params: (size,) float32. An array that owns its memory belongs to the server from now on; a view of
                something larger is copied, because its memory could not be freed apart.
            rows: like params, one for each row of the optimiser, in its order; None: zeros, as at the beginning.
            start: element of the model's vector that the shard begins with.
            clock: updates that are in it.
            windows: of the server that had it before.
        """
        if rows is None:
            rows = [np.zeros(params.size, np.float32) for _ in range(self._rows)]
        assert len(rows) == self._rows, f"shard {shard}: got {len(rows)} optimiser rows, expected {self._rows}"
        assert not self.serves(shard), f"shard {shard}: is served already"
        self.drop(shard)  # it may have been here before, and come back before the map said that it went
        arrays = [owned(array, params.size) for array in (params, *rows)]
        windows = [window for window in windows if window.node not in self.refused]
        turns = TurnQueue(shard, params.size, self._copies, self._inline_elements)
        self._shards[shard] = Shard(shard, arrays, start, clock, windows, self._correction, turns)

    def install(
        self, dumped: Dumped, memory: memoryview, start: int, held: Iterable[tuple[Push, memoryview]] = ()
    ) -> None:
        """Serve a shard that another server gave up.

        Args:
            dumped: its answer.
            memory: the payload of that answer, of ``dump_bytes``; copied.
            start: element of the model's vector that the shard begins with.
            held: gradients that wait there for their step; copied.
        """
        arrays = np.frombuffer(memory, np.float32).reshape(1 + self._rows, -1)
        self.open(dumped.shard, arrays[0], list(arrays[1:]), start=start, clock=dumped.clock, windows=dumped.windows)
        for push, grad in held:
            self._shards[dumped.shard].pending.hold(push, np.frombuffer(grad, np.float32))

    def dump_bytes(self, size: int) -> int:
        """Return how long the payload of ``Dumped`` is for a shard of ``size`` elements."""
        return 4 * size * (1 + self._rows)

    def serves(self, shard: int) -> bool:
        """Whether pushes to this shard are accepted here."""
        return shard in self._shards and not self._shards[shard].given_up

    def reopen(self, shard: int) -> None:
        """Serve a shard again that was given up, because nobody took it: nothing was pushed to it elsewhere.

        Raises:
            RequestFailed: it is not here any more.
        """
        self.find(shard).given_up = False

    def drop(self, shard: int) -> None:
        """Free a shard that was given up, because somebody has it. Until then it can be dumped again."""
        assert not self.serves(shard), f"shard {shard}: is dropped while it is served"
        dropped = self._shards.pop(shard, None)
        if dropped is not None and dropped.pushes:
            self._past.append(dropped.state())

    def abandon(self) -> None:
        """Serve nothing any more: this node was declared dead, and what it holds others have in a newer state."""
        shards = list(self._shards)
        for number in shards:
            self._shards[number].given_up = True  # for those who wait for their turn
            shard = self._shards[number]
            self.drop(number)
            shard.turns.advance()  # they wait for memory, perhaps

    def find(self, number: int) -> Shard:
        """Return a shard that is here, perhaps given up; else raise RequestFailed."""
        shard = self._shards.get(number)
        if shard is None:
            raise moved(number)
        return shard

    async def on_each(
        self, shards: Iterable[int], begin: Callable[[Shard], Reply[Answer] | Running[Answer] | None]
    ) -> list[Answer]:
        """Serve a request on each of these shards, and return the answers of those that are here.

        Args:
            begin: as ``turns.Begin``, for a shard.

        Raises:
            RequestFailed: a shard refuses, when all have been served; too many requests wait, before any is.
        """
        here = [shard for shard in map(self._shards.get, dict.fromkeys(shards)) if shard and not shard.given_up]
        for shard in here:
            shard.turns.check_room()  # all of them first, or turns of the others would be left that nobody waits for
        turns = [shard.turns.put(partial(begin, shard)) for shard in here]
        answers = []
        # No deadline: this process works on it. All are waited for, or nobody would look at the error of a second one.
        for outcome in await asyncio.gather(*turns, return_exceptions=True):
            if isinstance(outcome, RequestFailed) and outcome.code == Refusal.MOVED:
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            answers.append(outcome.message)
        return answers

    def states(self) -> tuple[ShardState, ...]:
        """Return how the shards are that are served here, by number."""
        return tuple(shard.state() for number, shard in sorted(self._shards.items()) if not shard.given_up)

    def past_states(self) -> tuple[ShardState, ...]:
        """Return how the shards were that others have now: what was counted of them here."""
        return (*self._past, *(shard.state() for shard in self._shards.values() if shard.given_up))

    def forget(self, node: int) -> None:
        """Refuse what this incarnation still pushes, now that it is dead or has left, and free its windows."""
        self.refused[node] = None
        if len(self.refused) > _MAX_REFUSED:
            del self.refused[next(iter(self.refused))]
        for shard in self._shards.values():
            shard.dedup.forget(node)
            shard.history.forget(node)

    def is_member(self, node: int) -> bool:
        """Whether a node is of this run, and not known to be dead or to have left."""
        return node not in self.refused and (not self.node or same_run(node, self.node))

    def check_member(self, node: int) -> None:
        """Raise RequestFailed for what a node asks that is no member of this run, or not any more."""
        if not self.is_member(node):
            raise RequestFailed(Refusal.FENCED, f"node {display_id(node)} is no member any more: it must join again")
