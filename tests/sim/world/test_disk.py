"""The simulated disk keeps what it must and loses what it may; and snapshots written onto it outlive every crash."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.core.errors import LayoutError, ResourceError
from hogpour.core.job import DataConfig
from hogpour.core.shard_map import cut
from hogpour.data.load import Encoding, Scaling
from hogpour.layers.sequential import network_of
from hogpour.model import snapshot as snapshot_file
from hogpour.model.description import Description
from hogpour.model.disk import Disk, RealDisk
from hogpour.model.snapshot import Meta, Writer, read
from hogpour.model.training_state import TrainingState
from hogpour.sim.world.disk import Platter, SimulatedDisk

A, B, FOLDER = Path("a"), Path("b"), Path("f")


@dataclass
class Machine:
    """A platter and the virtual time of whoever uses it."""

    platter: Platter = field(default_factory=Platter)
    now: float = 0.0
    spent: float = 0.0

    def mount(self, seed: int = 0, *, delay_s: float = 1.0, bandwidth: float = 1.0) -> SimulatedDisk:
        rng = np.random.default_rng(seed)
        return self.platter.mount(lambda: self.now, self.spend, rng, delay_s=delay_s, bandwidth=bandwidth)

    def spend(self, seconds: float) -> None:
        self.spent += seconds

    def wait(self) -> None:
        """Let the time pass that was spent."""
        self.now, self.spent = self.now + self.spent, 0.0

    def left(self) -> dict[str, bytes | None]:
        """What is there, below the root."""
        return {path: data for path, data in self.platter._tree.items() if path != "."}


def outcomes(
    work: Callable[[SimulatedDisk], None],
    at: float,
    *,
    power: bool = False,
    before: Callable[[SimulatedDisk], None] = lambda disk: None,
) -> list[dict[str, bytes | None]]:
    """All that may be left of some work that is begun at 0 and ended by a crash; ``before`` is done and synced."""
    found: list[dict[str, bytes | None]] = []
    for seed in range(60):
        machine = Machine()
        machine.now = -100.0
        disk = machine.mount(seed)
        before(disk)
        disk.sync(Path("."))
        machine.now = 0.0
        work(disk)
        disk.crash(at, power=power)
        if machine.left() not in found:
            found.append(machine.left())
    return sorted(found, key=repr)


@pytest.fixture(params=[SimulatedDisk, RealDisk])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The simulated disk, and the real one in an empty folder: they do the same while nothing crashes."""
    monkeypatch.chdir(tmp_path)
    return Machine().mount() if request.param is SimulatedDisk else RealDisk()


# -- one operation ----------------------------------------------------------------------------------------------------


def test_an_operation_takes_its_delay_and_its_bytes_and_waits_for_the_one_before() -> None:
    machine = Machine()
    disk = machine.mount(delay_s=2.0, bandwidth=10.0)
    disk.write(A, b"x" * 30)
    assert (machine.spent, disk.busy_until) == (5.0, 5.0)
    disk.rename(A, B)
    assert (machine.spent, disk.busy_until) == (7.0, 7.0)
    assert disk.read(B) == b"x" * 30
    assert (machine.spent, disk.busy_until) == (12.0, 12.0)
    machine.now = 20.0
    assert disk.names(Path(".")) == ["b"]
    assert (machine.spent, disk.busy_until) == (14.0, 22.0)


def test_what_was_done_is_seen_at_once(disk: Disk) -> None:
    disk.make_folder(FOLDER)
    disk.write(FOLDER / "a", b"1")
    disk.write(FOLDER / "a", b"22")
    disk.write(FOLDER / "b", b"")
    disk.sync(FOLDER)
    assert sorted(disk.names(FOLDER)) == ["a", "b"]
    disk.rename(FOLDER / "a", FOLDER / "b")
    assert disk.names(FOLDER) == ["b"]
    assert (disk.read(FOLDER / "b"), disk.exists(FOLDER / "a"), disk.exists(FOLDER)) == (b"22", False, True)
    disk.remove(FOLDER / "b")
    disk.remove(FOLDER / "b")
    assert disk.names(FOLDER) == []
    disk.write(FOLDER / "c", b"3")
    disk.make_folder(FOLDER / "d")
    disk.remove_folder(FOLDER)
    disk.remove_folder(FOLDER)
    assert not disk.exists(FOLDER)


