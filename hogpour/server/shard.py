"""One shard in the memory of its server: parameters, optimiser rows, clock, windows, and who is reading what.

Parameters leave without a copy: the transport reads the live array itself, for as long as the other end takes. So an
array that somebody reads is **frozen**. A push that finds it frozen goes on in a copy, which is the live array from
then on, and the old one is dropped with its last reader: a slow reader never delays an update, and gets the shard as
it was at one clock, never half of an update. What old arrays may take in all is bounded (``Copies``); above it, pushes
wait.

Knows no network and no threads; the order of what happens to a shard is kept by ``server``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.correction.base import Correction, Late
from hogpour.algos.correction.plain import Plain
from hogpour.algos.optim.base import Optimiser
from hogpour.core.cluster_state import STALENESS_COUNTS, ShardState
from hogpour.core.node_id import MOST_MEMBERS
from hogpour.net.wire.push import Push
from hogpour.net.wire.window import PushWindow
from hogpour.server.dedup import PushDedup
from hogpour.server.fetch_history import FetchHistory
from hogpour.server.gated_step import GatedStep, PendingPushes

__all__ = ["Copies", "Shard", "Update", "Vector"]


class Vector:
    """An array of a shard.

    Attributes:
        array: (size,) float32.
        payload: the same memory as bytes, read only.
        readers: of ``payload``; while there are any, nobody writes the array.
        live: whether the shard still uses it; otherwise it lives until its last reader is done.
    """

    __slots__ = ("array", "live", "payload", "readers")

    def __init__(self, array: npt.NDArray[np.float32]) -> None:
        self.array = array
        self.payload = array.data.cast("B").toreadonly()
        self.readers = 0
        self.live = True


class Copies:
    """The memory that frozen arrays may take after their shards have gone on without them.

    Attributes:
        used_bytes: taken now.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self.used_bytes = limit_bytes, 0

    def take(self, n_bytes: int) -> bool:
        """Account for a copy; False where it would exceed the limit."""
        if self.used_bytes + n_bytes > self._limit:
            return False
        self.used_bytes += n_bytes
        return True

    def release(self, vectors: Iterable[Vector]) -> None:
        """Let a reader of these vectors go."""
        for vector in vectors:
            assert vector.readers > 0, "a reader was let go twice"
            vector.readers -= 1
            if not vector.readers and not vector.live:
                self.used_bytes -= vector.array.nbytes


class Update:
    """A push that is about to be applied: everything that its kernel needs, so that it can run in a thread."""

    __slots__ = ("_correction", "_late", "_moved", "_optimiser", "amended", "push")

    def __init__(self, optimiser: Optimiser, correction: Correction, shard: Shard, push: Push,
                 grad: npt.NDArray[np.float32], moved: Sequence[tuple[Vector, Vector]]) -> None:  # fmt: skip
        self._optimiser, self._correction, self._moved, self.push = optimiser, correction, moved, push
        staleness = shard.staleness(push)
        scale = correction.scale(staleness)
        fetched, rows, scratch = None, (), None
        if correction.amends:
            found = shard.remembered(push, late=staleness > 0)
            if found is None:
                self._correction = Plain()
            else:
                fetched, rows, scratch = found
        self.amended = scale != 1 or fetched is not None
        self._late = Late(
            shard.params, grad, fetched, rows, shard.rows, scratch, push.scale * scale, shard.clock + 1
        )

    @property
    def left(self) -> list[Vector]:
        """The frozen vectors that it copies from; it counts as a reader of them until it has run."""
        return [old for old, _ in self._moved]

    def run(self) -> None:
        """Copy what is frozen, then apply. The only code that writes a shard."""
        for old, new in self._moved:
            new.array[...] = old.array
        self._correction.apply(self._optimiser, self._late)


