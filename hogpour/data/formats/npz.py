"""numpy's npz: a zip file of arrays, x and y; or x_train, y_train, x_test and y_test, as Keras writes them.

The members are read as ``npy`` reads its files: their headers must agree with the sizes in the zip's directory.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

from hogpour.core.errors import DataError
from hogpour.data.formats.base import Table, Wanted, opened
from hogpour.data.formats.npy import check_features, read_array

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.npz",)

# Besides BadZipFile: encrypted, or written by a later zip (RuntimeError); offsets and names that cannot be.
_ZIP_FAULTS = (RuntimeError, ValueError, OverflowError, struct.error)


def read(path: Path, wanted: Wanted) -> Table:
    """Read the arrays x and y, or those of the wanted part; bytes in x stand for 0..1."""
    with opened(path, archive=True) as file, _archive(path, file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        part = f"_{wanted.part}" if "x" not in names and f"x_{wanted.part}" in names else ""
        for key in ("x",) if wanted.predicting else ("x", "y"):
            if key + part not in names:
                got = ", ".join(map(repr, names[:8])) or "none"
                raise DataError(f"{path}: holds no array {key + part!r}, got {got}")
        x = _member(path, archive, "x" + part)
        y = _member(path, archive, "y" + part) if "y" + part in names else None
    check_features(path, x)
    if y is not None and y.dtype.kind not in "buifU":
        hint = ": save it as y.astype(str)" if y.dtype.kind in "ST" else ""
        raise DataError(f"{path}: y holds {y.dtype.name}, expected numbers or text{hint}")
    return Table(x, y)


def _archive(path: Path, file: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except _ZIP_FAULTS as exc:
        raise DataError(f"{path}: truncated or corrupt ({exc})") from exc


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> npt.NDArray[Any]:
    directory = archive.getinfo(f"{key}.npy")
    try:
        member = archive.open(directory)
    except _ZIP_FAULTS as exc:
        raise DataError(f"{path}: {key} cannot be read ({exc})") from exc
    with member:
        return read_array(path, member, key, directory.file_size)
