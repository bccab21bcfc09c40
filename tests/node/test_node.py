"""A node with real replica processes: training, stopping, resuming, deaths, divergence, the async API."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from support import user_parts

import hogpour as hp
from hogpour.core.errors import ConfigError, HogpourError, InputError, LayoutError, ReplicaDied, ResourceError, Stopped
from hogpour.core.job import DataConfig
from hogpour.core.progress import Notice, Progress, Summary
from hogpour.data.blocks import Blocks
from hogpour.model import model_file

pytestmark = [pytest.mark.real, pytest.mark.slow]

N_DIGITS = 1438
"""Training examples of "digits"."""


def job_of(**changes: Any) -> hp.Job:
    settings = {
        "data": DataConfig(train="digits"),
        "model": [hp.Linear(32), hp.Relu(), hp.Linear(10)],
        "algorithm": hp.Hogwild(optimiser=hp.Sgd(0.2)),
        "epochs": 8,
        "batch": 16,
        "replicas": 2,
        **changes,
    }
    return hp.Job(**settings)


async def run(job: hp.Job, **more: Any) -> tuple[Summary, hp.Model, list[Progress]]:
    async with hp.Node(job, **more) as node:
        snapshots = [progress async for progress in node]
        return await node.wait(), await node.model(), snapshots


def notices(snapshots: list[Progress]) -> list[Notice]:
    return [notice for progress in snapshots for notice in progress.notices]


async def test_two_replicas_train_digits_and_use_every_example_once_an_epoch() -> None:
    summary, model, snapshots = await run(job_of(epochs=20))
    assert summary.outcome == "finished"
    assert summary.examples == 20 * N_DIGITS
    assert summary.accuracy is not None
    assert summary.accuracy >= 0.96
    assert summary.restarts == 0
    assert snapshots[-1].epoch == 20
    assert snapshots[-1].replicas == 0
    assert snapshots[-1].accuracy == summary.accuracy
    assert np.isfinite(model.params).all()


@pytest.mark.long
@pytest.mark.parametrize("optimiser", [hp.Sgd(0.2), hp.Momentum(0.05), hp.Adagrad(0.05)], ids=lambda o: type(o).__name__)
async def test_one_replica_is_reproduced_bit_for_bit_and_equals_sync_sgd(optimiser: Any) -> None:
    first = (await run(job_of(algorithm=hp.Hogwild(optimiser=optimiser), replicas=1, epochs=2, seed=5)))[1]
    again = (await run(job_of(algorithm=hp.Hogwild(optimiser=optimiser), replicas=1, epochs=2, seed=5)))[1]
    sync = (await run(job_of(algorithm=hp.SyncSgd(optimiser=optimiser), replicas=0, epochs=2, seed=5)))[1]
    other = (await run(job_of(algorithm=hp.Hogwild(optimiser=optimiser), replicas=1, epochs=2, seed=6)))[1]
    assert first.params.tobytes() == again.params.tobytes() == sync.params.tobytes()
    assert first.params.tobytes() != other.params.tobytes()


@pytest.mark.long
@pytest.mark.parametrize("optimiser", [hp.Sgd(0.2), hp.Momentum(0.05), hp.Adam(0.002)], ids=lambda o: type(o).__name__)
async def test_a_run_that_was_stopped_and_resumed_is_the_whole_run_bit_for_bit(tmp_path: Path, optimiser: Any) -> None:
    layers = [hp.Linear(32), hp.Dropout(0.2), hp.Relu(), hp.Linear(10)]
    settings: dict[str, Any] = {"model": layers, "replicas": 1, "algorithm": hp.Hogwild(optimiser=optimiser), "epochs": 100}
    whole = (await run(job_of(**settings)))[1]
    job = job_of(**settings, save=str(tmp_path / "m.safetensors"))
    async with hp.Node(job, every_s=0.01) as node:
        async for progress in node:
            if progress.examples:
                node.stop()
        stopped = await node.wait()
    assert stopped.outcome == "stopped"
    assert 0 < stopped.examples < 100 * N_DIGITS
    summary, model, _ = await run(job, resume=True)
    assert summary.outcome == "finished"
    assert summary.examples == 100 * N_DIGITS
    assert model.params.tobytes() == whole.params.tobytes()


@pytest.mark.long
async def test_a_run_goes_on_with_another_number_of_replicas(tmp_path: Path) -> None:
    path = str(tmp_path / "m.safetensors")
    momentum = hp.Hogwild(optimiser=hp.Momentum(0.05))
    async with hp.Node(job_of(save=path, algorithm=momentum, epochs=100, replicas=2), every_s=0.01) as node:
        async for progress in node:
            if progress.examples:
                node.stop()
    for replicas in (1, 3):
        summary, _, _ = await run(job_of(save=path, algorithm=momentum, epochs=100, replicas=replicas), resume=True)
        assert summary.outcome == "finished"
        assert summary.examples == 100 * N_DIGITS


async def test_a_killed_replica_is_restarted_and_no_example_is_left_out() -> None:
    """Twice used is at most the batch that it was at, or the block that it had announced and another one took."""
    killed = False
    async with hp.Node(job_of(epochs=300), every_s=0.01) as node:
        snapshots = []
        async for progress in node:
            snapshots.append(progress)
            if progress.examples and not killed:
                killed = True
                os.kill(node.pids[0], signal.SIGKILL)
        summary = await node.wait()
    assert summary.outcome == "finished"
    assert summary.restarts == 1
    assert 300 * N_DIGITS <= summary.examples <= 300 * N_DIGITS + Blocks(N_DIGITS, 16, 2, 300).block_size
    texts = [n.text for n in notices(snapshots) if n.event == "replica_died"]
    assert len(texts) == 1
    assert "was killed by SIGKILL" in texts[0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (user_parts.Raises(), "ended with exit status 1: RuntimeError: a layer of the user's own is broken"),
        (user_parts.Exits(), "ended with exit status 7"),
    ],
    ids=["raises", "exits"],
)
async def test_three_deaths_end_the_run_with_the_cause(layer: Any, cause: str) -> None:
    snapshots = []

    async def train() -> None:
        async with hp.Node(job_of(model=[layer, hp.Linear(10)], replicas=1)) as node:
            async for progress in node:
                snapshots.append(progress)

    with pytest.raises(ReplicaDied, match=f"^replica 0 died 3 times within .*{cause}$"):
        await train()
    tracebacks = [n.text for n in notices(snapshots) if "Traceback" in n.text]
    assert len(tracebacks) == ("RuntimeError" in cause)


async def test_a_users_own_layer_trains_in_every_replica() -> None:
    summary, model, _ = await run(job_of(model=[hp.Linear(32), user_parts.Scale(2.0), hp.Relu(), hp.Linear(10)], epochs=20))
    assert summary.accuracy is not None
    assert summary.accuracy > 0.9
    assert model.network.stages[2].name == "1.support.user_parts:Scale"


async def test_a_run_that_diverges_at_once_leaves_the_model_file_as_it_was(tmp_path: Path) -> None:
    """It once replaced a good model by its own untrained parameters, and called them the last good ones."""
    path = tmp_path / "m.safetensors"
    await run(job_of(save=str(path)))
    before = path.read_bytes()
    summary, model, snapshots = await run(job_of(algorithm=hp.Hogwild(optimiser=hp.Sgd(1e20)), save=str(path)))
    assert (summary.outcome, summary.model) == ("diverged", "")
    assert np.isfinite(model.params).all()
    assert path.read_bytes() == before
    assert any("no snapshot of this run was good" in n.text for n in notices(snapshots) if n.event == "diverged")


@pytest.mark.long
async def test_a_loss_that_is_not_finite_keeps_the_last_good_model_with_its_state(tmp_path: Path) -> None:
    """The rate explodes once a model was found good; that model is kept, and can be resumed with a calmer rate."""
    path, mark = str(tmp_path / "m.safetensors"), tmp_path / "explode"
    explodes = hp.Hogwild(optimiser=hp.Sgd(0.1), schedule=user_parts.ExplodesWhen(str(mark)))
    async with hp.Node(job_of(algorithm=explodes, save=path, epochs=100_000), every_s=0.01) as node:
        async for progress in node:
            if progress.evaluation:
                mark.touch()
        summary, model = await node.wait(), await node.model()
    assert summary.outcome == "diverged"
    _, params, state = model_file.load(path)
    assert params.tobytes() == model.params.tobytes()
    assert np.isfinite(params).all()
    assert state is not None
    epochs = int(state.examples / N_DIGITS) + 2
    calm = job_of(algorithm=hp.Hogwild(optimiser=hp.Sgd(0.1)), save=path, epochs=epochs)
    resumed, _, _ = await run(calm, resume=True)
    assert resumed.outcome == "finished"


async def test_final_parameters_that_are_not_finite_are_no_model(tmp_path: Path) -> None:
    """One step with an enormous rate: its own loss was finite, and the run once ended well with a file of NaN."""
    path = tmp_path / "m.safetensors"
    job = job_of(algorithm=hp.Hogwild(optimiser=hp.Sgd(1e25)), save=str(path), epochs=1, batch=2000, replicas=1)
    summary, model, _ = await run(job)
    assert summary.outcome == "diverged"
    assert np.isfinite(model.params).all()
    assert not path.exists()


async def test_evaluation_does_not_stop_the_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation that ends only when replicas have gone on would never end if it held them up."""
    moved = []

    def patient(self: hp.Model, dataset: hp.Dataset, go_on: Any = lambda: True) -> Any:
        clocks = node._training.clocks
        examples = clocks.examples
        while go_on() and clocks.examples < examples + 1000:
            pass
        moved.append(clocks.examples - examples)
        return evaluate(self, dataset)

    evaluate = hp.Model.evaluate
    monkeypatch.setattr(hp.Model, "evaluate", patient)
    monkeypatch.setattr("hogpour.node.local_machine.rehearse", lambda *_: None)
    async with hp.Node(job_of(epochs=100_000), every_s=0.01) as node:
        async for _ in node:
            if moved:
                node.stop()
    assert moved[0] >= 1000


