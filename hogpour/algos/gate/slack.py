"""Slack: every gradient counts as it comes, and nobody gets more than s ahead of the slowest.

Stale Synchronous Parallel (Ho et al. 2013, section 3): workers count their updates by clocks; "the slowest and fastest
workers must be ≤ s clocks apart", and whoever computes at clock c has seen every update of clocks up to c - s - 1.

A clock here is a push that every shard has acknowledged, so what an origin is allowed to compute on is what it then
fetches. s = 0 is bulk-synchronous: a barrier whose gradients are applied one by one. A worker that joins begins at the
clock of the slowest; one that is not present holds nobody up, which the paper does not treat.
"""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.algos.gate.base import Gate
from hogpour.core.limits import Natural

__all__ = ["Slack"]


@dataclass(frozen=True, slots=True)
class Slack(Gate):
    """At most ``s`` clocks between the fastest and the slowest."""

    s: Natural = 3
    """Clocks."""

    def ahead(self) -> int | None:
        return self.s
