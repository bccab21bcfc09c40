"""Hogwild!: all replicas of a machine write one parameter vector without locks.

Niu, Recht, Ré, Wright, "Hogwild!: A Lock-Free Approach to Parallelizing Stochastic Gradient Descent", 2011,
Algorithm 1.
The paper's experiments shuffle without replacement in each epoch and multiply the rate by β (0.9; in theory about
0.37) after each: ``schedule = {name = "back_off", beta = 0.9}``. The paper joins all threads at the end of an epoch to
do so; we do not wait: a block of examples has the rate of its own epoch, so nobody idles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.exchange.in_place import InPlace
from hogpour.algos.schemes.base import Choices, Scheme

__all__ = ["Hogwild"]


@dataclass(frozen=True, kw_only=True)
class Hogwild(Scheme):
    """Lock-free SGD on shared memory. With one replica it is plain SGD, bit for bit."""

    paper: ClassVar[str] = "Niu et al. 2011"
    summary: ClassVar[str] = "replicas of one machine write one vector without locks"

    def choices(self) -> Choices:
        return Choices(InPlace())
