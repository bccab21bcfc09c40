"""Model files: safetensors with the parameters by name, and what is needed to go on training.

A file is written beside its place and renamed over it, so that whoever looks finds the old file or the new one, whole.
Nothing in it is code: tensors, and one JSON text. Without training state (a diverged run, an exported model) a file
predicts but does not resume.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.config import Job, job_from, job_to_dict
from hogpour.data import Encoding
from hogpour.errors import ConfigError, LayoutError, ResourceError
from hogpour.model import Model
from hogpour.replica import network_of

__all__ = ["TrainingState", "check_writable", "load", "save"]

_VERSION = 1
_KEY = "hogpour"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run stands, so that another can go on."""

    tickets: int
    """Blocks handed out so far."""
    pending: tuple[tuple[int, int], ...]
    """(ticket, examples done) of the blocks that were under way."""
    steps: int
    """Gradients applied so far."""
    examples: int
    n: int
    """Training examples; with batch and block_replicas it decides the blocks."""
    block_replicas: int
    rows: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Optimiser rows by name in the live segment, such as ``velocity.0``; (n,) each."""


def check_writable(path: str) -> None:
    """Raise ResourceError where a model file could not be written later."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise ResourceError(f"model file {path}: there is no folder {folder}")
    if Path(path).is_dir():
        raise ResourceError(f"model file {path}: is a folder, expected a file name")
    probe = _beside(path)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"model file {path}: cannot be written: {error.strerror}") from error


def save(path: str, model: Model, state: TrainingState | None) -> None:
    """Write a model file atomically.

    Raises:
        ResourceError: the disk is full or the place not writable; the old file is still there.
    """
    from safetensors.numpy import save_file

    meta: dict[str, Any] = {
        "version": _VERSION,
        "job": job_to_dict(model.job),
        "input_shape": model.network.input_shape,
        "fingerprint": model.network.spec.fingerprint,
        "encoding": model.encoding.to_dict(),
    }
    tensors = dict(model.network.spec.views(model.params))
    tensors |= {f"scaling.{name}": array for name, array in model.encoding.scaling.to_tensors().items()}
    if state is not None:
        meta["training"] = {
            "tickets": state.tickets,
            "pending": state.pending,
            "steps": state.steps,
            "examples": state.examples,
            "n": state.n,
            "block_replicas": state.block_replicas,
        }
        tensors |= {f"optimiser.{name}": row for name, row in state.rows.items()}
    beside = _beside(path)
    try:
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, beside, {_KEY: json.dumps(meta)})
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except Exception as error:
        with suppress(OSError):
            beside.unlink()
        reason = error.strerror if isinstance(error, OSError) else error
        raise ResourceError(f"model file {path}: cannot be written: {reason}") from error


def load(path: str) -> tuple[Model, TrainingState | None]:
    """Read a model file.

    Raises:
        ConfigError: there is no such file.
        LayoutError: not a model file, damaged, or its tensors do not fit its own description.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise ConfigError(f"model file {path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            meta = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise LayoutError(f"model file {path}: not a whole safetensors file: {error}") from error
    except KeyError:
        raise LayoutError(f"model file {path}: not written by hogpour: it has no {_KEY!r} in its metadata") from None
    try:
        return _model_of(path, meta, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise LayoutError(f"model file {path}: damaged: {error!r}") from error


def _model_of(
    path: str, meta: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]
) -> tuple[Model, TrainingState | None]:
    if meta["version"] != _VERSION:
        raise LayoutError(f"model file {path}: has version {meta['version']}, this hogpour reads {_VERSION}")
    job: Job = job_from(meta["job"], f"model file {path}")
    network = network_of(job, tuple(meta["input_shape"]))
    spec = network.spec
    if spec.fingerprint != meta["fingerprint"]:
        raise LayoutError(f"model file {path}: its layers make spec {spec.fingerprint}, the file was written with "
                          f"{meta['fingerprint']}: another version of a layer?")  # fmt: skip
    params = spec.zeros()
    for tensor in spec.tensors:
        stored = tensors.get(tensor.name)
        if stored is None or stored.shape != tensor.shape or stored.dtype != np.float32:
            found = "nothing" if stored is None else f"{stored.dtype} {stored.shape}"
            raise LayoutError(f"model file {path}: {tensor.name}: got {found}, expected float32 {tensor.shape}")
        tensor.view(params)[...] = stored
    model = Model(job, network, params, Encoding.from_dict(meta["encoding"], _under("scaling.", tensors)))
    training = meta.get("training")
    if training is None:
        return model, None
    rows = _under("optimiser.", tensors)
    for name, row in rows.items():
        if row.shape != (spec.n,):
            raise LayoutError(f"model file {path}: optimiser row {name}: got {row.shape}, expected ({spec.n},)")
    pending = tuple((int(t), int(p)) for t, p in training["pending"])
    numbers = {key: int(training[key]) for key in ("tickets", "steps", "examples", "n", "block_replicas")}
    return model, TrainingState(pending=pending, rows=rows, **numbers)


def _under(prefix: str, tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _beside(path: str) -> Path:
    place = Path(path)
    return place.with_name(f".{place.name}.{os.getpid()}.tmp")
