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

import numpy.typing as npt
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional

from bench._peers.networks import units_of

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


def run(
    network_name: str,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    test_x: npt.NDArray[Any],
    test_y: npt.NDArray[Any],
    *,
    processes: int,
    threads: int = 1,
    compiled: bool = False,
    batch: int,
    lr: float,
    momentum: float,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Train with ``processes`` processes and return what was reached.

    Args:
        network_name: see ``network``.
        x: (n, ...) float32, examples first; reshaped to what the network wants.
        y: (n,) labels.
        test_x, test_y: the same for the test.
        processes: number of processes. threads: of kernels, in each.
        compiled: it compiles the network with ``torch.compile``, where it is one.
        batch: examples in a batch of one process.
        lr, momentum: of the SGD of each process.
        epochs: passes over the data by all processes together.
        seed: of initial parameters, permutations and dropout.

    Returns:
        ``rate``: images/s from the moment when all processes are warm to the end of the last one; ``seconds``: that
        time; ``accuracy``: of the test at the end; ``curve``: [seconds, accuracy] after each epoch of process 0.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(network_name)
    model.share_memory()
    shape = (1, 28, 28) if network_name == "example" else (model[0].in_features,)
    data = torch.from_numpy(x).float().reshape(-1, *shape).share_memory_()
    labels = torch.from_numpy(y).long().share_memory_()
    n_parameters = sum(p.numel() for p in model.parameters())
    # Times are of CLOCK_MONOTONIC, one for all processes: [process, 0] the start, [process, e] the end of epoch e.
    times = torch.zeros(processes, epochs + 1, dtype=torch.float64).share_memory_()
    snapshots = torch.zeros(epochs, n_parameters).share_memory_()
    barrier = mp.get_context("spawn").Barrier(processes)
    plan = {"processes": processes, "threads": threads, "compiled": compiled, "batch": batch, "lr": lr,
            "momentum": momentum, "epochs": epochs, "seed": seed}  # fmt: skip
    mp.spawn(_process, (network_name, model, data, labels, times, snapshots, barrier, plan), nprocs=processes)
    begin = times[:, 0].min()
    seconds = float(times[:, -1].max() - begin)
    inputs, targets = torch.from_numpy(test_x).float().reshape(-1, *shape), torch.from_numpy(test_y).long()
    accuracy = _accuracy(model, inputs, targets)
    curve = []
    for epoch in range(epochs):
        nn.utils.vector_to_parameters(snapshots[epoch], model.parameters())
        curve.append([float(times[0, epoch + 1] - begin), _accuracy(model, inputs, targets)])
    return {"rate": len(data) * epochs / seconds, "accuracy": accuracy, "seconds": seconds, "curve": curve}


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
