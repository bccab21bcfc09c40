"""DiLoCo: local SGD with many AdamW steps in a round, and Nesterov's momentum over the rounds.

Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023: H = 500, outer rate 0.7
and momentum 0.9; the inner rate is that of its language models, 4e-4. A round is what a node may lose, and as long as
its examples suffice for: small data sets want a smaller H.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hogpour.algos.optim.adamw import AdamW
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.nesterov import Nesterov
from hogpour.algos.schemes.local_sgd import LocalSgd
from hogpour.core.limits import Count

__all__ = ["DiLoCo"]


@dataclass(frozen=True, kw_only=True)
class DiLoCo(LocalSgd):
    """Local SGD with the paper's rules; its choices are those of ``LocalSgd``."""

    paper: ClassVar[str] = "Douillard et al. 2023"
    summary: ClassVar[str] = "long rounds of AdamW, their displacements applied with Nesterov's momentum"

    optimiser: Optimiser = field(
        default_factory=lambda: Nesterov(lr=0.7, momentum=0.9), metadata={"kind": "optimiser"}
    )
    """The outer rule, by which servers apply displacements."""
    steps: Count = 500
    """Steps of a replica in a round; H in the paper."""
    inner: Optimiser = field(default_factory=lambda: AdamW(lr=4e-4), metadata={"kind": "optimiser"})
    """The rule that replicas step by."""
