"""Snapshots of a cluster: every shard with its optimiser rows, and where the run stands, so that another can go on.

    model.snapshot/                 beside model.safetensors
        7/                          complete: it has a manifest
            shard-00000.safetensors     params, optimiser.velocity ...
            shard-00001.safetensors
            scaling.safetensors         where features are scaled
            manifest.json               written last: job, cutting, clocks, progress, digest of every file
        8/                          complete
        9/                          being written, or left behind by somebody who was killed

A snapshot is written one shard at a time while training goes on, so its shards are of slightly different moments, as
those of any fetch are. It counts from the moment at which its manifest has its name; until then the two before it are
untouched. Damage is found by digests, and the one before is used. It holds numbers and JSON, no code; but as with model
files (``model_file``), a job that names layers ``"package.module:Class"`` makes ``read`` import that module.

Nothing here is asynchronous and everything waits for the disk: call it in a thread.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.commands import ResumePoint
from hogpour.core import registry
from hogpour.core.errors import InputError, LayoutError, ResourceError
from hogpour.core.progress import Notice
from hogpour.core.text import printable
from hogpour.model.description import Description
from hogpour.model.disk import REAL, Disk
from hogpour.model.training_state import TrainingState

__all__ = ["KEPT", "Meta", "Snapshot", "Writer", "any_complete", "folder_beside", "read"]

KEPT = 2
"""Complete snapshots that are kept: the newest, and the one to fall back on."""

_MANIFEST, _SCALING = "manifest.json", "scaling.safetensors"
_PARAMS, _ROW = "params", "optimiser."

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Meta:
    """What a snapshot is of; the same for all snapshots of a run."""

    description: Description
    bounds: tuple[int, ...]
    """(shards + 1,) of the shards in the vector."""
    rows: tuple[str, ...]
    """Names of the optimiser's rows."""
    run: str = ""
    """Name of the run, which goes on with it; empty: of before there were names."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A complete snapshot, checked. The vectors are still on disk."""

    folder: Path
    meta: Meta
    clocks: tuple[int, ...]
    """(shards,) updates that are in each."""
    state: TrainingState
    """Without rows."""
    notices: tuple[Notice, ...]
    """Why it is not the newest one, if it is not."""
    digests: Mapping[str, str] = field(repr=False)
    """Of each file, by name."""
    disk: Disk = field(default=REAL, repr=False)
    """Where the folder is."""

    def fill(self, params: Floats, rows: Mapping[str, Floats], *, start: int = 0) -> int:
        """Read a range of the vector, however it was cut when it was written. Takes the memory of one shard besides.

        Args:
            params: (size,) float32, written: the elements from ``start`` on.
            rows: like params, for each optimiser row by name.
            start: first element of the vector that is wanted.

        Returns:
            The clock of the range: that of the shard it was part of. Of several, the greatest: with Adam, an element
            that has seen fewer updates then makes a step that is too short rather than too long.

        Raises:
            LayoutError: other rows, or a file was damaged since ``read``. The arrays are undefined then.
        """
        stop, bounds = start + params.size, self.meta.bounds
        assert 0 <= start < stop <= bounds[-1], f"snapshot of {bounds[-1]} elements: got {start} to {stop}"
        if set(rows) != set(self.meta.rows):
            raise LayoutError(f"snapshot {self.folder}: holds optimiser rows {_listed(self.meta.rows)}; "
                              f"{_listed(rows)} are needed")  # fmt: skip
        wanted = {_PARAMS: params} | {_ROW + name: row for name, row in rows.items()}
        touched = [k for k in range(len(bounds) - 1) if bounds[k] < stop and bounds[k + 1] > start]
        for k in touched:
            low, high = max(start, bounds[k]), min(stop, bounds[k + 1])
            stored = self._shard(k)
            for name, array in wanted.items():
                array[low - start : high - start] = stored[name][low - bounds[k] : high - bounds[k]]
        return max(self.clocks[k] for k in touched)

    def _shard(self, k: int) -> Mapping[str, Floats]:
        name, size = _shard_name(k), self.meta.bounds[k + 1] - self.meta.bounds[k]
        with _named(f"snapshot {self.folder}"):
            tensors = _tensors(self.disk, self.folder, name, self.digests)
            for tensor in (_PARAMS, *(_ROW + row for row in self.meta.rows)):
                found = tensors.get(tensor)
                if found is None or found.shape != (size,) or found.dtype != np.float32:
                    got = "nothing" if found is None else f"{found.dtype} {found.shape}"
                    raise LayoutError(f"{name}: {tensor}: got {got}, expected float32 ({size},)")
        return tensors


