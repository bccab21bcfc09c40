"""What the losses of one classifier per label share: which unit is the label's own, and how many examples are right.

With two units or more there is one for each label. A single unit stands for label 1 against label 0.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit

__all__ = ["count_right", "label_of_scores", "own_unit", "unit_counts"]


def unit_counts(n_targets: int) -> tuple[int, ...]:
    """Return the numbers of units that fit: one for two labels, else one per label."""
    return (1, 2) if n_targets == 2 else (n_targets,)


def label_of_scores(scores: Array) -> Array:
    """Return the label of the largest score; of a single unit, label 1 where its score is positive."""
    return (scores[0] > 0).astype(np.int64) if scores.shape[0] == 1 else scores.argmax(axis=0)


@njit(cache=True, nogil=True)
def own_unit(label: int, n_out: int) -> int:
    """Return the unit that should be positive; of a single one -1, which is none, for label 0."""
    return label if n_out > 1 else label - 1


@njit(cache=True, nogil=True)
def count_right(scores: Array, target: Array) -> int:
    """Return for how many examples ``label_of_scores`` is the target."""
    n_out, batch = scores.shape
    right = 0
    for k in range(batch):
        best = 0
        for u in range(1, n_out):
            if scores[u, k] > scores[best, k]:
                best = u
        right += best == target[k] if n_out > 1 else (scores[0, k] > 0) == (target[k] == 1)
    return right
