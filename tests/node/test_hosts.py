"""A cluster on three hosts that are killed, cut off, slow, or cannot all reach each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hosts import Hosts, hosts
from support.processes import Node, nodes

__all__ = ["hosts"]

pytestmark = [pytest.mark.real, pytest.mark.long]

N_MNIST = 60_000
EPOCHS = 8

JOB = """
[data]
train = "{mnist}/train-images-idx3-ubyte.gz"
test = "{mnist}/t10k-images-idx3-ubyte.gz"
[model]
layers = [{{layer = "linear", units = 128}}, {{layer = "relu"}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "downpour"
n_push = 4
n_fetch = 4
optimiser = {{name = "adagrad", lr = 0.02}}
[run]
epochs = {epochs}
batch = 32
replicas = 2
"""

DIGITS = """
[data]
train = "digits"
[model]
layers = [{{layer = "linear", units = {units}}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "downpour"
n_push = {n}
n_fetch = {n}
[run]
epochs = {epochs}
replicas = 1
[cluster]
shard_bytes = {shard}
"""


@pytest.fixture
def on(hosts: Hosts, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts a node on a host."""
    token = tmp_path / "token"
    token.write_text("a token that is on every host\n")
    token.chmod(0o600)
    with nodes(tmp_path) as start:

        def on(host: int, *arguments: str) -> Node:
            return start(*arguments, "--token-file", str(token), prefix=hosts.prefix(host))

        yield on


def test_mnist_on_three_hosts_survives_a_death_and_a_cut_cable(
    hosts: Hosts, on: Callable[..., Node], shared_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "job.toml").write_text(JOB.format(mnist=shared_data / "mnist", epochs=EPOCHS))

    def joined(host: int) -> Node:
        return on(host, "--join", f"{hosts.address(1)}:7000", "--data", str(shared_data / "mnist"))

    one = on(1, "job.toml", "--listen", f"{hosts.address(1)}:7000")
    killed, cut = joined(2), joined(3)
    for node in (one, killed, cut):
        node.until_training()
        node.pause()  # so that nothing is over before all has happened
    killed.go_on()
    killed.kill()
    cut.go_on()
    hosts.cut(3)
    began = one.until_training()["seconds"]
    late = joined(2)  # in the middle
    gone = [one.until_text("member", " is gone: silent for ") for _ in range(2)]
    one.until("progress", lambda fields: fields["seconds"] >= began + 5)  # its own clock: 5 s of a cut cable
    hosts.mend(3)
    cut.until_text("warning", "joined again as node ")
    cut.pause()
    late.until_training()
    for node in (one, cut):
        node.go_on()
    end = one.end()
    assert [node.end()["outcome"] for node in (cut, late)] == ["finished"] * 2
    assert end["outcome"] == "finished"
    assert end["accuracy"] >= 0.96
    assert end["repeated"] > 0
    assert EPOCHS * N_MNIST <= end["examples"] <= EPOCHS * N_MNIST + end["repeated"]
    assert len(gone) == 2


def test_a_model_of_6_mb_trains_over_a_link_of_700_kb_a_second(hosts: Hosts, on: Callable[..., Node], tmp_path: Path) -> None:
    """A transfer had 7 s for its last byte, and this one takes 9: "the first node does not answer"."""
    hosts.slow(2, 0.7e6)
    (tmp_path / "job.toml").write_text(DIGITS.format(units=21_000, n=20, epochs=1_000, shard=1 << 22))
    one = on(1, "job.toml", "--listen", f"{hosts.address(1)}:7000")
    one.until_training()
    one.pause()  # the other one has what there is of cores
    two = on(2, "--join", f"{hosts.address(1)}:7000")
    two.until("progress", lambda fields: fields["computing"] > 0 and fields["seconds"] > 20)
    one.go_on()
    one.interrupt()
    assert two.end()["outcome"] == one.end()["outcome"] == "stopped"
    assert [fields for fields in two.said if fields["event"] == "warning"] == []


def test_a_node_that_cannot_reach_a_server_trains_with_shards_that_are_elsewhere(
    hosts: Hosts, on: Callable[..., Node], tmp_path: Path
) -> None:
    """It ended after 7 s: "node 2, which serves shards, does not answer"."""
    (tmp_path / "job.toml").write_text(DIGITS.format(units=64, n=4, epochs=1_000_000, shard=4_096))
    hosts.wall(3, hosts.address(2))
    one = on(1, "job.toml", "--listen", f"{hosts.address(1)}:7000")
    two = on(2, "--join", f"{hosts.address(1)}:7000", "--listen", f"{hosts.address(2)}:7001")
    two.until_training()
    three = on(3, "--join", f"{hosts.address(1)}:7000")
    one.until_text("member", " cannot be reached by node 3 ")
    three.until_training()
    one.interrupt()
    assert [node.end()["outcome"] for node in (one, two, three)] == ["stopped"] * 3


def test_a_server_behind_a_firewall_keeps_no_other_from_leaving(hosts: Hosts, on: Callable[..., Node], tmp_path: Path) -> None:
    """Its heartbeats got through and its port did not: another server was not out 110 s after Ctrl+C."""
    (tmp_path / "job.toml").write_text(DIGITS.format(units=64, n=4, epochs=1_000_000, shard=4_096))
    walled = hosts.name_again(3)
    hosts.wall(1, walled)
    one = on(1, "job.toml", "--listen", f"{hosts.address(1)}:7000")
    two = on(2, "--join", f"{hosts.address(1)}:7000", "--listen", f"{hosts.address(2)}:7001")
    two.until_training()
    three = on(3, "--join", f"{hosts.address(1)}:7000", "--listen", f"{walled}:7001")
    one.until_text("member", " cannot be reached from here: firewall? it computes only")
    two.interrupt()
    assert two.end(within_s=20)["outcome"] == "stopped"
    three.until_training()
    one.interrupt()
    assert [node.end()["outcome"] for node in (one, three)] == ["stopped"] * 2
