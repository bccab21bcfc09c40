"""Data sets: from files to the arrays on which replicas train.

    formats/*.read → Table → labels learnt, rows shuffled and split → scaling → float32 → Dataset

``load`` does all of it for a job, ``load_features`` for ``predict``, with the ``Encoding`` that training left in the
model file. Everything is read and checked before anything is returned; what is wrong ends in one ``DataError`` that
names the file. Knows no models: whether y is labels or values is told (the loss decides).
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core import registry
from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError, DataError
from hogpour.core.job import DataConfig, RunConfig, section
from hogpour.data import formats, given, labels
from hogpour.data.blocks import generator
from hogpour.data.dataset import Data, Dataset, Encoding, Features
from hogpour.data.features import Rows, are_bytes, check_finite, warn_of_rounding
from hogpour.data.formats.base import Separator, Table, Targets, Wanted, need_memory
from hogpour.data.scaling import Kind, Scaling
from hogpour.data.sparse import by_frequency, encoded_rows, fit_scaling, rows_of

__all__ = ["Data", "Dataset", "Encoding", "Features", "Scaling", "arrays", "encoded", "load", "load_features",
           "shuffled"]  # fmt: skip

_SPLIT, _SHUFFLE = 3, 4
"""Keys of this file's random streams; those of ``data.blocks`` are 1 and 2."""


def load(
    train: str | PathLike[str],
    test: str | PathLike[str] | None = None,
    *,
    format: str = "",
    scale: Kind = "none",
    label: str = "",
    ignore: tuple[str, ...] = (),
    header: bool | None = None,
    separator: Separator = ",",
    validation: float = 0.1,
    targets: Targets = "labels",
    n_features: int = 0,
    first_index: int | None = None,
    hash_bits: int = 18,
    word_ngrams: int = 1,
    seed: int = 0,
    sparse: bool = False,
    base: str | Path = "",
) -> Data:
    """Read the data of a job.

    Args:
        train: file, or the name of an embedded data set ("digits", which has a test set of its own).
        test: the same; None or "" where there is none.
        format: name of both files' format; "" goes by their names.
        scale: "none", "unit" (the training set's features become 0..1) or "standard" (mean 0, variance 1).
        label: csv: the column that is y; "" means the last one that is not ignored.
        ignore: csv: columns that are neither feature nor label.
        header: csv: whether the first line names the columns; None: it does, and is refused where it looks like an
            example. Without a header they are called "1", "2" ...
        separator: csv: what stands between two cells.
        validation: fraction of the training examples that becomes the test set where there is none, 0 to 0.9; 0 splits
            off nothing. Drawn by the seed, of each label in its share, but never the last example of one.
        targets: "labels" or "values"; which of them follows from the loss.
        n_features: svmlight: number of features; 0 means the highest index of the training file.
        first_index: svmlight: index of the first feature, 0 or 1; None: 0 where the training file has an index 0.
        hash_bits: vw, libffm, fasttext: features are hashed into 2^hash_bits, 1 to 30.
        word_ngrams: fasttext: so many words that follow each other are a feature as well, and all fewer; 1 to 5.
        seed: of the split and of the order of the training examples, 0 or more.
        sparse: whether examples become rows of a ``Csr``, for a first layer that takes such.
        base: folder in which relative paths begin: that of the job file.

    Raises:
        ConfigError: an option is out of range.
        DataError: a file is missing, corrupt or does not fit the options or the other file.
        ResourceError: the examples do not fit into the memory.

    Warns:
        DataWarning: they are taken, but perhaps not as they were meant.
    """
    options = _checked_options(
        targets, seed, train=train, test="" if test is None else test, format=format, scale=scale, label=label,
        ignore=ignore, header=header, separator=separator, validation=validation, n_features=n_features,
        first_index=first_index, hash_bits=hash_bits, word_ngrams=word_ngrams,
    )  # fmt: skip
    asked = ("n_features", "first_index", "label", "ignore", "header", "separator", "hash_bits", "word_ngrams")
    chosen = {key: getattr(options, key) for key in asked}
    wanted, base = Wanted(sparse=sparse, **chosen), Path(registry.typed(base, str, "base"))
    table, source = _read(options.train, base, format, wanted)
    other = None
    if options.test or _is_embedded(options.train, base, format):
        like = Wanted(
            part="test", n_features=prod(table.x.shape[1:]), first_index=table.first_index, label=table.label,
            header=options.header, separator=options.separator, n_columns=table.n_columns, columns=table.columns,
            hash_bits=options.hash_bits, word_ngrams=options.word_ngrams,
        )  # fmt: skip
        other = _read(options.test or options.train, base, format, like)
    return _assemble((table, source), other, options, targets, seed, sparse)


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
        x, test_x: (n, *shape) numbers; uint8 becomes 0..1. The columns of a DataFrame are found by their names, in
            ``test_x`` and in what is predicted. A sparse matrix of SciPy stays sparse, for a first layer that takes it.
        y, test_y: (n,) labels, or (n,) or (n, n_values) numbers.
    """
    options = _checked_options(targets, seed, scale=scale, validation=validation)
    if (test_x is None) != (test_y is None):
        raise ConfigError("arrays: test_x and test_y go together, got one of them")
    columns = given.column_names(x, "arrays: x")
    table = Table(given.features(x, "arrays: x"), given.answers(y, "arrays: y"), columns=columns)
    other = None
    if test_x is not None:
        tests = given.features(test_x, "test arrays: x", columns), given.answers(test_y, "test arrays: y")
        other = _checked("test arrays", Table(*tests, columns=columns))
    return _assemble(_checked("arrays", table), other, options, targets, seed, isinstance(table.x, Csr))


def _checked_options(targets: str, seed: int, **options: Any) -> DataConfig:
    """Check what a job file's ``[data]`` can say by its rules, and the rest."""
    registry.typed(targets, Targets, "targets")
    section(RunConfig, {"run": {"seed": seed}}, "run")
    return section(DataConfig, {"data": options}, "data")


