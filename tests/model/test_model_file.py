"""Model files: what is written is read back bit for bit, the old file survives a failed writing, damage is named."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import hogpour as hp
from hogpour.core import job as config
from hogpour.core.errors import ConfigError, LayoutError, ResourceError
from hogpour.core.job import DataConfig
from hogpour.data.load import Encoding, Scaling
from hogpour.layers.sequential import network_of
from hogpour.model import model_file
from hogpour.model.training_state import TrainingState

NAMES = ("setosa", "versicolor", "ünïcode")


def model_of(seed: int = 0) -> hp.Model:
    rng = np.random.default_rng(seed)
    job = hp.Job(
        data=DataConfig(train="iris.csv", scale="standard", ignore=("id",)),
        model=[hp.Linear(6), hp.Dropout(0.25), hp.Relu(), hp.Linear(3)],
        algorithm=hp.Hogwild(optimiser=hp.Momentum(0.05, weight_decay=1e-4), schedule=hp.BackOff(0.8)),
        epochs=7,
        batch=4,
        seed=11,
        save="somewhere.safetensors",
    )
    network = network_of(job, (5,))
    params = network.spec.zeros()
    network.init(params, rng)
    scaling = Scaling("standard", rng.normal(size=5).astype(np.float32), rng.normal(size=5).astype(np.float32))
    columns = ("a", "b", "c", "d", "e")
    return hp.Model(job, network, params, Encoding((5,), "labels", NAMES, scaling, "species", columns, numeric_labels=False))


def state_of(model: hp.Model) -> TrainingState:
    rows = {f"velocity.{k}": np.random.default_rng(k).normal(size=model.params.size).astype(np.float32) for k in (0, 1)}
    return TrainingState(tickets=17, pending=((15, 4), (16, 0)), steps=99, examples=396, n=120, block_replicas=2, rows=rows)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "m.safetensors")


@pytest.fixture
def stored(path: str) -> str:
    """The path of a whole model file with training state."""
    model = model_of()
    model_file.save(path, model, state_of(model))
    return path


def rewrite(path: str, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the description and the tensors of a model file as somebody with another program could."""
    with safe_open(path, framework="numpy") as file:
        meta = json.loads(file.metadata()["hogpour"])
    tensors = safetensors.numpy.load_file(path)
    change(meta, tensors)
    safetensors.numpy.save_file(tensors, path, {"hogpour": json.dumps(meta)})


# -- round trip -------------------------------------------------------------------------------------------------------


def test_a_model_is_read_back_bit_for_bit(stored: str) -> None:
    model, state = model_of(), state_of(model_of())
    got, params, got_state = model_file.load(stored)
    assert params.tobytes() == model.params.tobytes()
    assert got.network.spec == model.network.spec
    assert got.network.input_shape == (5,)
    assert config.job_to_dict(got.job) == config.job_to_dict(model.job)
    assert got.encoding.scaling.kind == "standard"
    assert got.encoding.scaling.offset.tobytes() == model.encoding.scaling.offset.tobytes()
    assert got.encoding.scaling.factor.tobytes() == model.encoding.scaling.factor.tobytes()
    assert replace(got.encoding, scaling=Scaling.none()).to_dict() == replace(model.encoding, scaling=Scaling.none()).to_dict()
    assert got_state is not None
    assert {name: row.tobytes() for name, row in got_state.rows.items()} == {
        name: row.tobytes() for name, row in state.rows.items()
    }
    assert replace(got_state, rows={}) == replace(state, rows={})


