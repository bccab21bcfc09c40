"""A simulated disk for snapshots: slow, torn by a kill, forgetful in a power cut. Pure: time and chance are arguments.

A ``Platter`` is what stays when a machine dies, a ``SimulatedDisk`` one process's handle on it (a ``model.disk.Disk``):

    platter = Platter("runs")
    disk = platter.mount(loop.time, executor.spend, rng, delay_s=0.005, bandwidth=2e8)
    Writer(Path("runs/m.snapshot"), disk)...
    disk.crash(loop.time(), power=True)          # from here on this handle only raises
    disk = platter.mount(...)                    # the next life

Production code waits for its disk in a thread; here it runs inline, at one frozen moment, and sees at once what it did,
as through a page cache. But the disk does one operation after the other and keeps a journal of when each is done. A
crash undoes what was not: the operation that was under way is torn, those after it never were. In a power cut every
change of a name whose folder was not synced since is kept or lost by lot, each for itself: worse than most file
systems, and what POSIX allows. Chance only: the same generator and the same calls leave the same bytes.

A path is a string below no root; its folder must be there, as anywhere. One thing is simpler than in a file system: a
file is its path. So a file that is written over after a rename that is lost takes the new bytes under its old name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path, PurePath
from typing import Literal

import numpy as np

__all__ = ["Platter", "SimulatedDisk"]

Tree = dict[str, bytes | None]
"""What is there by path: a file's bytes, None for a folder."""


@dataclass(slots=True)
class _Entry:
    """One operation that changes something, or makes changes last."""

    kind: Literal["folder", "write", "rename", "remove", "sync"]
    path: str
    begun_s: float
    done_s: float
    data: bytes = b""
    target: str = ""
    """The new name, in the same folder."""
    over: bool = False
    """A write over a file that was there: it changes no name."""
    kept: bool = False
    """No power cut takes it back, unless a folder around it is lost."""
    by: SimulatedDisk | None = None
    """Whose operation it is."""

    def apply(self, tree: Tree) -> None:
        """Do it, if what it is done to is there: with a name that was lost, what came after it is."""
        if self.path not in tree and (self.over or self.kind not in ("folder", "write")):
            return
        if self.kind == "remove":
            for path in [path for path in tree if path == self.path or _inside(path, self.path)]:
                del tree[path]
        elif self.kind == "rename":
            tree[self.target] = tree.pop(self.path)
        elif self.kind == "folder" and _folder_of(self.path) in tree:
            tree[self.path] = None
        elif self.kind == "write" and _folder_of(self.path) in tree:
            tree[self.path] = self.data


