"""Plain SGD: one replica, one gradient after the other. The ruler that every other scheme is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.exchange.in_place import InPlace
from hogpour.algos.schemes.base import Choices, Scheme

__all__ = ["SyncSgd"]


@dataclass(frozen=True, kw_only=True)
class SyncSgd(Scheme):
    """Serial minibatch SGD; its single replica uses every core through kernel threads."""

    paper: ClassVar[str] = "–"
    summary: ClassVar[str] = "one replica, one gradient after the other: the ruler"

    def choices(self) -> Choices:
        return Choices(InPlace())

    def check_replicas(self, replicas: int) -> None:
        if replicas != 1:
            raise ValueError(f"sync_sgd is one replica, got replicas = {replicas}; "
                             'set run.replicas = 1, or algorithm.name = "hogwild"')  # fmt: skip
