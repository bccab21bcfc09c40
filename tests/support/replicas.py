"""Jobs, data and optimisers for tests of a replica's loop."""

from __future__ import annotations

from typing import Any

import numpy as np

import hogpour as hp
from hogpour.core.job import Job

__all__ = ["OPTIMISERS", "digits", "job_of"]

OPTIMISERS = [
    hp.Sgd(0.1),
    hp.Sgd(0.1, weight_decay=0.01),
    hp.Momentum(0.02, momentum=0.5),
    hp.Adagrad(0.05),
    hp.Rmsprop(0.001),
    hp.Adam(0.002),
]


def digits(n: int) -> tuple[np.ndarray, np.ndarray]:
    data = hp.load("digits").train
    return data.x[:n], data.y[:n]


def job_of(**changes: Any) -> Job:
    settings = {
        "model": [hp.Linear(16), hp.Relu(), hp.Linear(10)],
        "algorithm": hp.Hogwild(optimiser=hp.Sgd(0.1)),
        "epochs": 3,
        "batch": 16,
        "seed": 3,
        **changes,
    }
    return Job(**settings)
