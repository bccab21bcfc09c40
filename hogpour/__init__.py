"""hogpour trains one model with every core of every machine: lock-free SGD on shared memory.

Reading order of the house, from the ground up:

    errors, spec, registry, config, stats   words: one flat vector, file name → class, the job, snapshots
    layers/                                 mathematics: tile.py (the micro-kernel), then any layer; sequential.py
    contract, differences                   what every layer and loss is held to, yours too
    algos/                                  decisions: optim/, schedule/, exchange/, then a scheme such as hogwild.py
    portions, scaling, formats/, data       which examples when; files → arrays
    shm/                                    layout, segment, params (THE RACE), clocks, control, doorbell, atomics
    replica, supervisor                     a process that trains; what starts, watches and restarts it
    model, checkpoint                       prediction and evaluation; model files
    preparation, training, node, cli        a run: what it begins with, its life, the async API; the command line

Public names are those below, and every layer, loss, optimiser, schedule and scheme by its class name
(``hogpour.Conv2D``, ``hogpour.Adagrad``, ``hogpour.Hogwild``). They are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Dataset", "HogpourError", "Job", "Model", "Node", "Sequential", "arrays", "check_layer", "check_loss",
           "load"]  # fmt: skip

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "data",
    "HogpourError": "errors",
    "Job": "config",
    "Model": "model",
    "Node": "node",
    "Sequential": "layers.sequential",
    "arrays": "data",
    "check_layer": "contract",
    "check_loss": "contract",
    "load": "data",
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
