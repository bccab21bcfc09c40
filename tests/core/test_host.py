"""What is asked of the machine: cores under an affinity and a quota, and the environment of a replica."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numba
import psutil
import pytest

from hogpour.core import host


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that says a container's CPU quota, on a machine of eight cores."""
    file = tmp_path / "cpu.max"
    monkeypatch.setattr(host, "_CGROUP", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return file


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("400000 100000\n", 4),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("nonsense\n", 8),
        ("", 8),
    ],
)
def test_cores_are_those_of_the_affinity_and_the_quota(text: str, cores: int, quota: Path) -> None:
    quota.write_text(text)
    assert host.cores() == cores


def test_without_a_quota_file_the_affinity_alone_counts(quota: Path) -> None:
    assert host.cores() == 8


def test_a_replica_has_its_own_thread_count_for_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    environment = host.replica_environment(3)
    assert {environment[name] for name in host.THREAD_VARIABLES} == {"3"}
    assert os.environ["OMP_NUM_THREADS"] == "64"


def test_a_replica_has_a_threading_layer_that_bears_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_THREADING_LAYER", raising=False)
    assert host.replica_environment(1)["NUMBA_THREADING_LAYER"] == "omp"
    monkeypatch.setenv("NUMBA_THREADING_LAYER", "tbb")
    assert host.replica_environment(1)["NUMBA_THREADING_LAYER"] == "tbb"


def test_a_replica_keeps_the_rest_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_OF_THE_USER", "kept")
    assert host.replica_environment(1)["SOMETHING_OF_THE_USER"] == "kept"


def test_a_replica_finds_modules_where_this_process_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The empty entry is the current folder, as it is now; a process started elsewhere must be told by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/some/where"])
    assert host.replica_environment(1)["PYTHONPATH"].split(os.pathsep) == [os.getcwd(), "/some/where"]


@pytest.mark.real
@pytest.mark.slow
def test_the_thread_count_is_in_force_in_a_process_that_has_the_environment() -> None:
    script = "from hogpour.core import host; assert set(host.threads_in_force().values()) == {1}, host.threads_in_force()"
    subprocess.run([sys.executable, "-c", script], env=host.replica_environment(1), check=True)


