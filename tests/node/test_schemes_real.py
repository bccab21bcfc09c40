"""Every scheme for several machines on two nodes over loopback: changing the scheme is one word.

Each on digits, one of them in the default run, and one of each kind on MNIST where that is beside the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Node, nodes
from support.real_data import SHARED
from support.schemes import KINDS, SCHEMES

pytestmark = [pytest.mark.real, pytest.mark.slow]

JOB = """
[data]
{data}
[model]
layers = [{{layer = "linear", units = 64}}, {{layer = "relu"}}, {{layer = "linear", units = 10}}]
[algorithm]
name = "{scheme}"
{more}
[run]
epochs = {epochs}
batch = {batch}
replicas = 1
[cluster]
wait_for = 2
"""

IMAGES = SHARED / "mnist" / "train-images-idx3-ubyte.gz"
MNIST = f'train = "{IMAGES}"\ntest = "{IMAGES.with_name("t10k-images-idx3-ubyte.gz")}"'
DIGITS = 'train = "digits"'

ROUNDS = {
    "local_sgd": "",
    "async_diloco": 'steps = {steps}\ninner = {{name = "adamw", lr = {adam}}}\n'
                    'optimiser = {{name = "delayed_nesterov", lr = 0.7, every = 2}}',
    "diloco": 'steps = {steps}\ninner = {{name = "adamw", lr = {adam}}}\n'
              'optimiser = {{name = "nesterov", lr = 0.7, momentum = 0.5}}',
    "easgd": 'alpha = 0.45\noptimiser = {{name = "sgd", lr = 0.2}}',
    "eamsgd": 'alpha = 0.45\noptimiser = {{name = "nesterov", lr = 0.004, momentum = 0.99}}',
}  # fmt: skip
"""What two nodes and few epochs want else: α of two, rounds that are short for a run that is, and an outer rate for
displacements that are added, not averaged."""

AVERAGED = {"ssgd", "backup_sync", "softsync"}
"""Where two gradients make one step, or one of them is dropped: half as many steps as there are batches."""

SLOW_S = 240.0
"""For a run of half a minute, on a machine that has other things to do."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    with nodes(tmp_path) as start:
        yield start


def job_of(scheme: str, data: str) -> tuple[str, int]:
    """Return a job that comes to 0.95, and its epochs."""
    if scheme == "sandblaster":  # an epoch is an evaluation; no rates
        return JOB.format(data=data, scheme=scheme, epochs=60, batch=256, more=""), 60
    if data is DIGITS:
        epochs, batch, rate, steps, adam = 100 if scheme in ROUNDS else 40, 16, 0.1, 10, 0.003
    else:  # few epochs, where each step is pushed
        epochs, batch, rate, steps, adam = (3, 32, 0.4, 50, 0.001) if scheme in ROUNDS else (2, 64, 0.4, 50, 0.001)
        if scheme in AVERAGED:
            epochs, batch, rate = 3, 48, 0.5
    more = f'optimiser = {{name = "sgd", lr = {rate}}}'
    if scheme in ROUNDS:
        more = ROUNDS[scheme].format(steps=steps, adam=adam)
    return JOB.format(data=data, scheme=scheme, epochs=epochs, batch=batch, more=more), epochs


def check(scheme: str, data: str, examples: int, start: Callable[..., Node], folder: Path) -> None:
    job, epochs = job_of(scheme, data)
    (folder / "job.toml").write_text(job)
    one = start("job.toml", "--listen", "127.0.0.1:0")
    two = start("--join", one.address)
    two.until("progress", lambda fields: fields["cluster_nodes"] == 2 and fields["examples"] > 0)
    ended = one.end(within_s=SLOW_S)
    assert ended["outcome"] == "finished"
    assert ended["accuracy"] >= 0.95
    assert ended["examples"] >= epochs * examples
    two.end()


@pytest.mark.long
@pytest.mark.serial
@pytest.mark.parametrize("scheme", KINDS)
def test_two_nodes_learn_mnist(scheme: str, shared_data: Path, start: Callable[..., Node], tmp_path: Path) -> None:
    check(scheme, MNIST, 60_000, start, tmp_path)


@pytest.mark.parametrize("scheme", [pytest.param(one, marks=[] if one == "asgd" else pytest.mark.long) for one in SCHEMES])
def test_two_nodes_learn_digits(scheme: str, start: Callable[..., Node], tmp_path: Path) -> None:
    check(scheme, DIGITS, 1_438, start, tmp_path)