@pytest.mark.parametrize(("work", "code", "path"), [
    (lambda disk: disk.read(B), errno.ENOENT, "b"),
    (lambda disk: disk.read(FOLDER), errno.EISDIR, "f"),
    (lambda disk: disk.read(A / "x"), errno.ENOTDIR, "a/x"),
    (lambda disk: disk.names(A), errno.ENOTDIR, "a"),
    (lambda disk: disk.names(B), errno.ENOENT, "b"),
    (lambda disk: disk.sync(B), errno.ENOENT, "b"),
    (lambda disk: disk.make_folder(FOLDER), errno.EEXIST, "f"),
    (lambda disk: disk.make_folder(A, exist_ok=True), errno.EEXIST, "a"),
    (lambda disk: disk.make_folder(B / "x"), errno.ENOENT, "b/x"),
    (lambda disk: disk.write(B / "x", b""), errno.ENOENT, "b/x"),
    (lambda disk: disk.write(FOLDER, b""), errno.EISDIR, "f"),
    (lambda disk: disk.rename(B, A), errno.ENOENT, "b"),
    (lambda disk: disk.rename(A, FOLDER), errno.EISDIR, "a"),
    (lambda disk: disk.remove(FOLDER), errno.EISDIR, "f"),
])  # fmt: skip
def test_errors_are_those_of_the_system(disk: Disk, work: Callable[[Disk], None], code: int, path: str) -> None:
    disk.write(A, b"1")
    disk.make_folder(FOLDER)
    disk.make_folder(FOLDER, exist_ok=True)
    with pytest.raises(OSError) as caught:
        work(disk)
    assert (caught.value.errno, str(caught.value.filename)) == (code, path)


def test_a_file_is_no_folder_to_remove(disk: Disk) -> None:
    disk.write(A, b"1")
    disk.remove_folder(A)
    assert disk.read(A) == b"1"


def test_folders_that_were_always_there_need_not_be_made() -> None:
    disk = Machine(Platter("runs/today")).mount()
    disk.write(Path("runs/today/a"), b"1")
    assert (disk.names(Path("runs")), disk.names(Path("."))) == (["today"], ["runs"])


def test_a_full_disk_takes_what_fits_and_says_so_until_there_is_room() -> None:
    machine = Machine(Platter(capacity_bytes=5))
    disk = machine.mount()
    disk.write(A, b"123")
    with pytest.raises(OSError) as caught:
        disk.write(B, b"4567")
    assert (caught.value.errno, caught.value.filename, disk.read(B)) == (errno.ENOSPC, "b", b"45")
    disk.write(A, b"321")  # over the old one
    disk.remove(B)
    disk.write(B, b"67")
    machine.platter.capacity_bytes = 7
    disk.write(B, b"6789")
    assert disk.read(B) == b"6789"


# -- crashes ----------------------------------------------------------------------------------------------------------


def test_a_kill_tears_the_write_that_is_under_way() -> None:
    def work(disk: SimulatedDisk) -> None:
        disk.write(A, b"123")  # until 4
        disk.write(B, b"x")

    assert outcomes(work, at=4.5) == [{"a": b"123", "b": b""}, {"a": b"123", "b": b"x"}, {"a": b"123"}]
    assert outcomes(work, at=3.9) == [{"a": b""}, {"a": b"1"}, {"a": b"12"}, {"a": b"123"}, {}]
    assert outcomes(work, at=6.0) == [{"a": b"123", "b": b"x"}]


