"""Kernels from the cache."""

from __future__ import annotations

import subprocess
import sys

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


@pytest.mark.slow
def test_a_kernel_that_was_compiled_before_loads_nothing_that_compiles() -> None:
    said = [subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True).stdout for _ in range(2)]
    assert said[1] == "[0.0, 1.0, 2.0] [5.0, 5.0, 5.0] 0 False\n"
