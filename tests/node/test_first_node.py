"""What the first node does besides: where shards begin, which snapshots are written, and which are kept."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.prepared import prepared

import hogpour as hp
from hogpour.algos.lbfgs.commands import Iteration, ResumePoint
from hogpour.core.errors import ClusterFailed, LayoutError, PeerLost, Refusal, RequestFailed
from hogpour.core.job import ClusterConfig
from hogpour.core.node_id import run_name
from hogpour.core.progress import Notice
from hogpour.machine.prepare import Prepared, prepare
from hogpour.model import snapshot
from hogpour.model.disk import REAL
from hogpour.net.loopback import Loopback
from hogpour.net.wire.base import Message
from hogpour.net.wire.heartbeat import Heartbeat
from hogpour.net.wire.push import Push
from hogpour.node import first_node as first_node_file
from hogpour.node import snapshots as snapshots_file
from hogpour.node.first_node import FirstNode
from hogpour.node.joining import Endpoint
from hogpour.node.shard_start import ShardStart
from hogpour.server.server import ParameterServer
from hogpour.shm.segment import anonymous_file

N = 20


@pytest.fixture
def job(tmp_path: Path) -> hp.Job:
    x = np.random.default_rng(0).normal(size=(N, 8))
    return hp.Job(
        data=hp.arrays(x, np.arange(N) % 3, validation=0),
        model=[hp.Linear(3)],
        algorithm=hp.Downpour(n_push=1, n_fetch=1, optimiser=hp.Adagrad(0.1)),
        batch=4,
        save=str(tmp_path / "m.safetensors"),
        cluster=ClusterConfig(shard_bytes=64),
    )


@pytest.fixture
def ready(job: hp.Job) -> Iterator[Prepared]:
    ready = prepare(job, 1, False, (anonymous_file(), anonymous_file()))
    yield ready
    ready.live.close()
    ready.examples.close()


class First:
    """A first node that trains when the test pushes."""

    def __init__(self, job: hp.Job, ready: Prepared, *, resume: bool = False) -> None:
        self.server, self.pushed = ParameterServer(job.algorithm.server_rule), 0
        self.told: list[Notice] = []
        endpoint = Endpoint(listen="", join="", token=b"", insecure=False, join_s=1.0, notify=self.told.append)
        self.handlers = endpoint.own
        self.handlers |= self.server.handlers()
        start = ShardStart.read(job, ready, resume, REAL)
        self.node = FirstNode(endpoint, job, ready, start, self.server)
        self.folder = snapshot.folder_beside(job.save)

    def push(self, value: float = 1.0) -> None:
        self.pushed += 1
        for state in self.server.table.states():
            grad = np.full(state.stop - state.start, value, np.float32)
            self.server.handlers()[Push](Push(state.shard, 1, 0, self.pushed, 0, 1, 1.0), memoryview(grad).cast("B"))

    def beat(self, pushes: int) -> None:
        coordinator = self.node.coordinator
        beat = Heartbeat(coordinator.home, 1, examples=4 * pushes, right=0, loss=0.0, pushes=pushes, staleness=0.0)
        self.node.requests.handlers(local=True)[Heartbeat](beat)

    async def snapshot(self) -> list[int]:
        """Take one, and return which there are."""
        await self.node.snapshots.take()
        return self.kept

    @property
    def kept(self) -> list[int]:
        return sorted(int(path.parent.name) for path in self.folder.glob("*/manifest.json"))

    @property
    def texts(self) -> list[str]:
        return [notice.text for notice in self.told]


async def test_a_run_that_goes_on_keeps_its_name(job: hp.Job, ready: Prepared) -> None:
    for resume in (False, True, True):
        first = First(job, ready, resume=resume)
        first.push()
        await first.snapshot()
    names = {json.loads(path.read_text())["snapshot"]["run"] for path in first.folder.glob("*/manifest.json")}
    assert len(names) == 1
    other = First(job, ready)
    other.push()
    await other.snapshot()
    assert {snapshot.read(first.folder).meta.run} != names


async def test_what_differs_between_the_job_and_its_snapshot_is_named(job: hp.Job, ready: Prepared) -> None:
    """Of two runs in one folder the one went on from the other's snapshot, with another learning rate and no word."""
    one = First(job, ready)
    one.push()
    await one.snapshot()
    other = replace(job, algorithm=hp.Downpour(n_push=1, n_fetch=2, optimiser=hp.Adagrad(0.3)))
    assert First(other, ready, resume=True).told[0] == Notice(
        "warning", f"snapshot {one.folder / '1'}: was trained with algorithm.optimiser.lr = 0.1, now 0.3; algorithm.n_fetch = 1, now 2"
    )
    wider = replace(job, model=[hp.Linear(5), hp.Linear(3)])
    with prepared(wider) as wide, pytest.raises(LayoutError) as error:
        ShardStart.read(wider, wide, True, REAL)
    assert str(error.value) == f"snapshot {one.folder / '1'}: holds 0.linear.weight (8, 3) where the job has 0.linear.weight (8, 5)"


