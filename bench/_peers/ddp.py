"""PyTorch over gloo: every step waits for the gradients of all processes, or every k-th for the parameters of all.

What a user runs on CPU machines today. One model in each process, one kernel thread each, over TCP on loopback. At
every step gradients are averaged by DistributedDataParallel, while the backward pass still runs; every k steps
parameters are, by PyTorch's PeriodicModelAverager ("local SGD"). One process may be slowed down: after each step it
sleeps a multiple of what its thread computed in that step; what it waited for others does not count.

Generous to PyTorch: batches are taken by ``index_select`` from tensors in shared memory, and start-up, the first calls
and DDP's own preparation do not count. An epoch is one permutation of the data, shared out to the processes as its
``DistributedSampler`` does; what does not go into the number of processes is left out.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.nn.parallel import DistributedDataParallel

from bench._peers.hogwild import WARM_STEPS, _accuracy, _step, network
from bench._peers.task import Task

__all__ = ["run"]

TIMEOUT = timedelta(seconds=120)
"""Of one exchange: a process that waits so long for another one fails."""


def run(
    task: Task, *, processes: int, every: int = 1, slow: float = 1.0, target: float = 0.96, looks: int = 20
) -> dict[str, Any]:
    """Train with ``processes`` processes and return what was reached.

    Args:
        processes: number of processes, each with one kernel thread; a step of DDP uses a batch of each, and the mean
            gradient.
        every: steps from one average to the next; 1: of gradients, else of parameters.
        slow: how many times as long the last process takes for what it computes itself; 1: all are alike.
        target: test accuracy whose time is wanted.
        looks: parameters that are kept in each epoch, at equal distances; evaluated when the clock has stopped.

    Returns:
        ``rate``: images/s of all processes; ``seconds``: of the training; ``accuracy``: of the test at the end;
        ``to_target``: seconds to the first kept parameters that reach ``target``, None if none do; ``curve``:
        [seconds, accuracy] of all that were kept; ``slept``: seconds that the last process slept.
    """
    model, epochs = network(task.network), task.epochs
    shape = (1, 28, 28) if task.network == "example" else (model[0].in_features,)
    data = torch.from_numpy(task.x).float().reshape(-1, *shape).share_memory_()
    labels = torch.from_numpy(task.y).long().share_memory_()
    steps = -(-(len(data) // processes) // task.batch)
    kept = sorted({steps * k // looks for k in range(1, looks + 1)} - {0})
    # Times are of CLOCK_MONOTONIC, one for all processes: [process, 0] the start, [process, 1] the end, [process, 2]
    # the seconds slept.
    times = torch.zeros(processes, 3, dtype=torch.float64).share_memory_()
    moments = torch.zeros(epochs * len(kept), dtype=torch.float64).share_memory_()
    snapshots = torch.zeros(epochs * len(kept), sum(p.numel() for p in model.parameters())).share_memory_()
    plan = {"network": task.network, "processes": processes, "batch": task.batch, "lr": task.lr,
            "momentum": task.momentum, "epochs": epochs, "seed": task.seed, "every": every, "slow": slow,
            "kept": kept}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        mp.spawn(_process, (store, data, labels, times, moments, snapshots, plan), nprocs=processes)
    begin = float(times[:, 0].min())
    seconds = float(times[:, 1].max()) - begin
    inputs, targets = torch.from_numpy(task.test_x).float().reshape(-1, *shape), torch.from_numpy(task.test_y).long()
    curve = []
    for moment, snapshot in zip(moments.tolist(), snapshots):
        nn.utils.vector_to_parameters(snapshot, model.parameters())
        curve.append([moment - begin, _accuracy(model, inputs, targets)])
    return {
        "rate": epochs * processes * (len(data) // processes) / seconds,
        "seconds": seconds,
        "accuracy": curve[-1][1],
        "to_target": next((moment for moment, accuracy in curve if accuracy >= target), None),
        "curve": curve,
        "slept": float(times[-1, 2]),
    }


def _process(
    rank: int,
    store: str,
    data: torch.Tensor,
    labels: torch.Tensor,
    times: torch.Tensor,
    moments: torch.Tensor,
    snapshots: torch.Tensor,
    plan: dict[str, Any],
) -> None:
    torch.set_num_threads(1)
    _use_loopback()
    world, batch, kept = plan["processes"], plan["batch"], plan["kept"]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=TIMEOUT)
    torch.manual_seed(plan["seed"])
    alone, every = network(plan["network"]), plan["every"]
    model = DistributedDataParallel(alone) if every == 1 else alone
    averager = PeriodicModelAverager(every, warmup_steps=0) if every > 1 else None
    still = torch.optim.SGD(model.parameters(), lr=0.0, momentum=plan["momentum"])
    warm = torch.Generator().manual_seed(plan["seed"])
    for _ in range(WARM_STEPS):  # DDP arranges its buckets after the first one
        _step(model, still, data, labels, torch.randint(len(data), (batch,), generator=warm))
    if averager is not None:
        averager.average_parameters(model.parameters())
    optimiser = torch.optim.SGD(model.parameters(), lr=plan["lr"], momentum=plan["momentum"])
    slow = plan["slow"] if rank == world - 1 else 1.0
    order, length, look = torch.Generator(), len(data) // world * world, 0
    dist.barrier()
    times[rank, 0] = time.monotonic()
    for epoch in range(plan["epochs"]):
        order.manual_seed(plan["seed"] * 1000 + epoch)
        mine = torch.randperm(len(data), generator=order)[rank:length:world]
        for step, index in enumerate(mine.split(batch), start=1):
            begin = time.thread_time()  # stands still while this thread waits for the gradients of others
            _step(model, optimiser, data, labels, index)
            if slow > 1:
                rest = (slow - 1) * (time.thread_time() - begin)
                time.sleep(rest)
                times[rank, 2] += rest
            if averager is not None:
                averager.average_parameters(model.parameters())
            if rank == 0 and step == kept[look % len(kept)]:
                snapshots[look] = nn.utils.parameters_to_vector(model.parameters()).detach()
                moments[look] = time.monotonic()
                look += 1
    times[rank, 1] = time.monotonic()
    dist.barrier()  # nobody closes a connection that another one still reads
    dist.destroy_process_group()


def _use_loopback() -> None:
    """Keep gloo from the interface that the host's name stands for."""
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback[0]