def _assemble(
    train: tuple[Table, str],
    test: tuple[Table, str] | None,
    options: DataConfig,
    targets: Targets,
    seed: int,
    sparse: bool,
) -> Data:
    """Learn labels and scaling from the training table, split or take the test table, and encode both."""
    table, source = train
    shape = table.x.shape[1:]
    names, numeric = labels.learn(source, table) if targets == "labels" else ((), False)
    assert table.y is not None
    in_text = "int64" if table.label else "str"  # a csv has nothing but text
    y_dtype = table.y.dtype.name if table.y.dtype.kind in "buif" else in_text
    encoding = Encoding(
        shape, targets, names, Scaling.none(), table.label, table.columns, table.first_index,
        numeric_labels=numeric, bytes=are_bytes(source, table.x, None), n_columns=table.n_columns, y_dtype=y_dtype,
        y_flat=table.y.ndim == 1, separator=options.separator, hash_bits=table.hash_bits,
        word_ngrams=options.word_ngrams,
    )  # fmt: skip
    y = _encode_y(source, table, encoding, source)
    if test is not None:
        other, other_source = test
        _check_shape(other_source, other, encoding, source)
        test_y = _encode_y(other_source, other, encoding, source)
        test_rows, train_rows = np.arange(len(test_y)), generator(seed, _SHUFFLE).permutation(len(y))
        if test_y.shape[1:] != y.shape[1:]:
            raise DataError(f"{other_source}: y has {test_y.shape[1]} values an example, {source} has {y.shape[1]}")
    else:
        test_rows, train_rows = _split(source, y, options.validation, seed)
        other, other_source, test_y = table, source, y
    x: npt.NDArray[np.float32] | Csr
    if sparse:
        need_memory(source, f"{prod(shape)} features", 24 * prod(shape))  # three times int64 to count and sort them
        rows = rows_of(table.x, train_rows, bool(encoding.bytes))
        scaling, order = fit_scaling(source, options.scale, rows), by_frequency(rows)
        encoding = replace(encoding, scaling=scaling, by_frequency=order)
        x = encoded_rows(source, rows, scaling, order)
    else:
        encoding, x = _scaled(source, table, train_rows, encoding, options.scale)
    trained = Dataset(x, y[train_rows], len(names), names, source, train_rows)
    tested = None
    if len(test_rows):
        x = _encode_x(other_source, other, test_rows, encoding)
        tested = Dataset(x, test_y[test_rows], len(names), names, other_source, test_rows)
    return Data(trained, tested, encoding)


