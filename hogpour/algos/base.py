"""The contract of schemes: a named combination of choices, with the paper's constants as defaults.

A scheme is a frozen dataclass in a short file of its own. What each choice answers is in the contract of its kind:
``algos/exchange`` and ``algos/optim``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from hogpour.algos.exchange.base import Exchange
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.algos.schedule.base import Schedule
from hogpour.algos.schedule.constant import Constant

__all__ = ["Scheme"]


@dataclass(frozen=True, kw_only=True)
class Scheme(ABC):
    """A way to train: which choices are combined. Fields are what ``[algorithm]`` of a job file may say."""

    kind: ClassVar[str] = "scheme"
    federated: ClassVar[bool] = False
    """Whether parameters live on shards, and nodes can join; else on one machine's live vector."""

    optimiser: Optimiser = field(default_factory=lambda: Sgd(lr=0.1), metadata={"kind": "optimiser"})
    """How a gradient changes the parameters."""
    schedule: Schedule = field(default_factory=Constant, metadata={"kind": "schedule"})
    """Factor of the learning rate over the run."""

    @abstractmethod
    def exchange(self) -> Exchange:
        """Return what a replica does with its gradients."""

    def check_replicas(self, replicas: int) -> None:  # noqa: B027 (most schemes run with any number)
        """Raise ValueError where this scheme does not run with so many replicas; called before anything starts."""
