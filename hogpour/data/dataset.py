"""What loading gives: examples with their answers, and the encoding that ``predict`` must repeat.

Plain frozen records of arrays; ``load.py`` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, ClassVar, Self, get_type_hints

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.errors import DataError, LayoutError
from hogpour.core.registry import typed
from hogpour.data.formats.base import Separator, Targets
from hogpour.data.labels import are_numbers
from hogpour.data.scaling import Scaling, is_finite

__all__ = ["Data", "Dataset", "Encoding", "Features"]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Examples and their answers. The arrays are owned by whoever holds the set, and read only by agreement.

    Raises:
        DataError: the arrays are not as described here; kernels would read past their ends.
    """

    x: npt.NDArray[np.float32] | Csr
    """(n, *shape) float32, C-contiguous, finite, n > 0; or sparse, with values of the same kind."""
    y: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    """(n,) int64 labels 0..n_labels-1, or (n, n_values) float32 values, C-contiguous, finite."""
    n_labels: int
    """Number of labels; 0 for values."""
    label_names: tuple[str, ...]
    """What each label is called in the file, such as ("-1", "1"); () for values."""
    source: str
    """The file, for messages."""
    rows: npt.NDArray[np.int64] | None = None
    """(n,) the number of each example in the file, counted from 0, for messages; None: they are in its order."""

    def __post_init__(self) -> None:
        if isinstance(self.x, Csr):
            self._check_rows(self.x)
        else:
            self._check("x", np.float32, 0, "float32 (n, ...) in C order")
        if self.n_labels:
            self._check("y", np.int64, 1, f"int64 (n,) in C order, as there are {self.n_labels} labels")
        else:
            self._check("y", np.float32, 2, "float32 (n, n_values) in C order, as there are no labels")
        if len(self.x) != len(self.y):
            raise DataError(f"{self.source}: x has {len(self.x)} examples, y has {len(self.y)}")
        for name in ("x",) if self.n_labels else ("x", "y"):
            array = getattr(self, name)
            values = array.values if isinstance(array, Csr) else array
            if values.size and not is_finite(values):
                raise DataError(f"{self.source}: {name}: holds values that are not finite")
        if self.n_labels == 1:
            name = f" {self.label_names[0]!r}" if self.label_names else ""
            raise DataError(f"{self.source}: all examples have the same label{name}, expected two or more labels")
        least, most = self.y.min(), self.y.max()
        if self.n_labels and not (least >= 0 and most < self.n_labels):
            raise DataError(f"{self.source}: y: holds labels {least} to {most}, expected 0 to {self.n_labels - 1}")

    def _check(self, name: str, dtype: type, n_axes: int, expected: str) -> None:
        """Check type, number of axes (0: two or more, none of them empty) and order of an array."""
        array = getattr(self, name)
        got = type(array).__name__
        if isinstance(array, np.ndarray):
            ordered = array.flags.c_contiguous
            axes_fit = array.ndim == n_axes if n_axes else array.ndim > 1
            if array.dtype == dtype and axes_fit and ordered and array.size:
                return
            got = f"{array.dtype} {array.shape}" + ("" if ordered else ", not in C order")
        raise DataError(f"{self.source}: {name}: got {got}, expected {expected}; "
                        "hogpour.arrays makes such arrays of others")  # fmt: skip

    def _check_rows(self, x: Csr) -> None:
        if not len(x) or x.values.dtype != np.float32:
            raise DataError(f"{self.source}: x: got {len(x)} sparse rows of {x.values.dtype}, expected one or more of "
                            "float32; hogpour.arrays makes such of others")  # fmt: skip
        highest = int(x.indices.max(initial=0))
        if highest >= x.n_features:
            raise DataError(f"{self.source}: x: has a feature {highest}, expected 0 to {x.n_features - 1}")

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

    x: npt.NDArray[np.float32] | Csr
    """(n, *shape) float32, C-contiguous, finite, n > 0, or sparse; new, owned by the caller."""
    y: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None
    """As in ``Dataset``; None if the file has none that can be used."""
    source: str
    """The file, for messages."""
    no_y: str = ""
    """What is wrong with the file's y, so that it was left out."""


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
    """Names of the feature columns, found by name in other files and DataFrames; () where they have none."""
    first_index: int | None = None
    """svmlight: index of the first feature."""
    numeric_labels: bool = True
    """Whether labels are numbers, named as integers; otherwise the text of the file is the name."""
    bytes: bool | None = None
    """Whether the training set's x was bytes, which became 0..1; None: an older model file does not say."""
    y_dtype: str = "int64"
    """Type of the labels as they were given, where they are numbers or "str" for numbers in an array of text; a model
    gives them back as such."""
    y_flat: bool = False
    """Whether values were given as (n,), one for each example; False also in older model files."""
    n_columns: int = 0
    """csv without header: number of columns of the training file, which are found by their place; 0: with header."""
    separator: Separator = ","
    """csv: what stands between two cells."""
    hash_bits: int = 0
    """vw, libffm, fasttext: bits of the numbers that names of features became; 0: they have numbers in the files."""
    word_ngrams: int = 1
    """fasttext: words that follow each other of which features were made, at most."""
    by_frequency: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    """Sparse examples: feature of the model → feature of the file, the most frequent first, (n_features,). (0,): they
    are dense."""

    @property
    def sparse(self) -> bool:
        """Whether examples become sparse rows."""
        return self.by_frequency.size > 0

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Label → what was given for it: (n_labels,) numbers of the type that they had, or text; new."""
        if not self.numeric_labels:
            return np.array(self.label_names, np.str_)
        return np.array([int(name) for name in self.label_names], object).astype(self.y_dtype)  # as large as they are

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold of it: everything but the arrays of the scaling."""
        words = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "by_frequency"}
        return words | {"scaling": self.scaling.kind}

    def to_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of it that are not in ``to_dict``, by names for ``from_dict``."""
        return self.scaling.to_tensors() | ({"by_frequency": self.by_frequency} if self.sparse else {})

    @classmethod
    def from_dict(cls, words: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the encoding of which ``to_dict`` and ``to_tensors`` were kept in a file.

        Raises:
            LayoutError, ConfigError: they are not those of an encoding.
        """
        hints = get_type_hints(cls)
        try:
            rest = {name: typed(words[name], hints[name], f"encoding.{name}") for name in words if name != "scaling"}
            kind = rest.get("y_dtype", "str")
            if kind != "str" and not (kind.isalnum() and np.dtype(kind).kind in "buif"):
                raise TypeError(f"labels of type {kind!r:.40}")
            bits, words_of_one = rest.get("hash_bits", 0), rest.get("word_ngrams", 1)
            if not (1 <= words_of_one <= 5 and (bits == 0 or (1 <= bits <= 30 and prod(rest["shape"]) == 1 << bits))):
                raise TypeError(f"hash_bits = {bits!r:.40}, word_ngrams = {words_of_one!r:.40}")
            rest.setdefault("numeric_labels", are_numbers(rest["label_names"]))  # an older file does not say
            if "by_frequency" in tensors:
                rest["by_frequency"] = _permutation(tensors["by_frequency"], prod(rest["shape"]))
            return cls(**rest, scaling=Scaling.from_tensors(words["scaling"], tensors))
        except (KeyError, TypeError) as exc:
            raise LayoutError(f"encoding: does not say how the data were encoded ({exc!r:.120})") from exc


