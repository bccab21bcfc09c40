"""In place: the optimiser writes the live vector at once, element by element, without a lock.

Hogwild! (Niu, Recht, Ré, Wright 2011, Algorithm 1): x_v ← x_v - γ b_v' G_e(x) for every v, no lock around the loop.
The paper adds atomically per component; we store plainly (``shm/params.py`` says what that may lose).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import Exchange, ReplicaView

__all__ = ["InPlace"]


@dataclass(frozen=True, slots=True)
class InPlace(Exchange):
    """Nothing is sent: the live vector of this machine is the model."""

    by_rows: ClassVar[bool] = True

    def on_gradient(self, view: ReplicaView, grad: npt.NDArray[Any]) -> None:
        view.optimiser.apply(view.params, grad, view.state, lr_scale=view.lr_scale, t=view.t)

    def on_rows(self, view: ReplicaView, rows: npt.NDArray[np.uint32], grad: npt.NDArray[Any]) -> None:
        view.optimiser.apply_rows(view.params, rows, grad, view.state, lr_scale=view.lr_scale)
