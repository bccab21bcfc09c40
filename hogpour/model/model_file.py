"""Model files: safetensors with the parameters by name, and what is needed to go on training.

A file is written beside its place and renamed over it, so that whoever looks finds the old file or the new one, whole.
It holds tensors and one JSON text, no code. But a text that names a layer ``"package.module:Class"`` makes ``load``
import that module, which runs it: load only files whose layers you have and trust. Without training state (an exported
model) a file predicts but does not resume.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from math import prod
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hogpour.core import registry
from hogpour.core.errors import ConfigError, InputError, LayoutError, ResourceError
from hogpour.core.job import Job
from hogpour.data.load import Encoding
from hogpour.layers.sequential import Network
from hogpour.model.description import Description
from hogpour.model.training_state import TrainingState

if TYPE_CHECKING:
    from hogpour.model.model import Model

__all__ = ["check_writable", "little_room", "load", "nothing_half", "save", "save_elsewhere"]

_KEY = "hogpour"
_counter = count()
_unfinished: set[Path] = set()
_names = RLock()  # held while a file gets or loses its name
_PATIENCE_S = 1.0

Floats = npt.NDArray[np.float32]


def check_writable(path: str) -> None:
    """Raise ResourceError where a model file could not be written later; remove what dead processes left there."""
    import psutil

    path = _text(path)
    place = _place(path)
    if not place.parent.is_dir():
        raise ResourceError(f"model file {path}: there is no folder {place.parent}")
    probe = _beside(place)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"model file {path}: cannot be written: {error.strerror}") from error
    _remove_unfinished(place, psutil.pid_exists)


def little_room(path: str, needed: int) -> str:
    """Return the line that warns of a folder with less room than a run writes; empty where there is enough.

    Args:
        needed: bytes that it may write there, the model file and all others.
    """
    folder = _place(path).parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""  # nobody knows
    if free >= needed:
        return ""
    return (f"model file {path}: {free / 1e6:,.1f} MB are free in {folder}, this run writes up to "
            f"{needed / 1e6:,.1f} MB: make room, or give another --model")  # fmt: skip


@contextmanager
def nothing_half() -> Iterator[None]:
    """Remove the model files that threads of this process have half written; hold them back while the block ends it."""
    held = _names.acquire(timeout=_PATIENCE_S)  # a disk that hangs must not keep a process that is to end at once
    try:
        for beside in tuple(_unfinished):
            with suppress(OSError):
                beside.unlink()
        yield
    finally:
        if held:
            _names.release()


def save(path: str, model: Model, state: TrainingState | None) -> None:
    """Write a model file atomically.

    Raises:
        ResourceError: the disk is full or the place not writable; the old file is still there.
    """
    path = _text(path)
    place = _place(path)
    from safetensors.numpy import save as serialised

    meta = Description(model.job, model.network, model.encoding).to_dict()
    tensors = dict(model.network.spec.views(model.params))
    tensors |= {f"scaling.{name}": array for name, array in model.encoding.to_tensors().items()}
    if state is not None:
        meta["training"] = state.to_dict()
        tensors |= {f"optimiser.{name}": row for name, row in state.rows.items()}
    beside = _beside(place)
    try:
        # Its own save_file writes to a name that nobody could tell from others, and a killed process would leave that.
        content = serialised({name: np.ascontiguousarray(t) for name, t in tensors.items()}, {_KEY: json.dumps(meta)})
        with _names:
            _unfinished.add(beside)
            file = open(beside, "xb")  # noqa: SIM115 (closed below; only its naming is held back)
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with _names:
            os.replace(beside, place)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if not isinstance(error, Exception):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise ResourceError(f"model file {path}: cannot be written: {reason}") from error
    finally:
        _unfinished.discard(beside)


def save_elsewhere(path: str, model: Model, state: TrainingState | None) -> str:
    """Write a model file in a new folder, readable by this user, and return its path: in the folder of the job, or
    among the system's temporary files.

    Raises:
        ResourceError: neither takes it; of the latter.
    """
    for around in (os.path.abspath(model.job.base), None):
        folder = ""
        try:
            folder = tempfile.mkdtemp(prefix="hogpour-", dir=around)
            save(place := os.path.join(folder, os.path.basename(path)), model, state)
            return place
        except (OSError, ResourceError) as error:
            failure = ResourceError(error.strerror if isinstance(error, OSError) else str(error))
            if folder:
                os.rmdir(folder)
    raise failure


def load(path: str) -> tuple[Description, Floats, TrainingState | None]:
    """Read a model file: what it is of, its (n,) parameters, new, and where the run stood.

    Raises:
        ConfigError: there is no such file.
        LayoutError: not a model file, damaged, or its tensors do not fit its own description.
    """
    from safetensors import SafetensorError, safe_open

    path = _text(path)
    try:
        if not Path(path).is_file():
            raise ConfigError(f"model file {path}: no such file")
    except OSError as error:
        raise ConfigError(f"model file {path}: {error.strerror}") from error
    try:
        with safe_open(path, framework="numpy") as file:
            words = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise LayoutError(f"model file {path}: not a whole safetensors file: {error}") from error
    if words is None:
        raise LayoutError(f"model file {path}: not written by hogpour: it has no {_KEY!r} in its metadata")
    try:
        return _checked(json.loads(words), tensors)
    except InputError as error:
        raise LayoutError(f"model file {path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise LayoutError(f"model file {path}: damaged: {error!r:.200}") from error


def _checked(
    meta: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]
) -> tuple[Description, Floats, TrainingState | None]:
    """Check the description against itself and the tensors; nothing is allocated before."""
    description = Description.from_dict(meta, _under("scaling.", tensors))
    spec = description.network.spec
    for tensor in spec.tensors:
        _check_tensor(tensor.name, tensors.get(tensor.name), tensor.shape)
        if not np.isfinite(tensors[tensor.name]).all():
            raise LayoutError(f"{tensor.name}: holds numbers that are not finite, with which nothing can be predicted")
    _check_encoding(description.encoding, description.job, description.network)
    params = spec.zeros()
    for tensor in spec.tensors:
        tensor.view(params)[...] = tensors[tensor.name]
    training = meta.get("training")
    if training is None:
        return description, params, None
    rows = _under("optimiser.", tensors)
    for name, row in rows.items():
        _check_tensor(f"optimiser row {name}", row, (spec.n,))
    return description, params, TrainingState.from_dict(training, rows)


def _check_encoding(encoding: Encoding, job: Job, network: Network) -> None:
    """Check that what files hold becomes what the network takes, and its scores become labels that have names."""
    names, n_scores, size = len(encoding.labels), network.output_shape[0], prod(network.input_shape)
    if encoding.targets != job.loss.targets:
        raise LayoutError(f"{encoding.targets} in the files, its loss takes {job.loss.targets}")
    if prod(encoding.shape) != size:
        raise LayoutError(f"examples of shape {encoding.shape} in the files, {network.input_shape} in the network")
    if encoding.sparse != network.sparse_input:
        kinds = ["sparse" if one else "dense" for one in (encoding.sparse, network.sparse_input)]
        raise LayoutError(f"{kinds[0]} examples in the files, {kinds[1]} ones in the network")
    if names and n_scores not in job.loss.n_outputs(names):
        raise LayoutError(f"{names} label names, but {n_scores} scores")
    if encoding.scaling.kind != "none" and encoding.scaling.offset.size != size:
        raise LayoutError(f"scaling of {encoding.scaling.offset.size} features, expected {size}")


def _check_tensor(name: str, stored: npt.NDArray[Any] | None, shape: tuple[int, ...]) -> None:
    if stored is None or stored.shape != shape or stored.dtype != np.float32:
        found = "nothing" if stored is None else f"{stored.dtype} {stored.shape}"
        raise LayoutError(f"{name}: got {found}, expected float32 {shape}")


def _under(prefix: str, tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _text(path: Any) -> str:
    """Return a path as text, whatever kind of path it is."""
    text: str = registry.typed(path, str, "model file")
    if "\0" in text:
        raise ConfigError(f"model file {text!r}: no file has such a name")
    return text


def _place(path: str) -> Path:
    """Return the file that is to be written, at the end of all links: a link stays one, its target is replaced."""
    place = Path(os.path.realpath(path))
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return place
    except OSError as error:
        raise ResourceError(f"model file {path}: cannot be written: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise ResourceError(f"model file {path}: is a folder, expected a file name")
    if not stat.S_ISREG(mode):
        raise ResourceError(f"model file {path}: exists and is no regular file")
    return place


def _beside(place: Path) -> Path:
    """Return a new temporary name: several nodes of one process may save to one place."""
    return place.with_name(f".{place.name}.{os.getpid()}.{next(_counter)}.tmp")


def _remove_unfinished(place: Path, lives: Callable[[int], bool]) -> None:
    name = re.compile(rf"\.{re.escape(place.name)}\.([0-9]{{1,9}})\.[0-9]+\.tmp")  # of more digits is no process id
    with suppress(OSError):
        for path in place.parent.iterdir():
            if (match := name.fullmatch(path.name)) and not lives(int(match[1])):
                path.unlink()
