"""The contract of exchanges: the first of the four choices that make a scheme. Decides, and does no I/O.

A machine alone needs one moment, ``on_gradient``. The moments of the link between nodes (clocks moved, a fetch is
complete) belong here too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from hogpour.algos.optim.base import Optimiser

__all__ = ["Exchange", "ReplicaView"]


@dataclass(slots=True)
class ReplicaView:
    """What a replica shows its exchange. The replica owns it and updates ``t`` and ``lr_scale`` before each call."""

    params: npt.NDArray[Any]
    """(n,) float32, the live vector: other replicas write it at any moment."""
    state: tuple[npt.NDArray[Any], ...]
    """One (n,) row for each row of ``optimiser.state``; rows per node are live like params."""
    optimiser: Optimiser
    t: int = 1
    """Gradients applied to the live vector by all replicas together, this one included; exact with one replica."""
    lr_scale: float = 1.0
    """Factor of the learning-rate schedule."""


class Exchange(ABC):
    """What a replica does with a gradient. Subclasses are frozen dataclasses."""

    __slots__ = ()
    kind: ClassVar[str] = "exchange"

    @abstractmethod
    def on_gradient(self, view: ReplicaView, grad: npt.NDArray[Any]) -> None:
        """Take one gradient in. Called by the replica after each backward pass.

        Args:
            grad: (n,) gradient of the mean loss of one minibatch; the replica writes it again in the next step.
        """
