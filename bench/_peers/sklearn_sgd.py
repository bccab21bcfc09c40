"""scikit-learn's ``SGDClassifier``, as its users train a linear model on sparse data: a call of ``fit``.

float32, no penalty and a constant rate, as ours; it shuffles for each epoch. For sparse data it moves the intercept at
a hundredth of the rate, which cannot be set.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier

from bench._peers.task import Rows, SparseTask, log_loss

__all__ = ["run"]


def run(task: SparseTask) -> dict[str, Any]:
    """Train, and return ``rate``, in non-zeros a second of a whole ``fit``, ``loss`` and ``accuracy`` of the test."""
    x, test = (_matrix(rows, task.n_features) for rows in (task.train, task.test))

    def fitted(epochs: int) -> SGDClassifier:
        model = SGDClassifier(loss="log_loss", penalty=None, learning_rate="constant", eta0=task.lr, max_iter=epochs,
                              tol=None, shuffle=True, random_state=task.seed)  # fmt: skip
        return model.fit(x, task.train.y)

    scores = fitted(task.epochs).decision_function(test)
    begin = time.perf_counter()
    fitted(task.many)
    rate = task.many * x.nnz / (time.perf_counter() - begin)
    accuracy = float(((scores > 0) == (task.test.y == 1)).mean())
    return {"rate": rate, "loss": log_loss(scores, task.test.y), "accuracy": accuracy}


def _matrix(rows: Rows, n_features: int) -> csr_matrix:
    values = rows.values if rows.values.size else np.ones(len(rows.indices), np.float32)
    return csr_matrix((values, rows.indices, rows.indptr.astype(np.int32)), (len(rows.y), n_features))