async def test_the_model_file_is_written_while_training_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    async with hp.Node(job_of(save=str(path), save_every_s=0.01, epochs=100_000), every_s=0.01) as node:
        async for _ in node:
            if path.exists():
                break
        _, params, state = model_file.load(str(path))
    assert state is not None
    assert np.isfinite(params).all()


async def test_leaving_the_block_early_stops_cleanly() -> None:
    async with hp.Node(job_of(epochs=100_000)) as node:
        pass
    assert node.summary is not None
    assert node.summary.outcome == "stopped"
    assert node.pids == []


async def test_a_failed_snapshot_is_a_warning_and_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, failed = tmp_path / "m.safetensors", []
    save = model_file.save

    def full_disk(*arguments: Any) -> None:
        if not failed:
            failed.append(1)
            raise ResourceError("model file m: cannot be written: No space left on device")
        save(*arguments)

    monkeypatch.setattr("hogpour.model.model_file.save", full_disk)
    snapshots = []
    async with hp.Node(job_of(save=str(path), save_every_s=0.01, epochs=100_000), every_s=0.01) as node:
        async for progress in node:
            snapshots.append(progress)
            if path.exists():
                node.stop()
    assert [n.text for n in notices(snapshots) if n.event == "warning"] == [
        "model file m: cannot be written: No space left on device"
    ]
    assert node.summary is not None
    assert node.summary.outcome == "stopped"


