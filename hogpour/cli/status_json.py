"""A cluster at one moment, and how a program is told of it. Imports no library that draws: a probe is to be quick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Protocol

from hogpour.cli.tables import print_json
from hogpour.core.cluster_state import STALENESS_COUNTS, ClusterState, ShardState

__all__ = ["JsonOutput", "Output", "Silent", "View", "quantile"]


@dataclass(frozen=True, slots=True)
class Silent:
    """A node that serves shards and did not say how they are."""

    node: int
    address: str
    """Where it was asked; empty: it is no member any more."""
    reason: str


@dataclass(frozen=True, slots=True)
class View:
    """A cluster at one moment."""

    cluster: ClusterState
    shards: tuple[ShardState | None, ...]
    """By number; None: nobody said."""
    silent: tuple[Silent, ...]
    """By node."""

    @property
    def staleness(self) -> list[int]:
        """Pushes by staleness, over all shards; see ``ShardState.staleness``."""
        counts = [0] * STALENESS_COUNTS
        for shard in self.shards:
            if shard is not None:
                for k, count in enumerate(shard.staleness[:STALENESS_COUNTS]):
                    counts[k] += count
        return counts

    @property
    def mean_staleness(self) -> float:
        """Of these pushes; 0 before the first one."""
        known = [shard for shard in self.shards if shard is not None]
        pushes = sum(shard.pushes for shard in known)
        return sum(shard.pushes * shard.mean_staleness for shard in known) / pushes if pushes else 0.0

    def shards_of(self, node: int) -> list[int]:
        """Return the numbers of the shards that a node serves."""
        return [shard for shard, owner in enumerate(self.cluster.owners) if owner == node]


def quantile(counts: Iterable[int], share: float) -> int | None:
    """Return the smallest staleness that at least this share of the pushes do not exceed; None without any."""
    sums = list(accumulate(counts))
    if not sums or not sums[-1]:
        return None
    return next(k for k, upto in enumerate(sums) if upto and upto >= share * sums[-1])


class Output(Protocol):
    def view(self, address: str, view: View) -> None: ...

    def trouble(self, text: str) -> None:
        """Say why there is no view this time."""

    def ended(self, text: str) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was."""


class JsonOutput:
    """One JSON object a line; its ``"event"`` is status, warning or, when a run that was watched is over, ended."""

    def view(self, address: str, view: View) -> None:
        owners, counts = view.cluster.owners, view.staleness
        known = [{"node": owners[s.shard], **asdict(s)} for s in view.shards if s is not None]
        silent = [{**asdict(s), "shards": view.shards_of(s.node)} for s in view.silent]
        quantiles = {"p50": quantile(counts, 0.5), "p90": quantile(counts, 0.9), "max": quantile(counts, 1.0)}
        print_json(event="status", address=address, **asdict(view.cluster), shards=known, silent=silent,
                   staleness=quantiles)  # fmt: skip

    def trouble(self, text: str) -> None:
        print_json(event="warning", text=text)

    def ended(self, text: str) -> None:
        print_json(event="ended", text=text)

    def close(self) -> None:
        pass
