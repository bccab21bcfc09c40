"""One command for the first start and each requeue, as batch systems need it: signals, exit codes, ``--resume=auto``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Node, nodes

pytestmark = [pytest.mark.real, pytest.mark.long]

JOB = """
[data]
train = "digits"
[model]
layers = [{{layer = "linear", units = 10}}]
[algorithm]
name = "{name}"
[run]
epochs = 1_000_000
replicas = 1
"""

TO_ALL = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

Start = Callable[..., Node]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with nodes(tmp_path) as start:
        yield start


@pytest.mark.parametrize("name", ["downpour", "hogwild"])
def test_a_run_that_a_batch_system_stops_goes_on_with_the_same_command(name: str, start: Start, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB.format(name=name))
    command = ("--resume=auto", "job.toml", *(("--listen", "127.0.0.1:0") if name == "downpour" else ()))
    one = start(*command)
    assert one.until_text("snapshot", "nothing to go on from") == "nothing to go on from at model.safetensors: a new run"
    one.until_training()
    for number in TO_ALL:  # a batch system signals every process of the job
        for replica in one.replicas:
            replica.send_signal(number)
    one.process.send_signal(signal.SIGUSR1)
    assert one.end(75)["outcome"] == "stopped"
    assert not [fields for fields in one.said if fields["event"] == "replica_died"]
    done = max(fields["examples"] for fields in one.said if fields["event"] == "progress")
    two = start(*command)
    assert two.until_training()["examples"] >= done
    two.process.send_signal(signal.SIGQUIT)
    two.end(75)
    three = start(*command, "--epochs", "1")
    assert three.end()["outcome"] == "finished", "all is done, and a finished run is told from a stopped one"


def test_a_run_has_as_many_files_open_as_its_user_may(start: Start, tmp_path: Path) -> None:
    """A soft limit of 34 was too few for one replica, and exit code 2."""
    (tmp_path / "job.toml").write_text(JOB.format(name="hogwild"))
    one = start("job.toml", "--epochs", "1", prefix=("sh", "-c", 'ulimit -Sn 34; exec "$@"', "sh"))
    assert one.end()["outcome"] == "finished"