def test_a_file_that_was_read_is_written_again_byte_for_byte(stored: str, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    model_file.save(str(again), hp.Model.load(stored), model_file.load(stored)[2])
    assert again.read_bytes() == Path(stored).read_bytes()


def test_special_numbers_survive(path: str) -> None:
    model = model_of()
    model.params[:5] = [-0.0, 1e-45, 3.4e38, -3.4e38, 1.0]
    model_file.save(path, model, None)
    assert hp.Model.load(path).params.tobytes() == model.params.tobytes()


def test_a_file_without_training_state_has_none(path: str) -> None:
    model_file.save(path, model_of(), None)
    assert model_file.load(path)[2] is None


def test_other_programs_find_the_tensors_by_name(stored: str) -> None:
    with safe_open(stored, framework="numpy") as file:
        names = set(file.keys())
    linear = {f"{layer}.linear.{tensor}" for layer in (0, 3) for tensor in ("weight", "bias")}
    assert names == linear | {"scaling.offset", "scaling.factor", "optimiser.velocity.0", "optimiser.velocity.1"}


# -- writing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["safetensors.numpy.save", "os.fsync", "os.replace"])
def test_a_failed_writing_leaves_the_old_file_and_nothing_else(
    where: str, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path(stored).read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, fail)
    with pytest.raises(ResourceError) as error:
        model_file.save(stored, model_of(1), None)
    assert str(error.value) == f"model file {stored}: cannot be written: No space left on device"
    assert Path(stored).read_bytes() == before
    assert os.listdir(Path(stored).parent) == ["m.safetensors"]


def test_an_interrupted_writing_leaves_the_old_file_and_nothing_else(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path(stored).read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model_file.save(stored, model_of(1), None)
    assert Path(stored).read_bytes() == before
    assert os.listdir(Path(stored).parent) == ["m.safetensors"]


def test_whoever_reads_meanwhile_finds_a_whole_file(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment before the new file takes the old one's place, the old one is whole, and so is the new one."""
    seen = []
    move = os.replace

    def look(beside: Path, path: str) -> None:
        seen.extend([hp.Model.load(str(beside)), hp.Model.load(path)])
        move(beside, path)

    monkeypatch.setattr("os.replace", look)
    model_file.save(stored, model_of(1), None)
    assert [model.params.tobytes() for model in seen] == [model_of(1).params.tobytes(), model_of().params.tobytes()]
    assert hp.Model.load(stored).params.tobytes() == model_of(1).params.tobytes()


def test_a_file_gets_the_permissions_that_any_new_file_gets(stored: str, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert os.stat(stored).st_mode == os.stat(tmp_path / "plain").st_mode


def test_a_writable_place_is_found_writable_and_left_as_it_was(tmp_path: Path) -> None:
    model_file.check_writable(str(tmp_path / "m.safetensors"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none/m.safetensors", "model file {path}: there is no folder {folder}/none"),
        ("folder", "model file {path}: is a folder, expected a file name"),
        ("x" * 250, "model file {path}: cannot be written: File name too long"),
        ("x" * 300, "model file {path}: cannot be written: File name too long"),
    ],
)
def test_a_place_that_takes_no_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = str(tmp_path / name)
    with pytest.raises(ResourceError) as error:
        model_file.check_writable(path)
    assert str(error.value) == text.format(path=path, folder=tmp_path)
    assert os.listdir(tmp_path) == ["folder"]


def test_a_place_that_is_no_regular_file_is_named_and_left_alone(tmp_path: Path) -> None:
    """A run as root that was told to write to /dev/null replaced the device by a model file."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    for write in (lambda: model_file.check_writable(path), lambda: model_file.save(path, model_of(), None)):
        with pytest.raises(ResourceError) as error:
            write()
        assert str(error.value) == f"model file {path}: exists and is no regular file"
    assert stat.S_ISFIFO(os.stat(path).st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link_and_its_target_is_written(exists: bool, tmp_path: Path) -> None:
    """The link was replaced: the file on the large disk that it named kept the old model."""
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "target", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    model_file.check_writable(str(link))
    model_file.save(str(link), model_of(), None)
    assert link.readlink() == target
    assert hp.Model.load(str(target)).params.tobytes() == model_of().params.tobytes()
    assert os.listdir(tmp_path / "disk") == ["target"]


def test_a_link_into_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "none" / "target")
    with pytest.raises(ResourceError, match=f"^model file {link}: there is no folder {tmp_path}/none$"):
        model_file.check_writable(str(link))


def test_two_models_saved_at_once_by_one_process_do_not_share_a_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wrote to one temporary file, named after the process: the second renaming failed, or a mixture was kept."""
    move, moved = os.replace, []

    def save_another(beside: Path, to: str) -> None:
        moved.append(beside)
        if len(moved) == 1:
            model_file.save(path, model_of(1), None)
        move(beside, to)

    monkeypatch.setattr("os.replace", save_another)
    model_file.save(path, model_of(0), None)
    assert len(set(moved)) == 2
    assert hp.Model.load(path).params.tobytes() == model_of(0).params.tobytes()
    assert os.listdir(Path(path).parent) == ["m.safetensors"]


def test_what_dead_processes_left_beside_a_model_is_removed(path: str) -> None:
    """A node killed while it wrote leaves a file as large as the model, and another after each power cut."""
    folder, dead = Path(path).parent, subprocess.Popen(["true"])
    dead.wait()
    stays = [f".m.safetensors.{'9' * 30}.7.tmp", f".m.safetensors.{os.getpid()}.7.tmp", f".other.{dead.pid}.7.tmp", f".m.safetensors.{dead.pid}.old", "m"]
    for name in [*stays, f".m.safetensors.{dead.pid}.7.tmp"]:
        (folder / name).touch()
    model_file.check_writable(path)
    assert sorted(os.listdir(folder)) == sorted(stays)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_process_that_ends_at_once_removes_what_it_has_begun_to_write(
    elsewhere: bool, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that writes is cut off in the middle; a file as large as the model was left, of a name of safetensors' own."""
    (rescue := tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    model = model_of()
    model.job = replace(model.job, base=str(rescue))
    Path(path).write_bytes(b"old")
    half, ended = Event(), Event()
    monkeypatch.setattr("os.fsync", lambda file: (half.set(), ended.wait()))

    def files() -> list[str]:
        return [found.name for found in tmp_path.rglob("*") if found.is_file()]

    with ThreadPoolExecutor(2) as threads:
        work = threads.submit(model_file.save_elsewhere if elsewhere else model_file.save, path, model, None)
        half.wait()
        assert len(files()) == 2
        with model_file.nothing_half():
            assert files() == ["m.safetensors"]
            ended.set()
            assert not threads.submit(model_file._names.acquire, False).result()  # or it would name the file
        assert isinstance(work.exception(), ResourceError)  # its file is gone
    assert os.listdir(rescue) == []
    assert Path(path).read_bytes() == b"old"


# -- reading what is damaged --------------------------------------------------------------------------------------------


def refused(path: str) -> str:
    with pytest.raises(LayoutError) as error:
        model_file.load(path)
    text = str(error.value)
    assert text.startswith(f"model file {path}: ")
    return text.removeprefix(f"model file {path}: ")


def test_a_missing_file_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^model file .*m\.safetensors: no such file$"):
        model_file.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, b"\xff" * 8, (10**6).to_bytes(8, "little") + b"{}"])
def test_what_is_no_safetensors_file_is_refused(content: bytes, path: str) -> None:
    Path(path).write_bytes(content)
    assert refused(path).startswith("not a whole safetensors file: ")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_of_another_program_is_refused(metadata: dict[str, str] | None, path: str) -> None:
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, path, metadata)
    assert refused(path) == "not written by hogpour: it has no 'hogpour' in its metadata"


def set_meta(**words: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda meta, _: meta.update(words)


def set_training(**words: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda meta, _: meta["training"].update(words)


def set_tensor(name: str, array: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda _, tensors: tensors.update({name: array})


def set_encoding(**words: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda meta, _: meta["encoding"].update(words)


def without(key: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda meta, tensors: (meta if key in meta else meta["training"] if key in meta["training"] else tensors).pop(key)


DAMAGE: Mapping[str, tuple[Callable[[dict[str, Any], dict[str, Any]], None], str]] = {
    "another version": (set_meta(version=2), "has version 2, this hogpour reads 1"),
    "no version": (without("version"), "damaged: KeyError('version')"),
    "no job": (without("job"), "damaged: KeyError('job')"),
    "a job that is none": (set_meta(job=[1]), "damaged: "),
    "an unknown layer": (
        set_meta(job={"model": {"layers": [{"layer": "lineer", "units": 3}]}}),
        "its job: model.layers[0]: layer \"lineer\" is not known; did you mean 'linear'?",
    ),
    "layers that do not fit": (
        set_meta(job={"model": {"layers": [{"layer": "conv2d", "channels": 2, "kernel": 3}]}}),
        "model: layer 0.conv2d: expected an input of (channels, rows, columns), got (5,)",
    ),
    "another shape": (set_meta(input_shape=[6]), "its layers make spec "),
    "a shape that is none": (set_meta(input_shape="wide"), "damaged: "),
    "an enormous layer": (
        set_meta(job={"model": {"layers": [{"layer": "linear", "units": 10**15}]}}),
        "its layers make spec ",
    ),
    "another fingerprint": (set_meta(fingerprint="0" * 16), f"its layers make spec {model_of().network.spec.fingerprint}, it was written with 0000000000000000: another"),
    "no encoding": (without("encoding"), "damaged: KeyError('encoding')"),
    "an encoding that is none": (set_meta(encoding={"shape": [5]}), "encoding: does not say how the data were encoded"),
    "no scaling": (without("scaling.offset"), "scaling: the tensor 'offset' is missing"),
    "a scaling of another size": (
        lambda _, tensors: tensors.update({f"scaling.{name}": np.ones(4, np.float32) for name in ("offset", "factor")}),
        "scaling of 4 features, expected 5",
    ),
    "examples of another size": (set_encoding(shape=[2, 3]), "examples of shape (2, 3) in the files, (5,) in the network"),
    "too few label names": (set_encoding(label_names=["yes", "no"]), "2 label names, but 3 scores"),
    "values where there are labels": (set_encoding(targets="values"), "values in the files, its loss takes labels"),
    "no parameters": (without("0.linear.weight"), "0.linear.weight: got nothing, expected float32 (5, 6)"),
    "another type": (
        set_tensor("0.linear.bias", np.zeros(6)),
        "0.linear.bias: got float64 (6,), expected float32 (6,)",
    ),
    "another tensor shape": (
        set_tensor("0.linear.weight", np.zeros((6, 5), np.float32)),
        "0.linear.weight: got float32 (6, 5), expected float32 (5, 6)",
    ),
    "a short optimiser row": (
        set_tensor("optimiser.velocity.1", np.zeros(3, np.float32)),
        "optimiser row velocity.1: got float32 (3,), expected float32 (96,)",
    ),
    "an optimiser row of another type": (
        set_tensor("optimiser.velocity.1", np.zeros(96, np.int64)),
        "optimiser row velocity.1: got int64 (96,), expected float32 (96,)",
    ),
    "no steps": (without("steps"), "damaged: KeyError('steps')"),
    "steps that are no number": (set_training(steps="many"), "damaged: "),
    "steps below 0": (set_training(steps=-1), "steps = -1, expected 0 or more"),
    "no examples to train on": (set_training(n=0), "n = 0, expected 1 or more"),
    "no replicas": (set_training(block_replicas=0), "block_replicas = 0, expected 1 or more"),
    "pending blocks that are none": (set_training(pending=[[1, 2, 3]]), "damaged: "),
    "a pending block below 0": (set_training(pending=[[3, -4]]), "pending = ((3, -4),), expected tickets and positions of 0"),
    "steps that are infinite": (set_training(steps=float("inf")), "damaged: OverflowError"),
    "a training state that is none": (set_meta(training=[1, 2]), "damaged: "),
    "a description that is none": (lambda meta, _: meta.clear(), "damaged: KeyError('version')"),
}


@pytest.mark.robustness
@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(case: str, stored: str) -> None:
    change, expected = DAMAGE[case]
    rewrite(stored, change)
    text = refused(stored)
    assert text.startswith(expected)
    assert "\n" not in text


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"x"', "\x00", '{"version": 1}', "[" * 100_000])
def test_a_description_that_is_no_description_is_refused(text: str, path: str) -> None:
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, path, {"hogpour": text})
    refused(path)


def test_an_enormous_layer_is_refused_before_memory_is_taken_for_it(stored: str) -> None:
    """Somebody who knows how fingerprints are made can make a file of 1 kB that says it holds petabytes."""
    tables = {"model": {"layers": [{"layer": "linear", "units": 10**15}]}}
    fingerprint = network_of(config.job_from(tables, "test"), (5,)).spec.fingerprint
    rewrite(stored, set_meta(job=tables, fingerprint=fingerprint))
    assert refused(stored).startswith("0.linear.weight: got float32 (5, 6), expected float32 (5, 10000000000")


def test_a_number_type_that_numpy_does_not_have_is_refused(path: str) -> None:
    head = b'{"weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'
    Path(path).write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))
    refused(path)


# The same file for all examples of a property, written when first asked for.
WHOLE: dict[str, bytes] = {}


def whole(folder: Path) -> bytes:
    if not WHOLE:
        model = model_of()
        model_file.save(str(folder / "whole"), model, state_of(model))
        WHOLE["file"] = (folder / "whole").read_bytes()
    return WHOLE["file"]


@pytest.mark.robustness
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_a_file_that_was_cut_anywhere_is_refused(share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cut")
    content = whole(folder)
    path = folder / "m.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    refused(str(path))


@given(data=st.data())
@settings(max_examples=150)
def test_a_file_with_a_wrong_byte_is_read_or_refused_in_one_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A byte of a number makes another number; a byte of the description must not make a traceback."""
    folder = tmp_path_factory.mktemp("wrong")
    content = bytearray(whole(folder))
    head = 8 + int.from_bytes(content[:8], "little")
    place = data.draw(st.integers(0, head - 1), label="place")
    content[place] = data.draw(st.integers(0, 255), label="byte")
    path = folder / "m.safetensors"
    path.write_bytes(content)
    said = ""
    try:
        model_file.load(str(path))
    except LayoutError as error:
        said = str(error)
    assert said == "" or said.startswith("model file ")
    assert "\n" not in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["0.linear.weight", "3.linear.bias"])
def test_weights_that_are_not_finite_are_refused(name: str, value: float, stored: str) -> None:
    """The model predicted the first label for everything, with exit code 0."""

    def spoil(meta: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors[name].flat[1] = value

    rewrite(stored, spoil)
    assert refused(stored) == f"{name}: holds numbers that are not finite, with which nothing can be predicted"


def test_a_folder_that_may_not_be_entered_is_the_reason(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_file(place: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr(Path, "is_file", is_file)
    with pytest.raises(ConfigError, match=f"^model file {path}: Permission denied$"):
        model_file.load(path)


def test_a_model_that_its_place_does_not_take_is_written_in_the_jobs_folder_or_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, temporary = tmp_path / "job", tmp_path / "temporary"
    base.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    model = model_of()
    model.job = replace(model.job, base=str(base))
    for folder in (base, temporary):
        place = Path(model_file.save_elsewhere("gone/m.safetensors", model, None))
        assert (place.name, place.parents[1]) == ("m.safetensors", folder)
        assert (model_file.load(str(place))[1] == model.params).all()
        shutil.rmtree(folder)
    with pytest.raises(ResourceError, match="No such file or directory"):
        model_file.save_elsewhere("gone/m.safetensors", model, None)


def test_a_folder_with_less_room_than_a_run_writes_is_warned_of(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000))
    assert model_file.little_room(path, 2_000_000) == ""
    folder = os.path.dirname(path)
    assert model_file.little_room(path, 5_000_000) == (
        f"model file {path}: 2.0 MB are free in {folder}, this run writes up to 5.0 MB: make room, or give another --model"
    )


@pytest.mark.parametrize("use", [model_file.check_writable, model_file.load, lambda path: model_file.save(path, model_of(), None)])
@pytest.mark.parametrize(
    ("path", "text"),
    [(3, "model file = 3: expected str, got int"), (None, "model file = None: expected str, got None"),
     ("a\0b", "model file 'a\\x00b': no file has such a name"), (b"m", "model file = b'm': expected str, got bytes")],
)  # fmt: skip
def test_what_is_no_path_is_refused(path: Any, text: str, use: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigError) as error:
        use(path)
    assert str(error.value) == text


def test_a_path_may_be_one_of_pathlib(stored: str) -> None:
    assert hp.Model.load(Path(stored)).params.size  # type: ignore[arg-type]