class Platter:
    """What survives the lives of a machine.

    Args:
        folders: that are there from the beginning, with those around them; ``.`` always is.
        capacity_bytes: of all files together; a write that does not fit leaves the part that does and raises ENOSPC.
            May be set at any time.

    Attributes:
        read_only: nothing can be changed: EROFS. May be set at any time.
    """

    def __init__(self, *folders: str, capacity_bytes: float = inf) -> None:
        self.capacity_bytes, self.read_only = capacity_bytes, False
        self._disks: list[SimulatedDisk] = []
        self._locks: dict[str, tuple[SimulatedDisk, bytes]] = {}
        # What no power cut takes back; what was done to that since, in the order of time; and what both make together.
        self._base: Tree = {}
        for folder in (".", *folders):
            path = PurePath(folder)
            self._base |= {str(around): None for around in (path, *path.parents)}
        self._journal: list[_Entry] = []
        self._syncs: list[_Entry] = []  # those of the journal
        self._tree = dict(self._base)

    def mount(
        self,
        now: Callable[[], float],
        spend: Callable[[float], None],
        rng: np.random.Generator,
        *,
        delay_s: float,
        bandwidth: float,
    ) -> SimulatedDisk:
        """Return the handle of a new process. Several may be there at a time, and see what each other does.

        Args:
            now: virtual time, seconds; only grows over all lives.
            spend: called in every operation with the seconds that it takes. Whoever runs production code inline
                delays the end of the call by their sum.
            rng: belongs to the handle from now on.
            delay_s: seconds that an operation takes besides its bytes.
            bandwidth: bytes per second, of reads and writes.
        """
        self._disks.append(SimulatedDisk(self, now, spend, rng, delay_s=delay_s, bandwidth=bandwidth))
        return self._disks[-1]

    def fill(self) -> None:
        """Leave no room for another byte."""
        self.capacity_bytes = self._size

    def check_room(self, path: Path) -> None:
        """Raise what writing another byte to a file would; takes no time."""
        if self.read_only:
            raise _error(errno.EROFS, str(path))
        if self.capacity_bytes <= self._size:
            raise _error(errno.ENOSPC, str(path))

    def flip(self, path: Path, bit: int) -> None:
        """Turn over one bit of a file, for good, while nobody has the platter: what rots is data at rest.

        Args:
            bit: taken modulo the bits of the file.
        """
        assert not self._disks, "the platter is mounted: crash comes first"
        old = self._tree[str(path)]
        assert old, f"{path}: not a file with bytes"
        data = bytearray(old)
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        self._do(_Entry("write", str(path), -inf, -inf, bytes(data), over=True, kept=True))

    @property
    def _size(self) -> int:
        return sum(len(file) for file in self._tree.values() if file)

    @property
    def pending(self) -> int:
        """Operations in the journal: not done yet, or not safe from a power cut."""
        return len(self._journal)

    def _do(self, entry: _Entry) -> None:
        self._journal.append(entry)
        if entry.kind == "sync":
            self._syncs.append(entry)
        entry.apply(self._tree)

    def _settle(self, now: float) -> None:
        """Let syncs that are done take effect, and forget what nothing can take back any more."""
        if any(sync.done_s <= now for sync in self._syncs):
            for k, sync in enumerate(self._journal):
                if sync.kind == "sync" and sync.done_s <= now:
                    _keep(self._journal[:k], sync.path)
            self._journal = [entry for entry in self._journal if entry.kind != "sync" or entry.done_s > now]
            self._syncs = [sync for sync in self._syncs if sync.done_s > now]
        safe = 0
        for entry in self._journal:
            if not entry.kept or entry.done_s > now:
                break
            entry.apply(self._base)
            safe += 1
        del self._journal[:safe]

    def _crash(self, now: float, rng: np.random.Generator, disk: SimulatedDisk, *, power: bool) -> None:
        assert not power or self._disks == [disk], "another process is there, which a power cut ends first"
        self._settle(now)
        left = [entry for entry in self._journal if entry.done_s <= now or entry.by is not disk]
        left += [
            torn
            for entry in self._journal
            if entry.by is disk and entry.begun_s <= now < entry.done_s
            if (torn := _torn(entry, rng)) is not None
        ]
        if power:
            # Between crashes in which nearly everything is lost and those in which nearly nothing is: what breaks a
            # writer is often that all is lost but one.
            share = rng.random()
            left = [entry for entry in left if entry.kept or rng.random() < share]
        self._tree = dict(self._base)
        for entry in left:
            entry.apply(self._tree)
        self._base, self._journal = (dict(self._tree), []) if power else (self._base, left)
        self._syncs = [entry for entry in self._journal if entry.kind == "sync"]
        self._disks.remove(disk)
        self._locks = {path: (held, who) for path, (held, who) in self._locks.items() if held is not disk}


