"""How long from the command to the first finished step, with a warm and with a cold kernel cache?

Whole processes, measured from outside: ``python -m hogpour node`` on digits against a Python that imports PyTorch and
does one step of the same network on the same data shape. Ours includes the start of its replica processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import harness

__all__ = ["measure"]

TORCH = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
x, y = torch.rand(16, 64), torch.randint(0, 10, (16,))
loss = nn.functional.cross_entropy(net(x), y)
loss.backward()
optimiser.step()
print("step", flush=True)
"""


def measure(options: argparse.Namespace) -> harness.Report:
    """Start everything in turns: warm and PyTorch every round, cold in the first rounds only."""
    rounds = options.rounds or 5
    torch = harness.torch_or_none() is not None
    _node({})  # the cache is warm from here on
    first: dict[str, list[float]] = {"warm": [], "pytorch": []}
    whole: dict[str, list[float]] = {"warm": [], "cold": []}
    cold_first = []
    for turn in range(rounds):
        to_step, to_end = _node({})
        first["warm"].append(to_step)
        whole["warm"].append(to_end)
        if torch:
            first["pytorch"].append(_torch())
        if turn < 2:
            with tempfile.TemporaryDirectory() as folder:
                to_step, to_end = _node({"NUMBA_CACHE_DIR": folder})
                cold_first.append(to_step)
                whole["cold"].append(to_end)
    table = harness.Table("seconds", ("what", "ours", "pytorch", "ratio", "goal"))
    warm = harness.spread(first["warm"]).median
    its = harness.spread(first["pytorch"]).median if torch else None
    table.add(what="warm: command to first finished step", ours=warm, pytorch=its,
              ratio=warm / its if its else None, goal="at most 1 x PyTorch's")  # fmt: skip
    table.add(what="cold: command to first finished step", ours=harness.spread(cold_first).median)
    warm_whole, cold_whole = harness.spread(whole["warm"]).median, harness.spread(whole["cold"]).median
    table.add(what="default job, warm", ours=warm_whole)
    table.add(what="default job, cold", ours=cold_whole, ratio=cold_whole / warm_whole, goal="at most 4 x warm")
    figures = {"PyTorch: first step": harness.paired(first["pytorch"], first["warm"])} if torch else {}
    figures["warm: cold"] = harness.paired(whole["warm"], whole["cold"])
    return harness.Report([table], ["the cold ratio is against our own warm time"], figures)


def _node(more: dict[str, str]) -> tuple[float, float]:
    """Run the default job; return the seconds to its first finished step and to its end."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "hogpour", "node", "--json"], cwd=folder, text=True,
                                   env=_environment(more), stdout=subprocess.PIPE)  # fmt: skip
        assert process.stdout is not None
        step = None
        for line in process.stdout:
            event = json.loads(line)
            if step is None and event.get("seconds"):
                step = time.monotonic() - begin - event["seconds"]
        assert process.wait() == 0
        assert step is not None
        return step, time.monotonic() - begin


def _torch() -> float:
    begin = time.monotonic()
    command = [sys.executable, "-c", TORCH]
    done = subprocess.run(command, env=_environment({}), capture_output=True, text=True, check=True)
    assert done.stdout == "step\n"
    return time.monotonic() - begin


def _environment(more: dict[str, str]) -> dict[str, str]:
    root = str(Path(__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, **more}
