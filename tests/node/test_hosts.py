"""A cluster on three hosts: network namespaces of their own, joined by a bridge, that are killed and cut off.

All traffic stays inside these namespaces; they are removed with everything in them, whatever happens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Node, nodes

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


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


class Hosts:
    """Three namespaces with an address each, on a bridge in a fourth one."""

    def __init__(self) -> None:
        self.name = f"hog{os.getpid()}"
        self._made: list[str] = []

    def make(self) -> None:
        """Make them. Nothing of it is in the namespace that this process is in."""
        switch = self._namespace("s")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for host in (1, 2, 3):
            namespace = self._namespace(str(host))
            _ip("-n", namespace, "link", "add", "eth", "type", "veth", "peer", "name", f"port{host}", "netns", switch)
            _ip("-n", switch, "link", "set", f"port{host}", "master", "bridge", "up")
            _ip("-n", namespace, "addr", "add", f"{self.address(host)}/24", "dev", "eth")
            _ip("-n", namespace, "link", "set", "eth", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")

    def _namespace(self, suffix: str) -> str:
        namespace = f"{self.name}-{suffix}"
        _ip("netns", "add", namespace)
        self._made.append(namespace)
        return namespace

    def address(self, host: int) -> str:
        return f"10.77.19.{host}"

    def prefix(self, host: int) -> list[str]:
        """What a command begins with that is to run on this host."""
        return ["ip", "netns", "exec", f"{self.name}-{host}"]

    def cut(self, host: int) -> None:
        """Pull the cable of a host, at the switch: the host does not notice."""
        _ip("-n", f"{self.name}-s", "link", "set", f"port{host}", "down")

    def mend(self, host: int) -> None:
        _ip("-n", f"{self.name}-s", "link", "set", f"port{host}", "up")

    def remove(self) -> None:
        for namespace in self._made:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=20)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2 to make network namespaces")
    hosts = Hosts()
    try:
        try:
            hosts.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"may not make network namespaces: {error.stderr.strip()}")
        yield hosts
    finally:
        hosts.remove()


def test_mnist_on_three_hosts_survives_a_death_and_a_cut_cable(hosts: Hosts, shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB.format(mnist=shared_data / "mnist", epochs=EPOCHS))
    token = tmp_path / "token"
    token.write_text("a token that is on every host\n")
    token.chmod(0o600)
    with nodes(tmp_path) as start:

        def on(host: int, *arguments: str) -> Node:
            return start(*arguments, "--token-file", str(token), prefix=hosts.prefix(host))

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
