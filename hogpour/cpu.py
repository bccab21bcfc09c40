"""What the machine offers, and how kernel threads are set: cores, memory, BLAS and numba threads.

One of the two readers of the environment. A replica is a process with its own thread count, fixed in the environment
that it is started with, because BLAS libraries read it when they are loaded.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

__all__ = ["available_memory", "cores", "replica_environment", "threads_in_force"]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def cores() -> int:
    """Return how many cores this process may use: its affinity, and the CPU quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return allowed


def available_memory() -> int:
    """Return the bytes of memory that can be taken now without swapping."""
    return psutil.virtual_memory().available


def replica_environment(threads: int) -> dict[str, str]:
    """Return the environment for a replica process with this number of kernel threads.

    Python finds the same modules there as here, so that a user's own layer next to a script is importable.
    """
    paths = [os.getcwd() if p == "" else p for p in sys.path]
    return {
        **os.environ,
        **{name: str(threads) for name in THREAD_VARIABLES},
        "PYTHONPATH": os.pathsep.join(paths),
        # workqueue, the fallback, aborts the process when two threads enter a parallel kernel.
        "NUMBA_THREADING_LAYER": os.environ.get("NUMBA_THREADING_LAYER", "omp"),
    }


def threads_in_force() -> dict[str, int]:
    """Return the thread count of every BLAS and OpenMP library that this process has loaded."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    pools = threadpool_info()
    return {f"{pool['internal_api']} ({Path(pool['filepath']).name})": pool["num_threads"] for pool in pools}
