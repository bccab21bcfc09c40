"""Model-only nodes: everything of a node but its numbers, so that thousands of them fit.

A model-only replica takes its time, accrues, pushes and fetches when a real one would, and computes nothing. It keeps
one line of zeros for a shard, however large that is said to be, and the network charges for what is said. So rates,
waits, staleness and bytes are those of the real model; loss and accuracy there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.shard_map import cut
from hogpour.core.spec import ALIGNMENT
from hogpour.machine.replica import Replica
from hogpour.net.frame import HEADER_BYTES, MAGIC

__all__ = ["ModelOnlyNetwork", "ModelOnlyReplica", "model_only_shards", "weigh"]


@dataclass(frozen=True, slots=True)
class ModelOnlyNetwork:
    """What stands for the bound layers."""

    n: int
    """Elements of the vector that is there."""
    stands_for: int
    """Elements of the one that is not."""
    fingerprint: str
    input_shape: tuple[int, ...] = (1,)

    @property
    def spec(self) -> Any:
        """As much of a ``spec.Spec`` as a cluster asks for: a size and a name, and nothing in it."""
        return SimpleNamespace(n=self.n, fingerprint=self.fingerprint, n_parameters=self.n, tensors=(), by_row=())


class ModelOnlyReplica(Replica):
    """A replica without layers."""

    def _allocate(self) -> None:
        self._loss, self._right = 0.0, 0

    def compute(self, order: npt.NDArray[np.int64], position: int, batch: int, ticket: int) -> bool:
        """Compute nothing."""
        return True

    def use(self, batch: int) -> None:
        """Count the step."""
        self._link.accrued(0.0)
        self._view.t = self._clocks.record(self._number, batch, 0.0, 0) + 1
        self._link.after_step()


def model_only_shards(n: int, shard_bytes: int) -> int:
    """Return the number of shards of a model of ``n`` parameters; model-only, each is a line of ``ALIGNMENT``."""
    return len(cut(max(n, 1), shard_bytes)) - 1


def weigh(n: int, shards: int) -> Callable[[bytes | memoryview], int]:
    """Return what says how many bytes a frame of a model-only node stands for.

    Args:
        n: parameters that the model is said to have.
        shards: that they are cut into.
    """
    times = 4 * n / (4 * ALIGNMENT * shards)

    def bytes_of(piece: bytes | memoryview) -> int:
        if len(piece) < HEADER_BYTES or bytes(piece[:4]) != MAGIC:
            return len(piece)  # a handshake's second half, or the rest of a frame
        payload = int.from_bytes(piece[HEADER_BYTES - 8 : HEADER_BYTES], "little")
        return max(0, len(piece) - payload) + round(payload * times)

    return bytes_of