async def test_a_run_goes_on_from_the_shards_of_its_snapshot_and_says_so(job: hp.Job, ready: Prepared) -> None:
    one = First(job, ready)
    one.push()
    assert await one.snapshot() == [1]
    again = First(job, ready, resume=True)
    run = snapshot.read(one.folder).meta.run
    assert run == run_name(one.node.coordinator.home) != run_name(again.node.coordinator.home)
    text = f"going on from snapshot {one.folder / '1'} of run {run}: epoch 0.00, 0 examples"
    assert again.told == [Notice("snapshot", text)]
    assert [state.clock for state in again.server.table.states()] == [1, 1, 1]
    for shard in range(3):
        vectors = [server.table._shards[shard].vectors for server in (one.server, again.server)]
        assert [bytes(v.payload) for v in vectors[0]] == [bytes(v.payload) for v in vectors[1]]


async def test_a_snapshot_like_the_one_before_pushes_no_older_one_out(job: hp.Job, ready: Prepared) -> None:
    """A new run that was stopped before its first step once wrote two, or as many as it had time for, and those of the
    run before were gone."""
    one = First(job, ready)
    assert await one.snapshot() == []
    for kept in ([1], [1, 2]):
        one.push()
        assert await one.snapshot() == await one.snapshot() == kept
    for resume in (False, True):
        another = First(job, ready, resume=resume)
        assert await another.snapshot() == [1, 2]
        assert sorted(path.name for path in one.folder.iterdir()) == ["1", "2"]


async def test_numbers_that_are_not_finite_are_no_snapshot_and_spoken_of_once(job: hp.Job, ready: Prepared) -> None:
    """Two of them once replaced all that a run could have gone on from."""
    one = First(job, ready)
    one.push()
    assert await one.snapshot() == [1]
    one.server.table._shards[0].params[0] = np.nan  # of a step that overflowed, say
    one.push()
    for _ in range(3):
        assert await one.snapshot() == [1]
    assert one.texts == ["shard 0 holds numbers that are not finite: no snapshot is written of them, the older "
                         "ones are kept"]  # fmt: skip
    assert one.node.coordinator.snapshot == str(one.folder / "1")
    assert [path.name for path in one.folder.iterdir()] == ["1"]


async def test_of_a_batch_that_failed_in_the_midst_of_an_iteration_there_is_no_snapshot(job: hp.Job) -> None:
    job = replace(job, algorithm=hp.Sandblaster(memory=2, blocks=2))
    ready = prepare(job, 1, False, (anonymous_file(), anonymous_file()))
    one = First(job, ready)
    batches = one.node._driver
    assert batches is not None
    batches.desk.ledger.examples_done += 1
    assert await one.snapshot() == [1]
    batches.desk.ledger.examples_done += 1
    batches.desk.end(failed=True)
    assert await one.snapshot() == [1]
    ready.live.close()
    ready.examples.close()


async def test_a_row_of_the_optimiser_must_be_finite_too(job: hp.Job, ready: Prepared) -> None:
    one = First(job, ready)
    one.push()
    one.server.table._shards[1].rows[0][-1] = np.inf
    assert await one.snapshot() == []
    assert one.texts[0].startswith("shard 1 holds numbers")