def test_a_write_over_a_file_that_is_torn_leaves_the_old_one_or_a_part_of_the_new() -> None:
    left = outcomes(lambda disk: disk.write(A, b"new"), at=1.0, before=lambda disk: disk.write(A, b"old"))
    assert left == [{"a": b""}, {"a": b"n"}, {"a": b"ne"}, {"a": b"new"}, {"a": b"old"}]


def test_a_rename_that_is_under_way_happens_or_not() -> None:
    def before(disk: SimulatedDisk) -> None:
        disk.write(A, b"new")
        disk.write(B, b"old")

    assert outcomes(lambda disk: disk.rename(A, B), at=0.5, before=before) == [{"a": b"new", "b": b"old"}, {"b": b"new"}]
    assert outcomes(lambda disk: disk.rename(A, B), at=1.0, before=before) == [{"b": b"new"}]


def test_a_folder_is_removed_name_by_name() -> None:
    def before(disk: SimulatedDisk) -> None:
        disk.make_folder(FOLDER)
        disk.write(FOLDER / "a", b"1")
        disk.write(FOLDER / "b", b"2")
        disk.sync(FOLDER)

    left = outcomes(lambda disk: disk.remove_folder(FOLDER), at=2.5, before=before)  # looked until 1, the first until 2
    assert left == [{"f": None, "f/a": b"1"}, {"f": None, "f/b": b"2"}, {"f": None}]
    assert outcomes(lambda disk: disk.remove_folder(FOLDER), at=4.0, before=before) == [{}]


def test_a_kill_loses_no_name_that_was_not_synced() -> None:
    def work(disk: SimulatedDisk) -> None:
        disk.make_folder(FOLDER)
        disk.write(FOLDER / "a", b"1")
        disk.rename(FOLDER / "a", FOLDER / "b")

    assert outcomes(work, at=9.0) == [{"f": None, "f/b": b"1"}]


def test_a_power_cut_may_lose_any_name_that_was_not_synced() -> None:
    def work(disk: SimulatedDisk) -> None:
        disk.write(A, b"1")
        disk.write(B, b"2")
        disk.rename(A, Path("c"))

    assert outcomes(work, at=9.0, power=True) == [
        {"a": b"1", "b": b"2"}, {"a": b"1"}, {"b": b"2", "c": b"1"}, {"b": b"2"}, {"c": b"1"}, {},
    ]  # fmt: skip

    def synced(disk: SimulatedDisk) -> None:
        work(disk)  # until 5
        disk.sync(Path("."))

    assert outcomes(synced, at=6.0, power=True) == [{"b": b"2", "c": b"1"}]
    assert len(outcomes(synced, at=5.9, power=True)) == 6


def test_a_folder_takes_what_is_in_it_when_a_power_cut_loses_its_name() -> None:
    def work(disk: SimulatedDisk) -> None:
        disk.make_folder(FOLDER)
        disk.write(FOLDER / "a", b"1")
        disk.sync(FOLDER)

    assert outcomes(work, at=9.0, power=True) == [{"f": None, "f/a": b"1"}, {}]


def test_a_removal_that_was_not_synced_may_come_undone() -> None:
    left = outcomes(lambda disk: disk.remove(A), at=9.0, power=True, before=lambda disk: disk.write(A, b"1"))
    assert left == [{"a": b"1"}, {}]


def test_what_was_not_synced_in_one_life_is_lost_by_a_power_cut_in_the_next() -> None:
    left = []
    for seed in range(20):
        machine = Machine()
        disk = machine.mount(seed)
        disk.write(A, b"1")
        machine.wait()
        disk.crash(machine.now)
        disk = machine.mount(seed)
        assert disk.read(A) == b"1"
        disk.crash(machine.now + 5, power=True)
        left.append(bool(machine.left()))
    assert set(left) == {True, False}


