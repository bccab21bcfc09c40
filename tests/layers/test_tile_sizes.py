"""How large tiles of registers are is a matter of the processor's speed: the bits are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

OF_LAYERS = """
import hashlib, sys
import numpy as np
from hogpour.layers.kernels import registers
registers.WIDE = sys.argv[1] == "wide"
import hogpour as hp
from hogpour.layers.sequential import Sequential

for layers, shape in (
    ((hp.Linear(70), hp.Linear(33)), (50,)),
    ((hp.LocallyConnected2D(5, kernel=5), hp.LocallyConnected2D(7, kernel=3), hp.Linear(3)), (1, 9, 8)),
):
    network, rng = Sequential(*layers).network(shape), np.random.default_rng(0)
    params = network.spec.zeros()
    network.init(params, rng)
    for batch in (1, 11, 33, 64):
        work = network.workspace(batch, params)
        work.x[...], work.x[0] = rng.standard_normal(work.x.shape), 0
        work.forward()
        work.d_scores[...] = rng.standard_normal(work.d_scores.shape)
        work.backward()
        print(hashlib.sha256(work.scores.tobytes() + work.grad.tobytes()).hexdigest())
"""


@pytest.mark.long
@pytest.mark.real
def test_tiles_for_16_registers_and_for_32_give_the_same_bits(tmp_path: Path) -> None:
    """Each with kernels of its own: numba keeps them by source and processor, and both are the same here."""
    found = []
    for kind in ("wide", "narrow"):
        env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / kind)}
        done = subprocess.run([sys.executable, "-c", OF_LAYERS, kind], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert len(found[0]) == 2 * 4
    assert found[0] == found[1]
