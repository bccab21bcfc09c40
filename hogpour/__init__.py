"""hogpour trains one model with every core of every machine: lock-free SGD on shared memory, federated over TCP.

Reading order of the house, from the ground up:

    errors, spec, shards, config, stats     words: one flat vector, its cutting, the job, numbers
    registry                                file name → class
    layers/                                 mathematics: tile.py (the micro-kernel), then any layer; sequential.py
    contract, differences                   what every layer and loss is held to, yours too
    algos/                                  decisions: exchange/, correction/, optim/, schedule/, then a scheme: asgd.py
    portions, tickets, windows, accounts    which examples when, who holds them, which pushes were applied, who did what
    origins                                 what each node had fetched from a shard
    scaling, formats/, data                 files → arrays
    disk                                    what survives a kill, and what a power cut
    shm/                                    layout, segment, params (THE RACE), clocks, control, doorbell, atomics;
                                            accrual, landing, queue: between a replica and the link
    net/                                    frame, wire/ (one file a message), connection (no I/O); then the sockets
    replica, outlet, supervisor             a process that trains; what starts, watches and restarts it
    link, member                            pushes and fetches; joins, beats, leases
    server, shard, serving                  the parameter server; taking shards over
    coordinator, gatekeeper, placement      members and portions; what counts in a step; which node serves what
    snapshot, founding                      shards on disk; the first node's own business
    standing, federation                    what was done; a node's part in a cluster
    model, checkpoint                       prediction and evaluation; model files
    preparation, rehearsal, training, node  a run: what it begins with, its life, the async API
    sim/                                    the laboratory: the same cluster in virtual time
    cli, report, view, status, doctor, compare    the command line and what it prints

Public names are those below, and every layer, loss, optimiser, schedule and scheme by its class name
(``hogpour.Conv2D``, ``hogpour.Adagrad``, ``hogpour.Hogwild``). They are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["ClusterConfig", "Compute", "Dataset", "HogpourError", "Job", "Model", "Node", "Scenario", "Sequential",
           "Simulation", "arrays", "check_layer", "check_loss", "load", "read_scenario"]  # fmt: skip

__version__ = "0.1.0"

_HOMES = {
    "ClusterConfig": "config",
    "Compute": "sim.compute",
    "Dataset": "data",
    "HogpourError": "errors",
    "Job": "config",
    "Model": "model",
    "Node": "node",
    "Scenario": "sim.scenario",
    "Sequential": "layers.sequential",
    "Simulation": "sim.simulation",
    "arrays": "data",
    "check_layer": "contract",
    "check_loss": "contract",
    "load": "data",
    "read_scenario": "sim.scenario",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None and not name[:1].isupper():
        raise AttributeError(f"module 'hogpour' has no attribute {name!r}")
    # Before the first kernel is defined, which is when numba looks.
    importlib.import_module("hogpour.cpu").set_kernel_cache()
    if home is not None:
        return getattr(importlib.import_module(f"hogpour.{home}"), name)
    registry = importlib.import_module("hogpour.registry")
    for kind in registry.FOLDERS:
        cls = registry.by_class_name(kind, name)
        if cls is not None:
            return cls
    raise AttributeError(f"module 'hogpour' has no attribute {name!r}")
