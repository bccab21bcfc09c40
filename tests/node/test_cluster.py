"""Clusters on loopback, as processes: who comes, goes, is killed, and what the others say and write."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import Node, nodes

import hogpour as hp
from hogpour.core.errors import ClusterFailed, ConfigError, InputError, ResourceError, Stopped
from hogpour.core.job import ClusterConfig, DataConfig
from hogpour.core.progress import Notice
from hogpour.model import model_file
from hogpour.node import local_machine

pytestmark = [pytest.mark.real, pytest.mark.slow]

N_DIGITS = 1438
"""Training examples of "digits"."""

JOB = """
[data]
train = "digits"
[model]
layers = [{{layer = "linear", units = 64}}, {{layer = "relu"}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "downpour"
n_push = 2
n_fetch = 2
warm_start_examples = {warm_start_examples}
optimiser = {{name = "sgd", lr = 0.05}}
[run]
epochs = {epochs}
batch = 16
replicas = 1
save_every_s = {save_every_s}
[cluster]
lease_s = {lease_s}
give_up_s = {give_up_s}
shard_bytes = 4096
stall_s = {stall_s}
"""

FOR_EVER = 1_000_000

Start = Callable[..., Node]


def job_file(folder: Path, **changes: float) -> str:
    settings = {"epochs": FOR_EVER, "lease_s": 1.0, "give_up_s": 2.0, "save_every_s": 60.0, "warm_start_examples": 0,
                "stall_s": 10.0}  # fmt: skip
    (folder / "job.toml").write_text(JOB.format(**settings | changes))
    return "job.toml"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with nodes(tmp_path) as start:
        yield start


@pytest.fixture(autouse=True)
def _nothing_is_left(start: Start) -> Iterator[None]:
    names = set(os.listdir("/dev/shm"))
    yield
    assert set(os.listdir("/dev/shm")) <= names


COMPUTES: tuple[str, ...] = ()
SERVES = ("--listen", "127.0.0.1:0")


def cluster(start: Start, folder: Path, *others: tuple[str, ...], alone: bool = False, **settings: Any) -> list[Node]:
    """A first node and others, all of which compute; started together, because starting takes longest.

    Args:
        alone: the first node's replicas stand still as soon as they have begun, so that the others are there in time.
            However long that takes on a busy machine, nobody else gets their blocks.
    """
    one = start(job_file(folder, **({"stall_s": 600.0} if alone else {}) | settings), "--listen", "127.0.0.1:0")
    rest = [start("--join", one.address, *more) for more in others]
    one.until_training()
    if alone:
        one.pause()
    for node in rest:
        node.until_training()
    return [one, *rest]


# -- who comes and goes ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_nodes_leave_cleanly_and_their_shards_move_back(start: Start, tmp_path: Path) -> None:
    """The first node once failed at its end: it asked a server for shards that had long left, with the server."""
    one, computing, serving = cluster(start, tmp_path, COMPUTES, SERVES)
    for node in (computing, serving):
        node.interrupt()
        assert node.end()["outcome"] == "stopped"
        one.until_text("member", " left")
    one.until("progress", lambda fields: fields["cluster_nodes"] == 1)
    one.until_training()
    one.interrupt()
    end = one.end()
    assert (end["outcome"], end["model"]) == ("stopped", "model.safetensors")
    assert not [fields["text"] for fields in one.said if fields["event"] == "warning"]


@pytest.mark.long
def test_ctrl_c_on_the_first_node_ends_all(start: Start, tmp_path: Path) -> None:
    one, *others = cluster(start, tmp_path, COMPUTES, SERVES)
    one.interrupt()
    for node in (*others, one):
        assert node.end()["outcome"] == "stopped"


@pytest.mark.long
def test_a_computing_node_that_is_killed_costs_its_blocks_and_no_example(start: Start, tmp_path: Path) -> None:
    epochs, lease_s = 150, 1.0
    one, killed, kept = cluster(start, tmp_path, COMPUTES, SERVES, alone=True, epochs=epochs, lease_s=lease_s)
    killed.kill()
    text = one.until_text("member", " is gone: silent for ")
    assert float(text.partition("silent for ")[2].partition(" s;")[0]) <= lease_s + 1.0
    one.go_on()
    end = one.end()
    assert kept.end()["outcome"] == end["outcome"] == "finished"
    assert end["repeated"] > 0
    assert epochs * N_DIGITS <= end["examples"] <= epochs * N_DIGITS + end["repeated"]
    assert end["accuracy"] > 0.9


# -- who dies ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_death_of_a_server_ends_all_and_the_run_goes_on_from_the_snapshot(start: Start, tmp_path: Path) -> None:
    one, serving, computing = cluster(start, tmp_path, SERVES, COMPUTES, save_every_s=0.1)
    one.until("progress", lambda fields: list(tmp_path.glob("model.snapshot/*/manifest.json")) != [])
    serving.kill()
    one.end(1, within_s=10)
    computing.end(1, within_s=10)
    said = re.compile(rf"^hogpour: node \d \({serving.address}\) is gone; it served shards \d to \d; "
                      r"go on with --resume from (model\.snapshot/\d+)\n$")  # fmt: skip
    for node in (one, computing):
        match = said.match(node.errors)
        assert match is not None, node.errors
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["model.safetensors"]
    done = json.loads((tmp_path / match[1] / "manifest.json").read_text())["snapshot"]["training"]["examples"]
    epochs = done // N_DIGITS + 2
    again = start(job_file(tmp_path), "--listen", "127.0.0.1:0", "--resume", "--epochs", str(epochs))
    end = again.end()
    assert (end["outcome"], end["examples"]) == ("finished", epochs * N_DIGITS)


@pytest.mark.long
def test_the_death_of_the_first_node_ends_all_and_each_writes_what_it_holds(start: Start, tmp_path: Path) -> None:
    """They wrote nothing once, and said no more than that nobody answered to a push."""
    one, *others = cluster(start, tmp_path, COMPUTES, SERVES)
    one.kill()
    for node in others:
        node.end(1, within_s=10)
        number = node.said_text("joined").rpartition(" ")[2]
        assert re.match(rf"^hogpour: the first node(, {one.address},)? does not answer: {one.address}: no answer to \w+ "
                        r"within 2 s: connection refused\n$", node.errors), node.errors  # fmt: skip
        assert [fields["event"] for fields in node.said[-2:]] == ["progress", "failed"]
        path = f"model.node-{number}.safetensors"
        assert f"what this node holds is in {path}" in [fields.get("text") for fields in node.said]
        _, params, state = model_file.load(str(tmp_path / path))
        assert np.isfinite(params).all()
        assert state is None


@pytest.mark.long
def test_replicas_that_are_killed_inside_a_joined_node_start_again_and_no_example_is_lost(
    start: Start, tmp_path: Path
) -> None:
    one, node = cluster(start, tmp_path, COMPUTES, alone=True, epochs=150)
    for _ in range(2):
        for replica in node.replicas:
            replica.kill()
        node.until("replica_restarted")
    one.go_on()
    ends = one.end(), node.end()
    assert [end["outcome"] for end in ends] == ["finished"] * 2
    assert (ends[0]["restarts"], ends[1]["restarts"], ends[0]["repeated"]) == (0, 2, 0)
    assert 150 * N_DIGITS <= ends[0]["examples"] <= 150 * N_DIGITS + 2 * 16


@pytest.mark.long
def test_a_joined_node_whose_replicas_die_for_good_leaves(start: Start, tmp_path: Path) -> None:
    """It once fell silent, shards and all, and took the cluster with it."""
    one, node = cluster(start, tmp_path, SERVES)
    for death in range(3):
        if death:
            node.until("replica_restarted")
        for replica in node.replicas:
            replica.kill()
    node.end(1)
    assert "replica 0 died 3 times" in node.errors
    one.until_text("member", " left")
    one.interrupt()
    assert one.end()["outcome"] == "stopped"


# -- what is refused, and what a cluster of one equals; nodes in this process ----------------------------------------------


def job_of(**changes: Any) -> hp.Job:
    settings = {
        "data": DataConfig(train="digits"),
        "model": [hp.Linear(32), hp.Relu(), hp.Linear(10)],
        "algorithm": hp.Downpour(n_push=1, n_fetch=1, optimiser=hp.Sgd(0.2)),
        "epochs": 2,
        "batch": 16,
        "replicas": 1,
        **changes,
    }
    return hp.Job(**settings)


async def trained(job: hp.Job) -> hp.Model:
    async with hp.Node(job) as node:
        return await node.model()


@pytest.mark.long
@pytest.mark.parametrize("optimiser", [hp.Sgd(0.2), hp.Adagrad(0.05)], ids=lambda o: type(o).__name__)
async def test_one_replica_that_pushes_and_fetches_every_step_equals_sync_sgd_bit_for_bit(
    optimiser: Any, tmp_path: Path
) -> None:
    whole = ClusterConfig()
    cut = ClusterConfig(shard_bytes=1024)
    params = []
    for name, algorithm, cluster in (
        ("sync", hp.SyncSgd(optimiser=optimiser), whole),
        ("one", hp.Downpour(n_push=1, n_fetch=1, optimiser=optimiser), whole),
        ("many", hp.Downpour(n_push=1, n_fetch=1, optimiser=optimiser), cut),
    ):
        path = str(tmp_path / f"{name}.safetensors")
        await trained(job_of(algorithm=algorithm, cluster=cluster, save=path))
        params.append(hp.Model.load(path).params.tobytes())
    assert params[1:] == params[:1] * 2


async def test_joining_where_nobody_is_ends_after_the_stated_time() -> None:
    told: list[Notice] = []
    node = hp.Node(join="127.0.0.1:1", join_s=0.2)
    node.tell = told.append
    with pytest.raises(ClusterFailed, match=r"^--join 127\.0\.0\.1:1: 127\.0\.0\.1:1: no answer to Join within 0\.2 s: "
                                            "connection refused; nobody listens there: the run has not begun, or it has ended$"):  # fmt: skip
        async with node:
            pass
    assert told == [Notice("joining", "joining 127.0.0.1:1")]


async def test_a_node_with_another_token_is_refused() -> None:
    async with hp.Node(job_of(epochs=FOR_EVER), listen="127.0.0.1:0", token=b"the token of these nodes") as first:
        with pytest.raises(ClusterFailed, match=rf"^--join {first.address}: .*token"):
            async with hp.Node(join=first.address, token=b"another token, as long"):
                pass
        with pytest.raises(ResourceError, match=rf"^{first.address} is in use by process {os.getpid()} \("):
            async with hp.Node(job_of(), listen=first.address):
                pass


async def test_a_scheme_for_one_machine_is_refused_before_a_port_is_opened() -> None:
    with pytest.raises(ConfigError, match=r'^--listen: algorithm\.name = "hogwild" trains on one machine; for several'):
        async with hp.Node(job_of(algorithm=hp.Hogwild()), listen="127.0.0.1:0"):
            pass


@pytest.mark.long
def test_in_a_warm_start_only_one_replica_of_the_cluster_computes(start: Start, tmp_path: Path) -> None:
    job_file(tmp_path, warm_start_examples=40 * N_DIGITS)
    one = start("job.toml", "--listen", "127.0.0.1:0", "--replicas", "2")
    other = start("--join", one.address)
    assert one.until_training()["computing"] == 1
    one.pause()
    waiting = [other.until("progress") for _ in range(3)]
    assert {(fields["computing"], fields["cluster_warming"]) for fields in waiting} == {(0, True)}
    one.go_on()
    one.until_text("member", "warm start is over: all replicas compute")
    assert one.until("progress", lambda fields: fields["computing"] == 2)["examples"] >= 40 * N_DIGITS
    assert other.until_training()["examples"] >= 40 * N_DIGITS
    one.interrupt()
    for node in (one, other):
        assert node.end()["outcome"] == "stopped"


async def test_a_stop_while_a_node_joins_ends_at_once() -> None:
    """Ctrl+C once waited for the whole time of joining, and a second one was a traceback."""
    node = hp.Node(join="127.0.0.1:1", join_s=60.0)
    entering = asyncio.ensure_future(node.__aenter__())
    await asyncio.sleep(0)
    node.kill()  # there are no replicas yet
    node.stop()
    with pytest.raises(Stopped, match=r"^stopped before training began; nothing was written$"):
        await asyncio.wait_for(entering, 5.0)


async def test_what_happens_before_training_is_told_at_once(tmp_path: Path) -> None:
    """A person saw nothing until the data were read, not even on which port the node listened."""
    told: list[Notice] = []
    node = hp.Node(job_of(data=DataConfig(train="nothing.npz"), save=str(tmp_path / "m")), listen="127.0.0.1:0")
    node.tell = told.append
    with pytest.raises(InputError, match="no such file"):
        async with node:
            pass
    assert [notice.event for notice in told] == ["listening"]


async def test_a_node_that_cannot_write_its_model_file_closes_its_port() -> None:
    address = "127.0.0.1:0"
    for _ in range(2):
        node = hp.Node(job_of(save="/nowhere/m.safetensors"), listen=address)
        with pytest.raises(InputError, match="there is no folder /nowhere"):
            async with node:
                pass
        address = node.address


# -- who is stopped before training begins -----------------------------------------------------------------------------


async def until(node: hp.Node, event: str, text: str = "") -> None:
    """Follow a node until it has said something."""
    async for progress in node:
        if any(notice.event == event and text in notice.text for notice in progress.notices):
            return
    raise AssertionError(f"it ended without having said {event} {text}")


async def test_a_server_that_is_stopped_while_it_compiles_gives_its_shards_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It went without a word, and took a part of the model with it: the run failed."""
    token, compiling, rehearse = b"the token of these nodes", threading.Event(), local_machine.rehearse
    job = job_of(epochs=FOR_EVER, cluster=ClusterConfig(lease_s=1.0, give_up_s=5.0, shard_bytes=1024))
    async with hp.Node(job, listen="127.0.0.1:0", token=token, every_s=0.05) as first:
        monkeypatch.setattr(local_machine, "rehearse", lambda *_: compiling.wait(200))
        try:
            async with hp.Node(join=first.address, listen="127.0.0.1:0", token=token, every_s=0.05) as second:
                second.stop()
                assert (await second.wait()).outcome == "stopped"
        finally:
            compiling.set()
        monkeypatch.setattr(local_machine, "rehearse", rehearse)
        await until(first, "member", "left")
        first.stop()
        assert (await first.wait()).outcome == "stopped"


async def test_a_first_node_that_is_stopped_while_it_compiles_keeps_what_others_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It wrote the initial parameters over the model, and told nobody."""
    token, compiling, rehearse = b"the token of these nodes", threading.Event(), local_machine.rehearse
    job = job_of(epochs=FOR_EVER, save=str(tmp_path / "m.safetensors"))
    monkeypatch.setattr(local_machine, "rehearse", lambda *_: compiling.wait(200))
    async with hp.Node(job, listen="127.0.0.1:0", token=token, every_s=0.05) as first:
        monkeypatch.setattr(local_machine, "rehearse", rehearse)
        async with hp.Node(join=first.address, token=token, every_s=0.05) as second:
            async for progress in second:
                if progress.examples > 3000:
                    break
            first.stop()
            assert (await second.wait()).outcome == "stopped"
            trained = second.parameters()
        assert (await first.wait()).outcome == "stopped"
        compiling.set()
    stored = hp.Model.load(str(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(stored.params, trained)
    assert os.listdir(tmp_path / "m.snapshot")
