"""scikit-learn's ``MLPClassifier``, as its users train a small network: SGD, an epoch a call of ``partial_fit``.

Generous to it: BLAS gets one thread, as two make products of this size slower.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from bench._peers.networks import units_of

__all__ = ["run"]


def run(
    network_name: str,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    test_x: npt.NDArray[Any],
    test_y: npt.NDArray[Any],
    *,
    batch: int,
    lr: float,
    momentum: float,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Train, and return what was reached, as ``hogwild.run``; only networks of linear layers."""
    hidden, labels = tuple(units_of(network_name)[1:-1]), np.unique(y)
    data, test = x.reshape(len(x), -1).astype(np.float32), test_x.reshape(len(test_x), -1).astype(np.float32)

    def made() -> MLPClassifier:
        return MLPClassifier(hidden, solver="sgd", alpha=0.0, batch_size=batch, learning_rate_init=lr,
                             momentum=momentum, nesterovs_momentum=False, random_state=seed)  # fmt: skip

    network, seconds, curve = made(), 0.0, []
    with threadpool_limits(1):
        made().partial_fit(data[: 8 * batch], y[: 8 * batch], classes=labels)
        for _ in range(epochs):
            begin = time.perf_counter()
            network.partial_fit(data, y, classes=labels)
            seconds += time.perf_counter() - begin
            curve.append([seconds, float(network.score(test, test_y))])
    return {"rate": len(x) * epochs / seconds, "seconds": seconds, "accuracy": curve[-1][1], "curve": curve}