async def test_the_first_snapshot_of_a_new_run_is_taken_when_there_is_something_in_it(
    job: hp.Job, ready: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first one was due, a new run left those of an earlier one, and whoever resumed it went on from
    there."""
    monkeypatch.setattr(first_node_file, "_TICK_S", 0.001)
    old = First(job, ready)
    old.push()
    assert await old.snapshot() == [1]
    one, again = First(job, ready), First(job, ready, resume=True)
    running = [asyncio.ensure_future(first.node.run()) for first in (one, again)]
    await asyncio.sleep(0.01)
    assert one.kept == [1]
    for first in (again, one):
        first.push()
        first.beat(pushes=1)
    async with asyncio.timeout(5.0):
        while one.kept != [1, 2]:  # noqa: ASYNC110 (it comes from a thread)
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert one.kept == [1, 2], "the run that goes on waits until one is due"
    for task, first in zip(running, (one, again), strict=True):
        task.cancel()
        await asyncio.wait([task])
        await first.node.close()


class Moving:
    """Stands for whoever serves at an address: refuses what a shard's server does that has given it up, or is gone."""

    def __init__(self, first: First, errors: list[Exception]) -> None:
        self.first, self.errors = first, errors

    def reach(self, address: str) -> Any:
        return self

    async def request(self, message: Message, **options: Any) -> Message:
        if self.errors:
            error = self.errors.pop()
            if isinstance(error, PeerLost):
                placement = self.first.node.coordinator.placement
                placement.map = placement.map.moved(0, 1, "b:1")
            raise error
        return await Loopback(self.first.handlers).request(message, **options)


@pytest.mark.parametrize("error", [RequestFailed(Refusal.MOVED, "not here"), PeerLost("a:1", "gone")], ids=["moved", "gone"])
async def test_a_shard_that_moves_slowly_is_waited_for(
    job: hp.Job, ready: Prepared, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """After 5 s the run had failed, because of a snapshot."""
    monkeypatch.setattr(snapshots_file, "_AGAIN_S", 0.0)
    one = First(job, ready)
    one.push()
    moving = Moving(one, [error] * (100 if isinstance(error, RequestFailed) else 1))
    one.node.snapshots._reach = moving.reach
    assert await one.snapshot() == [1]


async def test_a_shard_that_is_nowhere_fails_the_run(
    job: hp.Job, ready: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_file, "_AGAIN_S", 0.0)
    monkeypatch.setattr(snapshots_file, "_MOVE_S", 0.01)
    one = First(job, ready)
    one.server.table._shards.clear()
    with pytest.raises(ClusterFailed, match=r"^shard 0 was not to be found for a snapshot within 0\.01 s$"):
        await one.snapshot()
    assert list(one.folder.iterdir()) == []


async def test_snapshots_are_read_on_a_thread(job: hp.Job, ready: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shard file was read and digested on the event loop, and nobody was answered meanwhile."""
    threads: list[threading.Thread] = []
    fill = snapshot.Snapshot.fill

    def watched(self: snapshot.Snapshot, *args: Any, **options: Any) -> int:
        threads.append(threading.current_thread())
        return fill(self, *args, **options)

    monkeypatch.setattr(snapshot.Snapshot, "fill", watched)
    one = replace(job, epochs=1)
    for resume in (False, True):
        async with hp.Node(one, resume=resume) as node:
            await node.wait()
    assert len(threads) == 3
    assert threading.main_thread() not in threads


async def test_a_batch_method_does_not_go_on_with_another_history(job: hp.Job) -> None:
    """Whoever did that was told the names of all vectors, and not what to do."""
    job = replace(job, algorithm=hp.Sandblaster(memory=10, blocks=2))
    ready = prepare(job, 1, False, (anonymous_file(), anonymous_file()))
    one = First(job, ready)
    one.node.coordinator.ledger.examples_done += 1
    await one.snapshot()
    with pytest.raises(LayoutError) as caught:
        ShardStart.read(replace(job, algorithm=hp.Sandblaster(memory=5, blocks=2)), ready, True, REAL)
    assert str(caught.value) == (
        f"snapshot {one.folder / '1'}: of algorithm.memory = 10 and l1 = 0; memory = 5 and l1 = 0 need other vectors: "
        "set them back, or begin anew without --resume"
    )
    with pytest.raises(LayoutError) as caught:
        ShardStart.read(replace(job, algorithm=hp.Downpour()), ready, True, REAL)
    assert str(caught.value) == (
        f"snapshot {one.folder / '1'}: holds optimiser rows direction, gradient, point, s0 and 20 others; the job's "
        "optimiser needs none"
    )
    ready.live.close()
    ready.examples.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"l2": 0.5}, "l2 = 0.0, now 0.5"),
        ({"l1": 0.02}, "l1 = 0.01, now 0.02"),
        ({"l1": 0.02, "l1_tensors": ""}, "l1 = 0.01, now 0.02; l1_tensors = 'weight', now ''"),
    ],
)
async def test_of_another_objective_a_batch_method_begins_anew(job: hp.Job, changes: Any, said: str) -> None:
    """With another l1 it went on with the value of before, which no step could lower, and ended."""
    job = replace(job, algorithm=hp.Sandblaster(memory=2, blocks=2, l1=0.01))
    ready = prepare(job, 1, False, (anonymous_file(), anonymous_file()))
    one = First(job, ready)
    assert one.node._driver is not None
    one.node._driver.newest = Iteration(3, 0.5, 0.1, 1.0, 0, ResumePoint(3, 0.5, (), 4, 1.0))
    one.node.coordinator.ledger.examples_done += 1
    await one.snapshot()
    other = First(replace(job, algorithm=replace(job.algorithm, **changes)), ready, resume=True)
    assert other.node._driver is not None
    assert (other.node._driver._start is None) == bool(changes)
    text = f"the objective is another one ({said}): iterations and evaluations are counted anew"
    warnings = [notice.text for notice in other.told if notice.event == "warning"]
    assert warnings[:1] == ([text] if said else []), "and a second one names all settings that are others"
    ready.live.close()
    ready.examples.close()
