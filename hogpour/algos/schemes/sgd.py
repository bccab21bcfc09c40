"""SGD: the shorter name of ``sync_sgd``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.schemes.sync_sgd import SyncSgd

__all__ = ["Sgd"]


@dataclass(frozen=True, kw_only=True)
class Sgd(SyncSgd):
    """Serial minibatch SGD."""

    summary: ClassVar[str] = "the same as sync_sgd"
