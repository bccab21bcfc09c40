"""What the machine offers, how kernel threads are set, and where kernels are kept: cores, memory, BLAS and numba.

One of the two readers of the environment. A replica is a process with its own thread count, fixed in the environment
that it is started with, because BLAS libraries read it when they are loaded.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from hogpour.core.errors import ResourceError

__all__ = ["available_memory", "cores", "replica_environment", "set_kernel_cache", "set_one_thread",
           "state_folder", "threads_in_force"]  # fmt: skip

KERNEL_FOLDERS = (
    "core/kernels", "layers", "layers/kernels", "layers/losses", "shm",
    "algos/lbfgs", "algos/optim", "algos/exchange", "algos/gate", "algos/correction",
)  # fmt: skip
"""Where kernels, and what they inline, are written."""

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
    """Return the bytes of memory that can be taken now without swapping: the machine's, and its container's limit.

    ``formats.base.need_memory`` looks at the machine's alone.
    """
    import psutil

    available: int = psutil.virtual_memory().available
    try:
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        return available
    return max(0, min(available, limit - used))


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


def set_one_thread() -> None:
    """Let evaluation in this process take one core, before BLAS is loaded; replicas get theirs from the supervisor."""
    for variable in THREAD_VARIABLES[:2]:
        os.environ.setdefault(variable, "1")


def set_kernel_cache() -> None:
    """Let numba keep compiled kernels in a folder of this version of the sources, unless the user has named one.

    numba compiles a kernel again when the kernel's own file has changed, not when a file that it inlines has, such as
    ``kernels/tile.py``; hence a folder for each state of all of them. It lies in the user's cache, so that a read-only
    package starts as well, or in a folder of this user among the temporary ones where there is no such cache. numba
    loads code from it: a folder that others can write is not taken. Where none can be had, numba chooses.

    To be called before numba is imported. Later it holds for kernels that are defined afterwards and for the processes
    started afterwards; those defined already stay where they were. Kernels of the user's own follow the same folder.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    for parent in _cache_folders():
        folder = parent / f"kernels-{_version_of_kernels()}"
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = parent.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
                continue
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            os.environ["NUMBA_CACHE_DIR"] = str(folder)
            if "numba" in sys.modules:
                sys.modules["numba"].config.CACHE_DIR = str(folder)
            return


def state_folder() -> Path:
    """Return the folder for what a user's processes on this machine share, private to that user; made if need be.

    Raises:
        ResourceError: there is none, and none can be made.
    """
    places = [os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("XDG_STATE_HOME", "")]
    home = os.path.expanduser("~")
    if os.path.isdir(home):
        places.append(os.path.join(home, ".local", "state"))
    tried = []
    for place in places:
        if not os.path.isabs(place):
            continue
        folder = Path(place, "hogpour")
        tried.append(str(folder))
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    raise ResourceError(f"no folder for this user's state: tried {', '.join(tried) or 'none'}; set XDG_STATE_HOME")


def _cache_folders() -> Iterator[Path]:
    """The folders to try, the user's first."""
    given, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")
    if os.path.isabs(given):
        yield Path(given, "hogpour")
    elif os.path.isdir(home):
        yield Path(home, ".cache", "hogpour")
    import tempfile  # 4 ms, and seldom needed

    yield Path(tempfile.gettempdir(), f"hogpour-{os.getuid()}")


def _version_of_kernels() -> str:
    """A digest of every file in ``KERNEL_FOLDERS``."""
    import hashlib

    digest = hashlib.blake2b(digest_size=8)
    for folder in KERNEL_FOLDERS:
        for path in sorted(Path(__file__).parents[1].joinpath(folder).glob("*.py")):
            text = path.read_bytes()
            digest.update(f"{path.name} {len(text)} ".encode() + text)
    return digest.hexdigest()


def threads_in_force() -> dict[str, int]:
    """Return the thread count of every BLAS and OpenMP library that this process has loaded."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    pools = threadpool_info()
    return {f"{pool['internal_api']} ({Path(pool['filepath']).name})": pool["num_threads"] for pool in pools}
