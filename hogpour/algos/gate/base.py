"""The contract of gates: the second of the four choices that make a scheme. Decides, and does no I/O.

An origin is one replica of one node. A gate knows of it what its cluster has heard: whether it is *present*, that is
computes or is about to, and how many of its gradients have arrived. Whoever has no block to train on, died or left is
not present, and no gate waits for it.

A gate that ``holds`` makes steps of several gradients: servers keep what arrives and apply it when a step is decided,
once for all shards (``gatekeeper``), so that all have seen the same gradients in the same order. A gate that does not
hold lets servers apply each push as it comes, and may still have origins wait for each other (``ahead``).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar, Protocol, TypeVar

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Checked

__all__ = ["Gate", "gate_end"]

Choice = TypeVar("Choice")


class _Origin(Protocol):
    """Whom a gradient is from: attributes ``node`` and ``replica``, numbers."""

    node: int
    replica: int


Origin = TypeVar("Origin", bound=_Origin)


class Gate(Checked, ABC):
    """Which gradients count. Subclasses are frozen dataclasses."""

    __slots__ = ()
    kind: ClassVar[str] = "gate"
    closes: ClassVar[bool] = True
    """Whether it ever keeps a gradient or an origin waiting. Of one that does not, nothing is asked."""
    holds: ClassVar[bool] = False
    """Gradients wait at the servers until enough are there, and are applied as one: as their mean."""
    counts_late: ClassVar[bool] = True
    """With ``holds``: gradients computed on parameters of an earlier step count too. Otherwise they are dropped, and an
    origin waits until its gradient is decided on, since what it computed meanwhile would be late."""

    def place(self, at_once: Choice, waiting: Choice) -> Choice:
        """Return what is right for pushes that are applied as they come, or for those that wait for their step."""
        return waiting if self.holds else at_once

    def needed(self, present: int) -> int:
        """Return how many gradients make a step; with ``holds``.

        Args:
            present: origins that are, at least 0.

        Returns:
            At least 1. Where late ones are dropped at most ``present``, or nobody could ever go on.
        """
        raise NotImplementedError(f"{type(self).__name__} holds no gradients")

    def is_late(self, step: int, newest: int) -> bool:
        """Return whether a gradient is dropped when it arrives; with ``holds``.

        Args:
            step: clock of the parameters that it was computed on.
            newest: of the step that is decided next.
        """
        return not self.counts_late and step < newest

    def detains(self, arrived: int, present: int) -> bool:
        """Return whether the origin of a gradient waits until it is decided on; with ``holds``.

        Args:
            arrived: gradients that wait for the next step, this one included.
            present: as in ``needed``.
        """
        return not self.counts_late or arrived >= self.needed(present)

    def choose(self, arrivals: Sequence[Origin], present: int) -> list[Origin]:
        """Return the gradients of the next step in the order of their sum, none where too few are there; with
        ``holds``.

        Args:
            arrivals: in the order of arrival.
            present: as in ``needed``.
        """
        needed = self.needed(present)
        if len(arrivals) < needed:
            return []
        if self.counts_late:
            return list(arrivals[:needed])
        return sorted(arrivals, key=lambda one: (one.node, one.replica))  # all, in an order that no delay changes

    def ahead(self) -> int | None:
        """Return by how many gradients an origin may be ahead of the slowest one present; None: by any number."""
        return None


@njit(cache=True, nogil=True)
def gate_end(total: Array, count: np.float32) -> None:
    """total /= count: the mean of a step. Divided, not multiplied by a reciprocal, which would round twice."""
    for k in range(total.size):
        total[k] /= count
