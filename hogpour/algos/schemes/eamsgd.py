"""EAMSGD: EASGD whose local steps have Nesterov's momentum.

Zhang, Choromanska, LeCun, NIPS 2015, Algorithm 2, with δ = 0.99: v ← δv - η g(x + δv), x ← x + v. A constant gradient
is followed a hundred times as fast as without, so that η is a hundredth.

With a schedule it is another method: the velocity here is PyTorch's, without η in it, so a new rate acts at once on all
that was accumulated (``optim/momentum.py``), also on the look ahead, which the pull takes back at the newest rate. In
the paper's form what was accumulated keeps the rates that it was made at. With a constant rate the two are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.nesterov import Nesterov
from hogpour.algos.schemes.easgd import Easgd

__all__ = ["Eamsgd"]


@dataclass(frozen=True, kw_only=True)
class Eamsgd(Easgd):
    """Elastic averaging SGD with momentum; exact with one replica a node."""

    summary: ClassVar[str] = "EASGD with Nesterov's momentum on each node"

    optimiser: Optimiser = field(
        default_factory=lambda: Nesterov(lr=0.001, momentum=0.99), metadata={"kind": "optimiser"}
    )
    """How a node steps. Where it has another momentum than Nesterov's, the pull is at the live vector itself."""
