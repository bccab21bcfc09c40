"""numpy's npz: a zip file of arrays, x and y. Pickled objects are refused.

The members are read here, not by ``numpy.load``, which believes a member's header and allocates what it says; here the
header must agree with the size in the zip's directory, and that with the memory that there is.
"""

from __future__ import annotations

import struct
import zipfile
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from hogpour.core.errors import DataError
from hogpour.data.formats.base import Table, Wanted, fill, need_memory, opened

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*.npz",)

# Besides BadZipFile: encrypted, or written by a later zip (RuntimeError); offsets and names that cannot be.
_ZIP_FAULTS = (RuntimeError, ValueError, OverflowError, struct.error)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(path: Path, wanted: Wanted) -> Table:
    """Read the arrays x and y; bytes in x stand for 0..1."""
    with opened(path) as file, _archive(path, file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        for key in ("x", "y") if wanted.need_y else ("x",):
            if key not in names:
                raise DataError(f"{path}: holds no array {key!r}, got {', '.join(map(repr, names[:8])) or 'none'}")
        x = _member(path, archive, "x")
        y = _member(path, archive, "y") if "y" in names else None
    if x.dtype.kind not in "buif":
        raise DataError(f"{path}: x holds {x.dtype.name}, expected numbers")
    if y is not None and y.dtype.kind not in "buifU":
        raise DataError(f"{path}: y holds {y.dtype.name}, expected numbers or text")
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
        shape, fortran, dtype = _header(path, member, key)
        n_bytes = prod(shape) * dtype.itemsize
        held = directory.file_size - member.tell()
        if n_bytes != held:
            said = f"header of {key} says shape {shape} {dtype.name}, {n_bytes} bytes"
            raise DataError(f"{path}: {said}, the file holds {held}")
        need_memory(path, f"{key}, shape {shape} {dtype.name},", n_bytes)
        data, got = fill(member, n_bytes)
        if got != n_bytes:
            raise DataError(f"{path}: {key} is truncated, got {got} bytes, expected {n_bytes}")
    flat = data.view(dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _header(path: Path, member: IO[bytes], key: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]}, expected 1.0 or 2.0")
        shape, fortran, dtype = _HEADERS[version](member)
    except ValueError as exc:
        raise DataError(f"{path}: {key} has no valid npy header ({exc})") from exc
    if dtype.hasobject:
        raise DataError(f"{path}: {key} holds pickled objects, expected numbers")
    if dtype.itemsize == 0 or any(size < 0 for size in shape):
        raise DataError(f"{path}: {key} has no valid npy header (shape {shape}, {dtype.itemsize} bytes an item)")
    return shape, fortran, dtype
