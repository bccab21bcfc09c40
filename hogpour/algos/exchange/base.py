"""The contract of exchanges: the first of the four choices that make a scheme. Decides, and does no I/O.

A machine alone needs one moment, ``on_gradient``. Where parameters live on shards there is another, ``on_params``, and
two numbers say when the client has something to do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hogpour.algos.correction.base import Correction
from hogpour.algos.optim.base import Optimiser
from hogpour.core.limits import Checked

__all__ = ["Exchange", "ReplicaView", "Traffic"]


class Traffic(Enum):
    """What nodes send to the shards, and what they take in."""

    NONE = "none"
    """Nothing: the live vector of one machine is the model, and no node can join."""
    ACCRUED = "accrued"
    """What replicas accrue is pushed, and parameters are fetched when replicas ask for them."""
    PULLED = "pulled"
    """Nothing is accrued. Each fetch of a round is a ``pull``, whose outcome is pushed; the first gradient of a round
    is computed while that is under way, and used when it has landed."""
    SUMMED = "summed"
    """Batch methods: the sum over a block of a batch is pushed, and parameters come with the evaluation that a block is
    of."""


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
    accrued: npt.NDArray[Any] | None = None
    """(n,) float32, the replica's own: the sum of the gradients since the last push. None on a machine alone."""
    n_accrued: int = 0
    """Gradients in ``accrued``; where 0, its content means nothing."""
    share: float = 1.0
    """Batch methods: examples of this gradient as a part of all."""
    scratch: npt.NDArray[Any] | None = None
    """(2, n) float32, the replica's own, whose content means nothing; None where ``Exchange.scratch`` is False."""


class Exchange(Checked, ABC):
    """What a replica does with a gradient. Subclasses are frozen dataclasses."""

    __slots__ = ()
    kind: ClassVar[str] = "exchange"
    traffic: ClassVar[Traffic] = Traffic.NONE
    waits: ClassVar[bool] = False
    """Whether replicas work in rounds of ``n_push`` steps: a push and a fetch are asked for together, also where a
    round ends early, and the next step waits for that fetch. Then ``n_fetch`` equals ``n_push``."""
    proportional: bool = False
    """Whether the rounds of a node are as many times shorter as it is slower than the fastest one."""
    scratch: ClassVar[bool] = False
    """Whether ``on_gradient`` needs ``ReplicaView.scratch``."""
    by_rows: ClassVar[bool] = False
    """Whether gradients of tensors by row come to ``on_rows``. Else they are made dense, and a step costs as much as
    the model is long."""

    if TYPE_CHECKING:  # fields of some, constants of others

        @property
        def n_push(self) -> int:
            """Steps of a replica between two pushes of what it accrued; only where a link pushes."""

        @property
        def n_fetch(self) -> int:
            """Steps of a replica between two fetches; only where a link fetches."""

    def replica_rule(self, optimiser: Optimiser) -> Optimiser:
        """Return the rule that replicas step by, whose rows their node keeps; ``optimiser`` is the job's."""
        return optimiser

    def server_rule(self, optimiser: Optimiser) -> Optimiser:
        """Return the rule by which servers apply what is pushed; ``optimiser`` is the job's."""
        return optimiser

    def push_scale(self, lr_scale: float) -> float:
        """Return the factor of the rate that servers apply a push with, where the schedule's is ``lr_scale``."""
        return lr_scale

    def gradients(self, steps: int) -> int:
        """Return of how many gradients a push after so many steps is the sum, to the rule by which servers apply it."""
        return steps

    def refusal(self, correction: Correction) -> str:
        """Return why a correction that is not ``Plain`` makes no sense here, as the rest of a sentence; empty: it
        does."""
        del correction
        return ""

    @abstractmethod
    def on_gradient(self, view: ReplicaView, grad: npt.NDArray[Any]) -> None:
        """Take one gradient in. Called by the replica after each backward pass.

        Args:
            grad: (n,) gradient of the mean loss of one minibatch; the replica writes it again in the next step.
        """

    def on_rows(self, view: ReplicaView, rows: npt.NDArray[np.uint32], grad: npt.NDArray[Any]) -> None:
        """Take in the gradient of a tensor by row. Called after each ``on_gradient``, where ``by_rows``.

        Args:
            view: of that tensor: its arrays are (n_rows, width). What no row of a window touched is 0 in ``accrued``.
            rows: (m,) the rows touched, each once; and ``grad`` their gradients, (m, width). Written again in the next
                step.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no gradients by row")

    def on_params(self, params: npt.NDArray[Any], fetched: npt.NDArray[Any]) -> None:
        """Take in the parameters of one shard. Called by the client when a fetch is complete in staging; where
        the traffic is ``PULLED``, only at the beginning and the end of a node.

        Args:
            params: (size,) float32, the shard's range of the live vector: replicas read and write it meanwhile.
            fetched: (size,) float32, read only, the caller's.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no parameters in")

    def pull(
        self,
        params: npt.NDArray[Any],
        fetched: npt.NDArray[Any],
        push: npt.NDArray[Any],
        velocities: Sequence[npt.NDArray[Any]],
        ahead: float,
    ) -> None:
        """Take in the parameters of one shard, and say what is pushed to it. Called by the client, instead of
        ``on_params``, where the traffic is ``PULLED``.

        Args:
            params: (size,) float32, the shard's range of the live vector: replicas read and write it meanwhile.
            fetched: (size,) float32, read only, the caller's.
            push: (size,) float32, to be filled with what the server rule applies as a gradient.
            velocities: (size,) float32 each, live: what the steps of each replica look ahead by; none, where they do
                not.
            ahead: times that (``Optimiser.ahead``).
        """
        raise NotImplementedError(f"{type(self).__name__} pulls nothing")
