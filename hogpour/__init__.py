"""hogpour trains one model with every core of every machine: lock-free SGD on shared memory, federated over TCP.

The map of its rooms is in docs/architecture.md; each package says what it is for in its first line.

Public names are those below, and every layer, loss, optimiser, schedule and scheme by its class name
(``hogpour.Conv2D``, ``hogpour.Adagrad``, ``hogpour.Hogwild``). They are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["ClusterConfig", "Compute", "DataConfig", "Dataset", "HogpourError", "Job", "Model", "Node", "Scenario",
           "Sequential", "Simulation", "arrays", "check_layer", "check_loss", "load", "read_job",
           "read_scenario"]  # fmt: skip

__version__ = "0.1.0"

_HOMES = {
    "ClusterConfig": "core.job",
    "Compute": "sim.world.compute",
    "DataConfig": "core.job",
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
    "read_job": "core.job",
    "read_scenario": "sim.scenario",
}


def __dir__() -> list[str]:
    """Every public name, for ``dir`` and for completion; imports them all."""
    __getattr__("HogpourError")
    registry = importlib.import_module("hogpour.core.registry")
    classes = {cls.__name__ for kind in registry.FOLDERS for cls in registry.available(kind).values()}
    return sorted({*__all__, *classes, "__version__"})


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
