"""scikit-learn's ``MLPClassifier``, as its users train a small network: SGD, an epoch a call of ``partial_fit``.

Generous to it: BLAS gets one thread, as two make products of this size slower.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from bench._peers.networks import units_of
from bench._peers.task import Task

__all__ = ["run"]


def run(task: Task) -> dict[str, Any]:
    """Train, and return what was reached, as ``hogwild.run``; only networks of linear layers."""
    hidden, labels = tuple(units_of(task.network)[1:-1]), np.unique(task.y)
    data, test = (part.reshape(len(part), -1).astype(np.float32) for part in (task.x, task.test_x))

    def made() -> MLPClassifier:
        return MLPClassifier(hidden, solver="sgd", alpha=0.0, batch_size=task.batch, learning_rate_init=task.lr,
                             momentum=task.momentum, nesterovs_momentum=False, random_state=task.seed)  # fmt: skip

    network, seconds, curve = made(), 0.0, []
    with threadpool_limits(1):
        made().partial_fit(data[: 8 * task.batch], task.y[: 8 * task.batch], classes=labels)
        for _ in range(task.epochs):
            begin = time.perf_counter()
            network.partial_fit(data, task.y, classes=labels)
            seconds += time.perf_counter() - begin
            curve.append([seconds, float(network.score(test, task.test_y))])
    return {"rate": len(data) * task.epochs / seconds, "seconds": seconds, "accuracy": curve[-1][1], "curve": curve}
