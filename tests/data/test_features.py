"""x as a network takes it: on the scale of the training set, whatever its type; and not rounded before it is scaled."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.core.errors import DataError, DataWarning
from hogpour.data.load import Encoding, arrays, encoded, load, load_features

PIXELS = np.array([[0, 51, 255], [255, 0, 102], [7, 8, 9], [1, 0, 1]], np.uint8)
Y = [0, 1, 0, 1]
FRACTIONS = (PIXELS / np.float32(255)).tolist()
DIVIDED = "x holds int64; the training set held bytes, so it is divided by 255 as those were"


def on_bytes() -> Encoding:
    return arrays(PIXELS, Y, validation=0).encoding


@pytest.mark.parametrize("scale", ["none", "unit", "standard"])
def test_bytes_are_fractions_of_255_rounded_once(scale: Any) -> None:
    """In float64 and then rounded, or at once in float32: the same bits."""
    every = np.arange(256, dtype=np.uint8)[:, None]
    data = arrays(every, np.arange(256) % 2, scale=scale, validation=0)
    as_floats = arrays(every / 255.0, np.arange(256) % 2, scale=scale, validation=0)
    assert data.encoding.bytes is True
    assert as_floats.encoding.bytes is False
    assert data.train.x.tobytes() == as_floats.train.x.tobytes()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint64])
def test_integers_are_divided_like_the_bytes_of_the_training_set(dtype: Any) -> None:
    x = np.minimum(PIXELS, 127).astype(dtype)
    with pytest.warns(DataWarning, match=f"^here: x holds {x.dtype.name}; the training set held bytes"):
        assert encoded(x, on_bytes(), "here").tolist() == (np.minimum(PIXELS, 127) / np.float32(255)).tolist()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (PIXELS.astype(np.float32), "x holds float32 of 0 to 255"),
        (PIXELS.astype(np.float64) / 200, "x holds float64 of 0 to 1.275"),
        (PIXELS.astype(np.int64) * 2, "x holds int64 of 0 to 510"),
        (PIXELS.astype(np.int64) - 1, "x holds int64 of -1 to 254"),
        (PIXELS / 127.5 - 1, "x holds float64 of -1 to 1"),
    ],
)
def test_numbers_beyond_bytes_are_refused_where_the_training_set_held_bytes(x: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        encoded(x, on_bytes(), "here")
    assert str(error.value) == (
        f"here: {message}; the training set held bytes, which became 0..1: give bytes (uint8), or divide by 255"
    )


@pytest.mark.parametrize("x", [PIXELS, PIXELS / np.float32(255), PIXELS / 255.0, PIXELS > 127])
def test_bytes_fractions_and_masks_are_taken_where_the_training_set_held_bytes(x: Any) -> None:
    expected = (x if x.dtype != np.uint8 else PIXELS / np.float32(255)).astype(np.float32)
    assert encoded(x, on_bytes(), "here").tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.bool_])
def test_bytes_are_refused_where_the_training_set_held_none(dtype: Any) -> None:
    encoding = arrays(PIXELS.astype(dtype), Y, validation=0).encoding
    with pytest.raises(DataError) as error:
        encoded(PIXELS, encoding, "here")
    assert str(error.value) == (
        "here: x holds bytes (uint8), which would become 0..1; the training set did not: give numbers as they were "
        "there, such as x.astype(float) or x / 255"
    )


def test_a_model_file_of_before_takes_bytes_as_it_did() -> None:
    words = {key: value for key, value in on_bytes().to_dict().items() if key != "bytes"}
    encoding = Encoding.from_dict(words, {})
    assert encoding.bytes is None
    assert encoded(PIXELS, encoding, "here").tolist() == FRACTIONS
    assert encoded(PIXELS.astype(np.int64), encoding, "here").tolist() == PIXELS.tolist()


def test_files_of_every_format_are_on_the_scale_of_the_training_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "bytes.npz", x=PIXELS, y=Y)
    np.savez(tmp_path / "int64.npz", x=PIXELS.astype(np.int64), y=Y)
    np.savez(tmp_path / "float32.npz", x=PIXELS.astype(np.float32), y=Y)
    rows = [",".join(map(str, [*row, label])) for row, label in zip(PIXELS.tolist(), Y)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,c,y", *rows]))
    pairs = [" ".join([str(label), *(f"{i}:{v}" for i, v in enumerate(row, 1))]) for row, label in zip(PIXELS.tolist(), Y)]
    (tmp_path / "a.svm").write_text("\n".join(pairs))
    encoding = load("bytes.npz", base=tmp_path, validation=0).encoding
    with pytest.warns(DataWarning, match=DIVIDED):
        data = load("bytes.npz", "int64.npz", base=tmp_path)
    assert data.test is not None
    assert data.test.x.tolist() == FRACTIONS
    assert load_features("bytes.npz", encoding, base=tmp_path).x.tolist() == FRACTIONS
    for other in ("float32.npz", "a.csv", "a.svm"):
        with pytest.raises(DataError, match="the training set held bytes, which became"):
            load_features(other, encoding, base=tmp_path)
        with pytest.raises(DataError, match=r"bytes\.npz: x holds bytes"):
            load(other, "bytes.npz", base=tmp_path)


def test_a_model_is_asked_on_the_scale_of_its_training_set() -> None:
    job = hp.Job(data=None, model=[hp.Linear(2)])
    network = hp.Sequential(*job.model).network((3,))
    params = network.spec.zeros()
    network.init(params, np.random.default_rng(0))
    model = hp.Model(job, network, params, on_bytes())
    with pytest.warns(DataWarning, match=f"^model: {DIVIDED}"):
        assert model.scores(PIXELS.tolist()).tobytes() == model.scores(PIXELS).tobytes()
    with pytest.raises(DataError, match=r"^model: x holds float64 of 0 to 255; the training set held bytes"):
        model.scores(PIXELS.astype(float))


TIMES = np.arange(1_700_000_000, 1_700_000_064)


def written(folder: Path, name: str, x: np.ndarray) -> str:
    """Write 1-column examples to a file of the format of its name."""
    y = np.arange(len(x)) % 2
    if name.endswith(".csv"):
        text = "t,y\n" + "".join(f"{t},{label}\n" for t, label in zip(x.tolist(), y.tolist()))
    elif name.endswith(".svm"):
        text = "".join(f"{label} 1:{t}\n" for t, label in zip(x.tolist(), y.tolist()))
    else:
        np.savez(folder / name, x=x[:, None], y=y)
        return name
    (folder / name).write_text(text)
    return name


@pytest.mark.parametrize("scale", ["unit", "standard"])
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
@pytest.mark.parametrize("name", ["a.csv", "a.svm", "a.npz"])
def test_timestamps_are_scaled_before_they_are_rounded(tmp_path: Path, scale: Any, dtype: Any, name: str) -> None:
    data = load(written(tmp_path, name, TIMES.astype(dtype)), base=tmp_path, scale=scale, validation=0)
    scaled = (TIMES - TIMES.mean()) / TIMES.std() if scale == "standard" else (TIMES - TIMES[0]) / 63
    assert np.allclose(np.sort(data.train.x[:, 0]), scaled, rtol=1e-6)
    # As a model file keeps it.
    raw = io.BytesIO()
    np.savez(raw, **data.scaling.to_tensors())
    raw.seek(0)
    with np.load(raw) as tensors:
        encoding = Encoding.from_dict(data.encoding.to_dict(), tensors)
    again = load_features(name, encoding, base=tmp_path).x
    assert np.array_equal(np.sort(again[:, 0]), np.sort(data.train.x[:, 0]))
    assert np.array_equal(again, encoded(TIMES[:, None], encoding, "here"))


@pytest.mark.parametrize(
    ("x", "where"),
    [
        (TIMES, "lies between 1700000000 and 1700000063, where float32 has steps of 128"),
        (TIMES.astype(float), "lies between 1700000000 and 1700000063, where float32 has steps of 128"),
        (1000 + np.arange(64) / 2**16, "lies between 1000 and 1000.0009613037109, where float32 has steps of 6.10352e-05"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.npz"])
def test_what_falls_together_in_float32_without_scaling_has_a_word(tmp_path: Path, x: Any, where: str, name: str) -> None:
    column = "'t'" if name == "a.csv" else "0, counted from 0,"
    with pytest.warns(DataWarning) as warned:
        load(written(tmp_path, name, x), base=tmp_path, validation=0)
    (warning,) = warned
    assert str(warning.message) == (
        f'{tmp_path}/{name}: column {column} {where}: data.scale = "standard" keeps its values apart'
    )


@pytest.mark.parametrize("x", [np.arange(64) * 1000, np.linspace(-1, 1, 64), np.full(64, 1e9), TIMES.astype(np.float32)])
def test_what_float32_tells_apart_has_no_word(tmp_path: Path, x: Any) -> None:
    load(written(tmp_path, "a.npz", x), base=tmp_path, validation=0)
