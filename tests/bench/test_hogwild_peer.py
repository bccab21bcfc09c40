"""PyTorch's Hogwild as our benches run it, where PyTorch is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bench._peers import hogwild  # noqa: E402  imports torch

pytestmark = pytest.mark.torch


def test_the_example_network_is_that_of_pytorch():
    network = hogwild.network("example")
    assert sum(p.numel() for p in network.parameters()) == 21_840
    network.eval()
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_an_mlp_is_named_by_its_units():
    shapes = [tuple(p.shape) for p in hogwild.network("mlp:4-3-2").parameters()]
    assert shapes == [(3, 4), (3,), (2, 3), (2,)]


@pytest.mark.parametrize("name", ["mlp", "mlp:4", "cnn"])
def test_another_name_is_an_error(name):
    with pytest.raises(ValueError, match=r"expected example or mlp:IN-\.\.\.-OUT"):
        hogwild.network(name)


TRAIN = """
import json
import numpy as np
from bench._peers import hogwild

rng = np.random.default_rng(0)
y = rng.integers(0, 3, 600)
x = (rng.normal(size=(3, 8))[y] * 3 + rng.normal(size=(600, 8)) * 0.3).astype(np.float32)
settings = {"processes": 2, "batch": 8, "lr": 0.05, "momentum": 0.5, "epochs": 4, "seed": 1}
print(json.dumps(hogwild.run("mlp:8-16-3", x[:500], y[:500], x[500:], y[500:], **settings)))
"""


@pytest.mark.slow
@pytest.mark.real
def test_two_processes_learn_a_separable_problem():
    """In a process of its own, because multiprocessing leaves its resource tracker running."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", TRAIN], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy"] >= 0.97
    assert found["rate"] == pytest.approx(4 * 500 / found["seconds"])
    assert len(found["curve"]) == 4
    assert 0 < found["curve"][0][0] < found["curve"][-1][0] <= found["seconds"]
