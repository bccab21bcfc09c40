"""What all formats share: the question, the answer, and the one door through which data files are opened.

Whatever goes wrong while a file is open becomes one ``DataError`` here: no exception of zlib, lzma, zipfile or the
operating system reaches the user. Declared sizes are held against the memory that there is before anything is
allocated.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from hogpour.core import host
from hogpour.core.csr import Csr
from hogpour.core.errors import DataError, ResourceError

__all__ = ["COMPRESSIONS", "Separator", "Table", "Targets", "Wanted", "check_dense", "explain", "fill", "is_number",
           "need_memory", "opened", "shaped"]  # fmt: skip

COMPRESSIONS: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
"""Last suffix of a compressed file → what opens it."""

_ZIP = b"PK\x03\x04"
_BEGINNINGS = {
    b"\x1f\x8b": "compressed by gzip; its name must end in .gz",
    b"\xfd7zXZ": "compressed by xz; its name must end in .xz",
    b"BZh91AY&SY": "compressed by bzip2; its name must end in .bz2",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or compress it by gzip, xz or bzip2",
    _ZIP: "a zip archive, such as a spreadsheet's (.xlsx); save the table as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "a spreadsheet or another document of Office (.xls); save the table as CSV",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}
"""What no format begins with, but npz with that of a zip archive → what such a file is."""

_NUMBER = re.compile(r"\s*[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)\s*", re.ASCII | re.IGNORECASE)

_PIECE_BYTES = 16 << 20
_LARGE, _MUCH = 1e9, 100
"""Dense rows of so many bytes, so many times their sparse file: are they meant?"""

Separator = Literal[",", ";", "\t", "|", " "]
"""What may stand between two cells of a csv."""

Targets = Literal["labels", "values"]
"""What y is: the label of each example, or the values that a regression predicts."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a file, by the job or by the training set that was read before it."""

    predicting: bool = False
    """Whether a trained model asks: y may be absent, and features that the model does not know are left out."""
    sparse: bool = False
    """Whether sparse rows stay so, and nobody needs memory for dense ones."""
    part: Literal["train", "test"] = "train"
    """The part of a file or of an embedded data set that has two."""
    n_features: int = 0
    """svmlight: number of features; 0 means as many as the highest index asks for."""
    first_index: int | None = None
    """svmlight: index of the first feature, 0 or 1; None means 0 if any row has an index 0."""
    label: str = ""
    """csv: name of the label column; "" means the last one that is neither ignored nor a feature."""
    ignore: tuple[str, ...] = ()
    """csv: columns that are left out."""
    header: bool | None = None
    """csv: whether line 1 names the columns; None: it does, and is refused where it looks like an example."""
    separator: Separator = ","
    """csv: what stands between two cells."""
    n_columns: int = 0
    """csv without header: columns of the training file; 0: as many as there are."""
    columns: tuple[str, ...] = ()
    """csv: the feature columns, found by name, in this order; () means all but label and ignored ones."""
    hash_bits: int = 0
    """vw, libffm, fasttext: names of features become numbers of so many bits."""
    word_ngrams: int = 1
    """fasttext: so many words that follow each other are a feature, and all fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What a file says, before anything is scaled, shuffled or checked. Owned by the caller."""

    x: npt.NDArray[Any] | Csr
    """(n, *shape) numbers of any type; bytes (uint8) stand for 0..1. Or sparse rows of float64 without zeros."""
    y: npt.NDArray[Any] | None
    """(n, ...) numbers, or text; None if the file has none and none is needed."""
    first_index: int | None = None
    """svmlight: index of the first feature."""
    label: str = ""
    """csv: name of the label column."""
    columns: tuple[str, ...] = ()
    """Names of the feature columns, where they have names."""
    n_columns: int = 0
    """csv without header: number of columns; 0: they have names, or it is no csv."""
    hash_bits: int = 0
    """Bits of the numbers of features that are hashes of their names; 0: they are not."""
    line: Callable[[int], int] | None = None
    """Text: row → line of the file, counted from 1."""

    def where(self, row: int, column: str = "") -> str:
        """Return how the user finds an example, and perhaps a column of it."""
        place = f"row {row}, counted from 0" if self.line is None else f"line {self.line(row)}"
        return f"{place}, column {column!r}" if column else place