def _scaled(
    source: str, table: Table, which: npt.NDArray[np.int64], encoding: Encoding, scale: Kind
) -> tuple[Encoding, npt.NDArray[np.float32]]:
    """Learn the scaling of dense training examples, and apply it to them."""
    exact = scale != "none"
    training = Rows(source, table, which, bool(encoding.bytes), exact)
    if not exact:
        todo = 'data.scale = "standard" keeps its values apart'
        warn_of_rounding(source, table.x, training, table.columns, "column", todo)
    encoding = replace(encoding, scaling=Scaling.fit(scale, training))
    return encoding, training.scaled(encoding.scaling)


def _split(
    source: str, y: npt.NDArray[Any], validation: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw the validation set: of each label its share, rounded so that the sum is that of all.

    The last example of a label is never held back: nobody would learn it.

    Returns:
        Rows of the validation set, ascending; and rows to train on, in the order of the seed.
    """
    order = generator(seed, _SPLIT).permutation(len(y))
    if not validation:
        return order[:0], order
    groups = y[order] if y.ndim == 1 else np.zeros(len(y), np.int64)
    counts = np.bincount(groups)
    spare = np.maximum(counts - 1, 0)
    n_test = min(max(1, round(validation * len(y))), int(spare.sum()))
    if not n_test:
        what = "1 example" if len(y) == 1 else f"{len(y)} examples, each of another label"
        raise DataError(f"{source}: holds {what}: none can be held back to validate; set data.validation = 0")
    shares = counts * n_test / len(y)
    held = np.minimum(np.floor(shares).astype(np.int64), spare)
    while missing := n_test - int(held.sum()):
        room = np.flatnonzero(held < spare)
        first = room[np.argsort(held[room] - shares[room], kind="stable")][:missing]
        held[first] += 1
    by_label = np.argsort(groups, kind="stable")
    rank = np.empty(len(y), np.int64)  # of an example among those of its label
    rank[by_label] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_held = rank < held[groups]
    return np.sort(order[is_held]), order[~is_held]


def load_features(
    path: str | PathLike[str], encoding: Encoding, *, format: str = "", base: str | Path = ""
) -> Features:
    """Read examples for a trained model, encoded and scaled as in training.

    Args:
        path: file, or "digits" for its test part. y may be absent: no array y, no labels file, no label column; and
            where it cannot be used, because labels are missing or not known to the model, it is left out.
        encoding: from ``Data.encoding``, by way of the model file.
        format: name of the file's format; "" goes by its name.
        base: folder in which a relative path begins.

    Raises:
        DataError: the file is missing, corrupt, or holds other features than the model was trained on.
        ResourceError: the examples do not fit into the memory.
    """
    wanted = Wanted(
        predicting=True, part="test", n_features=prod(encoding.shape), first_index=encoding.first_index,
        label=encoding.label, columns=encoding.columns, n_columns=encoding.n_columns,
        header=False if encoding.n_columns else None, separator=encoding.separator,
        hash_bits=encoding.hash_bits, word_ngrams=encoding.word_ngrams,
    )  # fmt: skip
    table, source = _read(registry.typed(path, str, "path"), Path(registry.typed(base, str, "base")), format, wanted)
    _check_shape(source, table, encoding, "the model's training set")
    y, no_y = None, ""
    if table.y is not None:
        try:
            y = _encode_y(source, table, encoding, "the model")
        except DataError as exc:
            no_y = str(exc)
    x = _encode_x(source, table, np.arange(len(table.x)), encoding)
    return Features(x, y, source, no_y)


def encoded(x: npt.NDArray[Any] | Csr, encoding: Encoding, name: str) -> npt.NDArray[np.float32] | Csr:
    """Return examples that are in memory as the model takes them.

    Args:
        x: (n, ...) numbers, from ``given.features``; read only.
        name: what to call them in messages.

    Returns:
        float32 of the same shape, or sparse rows, new: bytes as 0..1, scaled, finite.

    Raises:
        DataError: they are not finite, or on another scale than the training set.
    """
    table = Table(x, None, columns=encoding.columns)
    check_finite(name, table)
    return _encode_x(name, table, np.arange(len(x)), encoding)


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """Return the same examples in an order that the seed decides; new arrays.

    ``load`` has done so with the training set: files are often sorted by label, and a block of examples that one
    replica takes should look like the whole. For sets that were made otherwise.
    """
    order = generator(seed, _SHUFFLE).permutation(dataset.n)
    x = dataset.x.take(order) if isinstance(dataset.x, Csr) else dataset.x[order]
    rows = order if dataset.rows is None else dataset.rows[order]
    return replace(dataset, x=x, y=dataset.y[order], rows=rows)


def _is_embedded(name: str, base: Path, format: str) -> bool:
    return not formats.find(base / name, name, format).PATTERNS


def _read(name: str, base: Path, format: str, wanted: Wanted) -> tuple[Table, str]:
    """Read a file and check it by itself."""
    if "\0" in name:
        raise DataError(f"{name!r:.200}: a path holds no NUL")
    path = base / name
    module = formats.find(path, name, format)
    source = str(path) if module.PATTERNS else name
    return _checked(source, module.read(path, wanted))


def _checked(source: str, table: Table) -> tuple[Table, str]:
    """Check all that can be checked without another table: lengths, shapes, finite numbers."""
    if table.y is not None and table.y.ndim == 0:
        raise DataError(f"{source}: y is one value, expected one for each example")
    if len(table.x.shape) < 2 or 0 in table.x.shape[1:]:
        raise DataError(f"{source}: x has shape {table.x.shape}, expected (examples, features ...)")
    n = len(table.x)
    if table.y is not None and len(table.y) != n:
        raise DataError(f"{source}: x has {n} examples, y has {len(table.y)}")
    if n == 0:
        raise DataError(f"{source}: holds no examples")
    check_finite(source, table)
    return table, source


def _check_shape(source: str, table: Table, encoding: Encoding, expected_by: str) -> None:
    if encoding.hash_bits and not table.hash_bits:
        raise DataError(f"{source}: features are numbered, expected hashed names as in {expected_by}")
    if table.x.shape[1:] != encoding.shape:
        raise DataError(
            f"{source}: examples have shape {table.x.shape[1:]}, expected {encoding.shape} as in {expected_by}"
        )


def _encode_y(source: str, table: Table, encoding: Encoding, known_by: str) -> npt.NDArray[Any]:
    if encoding.targets == "values":
        return labels.values_of(source, table)
    return labels.codes_of(source, table, encoding.label_names, encoding.numeric_labels, known_by)


def _encode_x(
    source: str, table: Table, rows: npt.NDArray[np.int64], encoding: Encoding
) -> npt.NDArray[np.float32] | Csr:
    divide = are_bytes(source, table.x, encoding.bytes)
    if encoding.sparse:
        return encoded_rows(source, rows_of(table.x, rows, divide), encoding.scaling, encoding.by_frequency)
    return Rows(source, table, rows, divide, encoding.scaling.kind != "none").scaled(encoding.scaling)
