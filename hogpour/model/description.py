"""What a model on disk is, besides its parameters: the same words in model files and in snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core import registry
from hogpour.core.errors import LayoutError
from hogpour.core.job import Job, job_from, job_to_dict
from hogpour.data.load import Encoding
from hogpour.layers.sequential import Network, network_of

__all__ = ["Description"]

_VERSION = 1

_MOST = 8
"""Settings that a line names."""


@dataclass(frozen=True, slots=True)
class Description:
    """What was trained: by which job, of which layers, on examples that were encoded how."""

    job: Job
    network: Network
    encoding: Encoding

    def to_dict(self) -> dict[str, Any]:
        """Return what ``from_dict`` makes an equal one of, beside the tensors of the encoding."""
        return {
            "version": _VERSION,
            "job": job_to_dict(self.job),
            "input_shape": self.network.input_shape,
            "fingerprint": self.network.spec.fingerprint,
            "encoding": self.encoding.to_dict(),
        }

    @classmethod
    def from_dict(cls, words: Mapping[str, Any], scaling: Mapping[str, npt.NDArray[Any]]) -> Description:
        """Check a description against itself and make it. Allocates no parameters.

        Args:
            scaling: the tensors of ``Encoding.to_tensors``.

        Raises:
            InputError: of another version, of a job that cannot be, or of layers that are others today.
            KeyError, TypeError, ValueError, AttributeError: the words are no description.
        """
        if words["version"] != _VERSION:
            raise LayoutError(f"has version {registry.shown(words['version'])}, this hogpour reads {_VERSION}")
        job = job_from(words["job"], "its job")
        network = network_of(job, tuple(words["input_shape"]))
        if network.spec.fingerprint != words["fingerprint"]:
            raise LayoutError(f"its layers make spec {network.spec.fingerprint}, it was written with "
                              f"{words['fingerprint']}: another version of a layer?")  # fmt: skip
        return cls(job, network, Encoding.from_dict(words["encoding"], scaling))

    def check_same(self, what: str, n: int, wanted: Description, n_wanted: int) -> None:
        """Raise LayoutError where a run that is to be gone on with was trained on other examples or in another way.

        Args:
            what: names this, in the error message.
            n, n_wanted: training examples of this, and of what is to go on.
        """
        if (n, self.job.batch) != (n_wanted, wanted.job.batch):
            raise LayoutError(f"{what}: was trained on {n} examples in batches of {self.job.batch}, "
                              f"the job has {n_wanted} in batches of {wanted.job.batch}")  # fmt: skip
        if differences := list(self._differences(wanted)):
            raise LayoutError(f"{what}: was trained with {'; '.join(differences)}")

    def other_tensors(self, wanted: Description) -> str:
        """Say which tensor of this is the first that another description's network does not have; empty: none."""
        these, those = self.network.spec.tensors, wanted.network.spec.tensors
        for a, b in zip(these, those, strict=False):
            if a != b:
                return f"holds {a.name} {a.shape} where the job has {b.name} {b.shape}"
        return f"holds {len(these)} tensors, the job has {len(those)}" if len(these) != len(those) else ""

    def other_settings(self, wanted: Description) -> str:
        """Say which settings of how it is trained a run that goes on has others of than this; empty: none.

        None of them keeps it from going on: a learning rate may be changed. But whoever did not mean to should hear.
        """
        was, now = (dict(_settings(job_to_dict(one.job))) for one in (self, wanted))
        names = [name for name in dict.fromkeys((*was, *now)) if was.get(name) != now.get(name)]
        said = [f"{name} = {was.get(name, 'none')!r:.60}, now {now.get(name, 'none')!r:.60}" for name in names[:_MOST]]
        return "; ".join(said) + (f"; and {len(names) - _MOST} more" if len(names) > _MOST else "")

    def _differences(self, wanted: Description) -> Iterator[str]:
        """Tell what this was trained with, and what the job says instead, where that decides what is trained."""
        was, encoding = self.encoding, wanted.encoding
        compared: list[tuple[str, Any, Any]] = [
            ("seed", self.job.seed, wanted.job.seed),
            ("loss", registry.describe(self.job.loss), registry.describe(wanted.job.loss)),
        ]
        compared += [
            (field.name, getattr(was, field.name), getattr(encoding, field.name))
            for field in fields(Encoding)
            if field.name not in ("scaling", "y_dtype", "y_flat", "by_frequency")
            and getattr(was, field.name) is not None  # as in a file older than the field
        ]
        compared.append(("scale", was.scaling.kind, encoding.scaling.kind))
        if was.scaling.kind == encoding.scaling.kind:
            for name, array in was.scaling.to_tensors().items():
                a = array.ravel()
                b = encoding.scaling.to_tensors()[name].ravel().astype(a.dtype)  # older files have float32
                if a.size == b.size and (other := np.flatnonzero(a != b)).size:
                    compared.append((f"{name} of feature {other[0]}", float(a[other[0]]), float(b[other[0]])))
        if not np.array_equal(was.by_frequency, encoding.by_frequency):
            yield "features of other frequencies than the job's"
        for name, stored, said in compared:
            if stored != said:
                yield f"{name} {stored!r:.200}, the job says {name} {said!r:.200}"


def _settings(tables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a job that decide what a step is, by name; sizes and seed are compared elsewhere."""
    yield from _leaves("model.layers", tables["model"]["layers"])
    yield from _leaves("algorithm", tables["algorithm"])


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(f"{name}.{key}", one)
    elif isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value):
        for k, one in enumerate(value):
            yield from _leaves(f"{name}[{k}]", one)
    else:
        yield name, value
