"""One shard in the memory of its server: parameters, optimiser rows, clock, and what it remembers of its pushes.

Knows no network; the order of what happens to a shard is kept by its ``turns``, and who reads its arrays by ``copies``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hogpour.algos.correction.base import Correction, Late
from hogpour.algos.correction.plain import Plain
from hogpour.algos.optim.base import Optimiser
from hogpour.core.cluster_state import STALENESS_COUNTS, ShardState
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.kernels.vector import vector_is_finite
from hogpour.core.node_id import MOST_MEMBERS, display_id
from hogpour.net import sparse_form
from hogpour.net.sparse_form import Elements, Form
from hogpour.net.wire.fetch_changes import WHOLE
from hogpour.net.wire.push import MOST_SCALE, Push
from hogpour.net.wire.window import PushWindow
from hogpour.server.change_log import ChangeLog, apply_elements
from hogpour.server.copies import Replaced, Vector
from hogpour.server.dedup import PushDedup
from hogpour.server.evaluation_sums import Addition, EvaluationSums
from hogpour.server.fetch_history import FetchHistory
from hogpour.server.gated_step import GatedStep, PendingPushes
from hogpour.server.turns import TurnQueue

__all__ = ["MOST_OF_A_NODE", "MOST_ORIGINS", "Shard", "Update", "apply_nothing", "moved"]

Floats = npt.NDArray[np.float32]
Remembered = tuple[Floats | None, tuple[Floats, ...], Floats | None]
"""Fetched parameters, a correction's rows, and scratch memory."""

MOST_ORIGINS = 4096
"""Replicas that may have pushed to one shard, and gradients that may wait there; both go with their node."""

MOST_OF_A_NODE = 1024
"""The same of one incarnation: by itself it cannot take the room of all others."""


class Update:
    """A push that is about to be applied: everything that its kernel needs, so that it can run in a thread."""

    __slots__ = ("_changes", "_correction", "_grad", "_late", "_optimiser", "_replaced", "amended", "push", "sources")

    def __init__(self, optimiser: Optimiser, correction: Correction, shard: Shard, push: Push,
                 grad: Floats | Elements, replaced: Replaced) -> None:  # fmt: skip
        self._optimiser, self._replaced, self.push = optimiser.of_sum(push.steps), replaced, push
        self._correction, self._changes = correction, shard.changes
        self.sources = replaced.sources
        staleness = shard.staleness(push)
        scale = correction.scale(staleness)
        remembered = shard.remembered(push, late=staleness > 0)
        if remembered is None:
            self._correction, remembered = Plain(), (None, (), None)
        fetched, rows, scratch = remembered
        self.amended = scale != 1 or fetched is not None
        self._grad = grad
        whole = np.empty(0, np.float32) if isinstance(grad, Elements) else grad
        self._late = Late(
            shard.params, whole, fetched, rows, shard.rows, scratch, push.scale * scale, shard.clock + 1
        )

    def run(self) -> None:
        """Copy what is frozen, then apply."""
        self._replaced.fill()
        late = self._late
        if isinstance(self._grad, Elements):
            apply_elements(self._optimiser, late.params, self._grad, late.state, late.lr_scale)
        else:
            self._correction.apply(self._optimiser, late)
        if self._changes is not None:
            self._changes.mark(self._grad, late.t)


