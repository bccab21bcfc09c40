"""Data sets: from files to the arrays on which replicas train.

    formats/*.read → Table → labels learnt, rows shuffled and split → float32 → scaling → Dataset

``load`` does all of it for a job, ``load_features`` for ``predict``, with the ``Encoding`` that training left in the
model file. Everything is read and checked before anything is returned; what is wrong ends in one ``DataError`` that
names the file. Knows no models: whether y is labels or values is told (the loss decides).
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import ConfigError, DataError
from hogpour.core.job import MOST_VALIDATION
from hogpour.data import formats
from hogpour.data.blocks import generator
from hogpour.data.dataset import Data, Dataset, Encoding, Features
from hogpour.data.formats.base import Table, Targets, Wanted, need_memory
from hogpour.data.labels import distinct, encode
from hogpour.data.scaling import LARGEST, Kind, Scaling, is_finite

__all__ = ["Data", "Dataset", "Encoding", "Features", "Scaling", "arrays", "load", "load_features", "shuffled"]

_PIECE_ELEMENTS = 1 << 20
_SPLIT, _SHUFFLE = 3, 4
"""Keys of this file's random streams; those of ``data.blocks`` are 1 and 2."""


def load(
    train: str | Path,
    test: str | Path | None = None,
    *,
    format: str = "",
    scale: Kind = "none",
    label: str = "",
    ignore: tuple[str, ...] = (),
    validation: float = 0.1,
    targets: Targets = "labels",
    n_features: int = 0,
    seed: int = 0,
    base: Path = Path(),
) -> Data:
    """Read the data of a job.

    Args:
        train: file, or the name of an embedded data set ("digits", which has a test set of its own).
        test: the same; None or "" where there is none.
        format: name of both files' format; "" goes by their names.
        scale: "none", "unit" (the training set's features become 0..1) or "standard" (mean 0, variance 1).
        label: csv: the column that is y; "" means the last one.
        ignore: csv: columns that are neither feature nor label.
        validation: fraction of the training examples that becomes the test set where there is none, 0 to 0.9; 0 splits
            off nothing. Drawn by the seed; at least one example.
        targets: "labels" or "values"; which of them follows from the loss.
        n_features: svmlight: number of features; 0 means the highest index of the training file.
        seed: of the split and of the order of the training examples, 0 or more.
        base: folder in which relative paths begin: that of the job file.

    Raises:
        ConfigError: an option is out of range.
        DataError: a file is missing, corrupt or does not fit the options or the other file.
        ResourceError: the examples do not fit into the memory.
    """
    if n_features < 0:
        raise ConfigError(f"n_features: got {n_features}, expected 0 or more")
    _check_options(validation, targets, scale)
    wanted = Wanted(targets=targets, n_features=n_features, label=label, ignore=tuple(ignore))
    table, source = _read(train, base, format, wanted)
    other = None
    if test or _is_embedded(train, base, format):
        like = replace(wanted, n_features=prod(table.x.shape[1:]), first_index=table.first_index, label=table.label)
        other = _read(test or train, base, format, replace(like, ignore=(), columns=table.columns, part="test"))
    return _assemble((table, source), other, scale, validation, targets, seed)


def arrays(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    test_x: npt.ArrayLike | None = None,
    test_y: npt.ArrayLike | None = None,
    *,
    scale: Kind = "none",
    validation: float = 0.1,
    targets: Targets = "labels",
    seed: int = 0,
) -> Data:
    """Make the data of a job from arrays in memory; they are copied. Options and errors are those of ``load``.

    The job keeps this copy while it trains on another one in shared memory: twice the examples' size in float32. Data
    that a job reads from a file by itself are kept once.

    Args:
        x, test_x: (n, *shape) numbers; uint8 becomes 0..1.
        y, test_y: (n,) labels, or (n,) or (n, n_values) numbers.
    """
    _check_options(validation, targets, scale)
    if (test_x is None) != (test_y is None):
        raise ConfigError("arrays: test_x and test_y go together, got one of them")
    other = None if test_x is None else _checked("test arrays", Table(np.asarray(test_x), np.asarray(test_y)))
    return _assemble(_checked("arrays", Table(np.asarray(x), np.asarray(y))), other, scale, validation, targets, seed)