class Writer:
    """Writes the snapshots of a run, one after the other: ``begin``, ``shard`` for each shard, ``commit``.

    Whenever one of these raises, what was begun is removed, the older snapshots are still there, and ``begin`` may be
    called again.

    Args:
        folder: of ``folder_beside``; made when it is needed.
        disk: where it is.
    """

    def __init__(self, folder: Path, disk: Disk = REAL) -> None:
        self._folder, self._disk = folder, disk
        self._place: Path | None = None
        self._meta: Meta | None = None
        self._digests: dict[str, str] = {}
        self._clocks: dict[int, int] = {}

    def begin(self, meta: Meta) -> None:
        """Begin a snapshot; one that was not committed is removed.

        Raises:
            ResourceError: the disk does not take it, here and below.
        """
        with self._writing():
            self._disk.make_folder(self._folder, exist_ok=True)
            complete, torn = _numbers(self._disk, self._folder)
            for number in torn:
                _remove(self._disk, self._folder / str(number))
            self._place = self._folder / str(max(complete + torn, default=0) + 1)
            self._disk.make_folder(self._place)
            self._meta, self._digests, self._clocks = meta, {}, {}
            if tensors := meta.description.encoding.to_tensors():
                self._save(_SCALING, tensors)

    def shard(self, number: int, params: Floats, rows: Sequence[Floats], clock: int) -> None:
        """Write a shard.

        Args:
            params: (size,) float32, read only.
            rows: like params, in the order of ``Meta.rows``.
        """
        meta = self._meta
        assert meta is not None, "begin comes first"
        shape = (meta.bounds[number + 1] - meta.bounds[number],)
        assert [row.shape for row in rows] == [shape] * len(meta.rows), f"shard {number}: rows of other shapes"
        assert params.shape == shape, f"shard {number}: got shape {params.shape}, expected {shape}"
        with self._writing():
            named = {_ROW + name: row for name, row in zip(meta.rows, rows)}
            self._save(_shard_name(number), {_PARAMS: params} | named)
            self._clocks[number] = clock

    def commit(self, state: TrainingState) -> Path:
        """Make the snapshot count, and remove all but the ``KEPT`` newest.

        Args:
            state: where the run stood before the first shard was read, so that nothing that it calls done is missing
                from the shards. Its rows are not looked at.

        Returns:
            The folder of this snapshot.
        """
        meta, place = self._meta, self._place
        assert meta is not None, "begin comes first"
        assert place is not None
        shards = len(meta.bounds) - 1
        assert len(self._clocks) == shards, f"{len(self._clocks)} of {shards} shards were written"
        words = meta.description.to_dict() | {
            "bounds": meta.bounds,
            "rows": meta.rows,
            "clocks": [self._clocks[number] for number in range(shards)],
            "digests": self._digests,
            "training": state.to_dict(),
            "run": meta.run,
        }
        if state.start is not None:
            words["batch"] = asdict(state.start)
        text = _canonical(words)
        with self._writing():
            beside = place / f"{_MANIFEST}.tmp"
            self._disk.write(beside, json.dumps({"digest": _digest(text), "snapshot": words}).encode())
            self._disk.sync(place)  # the names of the shards are on the disk before that of the manifest
            self._disk.rename(beside, place / _MANIFEST)
            self._disk.sync(place)
            self._disk.sync(self._folder)
            self._disk.sync(self._folder.parent)  # the folder was made by this run, or one that did not come this far
        self._place = self._meta = None
        with suppress(OSError):  # the snapshot is there; what cannot be removed now is tried again after the next one
            complete = _numbers(self._disk, self._folder)[0]
            for number in complete[-KEPT:-1]:  # whoever wrote it may have been killed between its rename and its sync
                self._disk.sync(self._folder / str(number))
            for number in complete[:-KEPT]:
                _remove(self._disk, self._folder / str(number))
        return place

    def abandon(self) -> None:
        """Remove the snapshot that is being written, if there is one."""
        if self._place is not None:
            _remove(self._disk, self._place)
        self._place = self._meta = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.abandon()
            if not isinstance(error, OSError):
                raise
            raise ResourceError(f"snapshot {self._folder}: cannot be written: {error.strerror}") from error

    def _save(self, name: str, tensors: Mapping[str, Floats]) -> None:
        from safetensors.numpy import save

        assert self._place is not None
        data = save({key: np.ascontiguousarray(tensor) for key, tensor in tensors.items()})
        self._disk.write(self._place / name, data)
        self._digests[name] = _digest(data)


def folder_beside(model: str) -> Path:
    """Return the folder of the snapshots of the run that writes this model file."""
    place = Path(model)
    return place.with_name(place.name.removesuffix(".safetensors") + ".snapshot")


def any_complete(folder: Path, disk: Disk = REAL) -> bool:
    """Return whether a snapshot is there that was finished, whole or damaged; a file in the place of the folder is."""
    try:
        return bool(_numbers(disk, folder)[0])
    except OSError:
        return True  # whoever reads it hears why it cannot be read


