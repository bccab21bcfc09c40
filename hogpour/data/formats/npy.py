"""numpy's npy: one array, x. It has no y, so it is for ``predict``; ``npz`` holds both.

The file is read here, not by ``numpy.load``, which believes a header and allocates what it says; here the header must
agree with the size of the file, and that with the memory that there is. Pickled objects are refused.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from hogpour.core.errors import DataError
from hogpour.data.formats.base import COMPRESSIONS, Table, Wanted, fill, need_memory, opened, shaped

__all__ = ["PATTERNS", "check_features", "read", "read_array"]

PATTERNS = ("*.npy",)

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(path: Path, wanted: Wanted) -> Table:
    """Read x; bytes stand for 0..1."""
    if not wanted.predicting:
        raise DataError(f"{path}: holds x alone, expected x and y: numpy.savez(file, x=x, y=y) makes an npz of both")
    with opened(path) as file:
        n_bytes = None if path.suffix.lower() in COMPRESSIONS else path.stat().st_size
        x = read_array(path, file, "x", n_bytes)
    return Table(check_features(path, x), None)


def check_features(path: Path, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return x where it holds numbers, or raise DataError."""
    if x.dtype.kind not in "buif":
        raise DataError(f"{path}: x holds {x.dtype.name}, expected numbers")
    return x


def read_array(path: Path, file: IO[bytes], key: str, n_bytes: int | None) -> npt.NDArray[Any]:
    """Read an array with its header.

    Args:
        path, key: the file and what the array is called, for messages.
        n_bytes: that the file holds, header and all; None: not known, as it is compressed.
    """
    shape, fortran, dtype = _header(path, file, key)
    wanted = prod(shape) * dtype.itemsize
    said = f"header of {key} says shape {shape} {dtype.name}, {wanted} bytes"
    if n_bytes is not None and n_bytes - file.tell() != wanted:
        raise DataError(f"{path}: {said}, the file holds {n_bytes - file.tell()}")
    need_memory(path, f"{key}, shape {shape} {dtype.name},", wanted)
    data, got = fill(file, wanted)
    if got != wanted:
        raise DataError(f"{path}: {key} is truncated, got {got} bytes, expected {wanted}")
    flat = data.view(dtype)
    return shaped(path, flat, shape[::-1]).T if fortran else shaped(path, flat, shape)


def _header(path: Path, file: IO[bytes], key: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]}, expected 1.0 or 2.0")
        shape, fortran, dtype = _HEADERS[version](file)
    except (ValueError, TypeError, SyntaxError, TokenError) as exc:  # numpy reads headers as Python
        raise DataError(f"{path}: {key} has no valid npy header ({str(exc)[:200]})") from exc
    if dtype.hasobject:
        what = "numbers, or text: save it as y.astype(str)" if key.startswith("y") else "numbers"
        raise DataError(f"{path}: {key} holds pickled objects, expected {what}")
    if dtype.itemsize == 0 or any(size < 0 for size in shape):
        raise DataError(f"{path}: {key} has no valid npy header (shape {shape}, {dtype.itemsize} bytes an item)")
    return shape, fortran, dtype