def _permutation(order: npt.NDArray[Any], n: int) -> npt.NDArray[np.uint32]:
    # The length first: of a file that says 10^13 features there is no room to compare with.
    if order.dtype != np.uint32 or order.shape != (n,) or not np.array_equal(np.sort(order), np.arange(n)):
        raise LayoutError(f"by_frequency: {order.dtype} {order.shape}, expected uint32 ({n},), each feature once")
    return order


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

    def __post_init__(self) -> None:
        train, test, encoding = self.train, self.test, self.encoding
        targets = "labels" if train.n_labels else "values"
        if prod(encoding.shape) != prod(train.shape):
            raise DataError(f"{train.source}: examples have shape {train.shape}, the encoding says {encoding.shape}")
        if encoding.targets != targets:
            raise DataError(f"{train.source}: holds {targets}, the encoding says {encoding.targets}")
        if test is None:
            return
        if test.shape != train.shape:
            raise DataError(f"{test.source}: examples have shape {test.shape}, "
                            f"expected {train.shape} as in {train.source}")  # fmt: skip
        if test.n_labels != train.n_labels:
            raise DataError(f"{test.source}: has {test.n_labels} labels, {train.source} has {train.n_labels}")
        if test.y.shape[1:] != train.y.shape[1:]:
            raise DataError(f"{test.source}: y has shape {test.y.shape}, {train.source} has {train.y.shape}")

    @property
    def scaling(self) -> Scaling:
        """The training set's scaling; already applied to both sets."""
        return self.encoding.scaling
