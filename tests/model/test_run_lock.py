"""The lock of a model file: one run has it, whoever comes second hears who, and it ends with its process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hogpour.core.errors import ResourceError
from hogpour.model import run_lock
from hogpour.model.disk import RealDisk


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "m.safetensors"


@pytest.fixture
def disk() -> Iterator[RealDisk]:
    disk = RealDisk()
    yield disk
    disk.unlock_all()


def test_the_second_run_hears_who_has_the_model_file(place: Path, disk: RealDisk) -> None:
    lock = run_lock.take(place, "process 7 on here", disk)
    assert lock is not None
    with pytest.raises(ResourceError) as error:
        run_lock.take(place, "process 8 on there", RealDisk())
    assert str(error.value) == (
        f"model file {place}: process 7 on here trains it, and two runs would overwrite each other's model and snapshots; "
        "wait for its end, or give this run another --model"
    )
    assert ResourceError.exit_code == 2
    disk.unlock(lock)
    assert list(place.parent.iterdir()) == [], "nothing is left"
    assert run_lock.take(place, "process 8 on there", disk) == lock


def test_two_names_of_one_snapshot_folder_have_one_lock(place: Path, disk: RealDisk) -> None:
    run_lock.take(place, "one", disk)
    with pytest.raises(ResourceError, match="one trains it"):
        run_lock.take(place.with_suffix(""), "two", RealDisk())
    run_lock.take(place.with_name("n.safetensors"), "another model", disk)


def test_a_holder_that_has_no_name_yet_and_one_that_moves_the_cursor_are_told_in_one_line(place: Path) -> None:
    assert ": another process trains it" in run_lock.held_by(place, b"")
    assert ": a\ufffd[2J trains it" in run_lock.held_by(place, b"a\x1b[2J")


def test_a_lock_whose_file_is_removed_while_it_is_opened_is_not_taken_for_one(place: Path, disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two would hold it: one the file without a name, the next the new one."""
    first = run_lock.take(place, "first", disk)
    assert first is not None
    there = os.open

    def opens(*arguments: object, **more: object) -> int:
        monkeypatch.setattr(os, "open", there)
        descriptor = there(*arguments, **more)  # type: ignore[arg-type]
        disk.unlock(first)
        return descriptor

    second = RealDisk()
    monkeypatch.setattr(os, "open", opens)
    run_lock.take(place, "second", second)
    with pytest.raises(ResourceError, match="second trains it"):
        run_lock.take(place, "third", disk)
    second.unlock_all()


def test_a_lock_whose_file_can_no_longer_be_removed_ends_all_the_same(place: Path, disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that had become read-only was all that a run said at its end, and not where its model is."""

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    lock = run_lock.take(place, "one", disk)
    assert lock is not None
    monkeypatch.setattr(Path, "unlink", unlink)
    disk.unlock(lock)
    second = RealDisk()
    assert run_lock.take(place, "two", second) == lock
    second.unlock_all()


@pytest.mark.parametrize(("code", "taken"), [(errno.ENOLCK, True), (errno.EOPNOTSUPP, True), (errno.EIO, False)])
def test_a_file_system_without_locks_is_no_reason_not_to_train(code: int, taken: bool, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    if taken:
        assert run_lock.take(place, "one", RealDisk()) is None
    else:
        with pytest.raises(ResourceError, match=r"m\.lock: cannot be made: Input/output error"):
            run_lock.take(place, "one", RealDisk())


@pytest.mark.real
def test_a_lock_ends_with_its_process(place: Path, disk: RealDisk) -> None:
    code = (
        "import sys; from pathlib import Path; from hogpour.model import disk, run_lock\n"
        "run_lock.take(Path(sys.argv[1]), 'the one that dies', disk.REAL); print('has it', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"has it\n"
        with pytest.raises(ResourceError, match="the one that dies trains it"):
            run_lock.take(place, "one", disk)
        other.kill()
    assert run_lock.take(place, "one", disk) is not None
