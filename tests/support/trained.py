"""Small whole files of every kind: data of each format, models that were trained on them, snapshots. Made in memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from support.robustness import files_of, lay

import hogpour as hp
from hogpour.core.shard_map import cut
from hogpour.data.load import load
from hogpour.layers.sequential import network_of
from hogpour.model import model_file
from hogpour.model.description import Description
from hogpour.model.snapshot import Meta, Writer
from hogpour.model.training_state import TrainingState

X = np.random.default_rng(0).integers(0, 255, (12, 2, 2)).astype(np.uint8)
Y = np.arange(12, dtype=np.uint8) % 3
FLAT = X.reshape(12, 4) / 8


def _npz() -> bytes:
    raw = io.BytesIO()
    np.savez(raw, x=FLAT, y=Y)
    return raw.getvalue()


def _npy() -> bytes:
    raw = io.BytesIO()
    np.save(raw, FLAT)
    return raw.getvalue()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


_CSV = "a,b,c,d,y\n" + "".join(f"{','.join(map(str, row))},{label}\n" for row, label in zip(FLAT, Y))
_SVM = "".join(f"{label} {' '.join(f'{k + 1}:{value}' for k, value in enumerate(row))}\n" for row, label in zip(FLAT, Y))
_IDX = idx(X)

DATA: Mapping[str, bytes] = {
    "a.csv": _CSV.encode(), "a.svm": _SVM.encode(), "a.npz": _npz(), "a.npy": _npy(), "images.idx3": _IDX,
    "a.csv.gz": gzip.compress(_CSV.encode(), mtime=0), "a.svm.xz": lzma.compress(_SVM.encode()), "a.csv.bz2": bz2.compress(_CSV.encode()),
    "a.npz.gz": gzip.compress(_npz(), mtime=0), "images.idx3.gz": gzip.compress(_IDX, mtime=0),
}  # fmt: skip
"""A data file of each format, by name; the same 12 examples of 3 labels."""

BESIDE = {"labels.idx1": idx(Y)}
"""What a data file needs beside it."""

MODEL, JOB = "m.safetensors", "job.toml"


def job(**changes: Any) -> hp.Job:
    settings = {
        "data": hp.DataConfig(train="a.csv", scale="standard", validation=0.0), "model": [hp.Linear(3)], "batch": 4,
        "algorithm": hp.Hogwild(optimiser=hp.Momentum(0.05)), "save": MODEL, "replicas": 1, "epochs": 2,
    }  # fmt: skip
    return hp.Job(**{**settings, **changes})


@cache
def model(name: str = "a.csv") -> bytes:
    """Return the model file of a run on this data file that was stopped within its first epoch."""
    name = {"a.npy": "a.npz"}.get(name, name)
    with TemporaryDirectory() as folder:
        lay({name: DATA[name], **BESIDE}, Path(folder))
        description, params = _described(job(data=hp.DataConfig(train=name, scale="standard", validation=0.0)), folder)
        rows = {"velocity.0": np.full(params.size, 0.5, np.float32)}
        state = TrainingState(tickets=1, pending=((0, 4),), steps=1, examples=4, n=12, block_replicas=1, rows=rows)
        made = hp.Model(description.job, description.network, params, description.encoding)
        model_file.save(f"{folder}/{MODEL}", made, state)
        return Path(folder, MODEL).read_bytes()


@cache
def snapshots() -> Mapping[str, bytes]:
    """Return the files of a folder of two snapshots."""
    with TemporaryDirectory() as folder:
        lay({"a.csv": DATA["a.csv"]}, Path(folder))
        description, params = _described(job(algorithm=hp.Downpour(optimiser=hp.Adagrad(0.05))), folder)
        meta = Meta(description, cut(params.size, 64), ("history",))
        writer = Writer(Path(folder, "m.snapshot"))
        for steps in (1, 2):
            writer.begin(meta)
            for k, (low, high) in enumerate(zip(meta.bounds, meta.bounds[1:])):
                writer.shard(k, params[low:high] + steps, [np.ones(high - low, np.float32)], clock=steps)
            writer.commit(TrainingState(tickets=2, pending=((0, 0), (1, 4)), steps=steps, examples=8, n=12, block_replicas=1))
        return {name: content for name, content in files_of(Path(folder)).items() if name != "a.csv"}


def _described(job: hp.Job, folder: str) -> tuple[Description, np.ndarray]:
    data = load(job.data.train, scale=job.data.scale, validation=0.0, base=folder)  # type: ignore[union-attr]
    network = network_of(job, data.train.shape)
    params = network.spec.zeros()
    network.init(params, np.random.default_rng(1))
    return Description(job, network, data.encoding), params