def test_a_handle_is_dead_after_the_crash_and_changes_nothing() -> None:
    machine = Machine()
    disk = machine.mount()
    disk.write(A, b"1")
    machine.wait()
    disk.crash(machine.now)
    for work in (
        lambda: disk.make_folder(B),
        lambda: disk.write(A, b"2"),
        lambda: disk.read(A),
        lambda: disk.rename(A, B),
        lambda: disk.sync(Path(".")),
        lambda: disk.names(Path(".")),
        lambda: disk.exists(A),
        lambda: disk.remove(A),
        lambda: disk.remove_folder(A),
    ):
        with pytest.raises(OSError, match="Input/output error"):
            work()
    assert (machine.left(), machine.spent) == ({"a": b"1"}, 0.0)
    assert machine.mount().read(A) == b"1"


def test_a_process_that_is_killed_leaves_what_others_do_on_the_same_platter() -> None:
    machine = Machine()
    one, other = machine.mount(), machine.mount(1)
    other.write(A, b"whole")
    one.write(B, b"torn")
    one.crash(machine.now)
    assert machine.left()["a"] == b"whole"
    assert machine.left().get("b", b"") != b"torn"
    machine.wait()
    other.crash(machine.now, power=True)


def test_nothing_changes_on_a_read_only_platter_and_everything_is_read() -> None:
    machine = Machine()
    disk = machine.mount()
    disk.make_folder(FOLDER)
    disk.write(A, b"1")
    machine.platter.read_only = True
    for work in (lambda: disk.write(A, b"2"), lambda: disk.rename(A, B), lambda: disk.remove(A), lambda: disk.lock(B, b""),
                 lambda: disk.make_folder(B)):  # fmt: skip
        with pytest.raises(OSError, match="Read-only file system"):
            work()
    disk.remove_folder(FOLDER)  # raises nothing, as ever
    disk.sync(Path("."))
    assert machine.left() == {"f": None, "a": b"1"}


def test_a_full_platter_takes_another_byte_when_there_is_room_again() -> None:
    machine = Machine()
    disk = machine.mount()
    disk.write(A, b"1")
    machine.platter.fill()
    with pytest.raises(OSError, match="No space left"):
        disk.write(B, b"2")
    disk.write(A, b"3")
    machine.platter.capacity_bytes = inf
    disk.write(B, b"2")
    assert machine.left() == {"a": b"3", "b": b"2"}


def test_a_lock_is_held_by_one_process_and_ends_with_it() -> None:
    machine = Machine()
    one, other = machine.mount(), machine.mount()
    assert one.lock(A, b"one") is None
    assert other.lock(A, b"other") == b"one"
    other.unlock(A)
    assert other.lock(A, b"other") == b"one", "it was not his to give back"
    one.crash(machine.now)
    assert other.lock(A, b"other") is None
    other.unlock(A)
    assert machine.mount().lock(A, b"third") is None


def test_a_bit_that_rots_does_so_for_good() -> None:
    machine = Machine()
    disk = machine.mount()
    disk.write(A, b"\0\0")
    disk.sync(Path("."))
    machine.wait()
    disk.crash(machine.now)
    machine.platter.flip(A, 9)
    machine.mount().crash(machine.now, power=True)
    assert machine.left() == {"a": b"\0\2"}


def test_the_journal_forgets_what_nothing_can_take_back() -> None:
    machine = Machine()
    disk, longest = machine.mount(), 0
    for _ in range(50):
        disk.make_folder(FOLDER)
        disk.write(FOLDER / "a", b"1")
        disk.sync(FOLDER)
        disk.remove_folder(FOLDER)
        disk.sync(Path("."))
        machine.wait()
        longest = max(longest, machine.platter.pending)
    assert longest == 6
    disk.exists(A)
    assert machine.platter.pending == 0


# -- snapshots --------------------------------------------------------------------------------------------------------


