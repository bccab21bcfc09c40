"""One run at a time for one model file: it, and the snapshots beside it, are written by whoever holds a lock.

The lock ends with its process, however that ends; a file ``.model.lock`` that is left by ``kill -9`` is none.
"""

from __future__ import annotations

import errno
from pathlib import Path

from hogpour.core.errors import ResourceError
from hogpour.core.text import printable
from hogpour.model.disk import Disk

__all__ = ["held_by", "take"]

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems say that have none."""


def take(place: Path, who: str, disk: Disk) -> Path | None:
    """Lock what a run writes to, before anything is read or written there; return what ``disk.unlock`` gives back.

    None: the file system there has no locks.

    Args:
        place: of the model file, no link.
        who: takes it, for whoever comes second.

    Raises:
        ResourceError: another run has it, or no file can be made there.
    """
    path = place.with_name(f".{place.name.removesuffix('.safetensors')}.lock")  # both names have the same snapshots
    try:
        holder = disk.lock(path, who.encode())
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise ResourceError(f"{path}: cannot be made: {error.strerror}") from error
    if holder is not None:
        raise ResourceError(held_by(place, holder))
    return path


def held_by(place: Path, holder: bytes) -> str:
    """Return the line that says who has a model file; a process that has only just locked it has no name yet."""
    name = printable(holder[:200].decode(errors="replace")) or "another process"
    return (f"model file {place}: {name} trains it, and two runs would overwrite each other's model and snapshots; "
            "wait for its end, or give this run another --model")  # fmt: skip
