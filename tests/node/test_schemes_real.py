"""Every scheme for several machines on two nodes over loopback, on MNIST: changing the scheme is one word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Node, nodes

from hogpour.core import registry

pytestmark = [pytest.mark.real, pytest.mark.long]

JOB = """
[data]
train = "{mnist}/train-images-idx3-ubyte.gz"
test = "{mnist}/t10k-images-idx3-ubyte.gz"
[model]
layers = [{{layer = "linear", units = 64}}, {{layer = "relu"}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "{scheme}"
{more}
[run]
epochs = {epochs}
batch = {batch}
replicas = 1
"""

MORE = {
    "local_sgd": "",
    "async_diloco": 'steps = 50\ninner = {name = "adamw", lr = 0.001}\n'
                    'optimiser = {name = "delayed_nesterov", lr = 0.7, every = 2}',
    "diloco": 'steps = 50\ninner = {name = "adamw", lr = 0.001}\n'
              'optimiser = {name = "nesterov", lr = 0.7, momentum = 0.5}',
    "easgd": 'alpha = 0.45\noptimiser = {name = "sgd", lr = 0.2}',
    "eamsgd": 'alpha = 0.45\noptimiser = {name = "nesterov", lr = 0.004, momentum = 0.99}',
}  # fmt: skip
"""What two nodes and three epochs want else: α of two, rounds that are short for a run that is, and an outer rate for
displacements that are added, not averaged."""

AVERAGED = {"ssgd", "backup_sync", "softsync"}
"""Where a step is the mean of two gradients, and so wants a higher rate."""

SLOW_S = 240.0
"""For a run of half a minute, on a machine that has other things to do."""

SCHEMES = [name for name, cls in registry.available("scheme").items() if name != "custom" and cls().federated]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    with nodes(tmp_path) as start:
        yield start


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_nodes_learn_mnist(scheme: str, start: Callable[..., Node], shared_data: Path, tmp_path: Path) -> None:
    rate = 0.8 if scheme in AVERAGED else 0.4
    more = f'optimiser = {{name = "sgd", lr = {rate}}}'
    epochs, batch, more = (3, 32, MORE[scheme]) if scheme in MORE else (2, 64, more)  # few, where each step is pushed
    epochs += scheme in AVERAGED  # half as many steps
    if scheme == "sandblaster":  # an epoch is an evaluation; no rates
        epochs, batch, more = 60, 256, ""
    job = JOB.format(mnist=shared_data / "mnist", scheme=scheme, epochs=epochs, batch=batch, more=more)
    (tmp_path / "job.toml").write_text(job)
    one = start("job.toml", "--listen", "127.0.0.1:0")
    two = start("--join", one.address)
    two.until_training()
    ended = one.end(within_s=SLOW_S)
    assert ended["outcome"] == "finished"
    assert ended["accuracy"] >= 0.95
    assert ended["examples"] >= epochs * 60_000
    two.end()
