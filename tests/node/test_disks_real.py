"""Runs as processes, and the places that they write to: shared with another run, full, or read-only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Node, nodes

from hogpour.model import model_file, snapshot

pytestmark = [pytest.mark.real, pytest.mark.long]

JOB = """
[data]
train = "digits"
[model]
layers = [{{layer = "linear", units = 64}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "{name}"
[run]
epochs = {epochs}
replicas = 1
seed = {seed}
save_every_s = 60.0
"""

FOR_EVER = 1_000_000

Start = Callable[..., Node]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with nodes(tmp_path) as start:
        yield start


def job_file(folder: Path, name: str = "downpour", *, epochs: int = FOR_EVER, seed: int = 0) -> str:
    file = f"{name}-{epochs}-{seed}.toml"
    (folder / file).write_text(JOB.format(name=name, epochs=epochs, seed=seed))
    return file


@pytest.mark.parametrize("name", ["downpour", "hogwild"])
def test_a_second_run_in_one_folder_hears_who_is_there_and_touches_nothing(name: str, start: Start, tmp_path: Path) -> None:
    """Two runs once removed each other's snapshots, and the one went on from the other's."""
    port = ("--listen", "127.0.0.1:0") if name == "downpour" else ()
    one = start(job_file(tmp_path, name), *port)
    one.until_training()
    second = start(job_file(tmp_path, name, seed=1), *port)
    second.end(2)
    line = second.errors.strip()
    assert line.startswith(f"hogpour: model file {tmp_path}/model.safetensors: process {one.pid} on "), line
    assert "\n" not in line
    one.kill()
    third = start(job_file(tmp_path, name, epochs=1, seed=1), *port)
    assert third.end()["outcome"] == "finished", "the lock of a run that was killed is none"
    description, _, _ = model_file.load(str(tmp_path / "model.safetensors"))
    assert description.job.seed == 1
    if port:
        assert snapshot.read(tmp_path / "model.snapshot").meta.description.job.seed == 1
    assert [path.name for path in tmp_path.glob(".*")] == [], "no lock is left"


SMALL = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=$1,mode=0700 tmpfs "$2" || exit 77; shift 2; exec "$@"', "sh")
"""Begins a program in a mount namespace of its own, in which a folder is a small file system."""


def can_mount(folder: Path) -> bool:
    command = [*SMALL, "16k", str(folder), "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["downpour", "hogwild"])
def test_a_model_for_which_there_is_no_room_is_kept_elsewhere(name: str, start: Start, tmp_path: Path) -> None:
    """It was thrown away, with the exit code of bad input."""
    small, home = tmp_path / "small", tmp_path / "home"
    small.mkdir()
    home.mkdir()
    if not can_mount(small):
        pytest.skip("this user cannot mount a file system")
    port = ("--listen", "127.0.0.1:0") if name == "downpour" else ()
    job = tmp_path / "home" / job_file(tmp_path, name, epochs=1)
    (tmp_path / job.name).rename(job)
    node = start(str(job), "--model", str(small / "m.safetensors"), *port, prefix=(*SMALL, "16k", str(small)))
    node.end(1)
    warnings = [fields["text"] for fields in node.said if fields["event"] == "warning"]
    assert " MB are free in " in warnings[0]
    ends = [text.endswith("No space left on device; tried again for 10 s, then elsewhere") for text in warnings]
    assert sum(ends) == 1, f"a snapshot may fail after it, and is spoken of as well: {warnings}"
    place = Path(node.errors.strip().rpartition("it is in ")[2])
    assert place.parent.parent == home
    description, params, _ = model_file.load(str(place))
    assert params.any()
    assert description.job.epochs == 1
