"""PyTorch's DistributedDataParallel as our benches run it, where PyTorch is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

TRAIN = """
import json
import numpy as np
from bench._peers import ddp
from bench._peers.task import Task

rng = np.random.default_rng(0)
y = rng.integers(0, 3, 601)
x = (rng.normal(size=(3, 8))[y] * 3 + rng.normal(size=(601, 8)) * 0.3).astype(np.float32)
task = Task("mlp:8-16-3", x[:501], y[:501], x[501:], y[501:], batch=8, lr=0.05, momentum=0.5, epochs=4, seed=1)
runs = ((0.9, 1.0, 1), (1.1, 5.0, 1), (0.9, 1.0, 4))
print(json.dumps([ddp.run(task, processes=2, looks=5, target=t, slow=s, every=e) for t, s, e in runs]))
"""


@pytest.mark.slow
@pytest.mark.real
def test_two_processes_learn_a_separable_problem_and_a_slow_one_takes_the_same_steps():
    """In a process of its own, because multiprocessing leaves its resource tracker running."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", TRAIN], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found, slowed, averaged = json.loads(done.stdout)
    assert found["accuracy"] >= 0.97
    assert found["rate"] == pytest.approx(4 * 500 / found["seconds"])
    moments = [moment for moment, _ in found["curve"]]
    assert len(moments) == 4 * 5
    assert moments == sorted(moments)
    assert moments[0] > 0
    assert found["to_target"] == next(moment for moment, accuracy in found["curve"] if accuracy >= 0.9)
    assert slowed["to_target"] is None, "no accuracy is above 1"
    accuracies = [[accuracy for _, accuracy in run["curve"]] for run in (found, slowed)]
    assert accuracies[0] == accuracies[1], "a slow process changes the time, not the steps"
    assert averaged["accuracy"] >= 0.97
    assert averaged["curve"] != found["curve"]
    assert found["slept"] == 0
    assert slowed["seconds"] > slowed["slept"] > 0
