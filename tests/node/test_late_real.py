"""Who joins a run that is over ends with 0: a job array did not fail because one of its nodes came late."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.processes import nodes

pytestmark = [pytest.mark.real, pytest.mark.long]

JOB = """
[data]
train = "digits"
[model]
layers = [{layer = "linear", units = 10}]
[algorithm]
name = "downpour"
[run]
epochs = 1
replicas = 1
model = "m.safetensors"
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_who_waits_to_join_a_run_that_was_finished_before_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    address = f"127.0.0.1:{free_port()}"
    with nodes(tmp_path) as start:
        assert start("job.toml", "--listen", address).end()["outcome"] == "finished"
        again, joined = start("job.toml", "--listen", address, "--resume"), start("--join", address, "--join-s", "30")
        assert again.end()["outcome"] == "finished"
        joined.end(0)
        assert "the run ended before this node was ready" in str(joined.said), joined.all()