def _check_options(validation: float, targets: str, scale: str) -> None:
    if not 0 <= validation <= MOST_VALIDATION:
        raise ConfigError(f"validation: got {validation}, expected 0 to {MOST_VALIDATION}")
    if targets not in get_args(Targets):
        raise ConfigError(f'targets: got "{targets}", expected one of {", ".join(get_args(Targets))}')
    if scale not in get_args(Kind):
        raise ConfigError(f'scale: got "{scale}", expected one of {", ".join(get_args(Kind))}')


def _assemble(
    train: tuple[Table, str],
    test: tuple[Table, str] | None,
    scale: Kind,
    validation: float,
    targets: Targets,
    seed: int,
) -> Data:
    """Learn labels and scaling from the training table, split or take the test table, and encode both."""
    table, source = train
    shape = table.x.shape[1:]
    label_names = tuple(distinct(source, table)[0]) if targets == "labels" else ()
    y = encode(source, table, targets, label_names)
    encoding = Encoding(shape, targets, label_names, Scaling.none(), table.label, table.columns, table.first_index)
    if test is not None:
        other, other_source = test
        _check_shape(other_source, other, shape, source)
        test_y = encode(other_source, other, targets, label_names, source)
        test_rows, train_rows = np.arange(len(test_y)), generator(seed, _SHUFFLE).permutation(len(y))
        if test_y.shape[1:] != y.shape[1:]:
            raise DataError(f"{other_source}: y has {test_y.shape[1]} values an example, {source} has {y.shape[1]}")
    else:
        order = generator(seed, _SPLIT).permutation(len(y))
        n_test = min(max(1, round(validation * len(y))), len(y) - 1) if validation else 0
        if validation and not n_test:
            raise DataError(f"{source}: holds 1 example, expected at least 2 to split off a validation set")
        test_rows, train_rows = np.sort(order[:n_test]), order[n_test:]
        other, other_source, test_y = table, source, y

    x = _dense(source, table, train_rows)
    try:
        scaling = Scaling.fit(scale, x)
    except DataError as exc:
        raise DataError(f"{source}: {exc}") from exc
    scaling.apply(x, out=x)
    trained = Dataset(x, y[train_rows], len(label_names), label_names, source)
    tested = None
    if len(test_rows):
        x = _scaled(other_source, _dense(other_source, other, test_rows), scaling)
        tested = Dataset(x, test_y[test_rows], len(label_names), label_names, other_source)
    return Data(trained, tested, replace(encoding, scaling=scaling))


def load_features(path: str | Path, encoding: Encoding, *, format: str = "", base: Path = Path()) -> Features:
    """Read examples for a trained model, encoded and scaled as in training.

    Args:
        path: file, or "digits" for its test part. y may be absent: no array y, no labels file, no label column; in
            svmlight, where every row begins with a label, one and the same unknown label everywhere.
        encoding: from ``Data.encoding``, by way of the model file.
        format: name of the file's format; "" goes by its name.
        base: folder in which a relative path begins.

    Raises:
        DataError: the file is missing, corrupt, or holds other features than the model was trained on.
        ResourceError: the examples do not fit into the memory.
    """
    wanted = replace(_like(encoding), part="test", need_y=False)
    table, source = _read(path, base, format, wanted)
    _check_shape(source, table, encoding.shape, "the model's training set")
    y = None
    if table.y is not None and not _is_placeholder(source, table, encoding):
        y = encode(source, table, encoding.targets, encoding.label_names, "the model")
    x = _scaled(source, _dense(source, table, np.arange(table.x.shape[0])), encoding.scaling)
    return Features(x, y, source)


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """Return the same examples in an order that the seed decides; new arrays.

    ``load`` has done so with the training set: files are often sorted by label, and a block of examples that one
    replica takes should look like the whole. For sets that were made otherwise.
    """
    order = generator(seed, _SHUFFLE).permutation(dataset.n)
    return replace(dataset, x=dataset.x[order], y=dataset.y[order])