class Shard:
    """A shard.

    Args:
        number: of the shard.
        arrays: parameters, then optimiser rows; (size,) float32 each, the shard's own from now on.
        start: element of the model's vector that it begins with.
        correction: what late pushes are amended by; decides what is remembered of their nodes.
        gated: whether pushes wait here for their step.

    Attributes:
        scratch: memory whose content means nothing; empty where neither correction nor gate needs it.
        origins: that memory; None where the correction asks for none.
        held: pushes that wait for their step to be decided, where a gate holds them.
        sums: of the gradients of a batch, where one is under way; kept by ``vectors``, and not taken along by a move.
        turns: requests that wait for each other, the first one being served; kept by ``server``.
        given_up: another node takes it over; nobody is served but that node.
    """

    __slots__ = ("_amended", "_dropped", "_histogram", "_repeated", "_staleness", "_steps", "clock",
                 "given_up", "held", "number", "origins", "params", "pushes", "rows", "scratch", "size", "start",
                 "sums", "turns", "vectors", "windows")  # fmt: skip

    def __init__(self, number: int, arrays: Sequence[npt.NDArray[np.float32]], start: int, clock: int,
                 windows: Iterable[PushWindow], correction: Correction, *, gated: bool = False) -> None:  # fmt: skip
        self.number, self.start, self.clock = number, start, clock
        self.size = arrays[0].size
        self.vectors = [Vector(array) for array in arrays]
        self.params, self.rows = arrays[0], tuple(arrays[1:])
        self.windows = PushDedup(windows)
        self.given_up = False
        self.origins = FetchHistory(self.size, len(correction.rows), MOST_MEMBERS) if correction.amends else None
        self.scratch = np.empty(self.size if correction.amends or gated else 0, np.float32)
        self.held = PendingPushes()
        self.sums: Any = None
        self.turns: deque[Any] = deque()
        self.pushes = self._repeated = self._dropped = self._steps = self._staleness = self._amended = 0
        self._histogram = [0] * STALENESS_COUNTS

    def thaw(self, copies: Copies) -> list[tuple[Vector, Vector]] | None:
        """Make every array writable: replace those that are read by new ones, still to be filled.

        Returns:
            (old, new) for each; the caller counts as a reader of the old ones. None where there is no memory for
            that: nothing has changed, and the caller tries again when a reader is done.
        """
        frozen = [k for k, vector in enumerate(self.vectors) if vector.readers]
        if not frozen:
            return []
        if not copies.take(4 * self.size * len(frozen)):
            return None
        moved = []
        for k in frozen:
            old, new = self.vectors[k], Vector(np.empty(self.size, np.float32))
            old.live, old.readers = False, old.readers + 1
            self.vectors[k] = new
            moved.append((old, new))
        self.params, *rows = (vector.array for vector in self.vectors)
        self.rows = tuple(rows)
        return moved

    def count_repeated(self) -> None:
        """Say that a push was not applied because it had been."""
        self._repeated += 1

    def count_dropped(self, pushes: int) -> None:
        """Say that so many pushes came too late for their step."""
        self._dropped += pushes

    def remembered(
        self, push: Push, *, late: bool
    ) -> tuple[npt.NDArray[np.float32] | None, tuple[npt.NDArray[np.float32], ...], npt.NDArray[np.float32]] | None:
        """Return what a correction that amends is shown: fetched parameters, its rows, and scratch memory. None: no
        further node is remembered, and its pushes are applied as they are."""
        assert self.origins is not None
        rows = self.origins.rows_of(push.node)
        if rows is None:
            return None
        return self.origins.params_of(push.node, push.clock) if late else None, rows, self.scratch

    def staleness(self, push: Push) -> int:
        """Return how many updates late a push would be applied now."""
        return max(0, self.clock - push.clock)

    def count_applied(self, update: Update) -> int:
        """Say that a push was applied; return its staleness."""
        staleness = self.staleness(update.push)
        self.clock += 1
        self._count(update.push, staleness, amended=update.amended)
        return staleness

    def count_step(self, step: GatedStep) -> None:
        """Say that the gradients of a step were applied, as one update."""
        self.clock += 1
        for push, staleness, factor in zip(step.pushes, step.staleness, step.factors, strict=True):
            self._count(push, staleness, amended=factor != 1)

    def _count(self, push: Push, staleness: int, *, amended: bool) -> None:
        self.pushes += 1
        self._amended += amended
        self._steps += push.steps
        self._staleness += staleness
        self._histogram[min(staleness, STALENESS_COUNTS - 1)] += 1

    def state(self) -> ShardState:
        """Return what there is to tell."""
        seen = max((k + 1 for k, count in enumerate(self._histogram) if count), default=0)
        return ShardState(
            shard=self.number,
            start=self.start,
            stop=self.start + self.size,
            clock=self.clock,
            pushes=self.pushes,
            repeated=self._repeated,
            dropped=self._dropped,
            amended=self._amended,
            steps=self._steps,
            origins=len(self.windows),
            staleness=tuple(self._histogram[:seen]),
            mean_staleness=self._staleness / self.pushes if self.pushes else 0.0,
        )
