"""One of the builds that ``bench change`` compares: a few layers on one thread, and a training of two replicas.

Run in the folder of its build, whose ``hogpour`` and ``bench`` it is.
"""

from __future__ import annotations

from dataclasses import replace

from hogpour.core import host

host.set_kernel_cache()  # before a kernel is imported

import numpy as np  # noqa: E402

import hogpour as hp  # noqa: E402
from bench import hogwild, kernels  # noqa: E402
from bench._peers.contender import Sample, answer, timed  # noqa: E402
from bench.harness import one_thread  # noqa: E402
from hogpour.core import registry  # noqa: E402

__all__: list[str] = []

LAYERS = ("linear", "relu")
IMAGES, EPOCHS = 20_000, 4
"""Of a training: most of a second, after the start of a node."""


def layers() -> dict[str, Sample]:
    """Return forward and backward of layers, at the shapes of ``bench kernels``."""
    found = {}
    for case in kernels.cases():
        if case.layer in LAYERS:
            layer = registry.build("layer", {"name": case.layer, **case.settings}, "bench")
            cell = kernels._cell(layer, case.shape, case.batch, np.random.default_rng(0))
            what = f"{case.layer} {'x'.join(map(str, case.shape))}, batch {case.batch}"
            found[f"{what}, forward"] = timed(lambda layer=layer, cell=cell: layer.forward(cell))
            found[f"{what}, backward"] = timed(lambda layer=layer, cell=cell: layer.backward(cell))
    return found


def training() -> Sample:
    """Return what trains MNIST's first network on images that are drawn, and says how long replicas computed."""
    case, rng = replace(hogwild.CASES[0], epochs=EPOCHS), np.random.default_rng(0)
    x, y = rng.random((IMAGES, 784), np.float32), rng.integers(0, 10, IMAGES)
    data = hp.arrays(x, y, x[:100], y[:100])
    return lambda calls: [EPOCHS * IMAGES / hogwild._train(case, data, 2, k, False)["rate"] for k in range(calls)]


if __name__ == "__main__":
    operations = {**layers(), "training of 784-128-10, batch 8, 2 replicas": training()}
    with one_thread():
        answer(operations, can=list(operations))
