"""The contract of optimisers: how a gradient changes the parameters. Element-wise, in place, no allocation.

An optimiser is a frozen dataclass of its settings and holds no vectors. What it must remember it declares in
``state``; the owner of the parameters (a replica on the live vector, or a shard) allocates the rows, zeroed, and keeps
them in model files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from hogpour.core.limits import Checked, Nonnegative, Positive

__all__ = ["Optimiser", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """A vector as long as the parameters that an optimiser keeps between steps; it begins with zeros."""

    name: str
    """Name in model files, such as ``velocity``."""
    per: Literal["replica", "node"]
    """``replica``: each replica has its own and nobody else writes it. ``node``: all replicas of a machine share one,
    written without locks like the parameters."""


class Optimiser(Checked, ABC):
    """One update rule. Subclasses are frozen dataclasses whose fields are what a job file may say."""

    __slots__ = ()
    kind: ClassVar[str] = "optimiser"
    state: ClassVar[tuple[Row, ...]] = ()
    """What is remembered, in the order of the ``state`` argument of ``apply``."""

    lr: Positive
    """Learning rate; every optimiser has one."""
    weight_decay: Nonnegative = 0.0
    """Decay towards 0; where it is added to the gradient, to each of those that ``grad`` sums, see ``of_sum``."""

    @abstractmethod
    def apply(
        self,
        params: npt.NDArray[Any],
        grad: npt.NDArray[Any],
        state: tuple[npt.NDArray[Any], ...],
        *,
        lr_scale: float,
        t: int,
    ) -> None:
        """Change ``params`` and ``state`` in place by one gradient.

        Called by a replica after each backward pass (lock-free schemes) or by a parameter server for each push.

        Args:
            params: (n,) float32 (tests: float64), C-contiguous. May be live shared memory: other processes write it
                during this call, every element is read and written at most once, and no two reads need agree.
            grad: (n,) of the same dtype, read only.
            state: one (n,) array for each of ``self.state``.
            lr_scale: factor of the schedule; the step uses ``self.lr * lr_scale``.
            t: count of gradients applied to ``params`` including this one, at least 1; by all replicas together.
        """

    @property
    def by_rows(self) -> bool:
        """Whether a gradient of 0 changes nothing, so that ``apply_rows`` does all that ``apply`` would."""
        return False

    def apply_rows(
        self,
        params: npt.NDArray[Any],
        rows: npt.NDArray[np.uint32],
        grad: npt.NDArray[Any],
        state: tuple[npt.NDArray[Any], ...],
        *,
        lr_scale: float,
    ) -> None:
        """Change the rows that a gradient touches, to the bits that ``apply`` gives with 0 in all others.

        Only where ``by_rows``. Errors and races as there.

        Args:
            params: (n_rows, width), C-contiguous; may be live.
            rows: (m,) uint32, each once, read only.
            grad: (m, width), read only.
            state: one (n_rows, width) for each of ``self.state``.
            lr_scale: factor of the schedule.
        """
        raise NotImplementedError(f"{type(self).__name__} changes every element at each step")

    def of_sum(self, gradients: float) -> Optimiser:
        """Return the rule that applies a sum of so many gradients: L2 is a part of each of them, so the sum has it as
        many times, and training comes to the same parameters whatever is accrued.

        Args:
            gradients: in the sum, above 0; no whole number for a weighted mean of sums. With 1 it is this rule.
        """
        if gradients == 1 or not self.weight_decay:
            return self
        return replace(self, weight_decay=self.weight_decay * gradients)  # type: ignore[type-var]  # each is one

    def ahead(self, lr_scale: float) -> tuple[str, float] | None:
        """Return the row of which so many times must be added to ``params`` to undo a look ahead; None: there is none.

        Args:
            lr_scale: factor of the schedule at the newest step.
        """
        del lr_scale
        return None