def meta_of_a_small_job() -> Meta:
    job = hp.Job(
        data=DataConfig(train="iris.csv", scale="standard"),
        model=[hp.Linear(3)],
        algorithm=hp.Hogwild(optimiser=hp.Adagrad(0.1)),
        epochs=1,
        batch=4,
        save="m.safetensors",
    )
    network = network_of(job, (4,))
    offset, factor = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    encoding = Encoding((4,), "labels", ("a", "b", "c"), Scaling("standard", offset, factor), "species", ("v", "w", "x", "y"))
    return Meta(Description(job, network, encoding), cut(network.spec.n, 64), ("history",))


META = meta_of_a_small_job()
N, SHARDS = META.bounds[-1], len(META.bounds) - 1
STATE = TrainingState(tickets=1, pending=(), steps=0, examples=4, n=120, block_replicas=1)
PLACE = Path("m.snapshot")


def vectors(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(2, N) float32: parameters and row of a run at some moment."""
    return np.random.default_rng(number).normal(size=(2, N)).astype(np.float32)


def calls_of(writer: Writer, number: int) -> list[Callable[[], object]]:
    """What a run does, one call after the other, to take a snapshot of ``vectors(number)``."""
    params, row = vectors(number)
    parts = [slice(*META.bounds[k : k + 2]) for k in range(SHARDS)]
    return [
        lambda: writer.begin(META),
        *(lambda k=k, part=part: writer.shard(k, params[part], [row[part]], number) for k, part in enumerate(parts)),
        lambda: writer.commit(replace(STATE, steps=number)),
    ]


def take(writer: Writer, number: int) -> None:
    for call in calls_of(writer, number):
        call()


def life(
    machine: Machine, disk: SimulatedDisk, writer: Writer, numbers: count[int], end: float, power: bool
) -> tuple[list[int], int]:
    """Take snapshots until the machine dies; return those that were committed, and the one whose commit was not done (or 0)."""
    committed: list[int] = []
    for number in numbers:
        calls = calls_of(writer, number)
        for call in calls:
            call()
            if machine.now + machine.spent > end:
                disk.crash(end, power=power)
                machine.now, machine.spent = end, 0.0
                return committed, number if call is calls[-1] else 0
            machine.wait()
        committed.append(number)
    raise AssertionError("numbers end")


def found(disk: Disk) -> tuple[int, list[Path]]:
    """Which snapshot is read, every byte of it looked at, and its files; (0, []): there is none."""
    try:
        snapshot = read(PLACE, disk)
        params, row = np.zeros((2, N), np.float32)
        clock = snapshot.fill(params, {META.rows[0]: row})
    except LayoutError:
        return 0, []
    number = snapshot.state.steps
    assert clock == number, f"{number} has clock {clock}"
    assert vectors(number).tobytes() == params.tobytes() + row.tobytes(), f"{number} is not what was written"
    return number, [snapshot.folder / name for name in sorted(disk.names(snapshot.folder))]


def damaged(disk: Disk) -> list[int]:
    """Those that have a manifest and are not whole."""
    broken = []
    for number in snapshot_file._numbers(disk, PLACE)[0]:
        try:
            snapshot_file._read(disk, PLACE / str(number))
        except LayoutError:
            broken.append(number)
    return broken


def look(machine: Machine, work: Callable[[Disk], Any]) -> Any:
    """Do what only reads, in a short life of its own."""
    disk = machine.mount(delay_s=0.0, bandwidth=inf)
    got = work(disk)
    disk.crash(machine.now)
    return got


def experiment(seed: int, wrap: Callable[[Disk], Disk] = lambda disk: disk, lives: int = 6) -> int:
    """Crash a machine that writes snapshots at a random moment of each life; return how often one was there afterwards.

    After every crash, of the process or of the power:

    - the newest that was committed is read, or one whose commit had begun after it, and a kill takes neither back;
    - whatever has a manifest is whole;
    - when a bit of the newest rots, the one before it is read.
    """
    rng, machine, numbers = np.random.default_rng(seed), Machine(), count(1)
    committed, begun, before, n_found = [0, 0], set[int](), 0, 0
    for _ in range(lives):
        power, end = rng.random() < 0.5, machine.now + rng.uniform(0.0, 0.7)
        disk = machine.mount(int(rng.integers(1 << 30)), delay_s=0.005, bandwidth=1e6)
        added, under_way = life(machine, disk, Writer(PLACE, wrap(disk)), numbers, end, power)
        committed += added
        begun = ({under_way} if added else begun | {under_way}) - {0}
        last, (got, files) = committed[-1], look(machine, found)
        where = f"seed {seed}, after a {'power cut' if power else 'kill'} at {end:.3f} s: "
        assert got == last or got in begun, f"{where}{got} is read, {last} was committed, {sorted(begun)} had begun"
        assert power or got >= before, f"{where}{got} is read, {before} was before"
        assert look(machine, damaged) == [], f"{where}one has a manifest and is not whole"
        before = got
        if not got:
            continue
        n_found += 1
        path, bit = files[rng.integers(len(files))], int(rng.integers(1 << 30))
        machine.platter.flip(path, bit)
        other, _ = look(machine, found)
        machine.platter.flip(path, bit)
        least = committed[-2] if got == last else last
        assert other >= least, f"{where}with a wrong bit in {path} {other} is read, {least} was committed"
    return n_found


@pytest.mark.long
def test_of_snapshots_a_whole_one_is_left_whenever_the_machine_dies() -> None:
    """Forty machines die 240 times, of a kill or a power cut."""
    assert sum(experiment(seed) for seed in range(40)) > 220  # else: before there was any


class Ablated:
    """A disk on which a safeguard of the writer does nothing."""

    def __init__(self, disk: Disk) -> None:
        self._disk, self._before = disk, ""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            before, self._before = self._before, name
            return self.do(name, before, *arguments, **more)

        return call

    def do(self, name: str, before: str, *arguments: Any, **more: Any) -> Any:
        """Do an operation that comes after another, both by name."""
        return getattr(self._disk, name)(*arguments, **more)


class ManifestFirst(Ablated):
    """What is in a snapshot is written when its manifest has its name."""

    def do(self, name: str, before: str, *arguments: Any, **more: Any) -> Any:
        if name == "make_folder":
            self._held: list[tuple[Path, bytes]] = []
        if name == "write" and arguments[0].suffix == ".safetensors":
            self._held.append(arguments)
            return
        got = super().do(name, before, *arguments, **more)
        if name == "rename":
            for path, data in self._held:
                self._disk.write(path, data)
        return got


class SyncsNot(Ablated):
    """Without the syncs of a folder of a snapshot that come after the given operation."""

    after = ""

    def do(self, name: str, before: str, *arguments: Any, **more: Any) -> Any:
        if name == "sync" and before == self.after and arguments[0].parent == PLACE:
            return None
        return super().do(name, before, *arguments, **more)


class BeforeTheRename(SyncsNot):
    """The manifest may have its name before the shards have theirs."""

    after = "write"


class AfterTheRename(SyncsNot):
    """The manifest may lose its name when the commit is done."""

    after = "rename"


class OfAManifestThatIsRemoved(SyncsNot):
    """Story: the manifest of a snapshot that is removed came back in a power cut, its shards did not."""

    after = "remove"


class OfTheOneThatIsKept(SyncsNot):
    """Story: killed in its commit, the writer left 5 without the last sync. The next committed 6 and removed 4, as 5
    and 6 were complete; a power cut took the manifest of 5; and when 6 rotted, nothing was left."""

    after = "exists"


class OfTheFolder(Ablated):
    """Without the last sync: the folder of a snapshot may lose its name."""

    def do(self, name: str, before: str, *arguments: Any, **more: Any) -> Any:
        if (name, *arguments) != ("sync", PLACE):
            return super().do(name, before, *arguments, **more)


class OfTheFolderAroundIt(Ablated):
    """Story: nobody synced the folder in which ``m.snapshot`` was made; a power cut took all snapshots with it."""

    def do(self, name: str, before: str, *arguments: Any, **more: Any) -> Any:
        if (name, *arguments) != ("sync", PLACE.parent):
            return super().do(name, before, *arguments, **more)


ABLATIONS: list[tuple[type[Ablated], int, str]] = [
    (ManifestFirst, 1, "one has a manifest and is not whole"),
    (BeforeTheRename, 4, "one has a manifest and is not whole"),
    (AfterTheRename, 1, "8 is read, 9 was committed"),
    (OfTheFolder, 2, "0 is read, 2 was committed"),
    (OfTheFolderAroundIt, 2, "0 is read, 2 was committed"),
    (OfAManifestThatIsRemoved, 2, "one has a manifest and is not whole"),
    (OfTheOneThatIsKept, 232, "0 is read, 4 was committed"),
]


@pytest.mark.parametrize(("ablated", "seed", "said"), ABLATIONS)
def test_without_one_of_the_syncs_or_the_order_a_crash_breaks_a_snapshot(ablated: type[Ablated], seed: int, said: str) -> None:
    experiment(seed)
    with pytest.raises(AssertionError, match=f"^seed {seed}, .*{said}"):
        experiment(seed, ablated)


def test_without_digests_a_wrong_bit_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment(0)
    monkeypatch.setattr(snapshot_file, "_digest", lambda data: "")
    with pytest.raises(AssertionError, match=r"^8 is not what was written"):
        experiment(0)


def test_a_full_disk_leaves_the_older_snapshot_and_what_was_begun_is_removed() -> None:
    machine = Machine()
    disk = machine.mount()
    writer = Writer(PLACE, disk)
    take(writer, 1)
    used = sum(len(data) for data in machine.left().values() if data)
    for more in range(0, used, 97):
        machine.platter.capacity_bytes = used + more
        with pytest.raises(ResourceError, match=r"^snapshot m\.snapshot: cannot be written: No space left on device$"):
            take(writer, 2)
        assert (disk.names(PLACE), found(disk)[0]) == (["1"], 1)
    machine.platter.capacity_bytes = 2 * used + 100
    take(writer, 2)
    assert found(disk)[0] == 2


def test_the_journal_of_a_long_run_stays_short() -> None:
    machine = Machine()
    writer, longest = Writer(PLACE, machine.mount()), 0
    for number in range(20):
        for call in calls_of(writer, number):
            call()
            machine.wait()
            longest = max(longest, machine.platter.pending)
    assert longest < 40


def test_the_same_seed_leaves_the_same_bytes() -> None:
    def left(seed: int) -> dict[str, bytes | None]:
        machine = Machine()
        disk = machine.mount(seed, delay_s=0.005, bandwidth=1e6)
        life(machine, disk, Writer(PLACE, disk), count(1), 0.45, power=True)
        return machine.left()

    once, again = [left(seed) for seed in range(8)], [left(seed) for seed in range(8)]
    assert once == again
    assert any(one != once[0] for one in once)


def test_a_writer_that_is_dead_cleans_nothing_up() -> None:
    """A task that is cancelled because its machine died still gives up its snapshot; the next life must find it torn."""
    machine = Machine()
    disk = machine.mount()
    writer = Writer(PLACE, disk)
    begin, shard, *_ = calls_of(writer, 1)
    begin()
    machine.wait()
    disk.crash(machine.now)
    left = machine.left()
    with pytest.raises(ResourceError, match="Input/output error"):
        shard()
    writer.abandon()
    assert machine.left() == left
    assert "m.snapshot/1/scaling.safetensors" in left
