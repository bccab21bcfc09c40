"""The training loop as JAX's users write it: one jitted function, either of a step or of a whole epoch (``lax.scan``).

One process; XLA takes all cores. Generous to JAX where users would lose time: the data are on the device, batches are
gathered inside the jitted function, and imports, compilation and the first call do not count.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench._peers.networks import units_of
from bench._peers.task import Task

__all__ = ["run"]

Params = Any


def _mlp(units: list[int], key: Any) -> tuple[Params, Any]:
    keys = jax.random.split(key, len(units))
    shapes = list(pairwise(units))
    params = [
        (jax.random.uniform(k, (a, b), minval=-1, maxval=1) / a**0.5, jnp.zeros(b)) for k, (a, b) in zip(keys, shapes)
    ]

    def scores(params: Params, x: Any, key: Any) -> Any:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    return params, scores


def _example(key: Any) -> tuple[Params, Any]:
    """The network of PyTorch's Hogwild example, images with their channel last, as XLA's convolutions like it."""
    shapes = ((5, 5, 1, 10), (5, 5, 10, 20), (320, 50), (50, 10))
    keys = jax.random.split(key, len(shapes))
    params = [
        (jax.random.uniform(k, shape, minval=-1, maxval=1) / np.prod(shape[:-1]) ** 0.5, jnp.zeros(shape[-1]))
        for k, shape in zip(keys, shapes)
    ]

    def dropped(x: Any, key: Any, shape: tuple[int, ...]) -> Any:
        return x if key is None else 2 * x * jax.random.bernoulli(key, 0.5, shape)

    def scores(params: Params, x: Any, key: Any) -> Any:
        first, second = (None, None) if key is None else jax.random.split(key)
        x = x.reshape(-1, 28, 28, 1)
        for k, (w, b) in enumerate(params[:2]):
            x = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
            if k:
                x = dropped(x, first, (x.shape[0], 1, 1, x.shape[3]))
            x = jax.nn.relu(lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"))
        x = jax.nn.relu(x.reshape(len(x), -1) @ params[2][0] + params[2][1])
        return dropped(x, second, x.shape) @ params[3][0] + params[3][1]

    return params, scores


def run(task: Task, *, scan: bool) -> dict[str, Any]:
    """Train, and return what was reached.

    Args:
        scan: a Python call an epoch, not one a step.

    Returns:
        As ``hogwild.run``; ``curve`` has every epoch.
    """
    units, batch = units_of(task.network), task.batch
    params, scores = _mlp(units, jax.random.key(task.seed)) if units else _example(jax.random.key(task.seed))
    data, labels = jnp.asarray(task.x.reshape(len(task.x), -1), jnp.float32), jnp.asarray(task.y, jnp.int32)

    def loss(params: Params, index: Any, key: Any) -> Any:
        log_p = jax.nn.log_softmax(scores(params, data[index], key))
        return -log_p[jnp.arange(batch), labels[index]].mean()

    def step(state: Any, index: Any) -> tuple[Any, None]:
        params, velocity, key = state
        key, own = jax.random.split(key) if not units else (key, key)
        grads = jax.grad(loss)(params, index, own)
        if task.momentum:
            velocity = grads = jax.tree.map(lambda v, g: task.momentum * v + g, velocity, grads)
        return (jax.tree.map(lambda w, g: w - task.lr * g, params, grads), velocity, key), None

    step_once = jax.jit(lambda state, index: step(state, index)[0], donate_argnums=0)
    epoch_once = jax.jit(lambda state, indices: lax.scan(step, state, indices)[0])

    def begin() -> Any:
        copy, velocity = jax.tree.map(jnp.copy, params), jax.tree.map(jnp.zeros_like, params)
        return copy, velocity if task.momentum else None, jax.random.key(task.seed)

    rng = np.random.default_rng(task.seed)
    whole = len(data) // batch * batch
    orders = [rng.permutation(len(data))[:whole].reshape(-1, batch).astype(np.int32) for _ in range(task.epochs)]
    on_device = [jnp.asarray(order) if scan else list(map(jnp.asarray, order)) for order in orders]
    jax.block_until_ready(epoch_once(begin(), on_device[0]) if scan else step_once(begin(), on_device[0][0]))
    state, ends, kept = jax.block_until_ready(begin()), [], []
    start = time.perf_counter()
    for indices in on_device:
        if scan:
            state = epoch_once(state, indices)
        else:
            for index in indices:
                state = step_once(state, index)
        jax.block_until_ready(state)
        ends.append(time.perf_counter() - start)
        kept.append(jax.tree.map(jnp.copy, state[0]))
    score = jax.jit(partial(scores, key=None))
    flat = task.test_x.reshape(len(task.test_x), -1).astype(np.float32)

    def accuracy(params: Params) -> float:
        found = [np.asarray(score(params, part)).argmax(1) for part in np.split(flat, range(1000, len(flat), 1000))]
        return float(np.mean(np.concatenate(found) == task.test_y))

    curve = [[seconds, accuracy(params)] for seconds, params in zip(ends, kept)]
    return {"rate": whole * task.epochs / ends[-1], "seconds": ends[-1], "accuracy": curve[-1][1], "curve": curve}
