"""The file formats of data sets, one file each, found by file name.

A format is a file of this folder with two names in it:

    PATTERNS: tuple[str, ...]     what its files are called, such as ``*.npz``; lower case, without .gz, .xz or .bz2.
                                  Empty: an embedded data set, asked for by the name of the format.
    def read(path: Path, wanted: Wanted) -> Table

``base`` holds what they share. They read a file whole and say what is in it; ``hogpour.data`` makes training data
of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

from hogpour.core.errors import ConfigError, DataError
from hogpour.data.formats.base import COMPRESSIONS, Table, Wanted

__all__ = ["Table", "Wanted", "find"]


def find(path: Path, embedded: str, format: str) -> ModuleType:
    """Return the format of a data file.

    Args:
        path: the file; need not exist.
        embedded: the words that the user wrote for it; the name of an embedded data set means that set.
        format: the name of the format, or "" to go by the name of the file.

    Raises:
        ConfigError: no format has that name.
        DataError: the name of the file belongs to no format.
    """
    formats = _formats()
    files = {name: module for name, module in formats.items() if module.PATTERNS}
    if format:
        if format not in files:
            raise ConfigError(f'format "{format}" is not known; known: {", ".join(files)}')
        return files[format]
    if embedded in formats and embedded not in files:
        return formats[embedded]
    stem = path.name.lower()
    for suffix in COMPRESSIONS:
        stem = stem.removesuffix(suffix)
    for module in files.values():
        if any(fnmatchcase(stem, pattern) for pattern in module.PATTERNS):
            return module
    known = "; ".join(f"{name} ({' '.join(module.PATTERNS)})" for name, module in files.items())
    raise DataError(f"{path}: the name tells no format; give one by format = ..., known: {known}")


def _formats() -> dict[str, ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}
