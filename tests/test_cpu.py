"""What is asked of the machine: cores under an affinity and a quota, and the environment of a replica."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hogpour import cpu


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that says a container's CPU quota, on a machine of eight cores."""
    file = tmp_path / "cpu.max"
    monkeypatch.setattr(cpu, "Path", lambda path: file)
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
    assert cpu.cores() == cores


def test_without_a_quota_file_the_affinity_alone_counts(quota: Path) -> None:
    assert cpu.cores() == 8


def test_a_replica_has_its_own_thread_count_for_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    environment = cpu.replica_environment(3)
    assert {environment[name] for name in cpu.THREAD_VARIABLES} == {"3"}
    assert os.environ["OMP_NUM_THREADS"] == "64"


def test_a_replica_has_a_threading_layer_that_bears_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_THREADING_LAYER", raising=False)
    assert cpu.replica_environment(1)["NUMBA_THREADING_LAYER"] == "omp"
    monkeypatch.setenv("NUMBA_THREADING_LAYER", "tbb")
    assert cpu.replica_environment(1)["NUMBA_THREADING_LAYER"] == "tbb"


def test_a_replica_keeps_the_rest_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_OF_THE_USER", "kept")
    assert cpu.replica_environment(1)["SOMETHING_OF_THE_USER"] == "kept"


def test_a_replica_finds_modules_where_this_process_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The empty entry is the current folder, as it is now; a process started elsewhere must be told by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/some/where"])
    assert cpu.replica_environment(1)["PYTHONPATH"].split(os.pathsep) == [os.getcwd(), "/some/where"]


@pytest.mark.real
@pytest.mark.slow
def test_the_thread_count_is_in_force_in_a_process_that_has_the_environment() -> None:
    script = "from hogpour import cpu; assert set(cpu.threads_in_force().values()) == {1}, cpu.threads_in_force()"
    subprocess.run([sys.executable, "-c", script], env=cpu.replica_environment(1), check=True)


def test_available_memory_is_some_of_what_there_is() -> None:
    assert 0 < cpu.available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
