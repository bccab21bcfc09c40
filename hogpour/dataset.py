"""What loading gives: examples with their answers, and the encoding that ``predict`` must repeat.

Plain frozen records of arrays; ``data.py`` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from hogpour.errors import LayoutError
from hogpour.formats.base import Targets
from hogpour.scaling import Scaling

__all__ = ["Data", "Dataset", "Encoding", "Features"]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Examples and their answers. The arrays are owned by whoever holds the set, and read only by agreement."""

    x: npt.NDArray[np.float32]
    """(n, *shape) float32, C-contiguous, finite, n > 0."""
    y: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    """(n,) int64 labels 0..n_labels-1, or (n, n_values) float32 values, C-contiguous, finite."""
    n_labels: int
    """Number of labels; 0 for values."""
    label_names: tuple[str, ...]
    """What each label is called in the file, such as ("-1", "1"); () for values."""
    source: str
    """The file, for messages."""

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.x.shape[1:]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Examples of which the answers may be unknown."""

    x: npt.NDArray[np.float32]
    """(n, *shape) float32, C-contiguous, finite, n > 0; new, owned by the caller."""
    y: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None
    """As in ``Dataset``; None if the file has none."""
    source: str
    """The file, for messages."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """How the training files' numbers became the model's inputs and answers: what ``predict`` must do again."""

    shape: tuple[int, ...]
    """Shape of one example."""
    targets: Targets
    """Whether y is labels or values."""
    label_names: tuple[str, ...]
    """Label → what it is called in the files; () for values."""
    scaling: Scaling
    """What is done to each feature."""
    label: str = ""
    """csv: name of the label column."""
    columns: tuple[str, ...] = ()
    """csv: names of the feature columns, found by name in other files."""
    first_index: int | None = None
    """svmlight: index of the first feature."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold of it: everything but the arrays of the scaling."""
        words = {field.name: getattr(self, field.name) for field in fields(self)}
        return words | {"scaling": self.scaling.kind}

    @classmethod
    def from_dict(cls, words: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the encoding of which ``to_dict`` and ``scaling.to_tensors`` were kept in a file.

        Raises:
            LayoutError: they are not those of an encoding.
        """
        try:
            lists = {name: tuple(words[name]) for name in ("shape", "label_names", "columns")}
            return cls(**{**words, **lists, "scaling": Scaling.from_tensors(words["scaling"], tensors)})
        except (KeyError, TypeError) as exc:
            raise LayoutError(f"encoding: does not say how the data were encoded ({exc!r})") from exc


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """What a job trains and tests on."""

    kind: ClassVar[str] = "data"
    train: Dataset
    """In an order that the seed decides."""
    test: Dataset | None
    """The test file in its own order, or the split-off validation set, or None."""
    encoding: Encoding
    """To be kept with the model, for ``load_features``."""

    @property
    def scaling(self) -> Scaling:
        """The training set's scaling; already applied to both sets."""
        return self.encoding.scaling
