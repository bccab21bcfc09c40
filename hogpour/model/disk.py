"""The disk as snapshots need it: few operations, each with what is left of it after a kill and after a power cut.

A kill ends the process and leaves what the operating system had taken: an operation that had returned stays done. A
power cut also takes what the operating system had only in its memory. The names in a folder are such: a file whose
data are on the disk may still be without its name, and a rename or a removal may come undone, until ``sync`` of that
folder has returned. Names that were not synced are kept or lost each for itself, in no order.

``RealDisk`` is the operating system's. ``hogpour.sim.world.disk`` has one that loses as much as it may, for tests.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Protocol

__all__ = ["REAL", "Disk", "RealDisk"]


class Disk(Protocol):
    """Files and folders. Every operation returns when it is done, and raises OSError as the system gives it."""

    def make_folder(self, path: Path, *, exist_ok: bool = False) -> None:
        """Make a folder, in a folder that is there.

        Kill: it is there or not. Power cut: it and all that is in it may be lost until the folder around it was synced.

        Args:
            exist_ok: a folder that is there already is fine; a file is not.
        """
        ...

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file; its data, not its name, are on the disk on return. What it held before is gone first.

        Kill or power cut before the return: no file, or any part of the data from the beginning on. Power cut after it:
        all data, if the name is there; the name of a new file may be lost until its folder was synced.
        """
        ...

    def read(self, path: Path) -> bytes:
        """Return all bytes of a file."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name in the same folder; a file that had that name is replaced.

        Kill: the target is the old file or the new one, whole. Power cut: the same, and it may be the old one until the
        folder was synced.
        """
        ...

    def sync(self, folder: Path) -> None:
        """Have the names in a folder on the disk, not those in folders in it.

        On return nothing takes back what was done to these names: made, written, renamed or removed. Before it, a kill
        or a power cut leaves them as uncertain as they were.
        """
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, in any order."""
        ...

    def exists(self, path: Path) -> bool:
        """Return whether there is a file or a folder of this name."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file; one that is missing is fine.

        Kill: it is there, whole, or not. Power cut: it may come back until its folder was synced.
        """
        ...

    def remove_folder(self, path: Path) -> None:
        """Remove a folder with everything in it; one that is missing, or is a file, is fine.

        What the system does not remove stays and raises nothing: the rest goes all the same. Kill: any part of it may
        be left. Power cut: any part of it may come back until the folder around it was synced.
        """
        ...

    def lock(self, path: Path, holder: bytes) -> bytes | None:
        """Hold a file, made where it is missing, until ``unlock`` or the end of this process, and write who does.

        Kill or power cut: nobody holds it any more; the file may be left.

        Returns:
            None; or, where it is held already, what its holder wrote: perhaps nothing yet.
        """
        ...

    def unlock(self, path: Path) -> None:
        """Remove a file that this process holds, if it can be, and let go; one that it does not hold is left alone."""
        ...


class RealDisk:
    """The operating system's files; see ``Disk`` for every operation."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}  # descriptors, which no child inherits

    def make_folder(self, path: Path, *, exist_ok: bool = False) -> None:
        path.mkdir(exist_ok=exist_ok)

    def write(self, path: Path, data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, folder: Path) -> list[str]:
        return [path.name for path in folder.iterdir()]

    def exists(self, path: Path) -> bool:
        return path.exists()

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def lock(self, path: Path, holder: bytes) -> bytes | None:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _names(path, descriptor):
                    with suppress(OSError):  # a full disk: it is held all the same
                        os.ftruncate(descriptor, 0)
                        os.pwrite(descriptor, holder, 0)
                    self._held[path] = descriptor
                    return None
            except BlockingIOError:
                held = os.pread(descriptor, 4096, 0)
                os.close(descriptor)
                return held
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its holder has removed it meanwhile

    def unlock(self, path: Path) -> None:
        if (descriptor := self._held.pop(path, None)) is not None:
            with suppress(OSError):  # what is left is no lock; of the end of a run this is the least
                path.unlink(missing_ok=True)  # while it is held: who waits for the old file looks at its name again
            os.close(descriptor)

    def unlock_all(self) -> None:
        """Let go of everything: this process ends."""
        for path in tuple(self._held):
            self.unlock(path)


def _names(path: Path, descriptor: int) -> bool:
    """Return whether an open file still has its name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


REAL = RealDisk()
"""What everybody uses who is not given another."""
