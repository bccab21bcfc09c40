"""A cluster on loopback that waits for its nodes, as processes: what they say, and what ends the waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Node, nodes

import hogpour as hp
from hogpour.core.errors import ConfigError
from hogpour.core.job import ClusterConfig

pytestmark = [pytest.mark.real, pytest.mark.long]

JOB = """
[data]
train = "digits"
[model]
layers = [{{layer = "linear", units = 10}}]
[algorithm]
name = "ssgd"
[run]
epochs = {epochs}
batch = 16
replicas = 1
[cluster]
wait_for = {wait_for}
wait_for_s = {wait_for_s}
"""

LISTEN = ("--listen", "127.0.0.1:0")
Start = Callable[..., Node]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with nodes(tmp_path) as start:
        yield start


def job_file(folder: Path, *, wait_for: int = 2, wait_for_s: float = 600.0, epochs: int = 3) -> str:
    text = JOB.format(epochs=epochs, wait_for=wait_for, wait_for_s=wait_for_s)
    (folder / "job.toml").write_text(text)
    return "job.toml"


def said(node: Node, event: str) -> list[str]:
    return [fields["text"] for fields in node.said if fields["event"] == event]


def test_training_begins_when_the_last_one_is_ready_and_all_say_for_whom_they_wait(start: Start, tmp_path: Path) -> None:
    one = start(job_file(tmp_path, wait_for=9), *LISTEN, "--wait-for", "3")
    one.until_text("waiting", "1 of 3 are ready")
    two = start("--join", one.address)
    two.until_text("waiting", "of 3 are ready")
    one.until_text("waiting", "2 of 3 are ready")
    assert [fields for fields in one.said if fields["event"] == "progress"] == []
    three = start("--join", one.address)
    one.until_text("member", "3 nodes are ready: training begins")
    for node in (one, two, three):
        assert node.end()["outcome"] == "finished"


def test_ctrl_c_ends_the_waiting_and_writes_nothing(start: Start, tmp_path: Path) -> None:
    one = start(job_file(tmp_path), *LISTEN)
    one.until_text("waiting", "1 of 2 are ready")
    one.interrupt()
    end = one.end()
    assert (end["outcome"], end["examples"], end["model"]) == ("stopped", 0, "")
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("errors")} == {"job.toml"}


def test_nodes_that_do_not_come_end_the_run_in_a_line(start: Start, tmp_path: Path) -> None:
    one = start(job_file(tmp_path, wait_for=3, wait_for_s=0.001), *LISTEN)
    one.end(code=1)
    assert "of 3 nodes were ready within 0.001 s; start the others, or lower cluster.wait_for = 3" in one.errors
    assert len(one.errors.splitlines()) == 1


def test_a_run_that_is_resumed_waits_again(start: Start, tmp_path: Path) -> None:
    one = start(job_file(tmp_path, epochs=1_000_000), *LISTEN)
    two = start("--join", one.address)
    one.until_training()
    one.interrupt()
    assert [node.end()["outcome"] for node in (one, two)] == ["stopped", "stopped"]
    one = start("job.toml", *LISTEN, "--resume")
    one.until_text("waiting", "1 of 2 are ready")
    two = start("--join", one.address)
    one.until_training()
    one.interrupt()
    assert [node.end()["outcome"] for node in (one, two)] == ["stopped", "stopped"]


async def test_a_node_that_does_not_listen_waits_for_nobody() -> None:
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(10)], algorithm="ssgd", cluster=ClusterConfig(wait_for=2))
    with pytest.raises(ConfigError, match=r"^cluster.wait_for = 2: nobody can join a node that does not listen"):
        async with hp.Node(job):
            pass
