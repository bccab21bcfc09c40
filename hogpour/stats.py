"""Frozen snapshots: what a run says of itself while it goes on and when it ends."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Literal

__all__ = [
    "STALENESS_COUNTS",
    "ClusterProgress",
    "ClusterState",
    "Evaluation",
    "MemberState",
    "Meter",
    "Notice",
    "Progress",
    "ShardState",
    "Summary",
    "Totals",
]


STALENESS_COUNTS = 64
"""Length of a histogram of staleness: beyond it, how late no longer matters."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened once and that a person wants to know."""

    event: Literal[
        "compiling",
        "compiled",
        "listening",
        "joining",
        "joined",
        "member",
        "replica_died",
        "replica_restarted",
        "snapshot",
        "warning",
        "diverged",
    ]
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
class ClusterProgress:
    """A cluster at one moment, as one of its nodes knows it."""

    nodes: int
    """Members, this one included."""
    replicas: int
    """Replica processes on all of them, as of their last heartbeats; of this node where it is not the first."""
    staleness: float | None
    """Mean staleness of the pushes so far, in updates; None before the first."""
    warming: bool
    """Only one replica of the cluster computes yet."""
    dropped: int = 0
    """Gradients that came too late for their step; of this node where it is not the first."""
    wait_s: float | None = None
    """Mean seconds that a push waited at a gate for others; the same."""
    bytes_per_example: float | None = None
    """Bytes of parameters and gradients that went over the network for an example; the same."""


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


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard, as the node that serves it sees it; counts are those of this server, since it has the shard."""

    shard: int
    """Its number."""
    start: int
    """Element of the model's vector that it begins with."""
    stop: int
    """Element that it does not reach any more."""
    clock: int
    """Updates that are in its parameters, since training began."""
    pushes: int
    """Pushes applied."""
    repeated: int
    """Pushes not applied because they had been."""
    dropped: int
    """Pushes not applied because they came too late for their step."""
    amended: int
    """Late pushes that were amended: their rate, or their gradient by what its node had fetched."""
    steps: int
    """Gradients in the pushes applied."""
    origins: int
    """Replicas that have pushed and whose node is still a member."""
    staleness: tuple[int, ...]
    """Element k: pushes applied with staleness k, the element ``STALENESS_COUNTS - 1`` with that or more. Ends with the
    last count that is not 0."""
    mean_staleness: float
    """Of the pushes applied, in updates; 0 before the first one."""


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


@dataclass(frozen=True, slots=True)
class Totals:
    """What replicas did, of one incarnation of a node or of a whole cluster."""

    examples: int = 0
    right: int = 0
    """Of these, predicted right in training."""
    loss: float = 0.0
    """Sum of the losses of these examples."""
    pushes: int = 0
    """Pushes acknowledged by all shards."""
    staleness: float = 0.0
    """Sum over these pushes of the mean staleness over the shards."""
    dropped: int = 0
    """Pushes that came too late for their step, beside these; their examples are used up."""
    waited_s: float = 0.0
    """Seconds that pushes waited at a gate for others, all together."""
    bytes: int = 0
    """Parameters and gradients that went over the network, there and back; what a node serves itself does not."""

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Totals) -> Totals:
        return Totals(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def mean_staleness(self) -> float | None:
        """Mean staleness of a push, in updates; None before the first one."""
        return self.staleness / self.pushes if self.pushes else None

    @property
    def mean_wait_s(self) -> float | None:
        """Seconds that a push waited at a gate, on average; None before the first one."""
        pushes = self.pushes + self.dropped
        return self.waited_s / pushes if pushes else None

    @property
    def bytes_per_example(self) -> float | None:
        """What an example cost the network; None before the first one."""
        return self.bytes / self.examples if self.examples else None


@dataclass(frozen=True, slots=True)
class MemberState:
    """One member of a cluster."""

    node: int
    """Its incarnation, as people hear of it."""
    name: str
    address: str
    """host:port on which it serves shards; empty: it serves none, or nobody told on which."""
    phase: Literal["loading", "ready", "leaving"]
    replicas: int
    """Replica processes that run there."""
    examples: int
    """Used by this incarnation."""
    rate: float
    """Examples per second of late."""
    silent_s: float
    """Seconds since it was last heard from."""
    shards: int
    """Shards that it serves."""
    tickets: int
    """Portions that it holds."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster at one moment, as its coordinator sees it; the answer to ``Status``."""

    command: Literal["run", "finish", "stop", "fail"]
    reason: str
    """Why it stops or fails; empty otherwise."""
    warming: bool
    """Only one replica of the cluster computes yet."""
    members: tuple[MemberState, ...]
    """By incarnation; the first one is the coordinator's own node."""
    epoch: int
    """Of the shard map."""
    bounds: tuple[int, ...]
    """(shards + 1,) of the shards in the vector."""
    owners: tuple[int, ...]
    """(shards,) incarnation of the member that serves it."""
    tickets_done: int
    tickets_leased: int
    tickets_free: int
    examples_done: int
    """Examples whose gradients are in the shards, earlier runs of a resumed job included."""
    examples_repeated: int
    """Examples handed out again because a member died or left or the run was resumed."""
    rate: float
    """Examples per second of late."""
    examples: int
    """Used in this run by all members, those that are gone included, acknowledged or not; what follows is theirs."""
    loss: float | None
    """Mean training loss; None where there is none, and in JSON where it is no number."""
    right: int
    """Predicted right in training."""
    pushes: int
    mean_staleness: float | None
    """Of a push, in updates."""
    dropped: int = 0
    """Pushes that came too late for their step, beside these."""
    mean_wait_s: float | None = None
    """Seconds that a push waited at a gate for others."""
    bytes_per_example: float | None = None
    """Bytes of parameters and gradients that went over the network for an example."""
