"""What a peer of ``bench hogwild`` or ``bench downpour`` is given to train: one class for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

__all__ = ["Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """A network, data, and the settings of plain SGD."""

    network: str
    """See ``networks.units_of``."""
    x: npt.NDArray[Any]
    """(n, ...) float32, examples first; a peer gives them the shape that its network wants."""
    y: npt.NDArray[Any]
    """(n,) labels."""
    test_x: npt.NDArray[Any]
    test_y: npt.NDArray[Any]
    batch: int
    """Examples in a batch of one process."""
    lr: float
    momentum: float
    epochs: int
    """Passes over the data by all processes together."""
    seed: int
    """Of initial parameters, of the order of examples and of dropout."""
