"""Sandblaster for real: the same model file, byte for byte, whoever computed what; a node is killed with the batch in its
hands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Node, nodes

from hogpour.model import model_file

pytestmark = [pytest.mark.real, pytest.mark.long]

JOB = """
[data]
train = "digits"
scale = "standard"
[model]
layers = [{{layer = "linear", units = 256}}, {{layer = "tanh"}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "sandblaster"
l2 = 1e-3
[run]
epochs = {epochs}
batch = 128
replicas = {replicas}
model = "{model}"
[cluster]
shard_bytes = {shard_bytes}
lease_s = 1.0
give_up_s = 4.0
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    with nodes(tmp_path) as start:
        yield start


def test_any_nodes_replicas_and_shards_make_the_same_model_and_so_does_a_kill(
    start: Callable[..., Node], tmp_path: Path
) -> None:
    def job(name: str, replicas: int, shard_bytes: int, epochs: int = 150) -> str:
        text = JOB.format(model=f"{name}.safetensors", replicas=replicas, shard_bytes=shard_bytes, epochs=epochs)
        (tmp_path / f"{name}.toml").write_text(text)
        return f"{name}.toml"

    def params(name: str) -> bytes:
        _, params, _ = model_file.load(str(tmp_path / f"{name}.safetensors"))
        return params.tobytes()

    alone = start(job("alone", 1, 1 << 22)).end()
    assert alone["outcome"] == "finished"
    assert alone["accuracy"] > 0.95
    start(job("replicas", 3, 1 << 14)).end()
    one = start(job("cluster", 1, 1 << 14), "--listen", "127.0.0.1:0")
    serving = start("--join", one.address, "--listen", "127.0.0.1:0")
    computing = start("--join", one.address)
    one.until_text("iteration", "iteration 1:")  # read on: a node whose output nobody takes stands still
    one.until("progress", lambda fields: fields["cluster_replicas"] == 3)
    computing.kill()
    assert one.end()["outcome"] == "finished"
    serving.end()
    assert params("replicas") == params("alone")
    assert params("cluster") == params("alone")
