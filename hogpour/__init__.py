"""hogpour trains one model with every core of every machine: lock-free SGD on shared memory, federated over TCP.

The rooms, from the ground up; a room imports those above it in this list, and not its neighbours:

    core       words: errors, one flat vector and its cutting, the job, numbers, the registry, what the machine has
    layers     mathematics: a file a layer; losses/; kernels/, of which tile.py and registers.py are the core
    data       files to arrays: formats/; which examples when
    net        the wire: frames, wire/ (a file a message), connections without I/O, then the sockets
    shm        shared memory between a replica and its node; params.py tells of THE RACE
    algos      decisions: schemes/, exchange/, gate/, correction/, optim/, schedule/, lbfgs/
    testing    what a layer or loss of your own is held to
    model      a trained model, its file, snapshots of a cluster, the disk
    client     a node towards the shards and the coordinator: pushes, pulls, fetches, gate, membership
    server     the parameter server: shards, turns, deduplication, gated steps, vector operations, handover
    cluster    the coordinator: members, leases, gate, placement, evaluations
    machine    the replicas of one machine: the loop, its process, the supervisor, preparation
    node       composition: the async API, a run in a cluster, the first node, training
    sim        the laboratory: world/ (time, network, disk are made up), checks/ (what must hold)
    cli        the command line: one file a command, tables, plots

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
    "ClusterConfig": "core.job",
    "Compute": "sim.world.compute",
    "Dataset": "data.dataset",
    "HogpourError": "core.errors",
    "Job": "core.job",
    "Model": "model.model",
    "Node": "node.node",
    "Scenario": "sim.scenario",
    "Sequential": "layers.sequential",
    "Simulation": "sim.simulation",
    "arrays": "data.load",
    "check_layer": "testing.layers",
    "check_loss": "testing.layers",
    "load": "data.load",
    "read_scenario": "sim.scenario",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None and not name[:1].isupper():
        raise AttributeError(f"module 'hogpour' has no attribute {name!r}")
    # Before the first kernel is defined, which is when numba looks.
    importlib.import_module("hogpour.core.host").set_kernel_cache()
    if home is not None:
        return getattr(importlib.import_module(f"hogpour.{home}"), name)
    registry = importlib.import_module("hogpour.core.registry")
    for kind in registry.FOLDERS:
        cls = registry.by_class_name(kind, name)
        if cls is not None:
            return cls
    raise AttributeError(f"module 'hogpour' has no attribute {name!r}")
