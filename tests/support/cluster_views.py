"""Made-up states of a cluster, to be drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hogpour.cli.status_json import View
from hogpour.core.cluster_state import ClusterState, MemberState, ShardState

__all__ = ["CLUSTER", "FIRST", "SECOND", "THIRD", "VIEW", "of_shards", "shard"]

FIRST = MemberState(
    node=1, name="oak process 4711", address="10.0.0.1:7000", phase="ready", replicas=16, examples=234_567,
    rate=12_345.6, silent_s=0.04, shards=2, tickets=18,
)  # fmt: skip


SECOND = MemberState(
    node=2, name="elm process 77", address="10.0.0.2:7000", phase="leaving", replicas=2, examples=65_433, rate=222.0,
    silent_s=1.25, shards=1, tickets=4,
)  # fmt: skip


THIRD = MemberState(
    node=5, name="fir process 4", address="", phase="loading", replicas=0, examples=0, rate=0.0, silent_s=0.4, shards=0,
    tickets=0,
)  # fmt: skip


CLUSTER = ClusterState(
    command="run", reason="", warming=False, members=(FIRST, SECOND, THIRD), epoch=3, bounds=(0, 1000, 2000, 3001),
    owners=(1, 1, 2), tickets_done=132, tickets_leased=22, tickets_free=374, examples_done=1_299_000,
    examples_repeated=640, rate=12_567.6, examples=1_300_000, loss=0.1234, right=900, pushes=5000, mean_staleness=0.93,
)  # fmt: skip


def shard(k: int, **changes: Any) -> ShardState:
    state = ShardState(
        shard=k, start=1000 * k, stop=1000 * k + 1000, clock=5100, pushes=5000, repeated=3, dropped=7, amended=0,
        steps=20_000, origins=18, staleness=(1000, 3500, 400, 0, 100), mean_staleness=0.94,
    )  # fmt: skip
    return replace(state, **changes)


VIEW = View(CLUSTER, (shard(0), shard(1), shard(2, pushes=80, clock=5101, staleness=(60, 20), mean_staleness=0.25)), ())


def of_shards(count: int, **changes: Any) -> View:
    """A cluster of so many shards, all alike but for those that are given by their number."""
    cluster = replace(CLUSTER, bounds=tuple(range(0, 1000 * count + 1, 1000)), owners=(1,) * count)
    return View(cluster, tuple(changes.get(f"shard_{k}", shard(k)) for k in range(count)), ())
