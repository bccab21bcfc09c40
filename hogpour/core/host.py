"""What the machine offers, how kernel threads are set, and where kernels are kept: cores, memory, BLAS and numba.

One of the two readers of the environment. A replica is a process with its own thread count, fixed in the environment
that it is started with, because BLAS libraries read it when they are loaded.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hogpour.core.errors import ConfigError, ResourceError

__all__ = ["available_memory", "check_descriptors", "connections", "container_limits", "cores", "descriptors",
           "explain", "give_memory_back", "most_descriptors", "open_standard_descriptors", "raise_descriptors",
           "replica_environment", "set_kernel_cache", "set_one_thread", "state_folder", "state_places",
           "threads_in_force"]  # fmt: skip

KERNEL_FOLDERS = (
    "algos/sweeps", "core/kernels", "data/kernels", "layers", "layers/kernels", "layers/losses", "net", "shm",
    "algos/lbfgs", "algos/optim", "algos/exchange", "algos/gate", "algos/correction", "server",
)  # fmt: skip
"""Where kernels, and what they inline, are written."""

_MOST_DESCRIPTORS = 1 << 16
"""That are asked for: more than a cluster takes, where a system allows a billion."""

_CGROUP = "/sys/fs/cgroup"
_LIMITS = (
    ("memory", "memory.max", ["memory/memory.limit_in_bytes"]),
    ("processes", "pids.max", ["pids/pids.max"]),
    ("cores", "cpu.max", ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]),
)
"""Name, file of version 2, files of version 1, where each kind of limit has a folder of its own."""
_NO_LIMIT = 1 << 62
"""As bytes, in version 1: whole pages that fit into 63 bits. A quota of no limit is -1 there."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def open_standard_descriptors() -> None:
    """Open /dev/null on what is closed of the descriptors 0, 1 and 2, as daemons are started.

    They would be given to the next file that is opened, such as shared memory: what a child process inherits as its
    standard input is another one, and libuv aborts where it is to close one of them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


def explain(error: OSError) -> str | None:
    """Return the line that says what the system refused: the file and why, or what there is too little of.

    None where it says neither: then nobody expected it.
    """
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}: this process may have {most_descriptors()}; raise it, such as by ulimit -n 1024"
    if error.errno in (errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}: look at the limits of this user (ulimit -a) and of this container"
    return None


def descriptors(replicas: int, members: int = 1) -> int:
    """Return how many open files a node needs.

    Args:
        replicas: of this node: their pipes and bells.
        members: nodes of the cluster, this one included: their connections, of which two may be made anew meanwhile.
    """
    return 32 + 4 * replicas + 4 * (members - 1)


def connections(n: int) -> int:
    """Return how many of ``n`` connections a node may accept: what it opens itself, files and connections to others,
    is to find room beside them."""
    return min(n, max(1, (most_descriptors() - descriptors(cores())) * 3 // 4))


def raise_descriptors() -> None:
    """Let this process have as many files open as its user may; the soft limit is for programs that use ``select``."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # a system with a smaller limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def check_descriptors(replicas: int = 0) -> None:
    """Raise ResourceError where a node could not open the files that it needs: some of its libraries abort then."""
    if (most := most_descriptors()) < (needed := descriptors(replicas)):
        whom = f" for {replicas} replica{'s' * (replicas > 1)}" if replicas else ""
        raise ResourceError(f"open files: this process may have {most}, {needed} are needed{whom}; raise it, such as "
                            f"by ulimit -n {max(1024, needed)}")  # fmt: skip


def most_descriptors() -> int:
    """Return how many files this process may have open."""
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def cores() -> int:
    """Return how many cores this process may use: its affinity, and the CPU quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, int(container_limits().get("cores", allowed))))


def available_memory() -> int:
    """Return the bytes of memory that can be taken now without swapping: the machine's, and its container's limit, to
    which files that were read a while ago count as used although they give way."""
    import psutil

    available: int = psutil.virtual_memory().available
    limit = container_limits().get("memory")
    used = _numbers("memory.current") or _numbers("memory/memory.usage_in_bytes")
    return max(0, min(available, int(limit) - used[0] + _idle_files())) if limit and used else available


def give_memory_back() -> None:
    """Give the system what this process has freed. The GNU library keeps it for later, arrays of up to 32 MB as well;
    others have no such call."""
    import ctypes

    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


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
    """Let evaluation in this process take one core, before BLAS is loaded; replicas get theirs from the supervisor.

    Raises:
        ConfigError: numba would not start with the number of threads in the environment.
    """
    if re.fullmatch(r"\s*(\+?0+|-[0-9]+)\s*", said := os.environ.get("NUMBA_NUM_THREADS", "")):
        raise ConfigError(f"NUMBA_NUM_THREADS = {said}, expected 1 or more, or no such variable")
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
    tried = []
    for folder in state_places():
        tried.append(str(folder))
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    raise ResourceError(f"no folder for this user's state: tried {', '.join(tried) or 'none'}; set XDG_STATE_HOME")


def state_places() -> list[Path]:
    """Return the folders that ``state_folder`` tries, in this order."""
    places = [os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("XDG_STATE_HOME", "")]
    home = _home()
    if os.path.isdir(home):
        places.append(os.path.join(home, ".local", "state"))
    return [Path(place, "hogpour") for place in places if os.path.isabs(place)]


def container_limits() -> dict[str, float]:
    """Return what a control group allows of "memory" (bytes), "processes" and "cores"; without what has no limit."""
    limits = {}
    for name, newer, older in _LIMITS:
        value, *period = _numbers(newer) or _numbers(*older) or [0]
        if 0 < value < _NO_LIMIT:
            limits[name] = value / period[0] if period else float(value)
    return limits


def _numbers(*files: str) -> list[int]:
    """Return the numbers in files of the control group; none where one is missing, or says "max"."""
    try:
        return [int(word) for file in files for word in Path(_CGROUP, file).read_text().split()]
    except (OSError, ValueError):
        return []


def _idle_files() -> int:
    """Return the bytes of files that count as the control group's memory, and give way first."""
    for file in ("memory.stat", "memory/memory.stat"):
        with suppress(OSError):
            text = Path(_CGROUP, file).read_text()
            return max(map(int, re.findall(r"^(?:total_)?inactive_file (\d+)$", text, re.MULTILINE)), default=0)
    return 0


def _cache_folders() -> Iterator[Path]:
    """The folders to try, the user's first."""
    given, home = os.environ.get("XDG_CACHE_HOME", ""), _home()
    if os.path.isabs(given):
        yield Path(given, "hogpour")
    elif os.path.isdir(home):
        yield Path(home, ".cache", "hogpour")
    import tempfile  # 4 ms, and seldom needed

    with suppress(FileNotFoundError):  # not one that can be written
        yield Path(tempfile.gettempdir(), f"hogpour-{os.getuid()}")


def _home() -> str:
    """The user's folder, as HOME says or, where that is not set or empty, the accounts of the system; or empty."""
    if os.environ.get("HOME"):
        return os.path.expanduser("~")
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


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
    import numpy  # noqa: F401
    from threadpoolctl import threadpool_info

    pools = threadpool_info()
    return {f"{pool['internal_api']} ({Path(pool['filepath']).name})": pool["num_threads"] for pool in pools}