def test_available_memory_is_some_of_what_there_is() -> None:
    assert 0 < host.available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_what_was_freed_is_given_back() -> None:
    script = (
        "import psutil; from hogpour.core import host\n"
        "blocks = [b'x' * 100_000 for _ in range(500)]; last = [bytes(300) + b'x']; del blocks[:-1]\n"
        "kept = psutil.Process().memory_info().rss; host.give_memory_back()\n"
        "assert kept - psutil.Process().memory_info().rss > 40_000_000\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


NO_V1 = {
    "memory/memory.limit_in_bytes": "9223372036854771712\n", "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
}  # fmt: skip
"""Control groups of version 1 without a limit."""


def test_limits_of_control_groups_of_version_1_hold_cores_and_memory(limit: Path, quota: Path) -> None:
    (limit / "memory.current").unlink()
    for name, text in {"memory/memory.limit_in_bytes": "500000", "memory/memory.usage_in_bytes": "300000",
                       "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 1000\n", "cpu/cpu.cfs_quota_us": "300000",
                       "cpu/cpu.cfs_period_us": "100000"}.items():  # fmt: skip
        (limit / name).parent.mkdir(exist_ok=True)
        (limit / name).write_text(text)
    assert (host.available_memory(), host.cores()) == (201_000, 3)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a container's cgroup, on a machine with 1,000,000 bytes available."""
    monkeypatch.setattr(host, "_CGROUP", str(tmp_path))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    (tmp_path / "memory.current").write_text("300000\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "available"),
    [("max\n", 1_000_000), ("500000\n", 200_000), ("9000000\n", 1_000_000), ("200000\n", 0), ("nonsense\n", 1_000_000)],
)
def test_available_memory_ends_at_the_containers_limit(text: str, available: int, limit: Path) -> None:
    (limit / "memory.max").write_text(text)
    assert host.available_memory() == available


@pytest.mark.parametrize(
    ("stat", "available"), [("anon 50000\ninactive_file 250000\nslab 7\n", 450_000), ("anon 50000\n", 200_000), ("inactive_file", 200_000)]
)
def test_files_that_give_way_are_no_memory_in_use(stat: str, available: int, limit: Path) -> None:
    """Whoever had read a file of 3 GB in a container of 8 was refused the memory for its examples."""
    (limit / "memory.max").write_text("500000\n")
    (limit / "memory.stat").write_text(stat)
    assert host.available_memory() == available


def test_without_a_limit_the_machines_memory_counts(limit: Path) -> None:
    assert host.available_memory() == 1_000_000


@pytest.mark.parametrize(
    ("texts", "limits"),
    [
        ({}, {}),
        ({"memory.max": "max\n", "pids.max": "max\n", "cpu.max": "max 100000\n"}, {}),
        ({"memory.max": "1000\n", "pids.max": "20\n", "cpu.max": "150000 100000\n"}, {"memory": 1000, "processes": 20, "cores": 1.5}),
        ({"memory.max": "", "pids.max": "nonsense"}, {}),
        ({**NO_V1, "pids/pids.max": "max\n"}, {}),
        ({**NO_V1, "cpu/cpu.cfs_quota_us": "250000\n"}, {"cores": 2.5}),
        ({"cpu/cpu.cfs_quota_us": "250000\n"}, {}),
        ({"memory/memory.limit_in_bytes": "1000\n", "pids/pids.max": "20\n"}, {"memory": 1000, "processes": 20}),
        ({**NO_V1, "cpu/cpu.cfs_quota_us": "250000\n", "cpu.max": "150000 100000\n"}, {"cores": 1.5}),
    ],
)
def test_a_containers_limits_are_those_that_it_has(texts: dict[str, str], limits: dict[str, float], limit: Path) -> None:
    for name, text in texts.items():
        (limit / name).parent.mkdir(exist_ok=True)
        (limit / name).write_text(text)
    assert host.container_limits() == limits


# -- where kernels are kept ---------------------------------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user's cache and a folder for temporary files, both empty; numba's own setting comes back."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "cache"


def temporary(cache: Path) -> Path:
    return cache.parent / "temporary" / f"hogpour-{os.getuid()}"


def chosen() -> Path:
    host.set_kernel_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == numba.config.CACHE_DIR
    return Path(os.environ["NUMBA_CACHE_DIR"])


def test_kernels_are_kept_in_the_users_cache(cache: Path) -> None:
    folder = chosen()
    assert folder.parent == cache / "hogpour"
    assert re.fullmatch("kernels-[0-9a-f]{16}", folder.name)
    assert folder.is_dir()
    assert host.replica_environment(1)["NUMBA_CACHE_DIR"] == str(folder)


def test_a_folder_that_the_user_named_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/some/where")
    host.set_kernel_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == "/some/where"
    assert not cache.exists()


def test_the_folder_is_another_one_when_a_file_that_kernels_inline_changes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """numba looks at the kernel's own file: after a change of tile.py, linear.py ran the old tiles."""
    monkeypatch.setattr(host, "__file__", str(tmp_path / "core" / "host.py"))
    (tmp_path / "layers").mkdir()
    found = []
    for text in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "layers" / "tile.py").write_text(text)
        monkeypatch.setenv("NUMBA_CACHE_DIR", "")
        found.append(chosen())
    assert found[0] == found[2] != found[1]


def test_every_file_with_kernels_decides_on_the_folder() -> None:
    root = Path(host.__file__).parents[1]
    files = [path for path in root.rglob("*.py") if "njit" in path.read_text("utf-8")]
    assert {path.parent.relative_to(root).as_posix() for path in files} == set(host.KERNEL_FOLDERS)


def test_without_a_home_kernels_go_to_a_private_temporary_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(cache / "nobody"))
    assert chosen().parent == temporary(cache)
    assert stat.S_IMODE(temporary(cache).stat().st_mode) == 0o700
    assert not cache.exists()


def test_where_the_users_cache_cannot_be_made_the_temporary_folder_is_taken(cache: Path) -> None:
    cache.write_text("a file in the way")
    assert chosen().parent == temporary(cache)


