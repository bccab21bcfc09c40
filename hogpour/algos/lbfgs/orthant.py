"""What L1 adds to L-BFGS on vectors: the pseudo-gradient and the orthant (OWL-QN: Andrew & Gao 2007, section 3.2).

The sum of magnitudes has no derivative where an element is 0. Within an orthant, where no element changes its sign, it
has; so a step is kept to one: that of the point, and where the point is 0 that into which the pseudo-gradient leads.
What would leave it becomes 0, which is how elements vanish.

All are element-wise, and so the same however vectors are cut.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit

__all__ = ["align", "keep_orthant", "pseudo_gradient"]


@njit(cache=True, nogil=True)
def pseudo_gradient(out: Array, point: Array, gradient: Array, factor: float) -> None:
    """out = the pseudo-gradient of f + factor sum |w| at w = ``point`` (eq. 4), (n,) float32, rounded once.

    Args:
        gradient: of f.
    """
    for k in range(out.size):
        w, g = point[k], np.float64(gradient[k])
        if w > 0:
            g += factor
        elif w < 0:
            g -= factor
        elif g + factor < 0:
            g += factor
        elif g - factor > 0:
            g -= factor
        elif g == g:
            g = np.float64(0)
        out[k] = np.float32(g)


@njit(cache=True, nogil=True)
def align(direction: Array, pseudo: Array) -> None:
    """Set to 0 what does not lead down: where the direction has not the sign of the negative pseudo-gradient."""
    for k in range(direction.size):
        if not ((direction[k] > 0 and pseudo[k] < 0) or (direction[k] < 0 and pseudo[k] > 0)):
            direction[k] = 0.0


@njit(cache=True, nogil=True)
def keep_orthant(trial: Array, point: Array, pseudo: Array) -> None:
    """Set to 0 what has left the orthant of ``point``; there, of an element that is 0, that of the negative
    pseudo-gradient."""
    for k in range(trial.size):
        towards = point[k] if point[k] != 0 else -pseudo[k]
        if not ((trial[k] > 0 and towards > 0) or (trial[k] < 0 and towards < 0)):
            trial[k] = 0.0
