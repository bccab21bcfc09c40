"""Frozen snapshots: what a run says of itself while it goes on and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Evaluation", "Notice", "Progress", "Summary"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened once and that a person wants to know."""

    event: Literal["compiling", "compiled", "replica_died", "replica_restarted", "warning", "diverged"]
    text: str
    """One line, or a line and a traceback."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a model is on examples that it was not trained on."""

    loss: float
    """Mean loss of an example."""
    accuracy: float | None
    """Fraction predicted right; None where the targets are values."""
    examples: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at one moment."""

    epoch: float
    """Passes over the training examples so far."""
    epochs: int
    """Passes that the job asks for."""
    examples: int
    """Examples used so far, by all replicas, since training began (earlier runs of a resumed job included)."""
    seconds: float
    """Time since the first replica began to compute, in this run."""
    rate: float
    """Examples per second since the last snapshot."""
    loss: float | None
    """Mean training loss of the examples used since the last snapshot; None when there were none."""
    evaluation: Evaluation | None
    """The newest evaluation, of a snapshot of the parameters taken while replicas went on."""
    left_s: float | None
    """Seconds left at the mean rate so far; None while unknown."""
    replicas: int
    """Replica processes that are alive."""
    new_evaluation: bool
    """True once for each evaluation."""
    notices: tuple[Notice, ...]
    """What happened since the last snapshot."""

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the newest evaluation."""
        return self.evaluation.accuracy if self.evaluation else None


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended."""

    outcome: Literal["finished", "stopped", "diverged"]
    """finished: all epochs are done. stopped: somebody asked. diverged: the loss was not finite any more."""
    examples: int
    seconds: float
    rate: float
    """Examples per second over the whole run."""
    loss: float | None
    """Mean loss on the test or validation examples (without any: of the last training examples)."""
    accuracy: float | None
    epoch: float
    restarts: int
    """Deaths of replicas that were made good."""
    model: str
    """Path of the model file; empty: none was written."""
