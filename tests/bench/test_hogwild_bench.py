"""The Hogwild bench: what its rows compare, and peers that learn."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import hogwild
from bench._peers.networks import units_of
from bench.hogwild import CASES, ONE, OURS, PEERS

ROOT = Path(__file__).parents[2]


def trained(rate, accuracy, *curve):
    return {"rate": rate, "accuracy": accuracy, "curve": list(curve)}


def test_each_contender_has_a_row_that_says_how_often_its_rate_is_in_ours():
    runs = {
        OURS: [trained(100.0, 0.97, [1.0, 0.9], [2.0, 0.965]), trained(120.0, 0.98, [3.0, 0.97])],
        ONE: [trained(60.0, 0.97), trained(60.0, 0.97)],
        "JAX, scan": [trained(50.0, 0.96, [4.0, 0.95]), trained(60.0, 0.96, [4.0, 0.99])],
    }
    ours, one, jax = hogwild._rows(CASES[0], runs)
    assert (ours["images/s"], ours["ours is times"], ours["accuracy"], ours["s to"]) == (110, 1, pytest.approx(0.975), 2.5)
    assert (one["ours is times"], one["goal"], "s to" in one) == (pytest.approx(110 / 60), "at least 1.7", False)
    assert (jax["ours is times"], jax["goal"], "s to" in jax) == (2, "at least 2", False)  # one of its runs never came there


def test_goals_are_of_contenders():
    assert {name for case in CASES for name in case.goals} <= {ONE, *[peer.name for peer in PEERS]}


@pytest.mark.parametrize("name", ["mlp", "mlp:4", "cnn"])
def test_another_network_is_an_error(name):
    with pytest.raises(ValueError, match=r"expected example or mlp:IN-\.\.\.-OUT"):
        units_of(name)


TRAIN = """
import json, sys
from importlib import import_module
import numpy as np

rng = np.random.default_rng(0)
y = rng.integers(0, 3, 600)
x = (rng.normal(size=(3, 8))[y] * 3 + rng.normal(size=(600, 8)) * 0.3).astype(np.float32)
from bench._peers.task import Task
task = Task("mlp:8-16-3", x[:500], y[:500], x[500:], y[500:], batch=8, lr=0.05, momentum=0.5, epochs=4, seed=1)
run = import_module("bench._peers." + sys.argv[1]).run
print(json.dumps(run(task, **json.loads(sys.argv[2]))))
"""


@pytest.mark.long
@pytest.mark.parametrize("peer", [pytest.param(p, id=p.name, marks=[pytest.mark.torch] if p.package == "torch" else []) for p in PEERS])
def test_a_peer_learns_a_separable_problem(peer):
    """In a process of its own, as in the bench."""
    if find_spec(peer.package) is None:
        pytest.skip(f"{peer.package} is not installed")
    line = [sys.executable, "-c", TRAIN, peer.module, json.dumps(dict(peer.settings))]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["accuracy"] >= 0.97
    assert found["rate"] == pytest.approx(4 * 500 / found["seconds"], rel=0.02)  # JAX leaves out what is no whole batch
    assert len(found["curve"]) == 4
    assert 0 < found["curve"][0][0] < found["curve"][-1][0] <= found["seconds"]
