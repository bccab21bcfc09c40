"""A gate for replicas on however many nodes: none goes on before all are there, so that start-up counts for nobody.

It is a schedule, which a replica asks once a block, so that nothing is added to the inner loop. The first block of a
replica loads its kernels and touches its memory; before the second one it waits until all others are as far. Replicas
meet in a folder: each leaves a file with the moment when it came, of the clock that all processes of a machine share.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from hogpour.algos.schedule.base import Schedule

__all__ = ["Gate", "opened"]

PATIENCE_S = 60.0
"""Imports, reading and compilation on the slowest node."""
_POLL_S = 0.001

_blocks: Counter[str] = Counter()
"""Folder → blocks that this process has begun. A replica is a process of its own, and a schedule remembers nothing."""


@dataclass(frozen=True, slots=True)
class Gate(Schedule):
    """The rate stays as it is; the second block begins when all replicas have done their first."""

    folder: str
    """Where they meet: empty at first, of one run only."""
    replicas: int
    """How many must come, on all nodes together."""

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError(f"replicas = {self.replicas}, expected at least 1")

    def scale(self, epoch: float, epochs: int) -> float:
        _blocks[self.folder] += 1
        if _blocks[self.folder] == 2:
            self._arrive()
        return 1.0

    def _arrive(self) -> None:
        beside = Path(self.folder, f".{os.getpid()}")
        beside.write_text(repr(monotonic()))
        beside.rename(beside.with_name(str(os.getpid())))  # nobody finds half a number
        deadline = monotonic() + PATIENCE_S
        while (came := len(_arrivals(self.folder))) < self.replicas:
            if monotonic() > deadline:
                raise TimeoutError(f"{came} of {self.replicas} replicas came to the gate within {PATIENCE_S:g} s")
            sleep(_POLL_S)


def opened(folder: str) -> float:
    """Return when the last replica came; call it when training has ended."""
    return max(float(file.read_text()) for file in _arrivals(folder))


def _arrivals(folder: str) -> list[Path]:
    return [file for file in Path(folder).iterdir() if not file.name.startswith(".")]
