"""Frozen snapshots of a cluster: members, shards and what they did together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import add, attrgetter, sub
from typing import Literal

__all__ = ["STALENESS_COUNTS", "ClusterProgress", "ClusterState", "MemberState", "ShardState", "Totals", "WaitedFor"]

STALENESS_COUNTS = 64
"""Length of a histogram of staleness: beyond it, how late no longer matters."""


@dataclass(frozen=True, slots=True)
class WaitedFor:
    """Somebody that others wait for."""

    node: int
    """Its incarnation, as people hear of it."""
    replica: int | None
    """Whose gradient a gate waits for; None: the last blocks are, that the node has."""
    seconds: float
    """Since it did anything."""
    by: tuple[int, ...]
    """Incarnations of those who wait."""

    def __str__(self) -> str:
        what = "blocks" if self.replica is None else f"replica {self.replica}"
        return f"{what} of node {self.node}, {self.seconds:.0f} s"


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
    waits_for: tuple[WaitedFor, ...] = ()
    """Who is waited for, for a second or more; told by the first node."""


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
        return Totals(*map(add, _numbers(self), _numbers(other)))

    def __sub__(self, other: Totals) -> Totals:
        return Totals(*map(sub, _numbers(self), _numbers(other)))

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


_numbers = attrgetter(*(field.name for field in fields(Totals)))  # astuple copies deeply: 24 us, for 3


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
    """Blocks that it holds."""
    version: str = ""
    """Of hogpour, that it runs; empty: it does not say."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster at one moment, as its coordinator sees it; the answer to ``Status``."""

    command: Literal["run", "finish", "stop", "fail"]
    reason: str
    """Why it stops or fails, or what it waits for before it begins; empty otherwise."""
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
    waits_for: tuple[WaitedFor, ...] = ()
    """Who is waited for, for a second or more."""
