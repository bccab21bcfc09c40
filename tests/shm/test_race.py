"""The race itself, with real processes: what may be lost and what may not."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from hogpour.shm.layout import Layout
from hogpour.shm.segment import Segment

ADDER = """
import sys, numpy as np
from numba import njit
from hogpour.shm.atomics import atomic_add, atomic_load
from hogpour.shm.layout import Layout
from hogpour.shm.segment import Segment

fd, rounds, mode = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
segment = Segment.attach(fd, Layout.pack([("gate", (2,), "int64"), ("x", (64,), "float32"), ("n", (1,), "int64")]))

@njit
def plain(x, rounds):
    for _ in range(rounds):
        for i in range(x.size):
            x[i] += np.float32(1)

@njit
def atomic(x, rounds):
    for _ in range(rounds):
        for i in range(x.size):
            atomic_add(x, i, np.float32(1))

@njit
def meet(gate):
    atomic_add(gate, 0, 1)
    while atomic_load(gate, 0) < 2:
        pass

add = {"plain": plain, "atomic": atomic}[mode]
add(np.zeros(64, np.float32), 1)
meet(np.full(2, 5))
meet(segment.arrays["gate"])
add(segment.arrays["x"], rounds)
for _ in range(1000):
    from hogpour.shm.atomics import fetch_add
    fetch_add(segment.arrays["n"], 0, 1)
"""


def two_adders(mode: str, rounds: int) -> tuple[np.ndarray, int]:
    layout = Layout.pack([("gate", (2,), "int64"), ("x", (64,), "float32"), ("n", (1,), "int64")])
    segment = Segment.create(layout, "a test")
    command = [sys.executable, "-c", ADDER, str(segment.fd), str(rounds), mode]
    processes = [subprocess.Popen(command, pass_fds=[segment.fd]) for _ in range(2)]
    assert [p.wait() for p in processes] == [0, 0]
    x, n = segment.arrays["x"].copy(), int(segment.arrays["n"][0])
    segment.close()
    return x, n


@pytest.mark.slow
def test_atomic_adds_of_two_processes_are_all_there() -> None:
    """2 x 100,000 adds to each of 64 elements of one cache line or four: exact in float32 below 2^24."""
    x, n = two_adders("atomic", 100_000)
    assert x.tolist() == [200_000] * 64
    assert n == 2000


@pytest.mark.long
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a race needs two cores")
def test_plain_adds_lose_updates_but_never_tear_an_element() -> None:
    """What is there is a whole number, no more than was added: some are lost, none is half written."""
    x, _ = two_adders("plain", 300_000)
    assert (x == np.floor(x)).all()
    assert (x <= 600_000).all()
    assert (x >= 300_000 * 0.5).all()