def _is_embedded(name: str | Path, base: Path, format: str) -> bool:
    return not formats.find(base / name, str(name), format).PATTERNS


def _is_placeholder(source: str, table: Table, encoding: Encoding) -> bool:
    """Whether an svmlight file says of every row what cannot be: it means to say nothing, often by a 0."""
    if table.first_index is None or encoding.targets == "values":
        return False
    names, _ = distinct(source, table)
    return len(names) == 1 and names[0] not in encoding.label_names


def _like(encoding: Encoding) -> Wanted:
    """Return what is asked of another file of the same kind."""
    return Wanted(
        targets=encoding.targets,
        n_features=prod(encoding.shape),
        first_index=encoding.first_index,
        label=encoding.label,
        columns=encoding.columns,
    )


def _read(name: str | Path, base: Path, format: str, wanted: Wanted) -> tuple[Table, str]:
    """Read a file and check it by itself."""
    path = base / name
    module = formats.find(path, str(name), format)
    source = str(path) if module.PATTERNS else str(name)
    return _checked(source, module.read(path, wanted))


def _checked(source: str, table: Table) -> tuple[Table, str]:
    """Check all that can be checked without another table: lengths, shapes, finite numbers."""
    n = table.x.shape[0]
    if table.y is not None and len(table.y) != n:
        raise DataError(f"{source}: x has {n} examples, y has {len(table.y)}")
    if n == 0:
        raise DataError(f"{source}: holds no examples")
    if table.x.ndim < 2 or 0 in table.x.shape:
        raise DataError(f"{source}: x has shape {table.x.shape}, expected (examples, features ...)")
    _check_finite(source, table)
    return table, source


def _check_finite(source: str, table: Table) -> None:
    """Refuse NaN, infinity and what is infinite as float32."""
    values = table.x if isinstance(table.x, np.ndarray) else table.x.data
    if values.dtype.kind != "f" or not values.size or is_finite(values):
        return
    bad = ~(np.abs(values) <= LARGEST)
    first = int(np.flatnonzero(bad)[0])
    if isinstance(table.x, np.ndarray):
        row, *place = (int(i) for i in np.unravel_index(first, values.shape))
    else:
        row, place = int(np.searchsorted(table.x.indptr, first, side="right")) - 1, [int(table.x.indices[first])]
    where = f"row {row}, column {', '.join(map(str, place))}, counted from 0"
    if table.lines is not None:
        where = f"line {table.lines[row]}, column {table.columns[place[0]]!r}"
    n_bad = int(bad.sum())
    raise DataError(
        f"{source}: x holds {n_bad} {'value' if n_bad == 1 else 'values'} not finite in float32, "
        f"the first is {values.flat[first]} at {where}"
    )


def _check_shape(source: str, table: Table, shape: tuple[int, ...], expected_by: str) -> None:
    if table.x.shape[1:] != shape:
        raise DataError(f"{source}: examples have shape {table.x.shape[1:]}, expected {shape} as in {expected_by}")


def _scaled(source: str, x: npt.NDArray[np.float32], scaling: Scaling) -> npt.NDArray[np.float32]:
    scaling.apply(x, out=x)
    if scaling.kind != "none" and not is_finite(x):
        raise DataError(f"{source}: values lie so far from those of the training set that scaling makes them infinite")
    return x


def _dense(source: str, table: Table, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the given rows as new (rows, *shape) float32, C-contiguous; bytes become 0..1."""
    shape = (len(rows), *table.x.shape[1:])
    need_memory(Path(source), f"{' x '.join(map(str, shape))} float32 values", 4 * prod(shape))
    x = np.empty(shape, np.float32)
    step = max(1, _PIECE_ELEMENTS // prod(shape[1:]))
    for start in range(0, len(rows), step):
        piece, into = table.x[rows[start : start + step]], x[start : start + step]
        if not isinstance(piece, np.ndarray):
            piece.toarray(out=into)
        elif piece.dtype == np.uint8:
            np.divide(piece, np.float32(255), out=into)
        else:
            into[...] = piece
    return x
