"""Kernels from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import numpy as np
from hogpour.core.kernels.jit import compilations
from hogpour.core.kernels.vector import vector_copy
from hogpour.layers.kernels.linear import sum_over_batch
out = np.zeros(3, np.float32)
vector_copy(out, np.arange(3, dtype=np.float32))
sums = np.zeros(3, np.float32)
sum_over_batch(np.ones((3, 5), np.float32), sums)
print(out.tolist(), sums.tolist(), compilations(), "numba.np.arraymath" in sys.modules)
"""

COPY = """
import numpy as np
from hogpour.core.kernels.jit import compilations
from hogpour.core.kernels.vector import vector_copy
out = np.zeros(3, np.float32)
vector_copy(out, np.arange(3, dtype=np.float32))
print(out.tolist(), compilations())
"""


@pytest.mark.slow
def test_a_kernel_that_was_compiled_before_loads_nothing_that_compiles() -> None:
    said = [subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True).stdout for _ in range(2)]
    assert said[1] == "[0.0, 1.0, 2.0] [5.0, 5.0, 5.0] 0 False\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_cache_that_was_cut_short_is_made_anew(kind: str, tmp_path: Path) -> None:
    """Of a power cut, say: no run began any more, "the first step fails in caching.py:648: EOFError"."""
    said = []
    for begins in (None, b"", b"\0" * 100, None):
        for file in tmp_path.rglob(f"vector.vector_copy*.{kind}"):
            if begins is not None:
                file.write_bytes(begins)
        ran = subprocess.run([sys.executable, "-c", COPY], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True)
        said.append(ran.stdout)
    assert said == ["[0.0, 1.0, 2.0] 1\n"] * 3 + ["[0.0, 1.0, 2.0] 0\n"]