class SimulatedDisk:
    """One process's handle on a platter, made by ``Platter.mount``; ``model.disk.Disk`` says what each operation does.

    A folder is removed name by name, in an order by lot, and each name is an operation: a crash leaves any part of it.
    """

    def __init__(
        self,
        platter: Platter,
        now: Callable[[], float],
        spend: Callable[[float], None],
        rng: np.random.Generator,
        *,
        delay_s: float,
        bandwidth: float,
    ) -> None:
        self.platter, self._now, self._spend, self._rng = platter, now, spend, rng
        self._delay_s, self._bandwidth = delay_s, bandwidth
        self._dead = False
        self.busy_until = -inf
        """Virtual time at which everything that was begun is done.

        Calls that begin while others are under way wait for them here, but are not told by ``spend``: whoever runs
        several at a time ends none before this, as it was when the call returned.
        """

    def crash(self, now: float, *, power: bool = False) -> None:
        """End this life of the machine.

        Kill a node's disk first and cancel its tasks afterwards: what they still clean up must not reach the platter.

        Args:
            now: virtual time; what is done later than this did not happen.
            power: the operating system dies too, and its page cache.
        """
        assert not self._dead, "crashed before"
        self._dead = True
        self.platter._crash(now, self._rng, self, power=power)

    def make_folder(self, path: Path, *, exist_ok: bool = False) -> None:
        begun, done = self._take(str(path))
        found = self._tree.get(str(path), b"")
        if str(path) in self._tree and not (exist_ok and found is None):
            raise _error(errno.EEXIST, str(path))
        self._check_folder(path)
        if str(path) not in self._tree:
            self._do(_Entry("folder", str(path), begun, done))

    def write(self, path: Path, data: bytes) -> None:
        old = self._tree.get(str(path), b"")
        free = self.platter.capacity_bytes - self.platter._size + len(old or b"")
        part = data if len(data) <= free else data[: max(0, int(free))]
        begun, done = self._take(str(path), len(part))
        if old is None:
            raise _error(errno.EISDIR, str(path))
        self._check_folder(path)
        over = str(path) in self._tree
        self._do(_Entry("write", str(path), begun, done, bytes(part), over=over, kept=over))
        if len(part) < len(data):
            raise _error(errno.ENOSPC, str(path))

    def read(self, path: Path) -> bytes:
        data = self._tree.get(str(path), b"")
        self._take(str(path), len(data or b""))
        if str(path) not in self._tree:
            self._check_folder(path)
            raise _error(errno.ENOENT, str(path))
        if data is None:
            raise _error(errno.EISDIR, str(path))
        return data

    def rename(self, source: Path, target: Path) -> None:
        begun, done = self._take(str(source))
        assert source.parent == target.parent, f"{source} to {target}: not in one folder"
        if str(source) not in self._tree:
            raise _error(errno.ENOENT, str(source))
        assert self._tree[str(source)] is not None, f"{source}: a folder"
        if self._tree.get(str(target), b"") is None:
            raise _error(errno.EISDIR, str(source))
        self._do(_Entry("rename", str(source), begun, done, target=str(target)))

    def sync(self, folder: Path) -> None:
        begun, done = self._take(str(folder))
        self._check_is_folder(str(folder))
        self._do(_Entry("sync", str(folder), begun, done))

    def names(self, folder: Path) -> list[str]:
        self._take(str(folder))
        self._check_is_folder(str(folder))
        return [PurePath(path).name for path in self._tree if path != str(folder) and _folder_of(path) == str(folder)]

    def exists(self, path: Path) -> bool:
        self._take(str(path))
        return str(path) in self._tree

    def remove(self, path: Path) -> None:
        begun, done = self._take(str(path))
        if self._tree.get(str(path), b"") is None:
            raise _error(errno.EISDIR, str(path))
        if str(path) in self._tree:
            self._do(_Entry("remove", str(path), begun, done))

    def remove_folder(self, path: Path) -> None:
        self._take(str(path))
        if self._tree.get(str(path), b"") is not None or self.platter.read_only:
            return
        inside = [name for name in self._tree if _inside(name, str(path))]
        self._rng.shuffle(inside)
        inside.sort(key=lambda name: -len(PurePath(name).parts))  # stable: what is deepest goes first
        for name in (*inside, str(path)):
            begun, done = self._take(name)
            self._do(_Entry("remove", name, begun, done))

    def lock(self, path: Path, holder: bytes) -> bytes | None:
        """Takes no time, and no name in the folder: what is left of a lock is none."""
        if self.platter.read_only:
            raise _error(errno.EROFS, str(path))
        held = self.platter._locks.setdefault(str(path), (self, holder))
        return None if held[0] is self else held[1]

    def unlock(self, path: Path) -> None:
        if self.platter._locks.get(str(path), (None, b""))[0] is self:
            del self.platter._locks[str(path)]

    def _do(self, entry: _Entry) -> None:
        if self.platter.read_only and entry.kind != "sync":
            raise _error(errno.EROFS, entry.path)
        entry.by = self
        self.platter._do(entry)

    @property
    def _tree(self) -> Tree:
        return self.platter._tree

    def _take(self, path: str, size: int = 0) -> tuple[float, float]:
        """Be busy with an operation; return when it begins and is done."""
        if self._dead:
            raise _error(errno.EIO, path)
        now, cost = self._now(), self._delay_s + size / self._bandwidth
        self.platter._settle(now)
        begun = max(now, self.busy_until)
        self.busy_until = begun + cost
        self._spend(cost)
        return begun, self.busy_until

    def _check_folder(self, path: Path) -> None:
        """Raise what the system does for a path that cannot be in any folder."""
        self._check_is_folder(_folder_of(str(path)), str(path))

    def _check_is_folder(self, folder: str, path: str = "") -> None:
        found = self._tree.get(folder, b"")
        if found is not None:
            raise _error(errno.ENOTDIR if folder in self._tree else errno.ENOENT, path or folder)


def _keep(entries: list[_Entry], folder: str) -> None:
    """Mark what a sync of a folder makes last. With a removal, what was done before inside of what it removed."""
    for k, entry in enumerate(entries):
        if not entry.kept and _folder_of(entry.path) == folder:
            entry.kept = True
            if entry.kind == "remove":
                for before in entries[:k]:
                    before.kept |= _inside(before.path, entry.path)


def _torn(entry: _Entry, rng: np.random.Generator) -> _Entry | None:
    """Return what is left of an operation that was under way, if anything is."""
    if entry.kind == "sync" or rng.random() < 0.5:
        return None
    data = entry.data[: rng.integers(len(entry.data) + 1)]
    return replace(entry, data=data, kept=False, done_s=entry.begun_s)


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")


def _inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)
