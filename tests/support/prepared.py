"""A small job with its prepared segments, for tests of what a node does with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import hogpour as hp
from hogpour.machine.prepare import Prepared, prepare
from hogpour.shm.segment import anonymous_file

N = 20
"""Training examples; one in two of them is a test example as well."""


def small_job(**changes: Any) -> hp.Job:
    x, y = np.random.default_rng(0).normal(size=(N, 4)), np.arange(N) % 3
    settings = {
        "data": hp.arrays(x, y, x[::2], y[::2]),
        "model": [hp.Linear(3)],
        "algorithm": hp.Hogwild(),
        "batch": 4,
        "epochs": 2,
        **changes,
    }
    return hp.Job(**settings)


@contextmanager
def prepared(job: hp.Job, replicas: int = 1) -> Iterator[Prepared]:
    ready = prepare(job, replicas, False, (anonymous_file(), anonymous_file()))
    try:
        yield ready
    finally:
        ready.live.close()
        ready.examples.close()
