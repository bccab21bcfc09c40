"""EAMSGD: EASGD whose local steps have Nesterov's momentum.

Zhang, Choromanska, LeCun, NIPS 2015, Algorithm 2, with δ = 0.99: v ← δv - η g(x + δv), x ← x + v. A constant gradient
is followed a hundred times as fast as without, so that η is a hundredth.
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
