"""PyTorch's Hogwild: processes that train one model in shared memory, as in the example of its documentation.

``torch.multiprocessing``, ``model.share_memory()``, an optimiser in every process, one kernel thread each. Generous to
PyTorch where users would lose time: the data are tensors in shared memory and batches are taken by ``index_select``
(no DataLoader, no copies between processes), and start-up, imports and first calls do not count.

Unlike the example, where every process goes through all data in each epoch, the processes share one permutation of
the data, so that an epoch sees each example once, whatever their number; as ours does.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional

from bench._peers.networks import units_of
from bench._peers.task import Task

__all__ = ["network", "run"]

WARM_STEPS = 5
"""Steps before the clock starts, on a private copy or taken back: MKL and oneDNN choose their kernels in the first."""


def network(name: str) -> nn.Sequential:
    """Return a network that ends in log-probabilities; for its name see ``networks.units_of``."""
    if name == "example":
        return nn.Sequential(
            nn.Conv2d(1, 10, kernel_size=5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(10, 20, kernel_size=5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10), nn.LogSoftmax(dim=1),
        )  # fmt: skip
    units = units_of(name)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(units):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.LogSoftmax(dim=1))


def run(task: Task, *, processes: int, threads: int = 1, compiled: bool = False) -> dict[str, Any]:
    """Train with ``processes`` processes and return what was reached.

    Args:
        processes: number of processes. threads: of kernels, in each.
        compiled: it compiles the network with ``torch.compile``, where it is one.

    Returns:
        ``rate``: images/s from the moment when all processes are warm to the end of the last one; ``seconds``: that
        time; ``accuracy``: of the test at the end; ``curve``: [seconds, accuracy] after each epoch of process 0.
    """
    with torch.random.fork_rng():
        torch.manual_seed(task.seed)
        model = network(task.network)
    model.share_memory()
    shape = (1, 28, 28) if task.network == "example" else (model[0].in_features,)
    data = torch.from_numpy(task.x).float().reshape(-1, *shape).share_memory_()
    labels = torch.from_numpy(task.y).long().share_memory_()
    n_parameters = sum(p.numel() for p in model.parameters())
    # Times are of CLOCK_MONOTONIC, one for all processes: [process, 0] the start, [process, e] the end of epoch e.
    times = torch.zeros(processes, task.epochs + 1, dtype=torch.float64).share_memory_()
    snapshots = torch.zeros(task.epochs, n_parameters).share_memory_()
    barrier = mp.get_context("spawn").Barrier(processes)
    plan = {"processes": processes, "threads": threads, "compiled": compiled, "batch": task.batch,
            "lr": task.lr, "momentum": task.momentum, "epochs": task.epochs, "seed": task.seed}  # fmt: skip
    mp.spawn(_process, (task.network, model, data, labels, times, snapshots, barrier, plan), nprocs=processes)
    begin = times[:, 0].min()
    seconds = float(times[:, -1].max() - begin)
    inputs, targets = torch.from_numpy(task.test_x).float().reshape(-1, *shape), torch.from_numpy(task.test_y).long()
    accuracy = _accuracy(model, inputs, targets)
    curve = []
    for epoch in range(task.epochs):
        nn.utils.vector_to_parameters(snapshots[epoch], model.parameters())
        curve.append([float(times[0, epoch + 1] - begin), _accuracy(model, inputs, targets)])
    return {"rate": len(data) * task.epochs / seconds, "accuracy": accuracy, "seconds": seconds, "curve": curve}


def _process(
    rank: int,
    network_name: str,
    model: nn.Sequential,
    data: torch.Tensor,
    labels: torch.Tensor,
    times: torch.Tensor,
    snapshots: torch.Tensor,
    barrier: Any,
    plan: dict[str, Any],
) -> None:
    torch.set_num_threads(plan["threads"])
    torch.manual_seed(plan["seed"] * 1000 + rank)
    batch = plan["batch"]
    alone = plan["processes"] == 1
    trained = torch.compile(model) if plan["compiled"] else model
    warmed, begin = trained if alone else network(network_name), [p.detach().clone() for p in model.parameters()]
    optimiser = torch.optim.SGD(warmed.parameters(), lr=plan["lr"], momentum=plan["momentum"])
    rest = len(range(rank, len(data), plan["processes"])) % batch
    for size in [batch] * WARM_STEPS + [rest] * bool(rest):  # code is compiled for either size
        _step(warmed, optimiser, data, labels, torch.randint(len(data), (size,)))
    if alone:
        with torch.no_grad():
            for p, value in zip(model.parameters(), begin):
                p.copy_(value)
    optimiser = torch.optim.SGD(model.parameters(), lr=plan["lr"], momentum=plan["momentum"])
    trained.train()
    order = torch.Generator()
    barrier.wait(timeout=300)
    times[rank, 0] = time.monotonic()
    for epoch in range(plan["epochs"]):
        order.manual_seed(plan["seed"] * 1000 + epoch)
        mine = torch.randperm(len(data), generator=order)[rank :: plan["processes"]]
        for index in mine.split(batch):
            _step(trained, optimiser, data, labels, index)
        times[rank, epoch + 1] = time.monotonic()
        if rank == 0:
            snapshots[epoch] = nn.utils.parameters_to_vector(model.parameters()).detach()


def _step(
    model: nn.Sequential, optimiser: torch.optim.SGD, data: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
) -> None:
    optimiser.zero_grad()
    loss = functional.nll_loss(model(data.index_select(0, index)), labels.index_select(0, index))
    loss.backward()
    optimiser.step()


def _accuracy(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(1000), y.split(1000)))
    model.train()
    return right / len(y)
