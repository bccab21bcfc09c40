"""The parameter server: the role that owns shards, applies what is pushed and hands out what is fetched.

What is asked of one shard happens in the order in which it was asked, and no shard waits for another. A request that
finds its shard idle is served before the handler returns, unless its kernel would keep the event loop too long: that
one runs in a thread, and what comes meanwhile takes its turn behind it. Knows no peers and no sockets: it is given
requests and returns replies, over the wire or from its own node (``net.local``).

DistBelief (Dean et al. 2012, section "Downpour SGD"): "parameter server shards run independently of each other"; each
applies gradients to its current parameters, with its own optimiser state, Adagrad's history above all. The rules are
element-wise and every shard has seen as many pushes as its clock says, so a model trains to the same bits however it
is cut, as long as every shard gets the same gradients in the same order.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from itertools import islice

import msgspec
import numpy as np
import numpy.typing as npt

from hogpour.algos.correction.base import Correction
from hogpour.algos.correction.plain import Plain
from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.open import Open
from hogpour.algos.optim.base import Optimiser
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.requests import Handler, Reply
from hogpour.net.sparse_form import Elements
from hogpour.net.wire.base import Answer, Message, Ok
from hogpour.net.wire.dump import Dump, Dumped
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.fetch_changes import WHOLE, Changes, FetchChanges
from hogpour.net.wire.gate import Commit, Committed
from hogpour.net.wire.held import Held, HeldPush
from hogpour.net.wire.push import Outcome, Push, Pushed
from hogpour.net.wire.status import Fence, Report, Reported
from hogpour.server.change_log import rehearse_sparse
from hogpour.server.copies import Copies, Vector
from hogpour.server.gated_step import GatedStep, step_nothing
from hogpour.server.shard import Shard, Update, apply_nothing, moved
from hogpour.server.shard_table import ShardTable
from hogpour.server.turns import Running

__all__ = ["INLINE_ELEMENTS", "ParameterServer"]

Floats = npt.NDArray[np.float32]

INLINE_ELEMENTS = 1 << 18
"""1 MiB of float32: the slowest kernel (Adam) stays below 1 ms, and a thread would cost more than it saves."""


class ParameterServer:
    """What answers those who push to the shards that a node serves, or read them.

    Its first push must not compile: the constructor applies the optimiser to nothing, through the correction.

    Args:
        optimiser: how pushes are applied.
        correction: how late ones are amended.
        gate: whether they wait here until their step is decided.
        copies_bytes: memory for shards that are updated while somebody still reads them as they were.
        inline_elements: a shard of more than this has its kernels run in the event loop's executor.

    Attributes:
        table: the shards, and for whom they are.
    """

    def __init__(
        self,
        optimiser: Optimiser,
        correction: Correction | None = None,
        gate: Gate | None = None,
        *,
        copies_bytes: int = 32 << 20,
        inline_elements: int = INLINE_ELEMENTS,
    ) -> None:
        self._optimiser = optimiser
        self._correction = correction if correction is not None else Plain()
        self._gate = gate if gate is not None else Open()
        self._copies = Copies(copies_bytes)
        self.table = ShardTable(len(optimiser.state), self._correction, self._copies, inline_elements)
        self._take, rehearse = self._gate.place((self._apply, apply_nothing), (self._hold, step_nothing))
        # Whether what a gradient does not name stays as it is. A correction that applies a push itself may do anything.
        self._tracks = optimiser.by_rows and type(self._correction).apply is Correction.apply
        rehearse(optimiser, self._correction)
        rehearse_sparse(optimiser)  # of any model: a member may send the form to whom it likes

    def handlers(self) -> dict[type[Message], Handler]:
        """Return what answers each request. A reply that is not there at once is a future; see ``turns``."""
        return {
            Fetch: self._fetch,
            FetchChanges: self._fetch_changes,
            Push: self._push,
            Dump: self._dump,
            Held: self._held,
            Commit: self._commit,
            Fence: self._fence,
            Report: self._report,
        }

    def _push(self, push: Push, payload: memoryview) -> Reply[Pushed] | Awaitable[Reply[Pushed]]:
        shard = self.table.find(push.shard)
        grad = shard.check_push(push, payload)
        if isinstance(grad, Elements):
            push = msgspec.structs.replace(push, n_entries=WHOLE)  # as its gradient is wherever it is kept
        return shard.turns.at_once(partial(self._begin_push, shard, push, grad))

    def _fetch(self, fetch: Fetch) -> Reply[Fetched] | Awaitable[Reply[Fetched]]:
        shard = self.table.find(fetch.shard)
        return shard.turns.read(partial(self._begin_fetch, shard, fetch.node))

    def _fetch_changes(self, fetch: FetchChanges) -> Reply[Changes] | Awaitable[Reply[Changes]]:
        shard = self.table.find(fetch.shard)
        return shard.turns.read(partial(self._begin_fetch_changes, shard, fetch))

    def _dump(self, dump: Dump) -> Reply[Dumped] | Awaitable[Reply[Dumped]]:
        shard = self.table.find(dump.shard)
        return shard.turns.read(partial(self._begin_dump, shard, dump))

    def _held(self, held: Held) -> Reply[HeldPush]:
        """Answer whoever takes a shard over. Nothing comes to it or goes from it any more."""
        shard = self.table.find(held.shard)
        self.table.check_member(held.node)
        if not shard.given_up or not 0 <= held.number < len(shard.pending):
            raise RequestFailed(Refusal.WRONG, f"shard {shard.number}: asked for gradient {held.number} of those that "
                                f"wait here, and there are {len(shard.pending) if shard.given_up else 0}")  # fmt: skip
        push, grad = next(islice(shard.pending, held.number, None))
        return Reply(HeldPush(push), [grad.data.cast("B").toreadonly()])

    async def _commit(self, commit: Commit) -> Reply[Committed]:
        """Apply a step to the shards that are here; answers when all of them have it."""
        if not self._gate.holds:
            raise RequestFailed(Refusal.WRONG, f"step {commit.step}: the scheme has no gate, no push waits for a step")
        if not commit.counted:
            raise RequestFailed(Refusal.WRONG, f"step {commit.step}: has no gradients")
        answers = await self.table.on_each(commit.shards, partial(self._begin_step, commit=commit))
        lied = {node for answer in answers for node in answer.lied}
        return Reply(Committed([shard for answer in answers for shard in answer.shards], tuple(sorted(lied))))

    def _fence(self, fence: Fence) -> Reply[Ok]:
        self.table.forget(fence.node)
        return Reply(Ok())

    def _report(self, report: Report) -> Reply[Reported]:
        states = self.table.states()
        text = msgspec.json.encode(states)
        if len(text) > Reported.BODY_LIMIT - 16:
            raise RequestFailed(Refusal.BUSY, f"{len(states)} shards take {len(text)} bytes to describe, at most "
                                        f"{Reported.BODY_LIMIT} can be sent")  # fmt: skip
        return Reply(Reported(text))

    # -- what happens when it is a request's turn -----------------------------------------------------------------

    def _begin_push(self, shard: Shard, push: Push, grad: Floats | Elements) -> Reply[Pushed] | Running[Pushed] | None:
        """Apply a push, or prepare what a thread is to apply; None where memory for that must be waited for."""
        shard.check_here()
        self.table.check_member(push.node)
        if shard.dedup.repeats(push.node, push.replica, push.sequence):
            shard.count_repeated()
            return Reply(Pushed(shard.number, shard.clock, outcome=Outcome.REPEATED))
        return self._take(shard, push, grad)

    def _apply(self, shard: Shard, push: Push, grad: Floats | Elements) -> Reply[Pushed] | Running[Pushed] | None:
        """Apply a push as it comes. Its gradient is made whole where it must be, and not before: a few bytes that wait
        are not to take as much memory as a shard."""
        node, replica = push.node, push.replica
        if not shard.dedup.knows(node, replica):
            shard.check_room(shard.dedup, node, "windows of replicas")
        replaced = shard.thaw()
        if replaced is None:
            return None
        # Remembered first: should the kernel fail half-way, a retry must not apply the other half twice.
        shard.dedup.add(node, replica, push.sequence)
        if isinstance(grad, Elements) and not self._tracks:
            grad = grad.whole(shard.size)
        update = Update(self._optimiser, self._correction, shard, push, grad, replaced)
        return shard.turns.run(update, partial(_pushed, shard, update))

    def _hold(self, shard: Shard, push: Push, grad: Floats | Elements) -> Reply[Pushed]:
        """Let a push wait for its step."""
        outcome = Outcome.HELD
        if self._gate.is_late(push.clock, shard.clock):
            outcome = Outcome.DROPPED
            shard.count_dropped(1)
        elif not shard.pending.has(push):
            shard.check_room(shard.pending, push.node, "gradients that wait for their step")
            shard.pending.hold(push, grad.whole(shard.size) if isinstance(grad, Elements) else grad)
        return Reply(Pushed(shard.number, shard.clock, outcome=outcome))

    def _begin_step(self, shard: Shard, commit: Commit) -> Reply[Committed] | Running[Committed] | None:
        """Apply a step, or prepare what a thread is to apply; as ``_begin_push``."""
        shard.check_here()
        if shard.clock > commit.step:  # it has it: the answer was lost
            return Reply(Committed([shard.number]))
        if shard.clock < commit.step:
            raise RequestFailed(Refusal.WRONG, f"shard {shard.number}: at clock {shard.clock}, told of step "
                                               f"{commit.step}")  # fmt: skip
        counted = commit.counted
        keys = [(one.node, one.replica, one.sequence) for one in counted]
        if not 0 < commit.share <= 1:
            raise RequestFailed(Refusal.WRONG, f"step {commit.step} has a share of {commit.share} of the rate, "
                                "expected more than 0, at most 1")  # fmt: skip
        if len(set(keys)) < len(keys):
            raise RequestFailed(Refusal.WRONG, f"step {commit.step} counts a gradient twice")
        replaced = shard.thaw()
        if replaced is None:
            return None
        lacking = shard.pending.lacking(keys)
        shard.pending.feign(lacking, shard.number, shard.clock, shard.size)
        held = shard.pending.take(keys)
        for one in counted:
            if one.node not in self.table.refused:  # its windows are freed, and would be by nobody once more
                shard.dedup.add(one.node, one.replica, one.sequence)
        staleness = [one.staleness for one in counted]
        step = GatedStep(held, staleness, self._correction.scale, self._optimiser, shard.params, shard.rows, replaced,
                         shard.scratch, shard.clock + 1, commit.share, shard.changes)  # fmt: skip
        return shard.turns.run(step, partial(self._stepped, shard, step, tuple(node for node, _, _ in lacking)))

    def _stepped(self, shard: Shard, step: GatedStep, lied: tuple[int, ...]) -> Reply[Committed]:
        shard.count_step(step)
        shard.pending.give_back(step.arrays)
        late = shard.pending.free(self.table.refused, lambda clock: self._gate.is_late(clock, shard.clock))
        shard.count_dropped(late)
        return Reply(Committed([shard.number], lied))

    def _begin_fetch(self, shard: Shard, node: int) -> Reply[Fetched]:
        shard.check_here()
        if node and self.table.is_member(node):  # the memory of others would be freed by nobody
            shard.history.fetched(node, shard.clock, shard.params)
        return self._frozen(Fetched(shard.number, shard.clock), shard.vectors[:1])

    def _begin_fetch_changes(self, shard: Shard, fetch: FetchChanges) -> Reply[Changes]:
        """As ``_begin_fetch``, but for what the asker has; of that nothing is frozen, as it is copied."""
        shard.check_here()
        if fetch.node and self.table.is_member(fetch.node):
            shard.history.fetched(fetch.node, shard.clock, shard.params)
        form = shard.changes_since(fetch.since) if self._tracks else None
        if form is None or fetch.since > shard.clock:
            return self._frozen(Changes(shard.number, shard.clock, WHOLE, 4 * shard.size), shard.vectors[:1])
        n_entries, payload = form
        return Reply(Changes(shard.number, shard.clock, n_entries, payload.nbytes), [payload] if payload else [])

    def _begin_dump(self, shard: Shard, dump: Dump) -> Reply[Dumped]:
        if dump.node:  # else it would take a shard that others are to go on serving
            self.table.check_member(dump.node)
        if shard.given_up and not dump.give_up:  # but the taker may ask again: the first answer may be lost
            raise moved(shard.number)
        shard.given_up = dump.give_up
        return self._frozen(Dumped(shard.number, shard.clock, list(shard.dedup), len(shard.pending)), shard.vectors[:])

    def _frozen(self, message: Answer, vectors: list[Vector]) -> Reply[Answer]:
        """Return a reply that reads live arrays: nobody writes them until it was sent."""
        for vector in vectors:
            vector.readers += 1
        return Reply(message, [vector.payload for vector in vectors], partial(self._copies.let_go, vectors))


def _pushed(shard: Shard, update: Update) -> Reply[Pushed]:
    staleness = shard.count_applied(update)
    return Reply(Pushed(shard.number, shard.clock, staleness))