def read(folder: Path, disk: Disk = REAL) -> Snapshot:
    """Return the newest snapshot that is complete and undamaged. Reads every byte of it once, for the digests.

    Raises:
        LayoutError: there is none.
    """
    with _named(f"snapshot {folder}"):
        complete, torn = _numbers(disk, folder)
    notices = {number: "was not finished" for number in torn}
    for number in reversed(complete):
        try:
            snapshot = _read(disk, folder / str(number))
        except InputError as error:
            notices[number] = str(error)
            continue
        newer = [f"snapshot {folder / str(n)}: {notices[n]}; {number} is used" for n in sorted(notices) if n > number]
        return replace(snapshot, notices=tuple(Notice("warning", text) for text in newer))
    why = "; ".join(f"{number}: {notices[number]}" for number in sorted(notices, reverse=True))
    raise LayoutError(f"snapshot {folder}: none is there that can be used" + (f": {why}" if why else ""))


def _read(disk: Disk, place: Path) -> Snapshot:
    """Check everything: the manifest against itself and the job's network, the files against the manifest."""
    with _named(""):
        told = json.loads(disk.read(place / _MANIFEST))
        words = told["snapshot"]
        if told["digest"] != _digest(_canonical(words)):
            raise LayoutError(f"{_MANIFEST}: damaged: it does not have its own digest")
        digests = words.get("digests", {})
        scaling = _tensors(disk, place, _SCALING, digests) if _SCALING in digests else {}
        description = Description.from_dict(words, scaling)
        bounds, clocks = (registry.typed(words[name], tuple[int, ...], name) for name in ("bounds", "clocks"))
        if bounds[-1] != description.network.spec.n:
            raise LayoutError(f"its shards hold {bounds[-1]} elements, its layers make {description.network.spec.n}")
        if bounds[0] != 0 or list(bounds) != sorted(set(bounds)) or len(clocks) != len(bounds) - 1:
            raise LayoutError(f"its shards begin and end at {registry.shown(bounds)}, with {len(clocks)} clocks: "
                              "expected ascending numbers from 0 on, and a clock for each shard")  # fmt: skip
        for shard in range(len(bounds) - 1):
            _whole(disk, place, _shard_name(shard), digests)
        run = printable(registry.typed(words.get("run", ""), str, "run"))
        meta = Meta(description, bounds, registry.typed(words["rows"], tuple[str, ...], "rows"), run)
        state = TrainingState.from_dict(words["training"], {}, _start(words.get("batch")))
        return Snapshot(place, meta, clocks, state, (), digests, disk)


def _start(words: Mapping[str, Any] | None) -> ResumePoint | None:
    """Return where a batch method stood; raises what wrong words raise."""
    if words is None:
        return None
    numbers = {name: int(words[name]) for name in ("iteration", "evaluation")}
    slots = tuple(int(slot) for slot in words["slots"])
    if min(*numbers.values(), *slots, 0) < 0 or len(set(slots)) != len(slots):
        raise LayoutError(f"iteration {numbers['iteration']}, evaluation {numbers['evaluation']}, pairs {slots}: "
                          "expected 0 or more, and each pair once")  # fmt: skip
    return ResumePoint(value=float(words["value"]), addend=float(words["addend"]), slots=slots, **numbers)


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Map what reading damaged or missing files raises; ``source`` begins every message."""
    from safetensors import SafetensorError

    begin = f"{source}: " if source else ""
    try:
        yield
    except InputError as error:
        raise LayoutError(f"{begin}{error}") from error
    except OSError as error:
        raise LayoutError(f"{begin}{Path(error.filename or '').name}: {error.strerror}") from error
    except (
        SafetensorError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise LayoutError(f"{begin}damaged: {error!r:.200}") from error


def _tensors(disk: Disk, place: Path, name: str, digests: Mapping[str, str]) -> dict[str, Floats]:
    from safetensors.numpy import load

    return load(_whole(disk, place, name, digests))


def _whole(disk: Disk, place: Path, name: str, digests: Mapping[str, str]) -> bytes:
    """Read a file whole; refuse it if it is not the one that was written."""
    data = disk.read(place / name)
    if _digest(data) != digests[name]:
        raise LayoutError(f"{name}: damaged: it does not have the digest that was written")
    return data


def _numbers(disk: Disk, folder: Path) -> tuple[list[int], list[int]]:
    """Return the numbers of complete and of torn snapshots, each in the order of writing."""
    try:
        found = sorted(int(name) for name in disk.names(folder) if re.fullmatch("[1-9][0-9]*", name))
    except FileNotFoundError:
        return [], []
    complete = [number for number in found if disk.exists(folder / str(number) / _MANIFEST)]
    return complete, [number for number in found if number not in complete]


def _remove(disk: Disk, place: Path) -> None:
    """Remove a snapshot, the manifest first: half removed, it is torn and not damaged. What stays is tried again."""
    try:
        with suppress(OSError):
            disk.remove(place / _MANIFEST)
            disk.sync(place)  # always: it may have been removed, and not synced, by one that was killed then
    finally:  # also when somebody loses patience with the sync
        with suppress(OSError):
            disk.remove_folder(place)


def _canonical(words: Mapping[str, Any]) -> bytes:
    """Return the same bytes before words are written and after they are read."""
    return json.dumps(json.loads(json.dumps(words)), sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
