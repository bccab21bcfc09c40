"""Asynchronous SGD: every replica fetches, computes a gradient and pushes it; the server applies each as it comes.

The baseline of Zheng et al. 2017 and of Chen et al. 2016, and with λ learners what Zhang et al. 2016 call λ-softsync.
Downpour's client with n_push = n_fetch = 1 computes the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.exchange.gradient import Gradient
from hogpour.algos.schemes.base import Choices, Scheme

__all__ = ["Asgd"]


@dataclass(frozen=True, kw_only=True)
class Asgd(Scheme):
    """On one node with one replica it is plain SGD, bit for bit."""

    paper: ClassVar[str] = "Dean et al. 2012"
    summary: ClassVar[str] = "every gradient is pushed and applied as it comes"

    def choices(self) -> Choices:
        return Choices(Gradient())