@pytest.mark.parametrize("trap", ["open to others", "a link"])
def test_a_folder_that_others_may_have_filled_is_not_taken(trap: str, cache: Path) -> None:
    """numba loads and runs what lies there."""
    cache.write_text("a file in the way")
    if trap == "a link":
        (cache.parent / "elsewhere").mkdir(mode=0o700)
        temporary(cache).symlink_to(cache.parent / "elsewhere")
    else:
        temporary(cache).mkdir()
        temporary(cache).chmod(0o777)
    host.set_kernel_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == ""


LATE = """
import numpy as np, numba, os
from hogpour.layers.relu import relu_forward as early
from hogpour.core import host
host.set_kernel_cache()
from hogpour.layers.kernels.linear import add_bias as late
for kernel in (early, late):
    print(kernel.stats.cache_path.startswith(os.environ["NUMBA_CACHE_DIR"]))
late(np.zeros((2, 2), np.float32), np.zeros(2, np.float32))
print(len(os.listdir(late.stats.cache_path)) > 0, numba.config.CACHE_DIR == os.environ["NUMBA_CACHE_DIR"])
"""


@pytest.mark.real
@pytest.mark.slow
def test_set_late_the_folder_holds_for_kernels_defined_afterwards(cache: Path) -> None:
    environment = {name: value for name, value in host.replica_environment(1).items() if name != "NUMBA_CACHE_DIR"}
    end = subprocess.run([sys.executable, "-c", LATE], env=environment, check=True, capture_output=True, text=True)
    assert end.stdout.split() == ["False", "True", "True", "True"]


@pytest.mark.real
@pytest.mark.slow
def test_a_program_that_names_a_layer_has_the_folder_before_its_kernels(cache: Path) -> None:
    """``Node`` alone would be too late: the layers of its job are imported by then."""
    script = (
        "import hogpour as hp; hp.Linear; from hogpour.layers.kernels.linear import add_bias; print(add_bias.stats.cache_path)"
    )
    environment = {name: value for name, value in host.replica_environment(1).items() if name != "NUMBA_CACHE_DIR"}
    end = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert end.stdout.startswith(str(cache / "hogpour"))


@pytest.mark.real
@pytest.mark.slow
def test_the_doctor_names_the_folder_that_is_used(cache: Path) -> None:
    script = (
        "from hogpour.core import host; host.set_kernel_cache(); from hogpour.cli import doctor; print(doctor._kernel_cache())"
    )
    environment = {name: value for name, value in host.replica_environment(1).items() if name != "NUMBA_CACHE_DIR"}
    end = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert "verdict='ok'" in end.stdout
    assert str(cache / "hogpour") in end.stdout


@pytest.mark.real
@pytest.mark.slow
def test_reading_the_machine_is_cheap_to_import() -> None:
    script = "import sys; from hogpour.core import host; host.set_kernel_cache(); assert not {'numba', 'numpy', 'psutil'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], env=host.replica_environment(1), check=True)


INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ((1024, 4096), [(4096, 4096)]),
        ((1024, 1 << 30), [(1 << 16, 1 << 30)]),
        ((1024, INFINITE), [(1 << 16, INFINITE)]),
        ((4096, 4096), []),
        ((1 << 20, 1 << 20), []),
        ((INFINITE, INFINITE), []),
    ],
)
def test_as_many_files_may_be_open_as_the_user_may_have(
    limits: tuple[int, int], asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The soft limit was the end of a cluster at some 480 members, in silence."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, said: found.append(said))
    host.raise_descriptors()
    assert found == asked


@pytest.mark.parametrize(("most", "accepted"), [(40, 1), (140, 75), (1040, 750), (1 << 16, 4160)])
def test_connections_of_others_leave_room_for_files_and_replicas(most: int, accepted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that died could not be started again, and no snapshot be written, where connections had taken all."""
    monkeypatch.setattr(host, "most_descriptors", lambda: most)
    monkeypatch.setattr(host, "cores", lambda: 2)
    assert host.connections(4160) == accepted
