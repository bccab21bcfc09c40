"""DC-ASGD: asynchronous SGD whose late gradients are compensated for how far the parameters have moved meanwhile.

Zheng et al., "Asynchronous Stochastic Gradient Descent with Delay Compensation", ICML 2017. The equations and our
decisions are in ``correction/delay_compensation.py`` (DC-ASGD-c) and ``correction/adaptive_compensation.py`` (-a).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.correction.adaptive_compensation import AdaptiveCompensation
from hogpour.algos.correction.delay_compensation import DelayCompensation
from hogpour.algos.exchange.gradient import Gradient
from hogpour.algos.schemes.base import Choices, Scheme

__all__ = ["DcAsgd"]


@dataclass(frozen=True, kw_only=True)
class DcAsgd(Scheme):
    """Delay-compensated asynchronous SGD; without delay it is plain SGD, bit for bit."""

    paper: ClassVar[str] = "Zheng et al. 2017"
    summary: ClassVar[str] = "asynchronous SGD, late gradients compensated by λ g² (w - w_bak)"

    adaptive: bool = True
    """DC-ASGD-a, whose λ falls where gradients are large; else DC-ASGD-c, whose λ is constant."""
    strength: float | None = None
    """λ₀; unset: the paper's for CIFAR-10, 2 if adaptive, else 0.04."""
    decay: float = 0.95
    """m of the mean square of gradients, from 0 to below 1; only if adaptive."""

    def choices(self) -> Choices:
        usual = 2.0 if self.adaptive else 0.04
        strength = usual if self.strength is None else self.strength
        adaptive = AdaptiveCompensation(strength, self.decay)  # whose decay is checked, used or not
        return Choices(Gradient(), adaptive if self.adaptive else DelayCompensation(strength))
