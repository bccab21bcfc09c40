"""Plain: a late gradient is applied as any other. Downpour's own answer (Dean et al. 2012), and that of Hogwild!."""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.algos.correction.base import Correction

__all__ = ["Plain"]


@dataclass(frozen=True, slots=True)
class Plain(Correction):
    """Nothing is amended."""