async def test_a_replica_that_dies_for_good_leaves_the_model_that_was_trained(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(ReplicaDied):
        await kill_three_times(job_of(save=str(path), epochs=100_000))
    _, params, state = model_file.load(str(path))
    assert np.isfinite(params).all()
    assert state is not None


async def kill_three_times(job: hp.Job) -> None:
    """Kill replica 0 whenever it computes."""
    killed: set[int] = set()
    async with hp.Node(job, every_s=0.01) as node:
        async for progress in node:
            if progress.computing == 2 and (pids := node.pids) and pids[0] not in killed:
                killed.add(pids[0])
                os.kill(pids[0], signal.SIGKILL)


async def test_an_error_that_nobody_heard_is_raised_at_the_end() -> None:
    with pytest.raises(ReplicaDied):
        async with hp.Node(job_of(model=[user_parts.Exits(), hp.Linear(10)], replicas=1)) as node:
            await asyncio.wait([node._task])


async def test_a_node_runs_once_and_its_parameters_stay() -> None:
    node = hp.Node(job_of(epochs=1))
    async with node:
        model = await node.model()
    assert node.parameters().tobytes() == model.params.tobytes()
    with pytest.raises(HogpourError, match="a node runs once"):
        async with node:
            pass


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.01, 0.02, 0.05, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_node_leaves_nothing(after_s: float, times: int) -> None:
    """At any moment, once or twice; what is left behind fails the test at its end.

    Cancelled twice while its processes started, a node once left one of them to nobody.
    """

    async def train() -> None:
        async with hp.Node(job_of(epochs=100_000)) as node:
            await node.wait()

    task = asyncio.ensure_future(train())
    for _ in range(times):
        await asyncio.wait([task], timeout=after_s)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stop_before_training_began_says_so() -> None:
    node = hp.Node(job_of())
    node.stop()
    with pytest.raises(Stopped, match="stopped before training began; nothing was written"):
        async with node:
            pass


async def test_a_stop_while_kernels_compile_does_not_wait_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler here ends when the test says so, which is after the node has ended."""
    finish = threading.Event()
    monkeypatch.setattr("hogpour.node.local_machine.rehearse", lambda *_: finish.wait())
    monkeypatch.setattr("hogpour.node.training.compilations", iter(range(100)).__next__)
    path = tmp_path / "m.safetensors"
    async with hp.Node(job_of(save=str(path)), every_s=0.01) as node:
        async for progress in node:
            if any(n.event == "compiling" for n in progress.notices):
                node.stop()
        assert node.working
    finish.set()
    assert node.summary is not None
    assert (node.summary.outcome, node.summary.model) == ("stopped", "")
    assert not path.exists()


async def test_a_layer_that_fails_in_the_first_step_is_told_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^the first step fails in user_parts\.py:\d+: ZeroDivisionError: .*by zero$"):
        await run(job_of(model=[user_parts.Divides(), hp.Linear(10)]))


async def test_a_replica_that_stands_still_is_spoken_of() -> None:
    stopped: psutil.Process | None = None
    said = 0
    async with hp.Node(job_of(epochs=100_000, cluster=hp.ClusterConfig(stall_s=0.2)), every_s=0.01) as node:
        async for progress in node:
            said += sum(notice.text.startswith("replica 1 has made no step for ") for notice in progress.notices)
            if progress.computing == 2 and stopped is None:
                stopped = psutil.Process(node.pids[1])
                stopped.suspend()
            if said and stopped is not None:
                with suppress(psutil.NoSuchProcess):  # where it held the last block, it was killed
                    stopped.resume()
                node.stop()
    assert said == 1


async def test_the_last_block_of_a_replica_that_stands_still_is_done_by_another() -> None:
    """The run stood still for ever once, and nobody said a word."""
    async with hp.Node(job_of(epochs=400, cluster=hp.ClusterConfig(stall_s=0.2)), every_s=0.01) as node:
        stopped = False
        async for progress in node:
            if progress.computing == 2 and not stopped:
                psutil.Process(node.pids[1]).suspend()
                stopped = True
    summary = node.summary
    assert summary is not None
    assert (summary.outcome, summary.restarts) == ("finished", 1)
    assert 0 <= summary.examples - 400 * N_DIGITS <= 16, "but for one batch, each is used once"


async def test_arrays_in_memory_are_trained_on() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6))
    y = (x @ rng.normal(size=6) > 0).astype(int)
    data = hp.arrays(x, y, x[:50], y[:50], scale="standard")
    summary, model, _ = await run(job_of(data=data, model=[hp.Linear(2)], epochs=20))
    assert summary.accuracy is not None
    assert summary.accuracy > 0.9
    assert (model.predict(x) == y).mean() > 0.9


@pytest.mark.long
async def test_more_replicas_than_cores_is_a_warning() -> None:
    cores = len(os.sched_getaffinity(0))
    _, _, snapshots = await run(job_of(replicas=cores + 1, epochs=2))
    assert [n.text for n in notices(snapshots) if n.event == "warning"] == [
        f"run.replicas = {cores + 1} on {cores} cores: replicas will wait for one another's core"
    ]


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"model": [hp.Linear(7)]}, ConfigError, "model: layer 0.linear: gives 7 scores, SoftmaxXent needs 10 for the 10 labels"),
        ({"model": [hp.Conv2D(4, kernel=9), hp.Linear(10)]}, ConfigError, "model: layer 0.conv2d: a window of 9 x 9"),
        ({"model": [hp.Relu()]}, ConfigError, "model: no layer has parameters"),
        ({"algorithm": hp.SyncSgd()}, ConfigError, "sync_sgd is one replica, got replicas = 2"),
        ({"save": "/nowhere/m.safetensors"}, InputError, "there is no folder /nowhere"),
        ({"save": "/"}, InputError, "model file /: is a folder"),
        ({"data": DataConfig(train="nothing.npz")}, InputError, "nothing.npz: no such file"),
    ],
)
async def test_what_does_not_fit_is_said_before_anything_is_written(
    changes: dict[str, Any], kind: type, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as error:
        async with hp.Node(job_of(**changes)):
            pass
    assert text in str(error.value)
    assert os.listdir(tmp_path) == []


async def test_what_reading_took_is_given_back_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = list[int]()
    monkeypatch.setattr("hogpour.core.host.give_memory_back", lambda: given_back.append(1))
    async with hp.Node(job_of()):
        assert given_back == [1]


async def test_a_segment_that_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogpour.shm.segment.available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"^shared memory: the live vector of \d+ parameters needs .* GB are available"):
        async with hp.Node(job_of()):
            pass


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": [hp.Linear(31), hp.Relu(), hp.Linear(10)]}, r"holds 0\.linear\.weight \(64, 32\) where the job has"),
        ({"batch": 32}, "was trained on 1438 examples in batches of 16, the job has 1438 in batches of 32"),
        ({"algorithm": hp.Hogwild(optimiser=hp.Adagrad(0.1))}, "holds optimiser rows none; the job's optimiser needs history"),
    ],
)
async def test_a_model_file_of_another_job_is_not_resumed(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = str(tmp_path / "m.safetensors")
    await run(job_of(save=path, epochs=1))
    with pytest.raises(LayoutError, match=text):
        await run(job_of(save=path, **changes), resume=True)


@pytest.mark.long
async def test_a_finished_run_resumed_with_fewer_epochs_forgets_nothing(tmp_path: Path) -> None:
    """Once, the number of blocks done was cut to that of the shorter run, and a longer one did them all again."""
    path = str(tmp_path / "m.safetensors")
    for epochs, resume, examples in ((6, False, 6), (2, True, 6), (8, True, 8)):
        summary, _, _ = await run(job_of(save=path, epochs=epochs), resume=resume)
        assert summary.outcome == "finished"
        assert summary.examples == examples * N_DIGITS


async def test_resuming_without_a_model_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        await run(job_of(save=str(tmp_path / "m.safetensors")), resume=True)
    with pytest.raises(ConfigError, match=r"--resume: run\.model is empty"):
        await run(job_of(), resume=True)


async def test_a_node_that_was_not_entered_says_so() -> None:
    """It was an AssertionError without a word, and under -O an AttributeError."""
    node = hp.Node(job_of())
    for use in (node.wait, node.model, anext(aiter(node)).__await__().__next__, node.parameters):
        with pytest.raises(HogpourError, match=r"^the node has not begun: use it as `async with Node\(job\) as node`$"):
            await use()  # type: ignore[misc]


@pytest.mark.parametrize("job", ["job.toml", Path("job.toml"), {"data": "digits"}])
def test_a_node_takes_a_job_and_says_what_makes_one(job: Any) -> None:
    with pytest.raises(ConfigError, match=r"^a node takes a Job, got .*; hogpour\.read_job makes one of a file$"):
        hp.Node(job)


def test_numbers_of_a_node_are_kept_plain() -> None:
    with pytest.raises(ConfigError, match=r"^threads = '2': expected int, got str$"):
        hp.Node(job_of(), threads="2")  # type: ignore[arg-type]


def test_a_token_with_a_nul_is_refused() -> None:
    """"a" and "a" with a NUL behind it were the same token."""
    with pytest.raises(ConfigError, match=r"^Node\(token=\.\.\.\): a token holds no NUL$"):
        hp.Node(job_of(), token=b"of a cluster\0")