class Shard:
    """A shard.

    Args:
        number: of the shard.
        arrays: parameters, then optimiser rows; (size,) float32 each, the shard's own from now on.
        start: element of the model's vector that it begins with.
        windows: what was pushed to it before, at another server.
        correction: what late pushes are amended by; decides what is remembered of their nodes.
        turns: the order of its requests.

    Attributes:
        vectors: those of ``params``, then of ``rows``.
        dedup: which pushes it has.
        history: what nodes had fetched.
        pending: pushes that wait for their step to be decided, where a gate holds them.
        sums: of the gradients of a batch, once there was one; not taken along by a move.
        changes: what changed when, once somebody asked; not taken along either.
        given_up: another node takes it over; nobody is served but that node.
    """

    __slots__ = ("_amended", "_dropped", "_histogram", "_repeated", "_scratch", "_staleness", "_steps", "changes",
                 "clock", "dedup", "given_up", "history", "number", "params", "pending", "pushes", "rows", "size",
                 "start", "sums", "turns", "vectors")  # fmt: skip

    def __init__(self, number: int, arrays: Sequence[Floats], start: int, clock: int,
                 windows: Iterable[PushWindow], correction: Correction, turns: TurnQueue) -> None:  # fmt: skip
        self.number, self.start, self.clock, self.turns = number, start, clock, turns
        self.size = arrays[0].size
        self.vectors = [Vector(array) for array in arrays]
        self.params, self.rows = arrays[0], tuple(arrays[1:])
        self.dedup, self.pending = PushDedup(windows), PendingPushes()
        self.history = FetchHistory(self.size, len(correction.rows), correction.remembered(MOST_MEMBERS))
        self.given_up = False
        self._scratch: Floats | None = None
        self.sums: EvaluationSums | None = None
        self.changes: ChangeLog | None = None
        self.pushes = self._repeated = self._dropped = self._steps = self._staleness = self._amended = 0
        self._histogram = [0] * STALENESS_COUNTS

    @property
    def scratch(self) -> Floats:
        """Memory whose content means nothing, (size,) float32; there from its first use on."""
        if self._scratch is None:
            self._scratch = np.empty(self.size, np.float32)
        return self._scratch

    def thaw(self) -> Replaced | None:
        """Make every array writable: replace those that are read by new ones, still to be filled.

        Returns:
            What was replaced. None where there is no memory for that: nothing has changed, and the caller tries again
            when a reader is done.
        """
        replaced = Replaced()
        frozen = [k for k, vector in enumerate(self.vectors) if vector.readers]
        if not frozen:
            return replaced
        if not self.turns.copies.take(4 * self.size * len(frozen)):
            return None
        for k in frozen:
            old, new = self.vectors[k], Vector(np.empty(self.size, np.float32))
            old.live, old.readers = False, old.readers + 1
            self.vectors[k] = new
            replaced.append((old, new))
        self.params, *rows = (vector.array for vector in self.vectors)
        self.rows = tuple(rows)
        return replaced

    def open_evaluation(self, number: int, grid: float, limit: float) -> None:
        """Sum the gradients of an evaluation from now on, in multiples of ``grid``; doing it again changes nothing."""
        if self.sums is None:
            self.sums = EvaluationSums(self.size)
        self.sums.begin(number, grid, limit)
        self.clock = number

    def add_block(self, evaluation: int, block: int, grad: Floats) -> Addition | None:
        """Return what adds the gradient of a block; None where it is there, or its evaluation is over."""
        sums = self.sums
        if sums is None or sums.number != evaluation or block in sums.blocks:
            self.count_repeated()
            return None
        # Remembered first: should the kernel fail half-way, a copy must not add the other half.
        sums.blocks.add(block)
        self.pushes += 1
        return Addition(sums, grad)

    def changes_since(self, clock: int) -> Form | None:
        """Return the elements that changed since ``clock``; None: not known, or not shorter than all."""
        if self.changes is None:
            self.changes = ChangeLog(self.size, self.clock)
        return self.changes.since(self.params, clock)

    def check_push(self, push: Push, payload: memoryview) -> Floats | Elements:
        """Return the gradient of a push; raise RequestFailed where it cannot be applied.

        One that is not finite would be in the parameters of all: the run would end, and nobody could tell whose memory
        was bad.
        """
        if push.n_entries == WHOLE and payload.nbytes != 4 * self.size:
            raise RequestFailed(Refusal.WRONG, f"shard {self.number}: got {payload.nbytes} bytes, expected "
                                               f"{4 * self.size}")  # fmt: skip
        if push.sequence < 1 or push.clock < 0 or push.steps < 1 or not 0 <= push.scale <= MOST_SCALE:
            raise RequestFailed(
                Refusal.WRONG,
                f"shard {self.number}: got sequence {push.sequence}, clock {push.clock}, steps {push.steps}, "
                f"scale {push.scale}; expected at least 1, 0 and 1, and a scale of 0 to {MOST_SCALE:g}",
            )
        grad: Floats | Elements
        if push.n_entries == WHOLE:
            grad = values = np.frombuffer(payload, np.float32)
        else:
            found = sparse_form.elements(payload, push.n_entries, self.size)
            if isinstance(found, str):
                raise RequestFailed(Refusal.WRONG, f"shard {self.number}: the sparse gradient of replica {push.replica}"
                                    f" of node {display_id(push.node)} cannot be read: {found}")  # fmt: skip
            grad, values = found, found.values
        if not vector_is_finite(values):
            element = int(np.flatnonzero(~np.isfinite(values))[0])
            if isinstance(grad, Elements):
                element, grad = int(grad.places[element]), grad.whole(self.size)
            raise RequestFailed(Refusal.WRONG, f"shard {self.number}: a gradient of replica {push.replica} of node "
                                f"{display_id(push.node)} holds {grad[element]} at element {element}")  # fmt: skip
        return grad

    def check_here(self) -> None:
        """Raise RequestFailed where another node takes it over."""
        if self.given_up:
            raise moved(self.number)

    def check_room(self, kept: PushDedup | PendingPushes, node: int, what: str) -> None:
        """Raise RequestFailed where no more is to be kept of this node, or of anybody."""
        if len(kept) >= MOST_OF_A_NODE and kept.count(node) >= MOST_OF_A_NODE:
            what = f"{MOST_OF_A_NODE} {what} of node {display_id(node)}"
        elif len(kept) >= MOST_ORIGINS:
            what = f"{MOST_ORIGINS} {what}"
        else:
            return
        raise RequestFailed(Refusal.BUSY, f"shard {self.number}: keeps {what}, no room for another")

    def count_repeated(self) -> None:
        """Say that a push was not applied because it had been."""
        self._repeated += 1

    def count_dropped(self, pushes: int) -> None:
        """Say that so many pushes came too late for their step."""
        self._dropped += pushes

    def remembered(self, push: Push, *, late: bool) -> Remembered | None:
        """Return what a correction is shown, nothing where it asks for nothing. None: no further node is remembered,
        and its pushes are applied as they are."""
        if not self.history.limit:
            return None, (), None
        rows = self.history.rows_of(push.node)
        if rows is None:
            return None
        return self.history.params_of(push.node, push.clock) if late else None, rows, self.scratch

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
            origins=len(self.dedup),
            staleness=tuple(self._histogram[:seen]),
            mean_staleness=self._staleness / self.pushes if self.pushes else 0.0,
        )


def apply_nothing(optimiser: Optimiser, correction: Correction) -> None:
    """Apply pushes of nothing to nothing: on time, and late, which may be another kernel."""
    vector_is_finite(np.zeros(16, np.float32))
    for fetched in None, np.zeros(16, np.float32):
        params, grad, scratch = np.zeros((3, 16), np.float32)
        rows, state = (tuple(np.zeros((len(named), 16), np.float32)) for named in (correction.rows, optimiser.state))
        correction.apply(optimiser, Late(params, grad, fetched, rows, state, scratch, 1.0, 1))


def moved(shard: int) -> RequestFailed:
    """Return what is raised for a shard that is with another node."""
    return RequestFailed(Refusal.MOVED, f"shard {shard} is not served here")
