"""Downpour SGD: nodes push accrued gradients to sharded parameter servers and fetch fresh parameters, both in the
background.

Dean et al., "Large Scale Distributed Deep Networks", 2012: n_push = n_fetch = 1 in all its experiments, Adagrad on each
shard, and a warm start with one replica "virtually eliminated stability concerns"; how long it lasts is not said.
``exchange/accrue.py`` has the client, and our decisions where the paper is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from hogpour.algos.exchange.accrue import Accrue
from hogpour.algos.schemes.base import Choices, Scheme
from hogpour.core.limits import FINITE, Count, Range

__all__ = ["Downpour"]


@dataclass(frozen=True, kw_only=True)
class Downpour(Scheme):
    """Asynchronous SGD over any number of nodes. On one node with one replica and n_push = n_fetch = 1 it is plain SGD,
    bit for bit."""

    paper: ClassVar[str] = "Dean et al. 2012"
    summary: ClassVar[str] = "accrued gradients to sharded servers, fresh parameters back, both in the background"

    n_push: Count = 1
    """Steps of a replica between two pushes. Well above ``n_fetch`` it acts like a rate n_push times as
    high: each fetch undoes the local steps, so that all gradients of a push are of nearly the same parameters. On
    MNIST (784-256-10, rate 0.1, two nodes) 16 with n_fetch = 1 reached 0.27, with 4 0.966, with 16 0.974."""
    n_fetch: Count = 1
    """Steps of a replica between two fetches."""
    warm_start_examples: Annotated[int, Range(0, FINITE, "0 or more")] = 0
    """Examples that one replica of the whole cluster uses before all others begin; 0: none."""
    warm_start_s: Annotated[float, Range(0, FINITE, "0 or more")] = 0.0
    """Seconds for which one replica of the whole cluster computes alone; 0: none. With both: whichever ends first."""

    def choices(self) -> Choices:
        return Choices(Accrue(self.n_push, self.n_fetch))
