"""Frozen snapshots: what a run says of itself while it goes on and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hogpour.core.cluster_state import ClusterProgress

__all__ = ["Evaluation", "Meter", "Notice", "Progress", "Summary", "Trouble"]


News = Literal["compiling", "compiled", "listening", "joining", "joined", "reading", "waiting", "member", "snapshot",
               "iteration"]  # fmt: skip
Trouble = Literal["replica_died", "replica_restarted", "warning", "diverged"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened once and that a person wants to know."""

    event: News | Trouble
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
    """Time since the first replica had done its first step, in this run."""
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
    computing: int
    """Replicas that have done a step in this run; the others still load what they need."""
    new_evaluation: bool
    """True once for each evaluation."""
    notices: tuple[Notice, ...]
    """What happened since the last snapshot."""
    cluster: ClusterProgress | None = None
    """Of the whole cluster; None on a machine alone. On the first node, the numbers above are the cluster's too."""

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the newest evaluation."""
        return self.evaluation.accuracy if self.evaluation else None


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended."""

    outcome: Literal["finished", "stopped", "diverged", "failed"]
    """finished: all epochs are done. stopped: somebody asked. diverged: the loss was not finite any more. failed: a
    replica could not be kept running."""
    examples: int
    seconds: float
    rate: float
    """Examples per second over the whole run."""
    loss: float | None
    """Mean loss on the test or validation examples (without any: the mean training loss of the whole run, or what a
    batch method minimises, at the point that it came to)."""
    accuracy: float | None
    epoch: float
    restarts: int
    """Deaths of replicas that were made good."""
    model: str
    """Path of the model file; empty: none was written."""
    repeated: int = 0
    """Examples that were handed out again in this run, because a node of the cluster died or left or the run was
    resumed; at most so many of ``examples`` were used twice. Told by the first node; 0 on the others."""


class Meter:
    """Turns running totals into rates and differences. Pure: the caller says what time it is.

    Args:
        n: training examples in an epoch.
        epochs: length of the run.
        before: examples that earlier runs of a resumed job used.
    """

    def __init__(self, n: int, epochs: int, before: int) -> None:
        self._n, self._epochs, self._before = n, epochs, before
        self._began: float | None = None
        self._last = (0.0, 0, 0.0, 0)

    def begin(self, now: float) -> None:
        """Say that the first replica has begun to compute; the first call counts."""
        if self._began is None:
            self._began = now
            self._last = (now, 0, 0.0, 0)

    def seconds(self, now: float) -> float:
        """Return the time since the beginning; 0 before it."""
        return 0.0 if self._began is None else now - self._began

    def epoch(self, examples: int) -> float:
        """Return the passes that this many examples of this run, and those before it, make."""
        return (self._before + examples) / self._n

    def progress(
        self,
        now: float,
        examples: int,
        loss: float,
        *,
        evaluation: Evaluation | None,
        new_evaluation: bool,
        replicas: int,
        computing: int,
        notices: tuple[Notice, ...],
        cluster: ClusterProgress | None = None,
        learnt: int | None = None,
    ) -> Progress:
        """Return a snapshot and remember it as the last one.

        Args:
            examples: used in this run so far.
            loss: the sum of the losses of ``learnt`` of them; None: of all.
        """
        learnt = examples if learnt is None else learnt
        then, examples_then, loss_then, learnt_then = self._last
        self._last = (now, examples, loss, learnt)
        new, total = examples - examples_then, self._before + examples
        seconds = self.seconds(now)
        left = self._n * self._epochs - total
        return Progress(
            epoch=total / self._n,
            epochs=self._epochs,
            examples=total,
            seconds=seconds,
            rate=new / (now - then) if now > then else 0.0,
            loss=(loss - loss_then) / (learnt - learnt_then) if learnt > learnt_then else None,
            evaluation=evaluation,
            left_s=max(0.0, left * seconds / examples) if examples and seconds else None,
            replicas=replicas,
            computing=computing,
            new_evaluation=new_evaluation,
            notices=notices,
            cluster=cluster,
        )