@contextmanager
def opened(path: Path, archive: bool = False) -> Iterator[BinaryIO]:
    """Open a data file, compressed or not, for as long as the block runs.

    Args:
        archive: it may be a zip archive.

    Raises:
        DataError: the file cannot be opened or, while the block runs, proves truncated or corrupt.
        ResourceError: the block ran out of memory.
    """
    try:
        # A named pipe would be waited on for ever, and a folder has an error of its own on each system.
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: not a file")
        with COMPRESSIONS.get(path.suffix.lower(), open)(path, "rb") as file:
            head = file.peek(16)
            for beginning, what in _BEGINNINGS.items():
                if head.startswith(beginning) and not (archive and beginning == _ZIP):
                    raise DataError(f"{path}: is {what}")
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as exc:
        raise DataError(explain(path, exc)) from exc
    except MemoryError as exc:
        raise ResourceError(f"{path}: not enough memory to read it") from exc


def explain(path: Path, exc: Exception) -> str:
    """Return the line that tells the user why a file could not be read."""
    if isinstance(exc, FileNotFoundError):
        if not path.parent.is_dir():
            return f"{path}: no such file; there is no folder {path.parent}"
        names: list[str] = []
        with suppress(OSError):  # a folder may be entered and yet not be listed
            names = os.listdir(path.parent)
        near = get_close_matches(path.name, names, n=1, cutoff=0.6)
        return f"{path}: no such file" + (f"; did you mean {near[0]!r}?" if near else "")
    if isinstance(exc, PermissionError):
        return f"{path}: may not be read by this user"
    if isinstance(exc, OSError) and exc.errno is not None:
        return f"{path}: cannot be read ({exc.strerror})"
    return f"{path}: truncated or corrupt ({str(exc) or 'ends too early'})"


def fill(file: IO[bytes], n_bytes: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Read up to ``n_bytes``, and one more to see whether there is an end.

    A lying header costs address space only: pages are touched when bytes arrive for them.

    Returns:
        The bytes, (n_bytes,) uint8, new; and how many were there: ``n_bytes + 1`` stands for any greater number.
    """
    data = np.empty(n_bytes, np.uint8)
    view = data.data
    got = 0
    while got < n_bytes:
        n = file.readinto(view[got : got + _PIECE_BYTES])  # type: ignore[attr-defined]
        if not n:
            return data, got
        got += n
    return data, got + len(file.read(1))


def shaped(path: Path, flat: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return (n,) values in another shape, or raise DataError where numpy has none of so many or such long axes."""
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as exc:
        raise DataError(f"{path}: an array of {len(shape)} axes up to {max(shape)} cannot be made ({exc})") from exc


def need_memory(path: Path | str, what: str, n_bytes: int) -> None:
    """Check that ``n_bytes`` can be had.

    Args:
        path: the file in question.
        what: subject of the message, such as "3 examples of 7 float32 values".

    Raises:
        ResourceError: more than the machine, or its container, has left; names both numbers.
    """
    available = host.available_memory()
    if n_bytes > available:
        raise ResourceError(
            f"{path}: {what} need {n_bytes / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are available"
        )


def check_dense(path: Path, n: int, n_features: int, why: str, instead: str) -> None:
    """Raise DataError where the n examples of a sparse file become far too much as dense float32.

    Args:
        why, instead: of the message: why there are so many features, and what to do if not to train on sparse ones.
    """
    n_bytes, size = 4 * n * n_features, path.stat().st_size
    if n_bytes > max(_LARGE, _MUCH * size):
        raise DataError(
            f"{path}: {size / 1e6:.3g} MB would become {n_bytes / 1e9:.1f} GB of float32 values, as {why}; begin the "
            f'model with a layer that takes sparse examples, such as "sparse_linear", or {instead}'
        )


def is_number(text: str) -> bool:
    """Return whether a cell of a text file is a number. ``float`` also takes ``1_000`` and digits of other scripts."""
    return _NUMBER.fullmatch(text) is not None
