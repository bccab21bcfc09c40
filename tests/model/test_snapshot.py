"""Snapshots: what was written is read back bit for bit under any cutting; whatever happens, a whole one is left."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hogpour as hp
from hogpour.core.errors import LayoutError, ResourceError
from hogpour.core.job import DataConfig, job_to_dict
from hogpour.core.progress import Notice
from hogpour.core.shard_map import cut
from hogpour.data.load import Encoding, Scaling
from hogpour.layers.sequential import network_of
from hogpour.model import snapshot as snapshot_file
from hogpour.model.description import Description
from hogpour.model.disk import REAL
from hogpour.model.snapshot import Meta, Snapshot, Writer, any_complete, folder_beside, read
from hogpour.model.training_state import TrainingState

Floats = npt.NDArray[np.float32]


def meta_of(*, largest_bytes: int = 128, scaled: bool = True, optimiser: Any = None) -> Meta:
    optimiser = optimiser or hp.Adam(0.05)
    job = hp.Job(
        data=DataConfig(train="iris.csv", scale="standard", ignore=("id",)),
        model=[hp.Linear(6), hp.Relu(), hp.Linear(3)],
        algorithm=hp.Hogwild(optimiser=optimiser),
        epochs=7,
        batch=4,
        seed=11,
        save="somewhere.safetensors",
    )
    network = network_of(job, (5,))
    rng = np.random.default_rng(1)
    offset, factor = rng.normal(size=(2, 5)).astype(np.float32)
    scaling = Scaling("standard", offset, factor) if scaled else Scaling.none()
    encoding = Encoding((5,), "labels", ("a", "b", "ünïcode"), scaling, "species", ("v", "w", "x", "y", "z"))
    return Meta(Description(job, network, encoding), cut(network.spec.n, largest_bytes), tuple(row.name for row in optimiser.state))


META = meta_of()
N, SHARDS = META.bounds[-1], len(META.bounds) - 1
STATE = TrainingState(tickets=17, pending=((15, 0), (16, 4)), steps=99, examples=396, n=120, block_replicas=2)


def vectors(seed: int, meta: Meta = META) -> list[Floats]:
    """Parameters and rows of a run at some moment."""
    return list(np.random.default_rng(seed).normal(size=(1 + len(meta.rows), meta.bounds[-1])).astype(np.float32))


def write(writer: Writer, seed: int, meta: Meta = META) -> Path:
    """Take a snapshot of ``vectors(seed)``."""
    params, *rows = vectors(seed, meta)
    writer.begin(meta)
    for k in range(len(meta.bounds) - 1):
        part = slice(meta.bounds[k], meta.bounds[k + 1])
        writer.shard(k, params[part], [row[part] for row in rows], clock=10 * seed + k)
    return writer.commit(replace(STATE, steps=seed))


def filled(snapshot: Snapshot, start: int = 0, stop: int | None = None) -> tuple[list[bytes], int]:
    """A range of all vectors as bytes, and its clock."""
    size = (snapshot.meta.bounds[-1] if stop is None else stop) - start
    params, rows = np.zeros(size, np.float32), {name: np.zeros(size, np.float32) for name in snapshot.meta.rows}
    clock = snapshot.fill(params, rows, start=start)
    return [params.tobytes(), *(rows[name].tobytes() for name in snapshot.meta.rows)], clock


def seed_of(snapshot: Snapshot) -> int:
    """Which moment it is of; every byte is looked at."""
    seed = snapshot.state.steps
    assert filled(snapshot)[0] == [vector.tobytes() for vector in vectors(seed, snapshot.meta)]
    assert snapshot.clocks == tuple(10 * seed + k for k in range(len(snapshot.meta.bounds) - 1))
    return seed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "m.snapshot"


@pytest.fixture
def writer(folder: Path) -> Writer:
    return Writer(folder)


# -- round trip -------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_read_back_bit_for_bit(writer: Writer, folder: Path) -> None:
    place = write(writer, 3)
    got = read(folder)
    assert (got.folder, seed_of(got), got.notices) == (place, 3, ())
    assert job_to_dict(got.meta.description.job) == job_to_dict(META.description.job)
    assert got.meta.description.to_dict() == META.description.to_dict()
    assert (got.meta.bounds, got.meta.rows) == (META.bounds, META.rows)
    assert got.meta.description.encoding.to_dict() == META.description.encoding.to_dict()
    assert got.meta.description.encoding.scaling.offset.tobytes() == META.description.encoding.scaling.offset.tobytes()
    assert got.meta.description.encoding.scaling.factor.tobytes() == META.description.encoding.scaling.factor.tobytes()
    assert got.state == replace(STATE, steps=3)


@pytest.mark.parametrize("optimiser", [hp.Sgd(0.1), hp.Adagrad(0.1), hp.Adam(0.1)])
def test_there_are_as_many_rows_as_the_optimiser_has(writer: Writer, folder: Path, optimiser: Any) -> None:
    write(writer, 2, meta_of(optimiser=optimiser, scaled=False))
    got = read(folder)
    assert (seed_of(got), len(got.meta.rows)) == (2, len(optimiser.state))
    assert got.meta.description.encoding.scaling.kind == "none"


@pytest.mark.slow
@given(st.integers(1, N // 16), st.integers(1, N // 16))
@settings(max_examples=20)
def test_any_cutting_is_filled_from_any_other(tmp_path_factory: pytest.TempPathFactory, then: int, now: int) -> None:
    folder = tmp_path_factory.mktemp("run") / "m.snapshot"
    meta = meta_of(largest_bytes=64 * then)
    write(Writer(folder), 4, meta)
    snapshot, bounds = read(folder), cut(N, 64 * now)
    parts = [filled(snapshot, low, high)[0] for low, high in pairwise(bounds)]
    assert [b"".join(part) for part in zip(*parts)] == [vector.tobytes() for vector in vectors(4, meta)]


def test_the_clock_of_a_range_is_the_greatest_of_the_shards_that_it_was_cut_from(writer: Writer, folder: Path) -> None:
    write(writer, 3)
    snapshot, bounds = read(folder), META.bounds
    assert [filled(snapshot, bounds[k], bounds[k + 1])[1] for k in range(SHARDS)] == list(snapshot.clocks)
    assert filled(snapshot, bounds[0], bounds[1] + 1)[1] == 31
    assert filled(snapshot)[1] == 30 + SHARDS - 1


def test_special_numbers_survive(writer: Writer, folder: Path) -> None:
    meta = meta_of(optimiser=hp.Sgd(0.1), largest_bytes=4 * N)
    params = np.zeros(N, np.float32)
    params[:5] = [-0.0, 1e-45, 3.4e38, np.inf, np.nan]
    writer.begin(meta)
    writer.shard(0, params, [], 0)
    writer.commit(STATE)
    assert filled(read(folder))[0] == [params.tobytes()]


def test_a_shard_may_be_written_again_before_the_commit(writer: Writer, folder: Path) -> None:
    params, *rows = vectors(1)
    writer.begin(META)
    for clock in (1, 2):
        for k in range(SHARDS):
            part = slice(META.bounds[k], META.bounds[k + 1])
            writer.shard(k, clock * params[part], [row[part] for row in rows], clock)
    writer.commit(STATE)
    assert read(folder).clocks == (2,) * SHARDS
    assert filled(read(folder))[0][0] == (2 * params).tobytes()


def test_the_folder_lies_beside_the_model_file() -> None:
    assert folder_beside("runs/model.safetensors") == Path("runs/model.snapshot")
    assert folder_beside("model") == Path("model.snapshot")
    assert folder_beside("m.snapshot") == Path("m.snapshot.snapshot")


# -- which ones are kept ----------------------------------------------------------------------------------------------


def test_the_two_newest_are_kept(writer: Writer, folder: Path) -> None:
    for seed in (1, 2, 3, 4):
        write(writer, seed)
    assert sorted(os.listdir(folder)) == ["3", "4"]
    assert seed_of(read(folder)) == 4


def test_what_was_not_finished_is_removed_by_the_next_and_its_number_is_not_used_again(writer: Writer, folder: Path) -> None:
    write(writer, 1)
    writer.begin(META)
    assert sorted(os.listdir(folder)) == ["1", "2"]
    place = write(Writer(folder), 3)  # of the next run: the other was killed
    assert sorted(os.listdir(folder)) == ["1", "3"]
    assert place == folder / "3"


def test_a_snapshot_that_is_given_up_leaves_nothing(writer: Writer, folder: Path) -> None:
    writer.begin(META)
    writer.abandon()
    writer.abandon()
    assert os.listdir(folder) == []
    writer.begin(META)
    writer.begin(META)
    assert len(os.listdir(folder)) == 1


def test_files_of_others_are_left_alone(writer: Writer, folder: Path) -> None:
    folder.mkdir()
    for name in ("notes.txt", "0", "07", "old"):
        (folder / name).mkdir()
    for seed in (1, 2, 3):
        write(writer, seed)
    assert sorted(os.listdir(folder)) == ["0", "07", "2", "3", "notes.txt", "old"]


def test_commit_without_every_shard_is_a_bug(writer: Writer, folder: Path) -> None:
    writer.begin(META)
    params, *rows = (vector[: META.bounds[1]] for vector in vectors(1))
    writer.shard(0, params, rows, clock=0)
    with pytest.raises(AssertionError, match=f"1 of {SHARDS} shards were written"):
        writer.commit(STATE)
    with pytest.raises(LayoutError):
        read(folder)


# -- killed, torn, damaged --------------------------------------------------------------------------------------------


SMALL = meta_of(optimiser=hp.Sgd(0.1), largest_bytes=1 << 20, scaled=False)


@pytest.mark.long
def test_a_writer_killed_at_any_line_leaves_a_whole_snapshot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child is killed (``os._exit``: nothing is cleaned up) before every line of the file that it reaches."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    newest: list[int] = []
    survived = False
    while not survived:
        if not newest or newest[-1] == 3:
            for path in folder.iterdir() if newest else ():
                snapshot_file._remove(REAL, path)
            write(Writer(folder), 1, SMALL)
            write(Writer(folder), 2, SMALL)
        survived = killed_at(len(newest), folder)
        newest.append(seed_of(read(folder)))
        assert newest[-1] in (2, 3)
    assert newest == sorted(newest)  # the snapshot counts from one line on
    assert newest.count(2) > 50
    assert newest.count(3) > 10
    assert len(os.listdir(folder)) == 2


def killed_at(line: int, folder: Path) -> bool:
    """Write snapshot 3 in a child that ends before the given line; whether it came to its end instead."""
    child = os.fork()
    if child == 0:
        reached = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal reached
            if frame.f_code.co_filename != snapshot_file.__file__:
                return None
            if event == "line":
                if reached == line:
                    os._exit(9)
                reached += 1
            return trace

        try:
            sys.settrace(trace)
            write(Writer(folder), 3, SMALL)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 0


def damaged_newest(folder: Path, damage: Callable[[Path], None]) -> tuple[Notice, ...]:
    """Damage the second of two snapshots; the first is read, and what is said is returned."""
    writer = Writer(folder)
    write(writer, 1)
    damage(write(writer, 2))
    got = read(folder)
    assert seed_of(got) == 1
    return got.notices


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "scaling.safetensors"])
def test_a_file_with_a_wrong_bit_makes_the_older_snapshot_count(folder: Path, name: str) -> None:
    said = damaged_newest(folder, lambda place: flip(place / name, -3))
    text = f"snapshot {folder / '2'}: {name}: damaged: it does not have the digest that was written; 1 is used"
    assert said == (Notice("warning", text),)


def test_a_file_that_was_cut_off_makes_the_older_snapshot_count(folder: Path) -> None:
    said = damaged_newest(folder, lambda place: os.truncate(place / "shard-00000.safetensors", 100))
    assert "shard-00000.safetensors: damaged" in said[0].text


def test_a_file_that_is_missing_makes_the_older_snapshot_count(folder: Path) -> None:
    said = damaged_newest(folder, lambda place: (place / "shard-00000.safetensors").unlink())
    assert said[0].text == f"snapshot {folder / '2'}: shard-00000.safetensors: No such file or directory; 1 is used"


def test_a_manifest_that_was_cut_off_makes_the_older_snapshot_count(folder: Path) -> None:
    said = damaged_newest(folder, lambda place: os.truncate(place / "manifest.json", 100))
    assert said[0].text.startswith(f"snapshot {folder / '2'}: damaged: JSONDecodeError(")


def test_a_manifest_with_a_wrong_number_makes_the_older_snapshot_count(folder: Path) -> None:
    def damage(place: Path) -> None:
        text = (place / "manifest.json").read_text()
        assert '"tickets": 17' in text
        (place / "manifest.json").write_text(text.replace('"tickets": 17', '"tickets": 16'))

    said = damaged_newest(folder, damage)
    assert said[0].text == f"snapshot {folder / '2'}: manifest.json: damaged: it does not have its own digest; 1 is used"


def test_a_snapshot_without_a_manifest_does_not_count(folder: Path) -> None:
    said = damaged_newest(folder, lambda place: (place / "manifest.json").unlink())
    assert said[0].text == f"snapshot {folder / '2'}: was not finished; 1 is used"


@pytest.mark.slow
@given(st.data())
@settings(max_examples=40)
def test_any_wrong_bit_anywhere_is_found_or_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run") / "m.snapshot"
    place = write(Writer(folder), 2)
    path = data.draw(st.sampled_from(sorted(place.iterdir())))
    bytes_ = bytearray(path.read_bytes())
    bytes_[data.draw(st.integers(0, len(bytes_) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes_)
    try:
        got = read(folder)
    except LayoutError:
        return
    assert seed_of(got) == 2
    assert got.state == replace(STATE, steps=2)
    assert job_to_dict(got.meta.description.job) == job_to_dict(META.description.job)


def rewrite(place: Path, **change: Any) -> None:
    """Change what a manifest says as somebody with another program could."""
    told = json.loads((place / "manifest.json").read_text())
    told["snapshot"] |= change
    told["digest"] = snapshot_file._digest(snapshot_file._canonical(told["snapshot"]))
    (place / "manifest.json").write_text(json.dumps(told))


@pytest.mark.parametrize(("change", "said"), [
    ({"version": 2}, "has version 2, this hogpour reads 1"),
    ({"fingerprint": "0" * 16}, f"its layers make spec {META.description.network.spec.fingerprint}, it was written with {'0' * 16}: another version of a layer?"),
    ({"bounds": [0, 16]}, f"its shards hold 16 elements, its layers make {N}"),
    ({"rows": None}, "rows = None: expected array, got None"),
    ({"clocks": [1]}, "its shards begin and end at (0, 3"),
    ({"digests": {}}, "scaling: the tensor 'offset' is missing"),
])  # fmt: skip
def test_a_manifest_that_does_not_fit_is_named(folder: Path, change: dict[str, Any], said: str) -> None:
    rewrite(write(Writer(folder), 1), **change)
    with pytest.raises(LayoutError) as caught:
        read(folder)
    assert str(caught.value).startswith(f"snapshot {folder}: none is there that can be used: 1: {said}")


def test_without_any_snapshot_there_is_an_error_with_every_reason(folder: Path, writer: Writer) -> None:
    with pytest.raises(LayoutError) as caught:
        read(folder)
    assert str(caught.value) == f"snapshot {folder}: none is there that can be used"
    flip(write(writer, 1) / "shard-00000.safetensors", 0)
    writer.begin(META)
    with pytest.raises(LayoutError) as caught:
        read(folder)
    assert str(caught.value) == (
        f"snapshot {folder}: none is there that can be used: 2: was not finished; "
        "1: shard-00000.safetensors: damaged: it does not have the digest that was written"
    )


def test_a_run_goes_on_by_itself_only_from_what_was_finished(folder: Path, writer: Writer) -> None:
    """A first start that is killed before its first snapshot begins anew; what cannot be read is not passed over."""
    assert not any_complete(folder)
    writer.begin(META)
    assert not any_complete(folder)
    write(writer, 1)
    assert any_complete(folder)
    shutil.rmtree(folder)
    folder.write_text("")
    assert any_complete(folder)


def test_a_file_in_the_place_of_the_folder_is_named(folder: Path, writer: Writer) -> None:
    folder.write_text("")
    with pytest.raises(LayoutError, match=f"^snapshot {folder}: m.snapshot: Not a directory$"):
        read(folder)
    with pytest.raises(ResourceError, match=f"^snapshot {folder}: cannot be written: File exists$"):
        writer.begin(META)


def test_other_rows_than_were_written_are_refused(writer: Writer, folder: Path) -> None:
    write(writer, 1)
    with pytest.raises(LayoutError) as caught:
        read(folder).fill(np.zeros(N, np.float32), {"velocity": np.zeros(N, np.float32)})
    assert str(caught.value) == f"snapshot {folder / '1'}: holds optimiser rows mean, mean_square; velocity are needed"


def test_a_file_that_was_damaged_since_it_was_checked_is_refused(writer: Writer, folder: Path) -> None:
    place = write(writer, 1)
    got = read(folder)
    flip(place / "shard-00001.safetensors", -1)
    with pytest.raises(LayoutError) as caught:
        filled(got)
    assert str(caught.value) == (
        f"snapshot {place}: shard-00001.safetensors: damaged: it does not have the digest that was written"
    )


def test_shards_of_another_size_than_the_cutting_says_are_refused(writer: Writer, folder: Path) -> None:
    place = write(writer, 1)
    rewrite(place, bounds=[0, 16, *META.bounds[2:]])
    with pytest.raises(LayoutError) as caught:
        filled(read(folder))
    size = META.bounds[1]
    assert str(caught.value) == (
        f"snapshot {place}: shard-00000.safetensors: params: got float32 ({size},), expected float32 (16,)"
    )


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_at_whatever_write_and_leaves_the_older_snapshot(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Writer(folder), 1)
    left, real = 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left -= 1
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    writer = Writer(folder)
    for count in range(SHARDS + 2 + 4):  # each file, and four times a folder
        left = count
        with pytest.raises(ResourceError) as caught:
            write(writer, 2)
        assert str(caught.value) == f"snapshot {folder}: cannot be written: No space left on device"
        assert os.listdir(folder) == ["1"]
        assert seed_of(read(folder)) == 1
    left = count + 1
    write(writer, 2)
    assert seed_of(read(folder)) == 2


def test_a_manifest_that_cannot_get_its_name_leaves_the_older_snapshot(
    folder: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(writer, 1)

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(ResourceError, match=r"cannot be written: Input/output error$"):
            write(writer, 2)
    assert os.listdir(folder) == ["1"]
    assert (seed_of(read(folder)), write(writer, 3).name) == (1, "2")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
def test_a_writer_that_is_interrupted_leaves_nothing_half(
    folder: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def interrupt(descriptor: int) -> None:
        raise kind

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(kind):
            write(writer, 1)
    assert os.listdir(folder) == []


def test_everything_is_on_the_disk_before_the_manifest_has_its_name_and_only_then_an_older_one_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(folder)
    write(writer, 1)
    write(writer, 2)
    said: list[str] = []
    fsync, replace_, remove = os.fsync, os.replace, snapshot_file._remove

    def say(event: str, path: Any) -> None:
        said.append(f"{event} {os.path.relpath(path, folder)}")

    monkeypatch.setattr(os, "fsync", lambda fd: (say("sync", os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (say("rename", b), replace_(a, b)))
    monkeypatch.setattr(snapshot_file, "_remove", lambda disk, place: (say("remove", place), remove(disk, place)))
    write(writer, 3)
    shards = [f"sync 3/shard-{k:05d}.safetensors" for k in range(SHARDS)]
    assert said == [
        "sync 3/scaling.safetensors", *shards, "sync 3/manifest.json.tmp", "sync 3", "rename 3/manifest.json", "sync 3",
        "sync .", "sync ..", "sync 2", "remove 1", "sync 1",
    ]  # fmt: skip


def test_an_older_one_that_cannot_be_removed_fails_nothing_and_is_removed_later(
    folder: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        write(writer, seed)

    def refuse(*arguments: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        write(writer, 3)
        assert seed_of(read(folder)) == 3
        assert sorted(os.listdir(folder)) == ["1", "2", "3"]
    write(writer, 4)
    assert sorted(os.listdir(folder)) == ["3", "4"]


def test_a_torn_one_that_cannot_be_removed_is_left_alone(
    folder: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.begin(META)

    def refuse(*arguments: Any, **more: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        write(Writer(folder), 2)
    assert (sorted(os.listdir(folder)), seed_of(read(folder))) == (["1", "2"], 2)


def test_a_commit_that_cannot_look_for_older_ones_is_one(
    folder: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, *rows = vectors(1, SMALL)
    writer.begin(SMALL)
    writer.shard(0, params, rows, clock=10)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        writer.commit(replace(STATE, steps=1))
    assert seed_of(read(folder)) == 1


def test_one_that_is_half_removed_is_not_taken_for_a_damaged_one(
    folder: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        write(writer, seed)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda place, ignore_errors: None)  # killed here
        write(writer, 3)
    for number in (2, 3):
        flip(folder / str(number) / "shard-00000.safetensors", 0)
    with pytest.raises(LayoutError, match=r"1: was not finished$"):
        read(folder)
