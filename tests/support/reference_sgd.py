"""The ruler: plain serial SGD, written a second time with none of the machinery, to hold the schemes against.

Same kernels, same order of examples; no shared memory, no processes, no workspaces kept between steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hogpour.core.job import Job
from hogpour.data.blocks import Blocks, example_order
from hogpour.layers.sequential import Network


def train(
    job: Job, network: Network, params: npt.NDArray[np.float32], x: npt.NDArray[np.float32], y: npt.NDArray[np.int64],
    between: Callable[[npt.NDArray[np.float32], tuple[npt.NDArray[np.float32], ...]], None] = lambda w, state: None,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Return the parameters after the job's epochs, starting from ``params``; for networks without dropout.

    Args:
        between: called with the parameters and the optimiser's rows between each gradient and its step, and at the end.
    """
    w, optimiser = params.copy(), job.algorithm.replica_rule
    state = tuple(np.zeros_like(w) for _ in optimiser.state)
    blocks = Blocks(len(x), job.batch, 1, job.epochs)
    t = 0
    for epoch in range(job.epochs):
        order = blocks.epoch_order(job.seed, epoch)
        for rank in range(blocks.n_blocks):
            start, stop = blocks.range(epoch * blocks.n_blocks + rank, order)
            examples = example_order(job.seed, epoch, start, stop, np.zeros(stop - start, np.int64))
            scale = job.algorithm.schedule.scale(epoch + rank / blocks.n_blocks, job.epochs)
            for at in range(0, len(examples), job.batch):
                chosen = examples[at : at + job.batch]
                workspace = network.workspace(len(chosen), w)
                workspace.x[...] = np.moveaxis(x[chosen].reshape(-1, *network.input_shape), 0, -1)
                workspace.forward()
                job.loss.apply(workspace.scores, y[chosen], workspace.d_scores)
                workspace.backward()
                if t:
                    between(w, state)
                t += 1
                optimiser.apply(w, workspace.grad, state, lr_scale=scale, t=t)
    between(w, state)
    return w
