"""MNIST's idx: a big-endian header with type and dimensions, then the numbers; one file of images, one of labels.

    0x00 0x00, type (1 byte), number of dimensions (1 byte), each dimension (4 bytes), the data in C order

Naming the images file finds the labels file: in the name, "images" becomes "labels", and "idx3" becomes "idx1".
"""

from __future__ import annotations

import os
import re
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import DataError
from hogpour.data.formats.base import COMPRESSIONS, Table, Wanted, fill, need_memory, opened, shaped

__all__ = ["PATTERNS", "read"]

PATTERNS = ("*[-.]idx[0-9]-ubyte", "*[-.]idx[0-9]")

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: Path, wanted: Wanted) -> Table:
    """Read a pair of idx files: x (n, *shape) of the file's type, y (n,)."""
    x = _read(path)
    labels = _labels(path, not wanted.predicting)
    if labels is None:
        return Table(x, None)
    y = _read(labels)
    if y.ndim != 1:
        raise DataError(f"{labels}: labels have {y.ndim} dimensions, expected 1")
    return Table(x, y)


def _read(path: Path) -> npt.NDArray[Any]:
    with opened(path) as file:
        head = file.read(4)
        if len(head) < 4:
            raise DataError(f"{path}: truncated, got {len(head)} bytes, expected an idx header")
        if head[:2] != b"\0\0" or head[2] not in _TYPES or head[3] == 0:
            raise DataError(f"{path}: begins with 0x{head.hex()}, expected an idx magic number such as 0x00000803")
        dtype, n_dimensions = np.dtype(_TYPES[head[2]]), head[3]
        sizes = file.read(4 * n_dimensions)
        if len(sizes) < 4 * n_dimensions:
            raise DataError(
                f"{path}: truncated, got {4 + len(sizes)} bytes, expected a header of {4 + 4 * n_dimensions}"
            )
        shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
        n_bytes = prod(shape) * dtype.itemsize
        said = f"header says {' x '.join(map(str, shape))} {dtype.name}, {n_bytes} bytes"
        if path.suffix.lower() not in COMPRESSIONS:
            got = path.stat().st_size - 4 - 4 * n_dimensions
            if got != n_bytes:
                raise DataError(f"{path}: {said}, the file holds {got}")
        need_memory(path, f"{' x '.join(map(str, shape))} {dtype.name}", n_bytes)
        data, got = fill(file, n_bytes)
        if got != n_bytes:
            raise DataError(f"{path}: {said}, the file holds {'more' if got > n_bytes else got}")
    return shaped(path, data.view(dtype), shape)


def _labels(path: Path, need: bool) -> Path | None:
    """Return the labels file of an images file: compressed alike, or if that is not there, in any other way."""
    name = re.sub(r"(?i)idx\d", lambda found: found[0][:3] + "1", path.name.replace("images", "labels"))
    if "images" not in path.name:
        if need:
            raise DataError(f'{path}: the name has no "images" that "labels" could stand for; cannot find the labels')
        return None
    plain = name.removesuffix(path.suffix) if path.suffix.lower() in COMPRESSIONS else name
    for other in (name, plain, *(plain + suffix for suffix in COMPRESSIONS)):
        if os.path.isfile(path.with_name(other)):  # unlike is_file of a path: a name may be too long with its suffix
            return path.with_name(other)
    if need:
        raise DataError(f"{path.with_name(name)}: no such file; expected the labels of {path.name} there")
    return None
