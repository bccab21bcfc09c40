"""Replicas and nodes on loopback that are stopped by a signal and go on: the others go on without them, and have them
back. The first node's own words are the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.processes import Node, nodes
from support.schemes import KINDS

pytestmark = [pytest.mark.real, pytest.mark.long]

JOB = """
[data]
train = "digits"
[model]
layers = [{{layer = "linear", units = 32}}, {{layer = "relu"}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "{scheme}"
[run]
epochs = {epochs}
batch = 16
replicas = 1
[cluster]
lease_s = 1.0
give_up_s = 3.0
stall_s = 0.5
wait_for = 2
"""

LISTEN = ("--listen", "127.0.0.1:0")
FOR_EVER, N_DIGITS = 1_000_000, 1438
STOPPED_S, BACK_S = 2.0, 5.0

Start = Callable[..., Node]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with nodes(tmp_path) as start:
        yield start


def pair(start: Start, folder: Path, scheme: str, epochs: int = FOR_EVER) -> tuple[Node, Node]:
    (folder / "job.toml").write_text(JOB.format(scheme=scheme, epochs=epochs))
    one = start("job.toml", *LISTEN)
    two = start("--join", one.address)
    two.until_training()
    return one, two


def go_on_without(one: Node) -> None:
    """Wait for some seconds in which the first node goes on."""
    began, before = time.monotonic(), one.until("progress")["examples"]
    one.until("progress", lambda f: f["examples"] > before + 3000 and time.monotonic() - began > STOPPED_S)


def is_back(one: Node, replica: psutil.Process) -> bool:
    """Whether a replica computes within the time that it has for this."""
    began, before = time.monotonic(), replica.cpu_times().user
    one.until("progress", lambda f: replica.cpu_times().user > before + 0.1 or time.monotonic() - began > BACK_S)
    return replica.cpu_times().user > before + 0.1


@pytest.mark.parametrize("scheme", [one for one in KINDS if one != "sandblaster"])
def test_a_cluster_goes_on_without_a_replica_that_is_stopped_and_has_it_back(
    scheme: str, start: Start, tmp_path: Path
) -> None:
    """With a gate all stood still for ever once, and nobody said a word."""
    one, two = pair(start, tmp_path, scheme)
    (replica,) = two.replicas
    two.pause()
    go_on_without(one)
    two.go_on()
    assert is_back(one, replica)
    one.interrupt()
    assert [node.end()["outcome"] for node in (one, two)] == ["stopped"] * 2


@pytest.mark.parametrize("scheme", ["ssp", "asgd"])
def test_a_run_ends_though_a_replica_is_stopped_and_every_example_counts(
    scheme: str, start: Start, tmp_path: Path
) -> None:
    one, two = pair(start, tmp_path, scheme, epochs=200)
    two.pause()
    end = one.end()
    assert end["outcome"] == two.end()["outcome"] == "finished"
    assert end["examples"] >= 200 * N_DIGITS
    assert end["repeated"] > 0
    assert any("not done after" in fields.get("text", "") for fields in one.said)


@pytest.mark.parametrize("scheme", ["ssgd", "asgd"])
def test_a_node_whose_every_process_is_stopped_comes_back(scheme: str, start: Start, tmp_path: Path) -> None:
    one, two = pair(start, tmp_path, scheme)
    replica, process = two.replicas[0], psutil.Process(two.pid)
    for stopped in (process, replica):
        stopped.suspend()
    one.until_text("member", " is gone: silent for ")
    go_on_without(one)
    for stopped in (replica, process):
        stopped.resume()
    one.until_text("member", " joined")
    assert is_back(one, replica)
    one.interrupt()
    assert [node.end()["outcome"] for node in (one, two)] == ["stopped"] * 2
