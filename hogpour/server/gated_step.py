"""Gradients that wait at a shard until their step is decided, and the step that is made of them.

A gradient is copied when it comes, since its origin goes on with its own memory, and is freed with its step, or with
the first step that it is too late for. What waits is bounded: an origin whose late gradients are dropped has one
gradient under way, and where late ones count a step is made as soon as enough are there. Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hogpour.algos.correction.base import Correction
from hogpour.algos.gate.base import gate_end
from hogpour.algos.optim.base import Optimiser
from hogpour.core.kernels.vector import vector_add, vector_is_finite, vector_scale
from hogpour.net.wire.push import Push
from hogpour.server.change_log import ChangeLog
from hogpour.server.copies import Replaced

__all__ = ["GatedStep", "PendingPushes", "step_nothing"]

Floats = npt.NDArray[np.float32]
Key = tuple[int, int, int]


class PendingPushes:
    """The gradients that wait at one shard, in the order of their coming."""

    __slots__ = ("_free", "_held")

    def __init__(self) -> None:
        self._held: dict[Key, tuple[Push, Floats]] = {}
        self._free: list[Floats] = []  # memory that is mapped, for as many as ever waited at once

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[Push, Floats]]:
        return iter(self._held.values())

    def count(self, node: int) -> int:
        """Return how many of these are a node's."""
        return sum(key[0] == node for key in self._held)

    def has(self, push: Push) -> bool:
        """Whether this push waits here already."""
        return _key(push) in self._held

    def hold(self, push: Push, grad: Floats) -> None:
        """Keep a copy of a gradient."""
        array = self._free.pop() if self._free else np.empty(grad.size, np.float32)
        array[...] = grad
        self._held[_key(push)] = push, array

    def lacking(self, keys: Sequence[Key]) -> list[Key]:
        """Return those of these that do not wait here."""
        return [key for key in keys if key not in self._held]

    def feign(self, lacking: Sequence[Key], shard: int, clock: int, size: int) -> None:
        """Keep zeros for gradients that are not here though their origins said so (``Arrive``), as if those had pushed
        them: what a lie does to others is what a member's own pushes may do. Refused, the step would end the run."""
        if lacking:
            zeros = self._free.pop() if self._free else np.empty(size, np.float32)
            zeros[...] = 0  # one for all: a thousand lies are a thousand small messages
            self._held.update({key: (Push(shard, *key, clock, 1, 1.0), zeros) for key in lacking})

    def take(self, keys: Sequence[Key]) -> list[tuple[Push, Floats]]:
        """Remove and return gradients that are all here, in this order. The arrays are the caller's until it gives them
        back."""
        return [self._held.pop(key) for key in keys]

    def give_back(self, arrays: Sequence[Floats]) -> None:
        """Reuse this memory for what comes next; an array may be among them more than once."""
        self._free.extend({id(array): array for array in arrays}.values())

    def free(self, gone: Collection[int], late: Callable[[int], bool]) -> int:
        """Free what no step will count: gradients of nodes that are gone, and those computed on parameters of a clock
        that is ``late``. Returns how many of these, beside those of nodes that are gone."""
        found = [
            (key, push.node not in gone)
            for key, (push, _) in self._held.items()
            if push.node in gone or late(push.clock)
        ]
        for key, _ in found:
            self._free.append(self._held.pop(key)[1])
        return sum(member for _, member in found)


class GatedStep:
    """The gradients of one step that are about to be applied, as their weighted mean. It may run in a thread.

    Zhang et al. 2016 (equation 4): g = 1/c · Σ α(τ_k) Δθ_k. The factors of the rates, of the schedule and of what
    staleness makes of it, go as far as they are common to all into the rate, and the rest into the weights of the sum,
    so that a step of one gradient is what a push without a gate would be.

    Args:
        held: what ``PendingPushes.take`` returned, summed in this order.
        staleness: of each.
        scale: staleness → factor of the rate.
        params, rows: of the shard.
        replaced: see ``shard.Shard.thaw``.
        total: (size,) float32, scratch memory.
        t: the shard's clock after it.
        share: of the rate, above 0, at most 1; see ``gatekeeper``.
        changes: of the shard.

    Attributes:
        pushes, staleness: of the gradients.
        factors: what ``scale`` said of each.
        share: as given.
        arrays: of the gradients, to be given back.
    """

    __slots__ = ("_changes", "_optimiser", "_params", "_replaced", "_rows", "_t", "_total", "_weights", "arrays",
                 "factors", "lr_scale", "pushes", "share", "sources", "staleness")  # fmt: skip

    def __init__(
        self,
        held: Sequence[tuple[Push, Floats]],
        staleness: Sequence[int],
        scale: Callable[[int], float],
        optimiser: Optimiser,
        params: Floats,
        rows: tuple[Floats, ...],
        replaced: Replaced,
        total: Floats,
        t: int,
        share: float = 1.0,
        changes: ChangeLog | None = None,
    ) -> None:
        self.pushes = [push for push, _ in held]
        self.arrays = [array for _, array in held]
        self.staleness = list(staleness)
        self.factors = [scale(late) for late in staleness]
        self._params, self._rows, self._changes = params, rows, changes
        self._replaced, self.sources, self._total, self._t = replaced, replaced.sources, total, t
        rates = [push.scale * factor for push, factor in zip(self.pushes, self.factors, strict=True)]
        # Where all are equal their mean is that, which a division by their number may miss by a bit.
        self.lr_scale = rates[0] if len(set(rates)) == 1 else sum(rates) / len(rates)
        self._weights = [rate / self.lr_scale if self.lr_scale else 1.0 for rate in rates]
        steps = [push.steps for push in self.pushes]  # whose mean is weighed as that of the gradients
        mean = steps[0] if len(set(steps)) == 1 else float(np.average(steps, weights=self._weights))
        self._optimiser = optimiser.of_sum(mean)
        self.share = share
        self.lr_scale *= share

    def run(self) -> None:
        """Copy what is frozen, then apply."""
        self._replaced.fill()
        total, real = self._total, np.float32
        vector_scale(total, self.arrays[0], real(self._weights[0]))
        for array, weight in zip(self.arrays[1:], self._weights[1:], strict=True):
            vector_add(total, array, real(weight))
        gate_end(total, real(len(self.arrays)))
        self._optimiser.apply(self._params, total, self._rows, lr_scale=self.lr_scale, t=self._t)
        if self._changes is not None:
            self._changes.mark(total, self._t)


def step_nothing(optimiser: Optimiser, _: Correction) -> None:
    """Apply a step of two gradients of nothing to nothing."""
    vector_is_finite(np.zeros(16, np.float32))
    params, total, *grads = np.zeros((4, 16), np.float32)
    rows = tuple(np.zeros(16, np.float32) for _ in optimiser.state)
    held = [(Push(0, 0, 0, sequence, 0, 1, 1.0), grad) for sequence, grad in enumerate(grads)]
    GatedStep(held, [0, 0], lambda _: 1.0, optimiser, params, rows, Replaced(), total, 1).run()


def _key(push: Push) -> Key:
    return push.node, push.replica, push.sequence
