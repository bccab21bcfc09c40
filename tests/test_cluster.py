"""Clusters on loopback, as processes: who comes, goes, is killed, and what the others say and write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import Node, nodes

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
"""

FOR_EVER = 1_000_000

Start = Callable[..., Node]


def job_file(
    folder: Path, epochs: int = FOR_EVER, *, lease_s: float = 1.0, give_up_s: float = 2.0, save_every_s: float = 60.0
) -> str:
    text = JOB.format(epochs=epochs, lease_s=lease_s, give_up_s=give_up_s, save_every_s=save_every_s)
    (folder / "job.toml").write_text(text)
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


def first(start: Start, folder: Path, **settings: float) -> Node:
    """A first node that trains."""
    node = start(job_file(folder, **settings), "--listen", "127.0.0.1:0")  # type: ignore[arg-type]
    node.address  # noqa: B018 (waits)
    node.until_training()
    return node


def joined(start: Start, first: Node, *more: str) -> Node:
    """A node that joins and computes."""
    node = start("--join", first.address, *more)
    node.until("progress", lambda fields: fields["computing"] > 0)
    return node


SERVES = ("--listen", "127.0.0.1:0")


# -- who comes and goes ----------------------------------------------------------------------------------------------------


def test_nodes_leave_cleanly_and_their_shards_move_back(start: Start, tmp_path: Path) -> None:
    """The first node once failed at its end: it asked a server for shards that had long left, with the server."""
    one = first(start, tmp_path)
    computing, serving = joined(start, one), joined(start, one, *SERVES)
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


def test_ctrl_c_on_the_first_node_ends_all(start: Start, tmp_path: Path) -> None:
    one = first(start, tmp_path)
    others = [joined(start, one), joined(start, one, *SERVES)]
    one.interrupt()
    for node in (*others, one):
        assert node.end()["outcome"] == "stopped"


def test_a_computing_node_that_is_killed_costs_its_portions_and_no_example(start: Start, tmp_path: Path) -> None:
    epochs, lease_s = 150, 1.0
    one = first(start, tmp_path, epochs=epochs, lease_s=lease_s)
    pausing = one.replicas
    for replica in pausing:  # so that nothing is over before the others are there
        replica.suspend()
    killed, kept = joined(start, one), joined(start, one, *SERVES)
    killed.kill()
    text = one.until_text("member", " is gone: silent for ")
    assert float(text.partition("silent for ")[2].partition(" s;")[0]) <= lease_s + 1.0
    for replica in pausing:
        replica.resume()
    end = one.end()
    assert kept.end()["outcome"] == end["outcome"] == "finished"
    assert end["repeated"] > 0
    assert epochs * N_DIGITS <= end["examples"] <= epochs * N_DIGITS + end["repeated"]
    assert end["accuracy"] > 0.9
