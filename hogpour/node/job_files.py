"""Which files a job names that another node handed out, and which of them a node reads: the folder that its user gave
is a boundary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath, PureWindowsPath

from hogpour.core.errors import ConfigError
from hogpour.core.job import DataConfig, Job
from hogpour.data import formats

__all__ = ["files_of", "kept_below"]


def kept_below(folder: str, data: DataConfig) -> DataConfig:
    """Return the same data below a folder: a path that begins elsewhere, or leads out of it, is its file name there.

    Raises:
        ConfigError: a file lies outside all the same, by a link.
    """
    kept = replace(data, train=_below(folder, data.train), test=_below(folder, data.test))
    root = Path(folder).resolve()
    for name in (kept.train, kept.test):
        if not (root / name).resolve().is_relative_to(root):
            raise ConfigError(f"--data {folder}: {name} leads to {(root / name).resolve()}, which lies outside; put "
                              "the file there, or give the folder that it is in")  # fmt: skip
    return kept


def _below(folder: str, name: str) -> str:
    there = PureWindowsPath(name)
    path = there if there.is_absolute() else PurePath(name)
    return path.name if path.is_absolute() or ".." in path.parts else name


def files_of(job: Job) -> list[Path]:
    """Return the files that a job has a node read; none where its data are embedded, or loaded."""
    if not isinstance(job.data, DataConfig):
        return []
    named = [(Path(job.base) / name, name) for name in (job.data.train, job.data.test) if name]
    return [path for path, name in named if formats.find(path, name, job.data.format).PATTERNS]
