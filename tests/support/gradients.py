"""Gradients with whole lines of zeros."""

from __future__ import annotations

import numpy as np

__all__ = ["gradients"]

def gradients(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    """Three gradients with whole lines of zeros, as inputs that are 0 in a batch leave them."""
    found = [rng.standard_normal(n).astype(np.float32) for _ in range(3)]
    for grad in found:
        grad[: n // 16 * 16].reshape(-1, 16)[rng.random(n // 16) < 0.5] = 0
    return found
