"""A rehearsal: one step of everything that a run will do, so that every kernel is compiled before replicas begin.

Also the place where a layer or loss of the user's own fails first, in this process, with one clear line.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import ReplicaView, Traffic
from hogpour.core.errors import ConfigError, HogpourError, ResourceError
from hogpour.core.job import Job
from hogpour.core.kernels.vector import vector_copy
from hogpour.machine.live_layout import live_layout, optimiser_rows
from hogpour.machine.prepare import Prepared
from hogpour.machine.replica import Replica
from hogpour.model.model import Model
from hogpour.shm.accrual import Accrual, list_sealed, release
from hogpour.shm.control import Control
from hogpour.shm.mailbox import Mailbox
from hogpour.shm.params import params_finite
from hogpour.shm.queue import TicketQueue

__all__ = ["rehearse"]


def rehearse(job: Job, ready: Prepared, threads: int) -> None:
    """Run every kernel that the run will use, on memory of its own.

    Raises:
        ConfigError: a step of the model fails; the message says where.
        ResourceError: there is not enough memory for a step.
    """
    try:
        layout = live_layout(ready.network, job.algorithm.replica_rule, 1, 0, job.algorithm.federated)
        live = layout.views(bytearray(layout.size))
        vector_copy(live["params"], ready.live.arrays["params"])
        x, y = ready.examples.arrays["x"], ready.examples.arrays["y"]
        # The last batch of an epoch is smaller, and layers have other kernels for few examples than for many.
        for few in {len(x) % job.batch, min(len(x), job.batch)} - {0}:
            replica = Replica(job, ready.network, live, x[:few], y[:few], 0, block_replicas=1, threads=threads)
            if replica.compute(np.arange(few), 0, few, 0) and few == min(len(x), job.batch):
                replica.use(few)
        if job.algorithm.federated:
            exchange, grad = job.algorithm.choices().exchange, np.zeros_like(live["params"])
            rows = optimiser_rows(live, job.algorithm.replica_rule, 0)
            view = ReplicaView(live["params"], rows, job.algorithm.replica_rule)
            view.accrued, view.n_accrued, view.scratch = grad.copy(), 1, np.empty((2, grad.size), np.float32)
            exchange.on_gradient(view, grad)
            exchange.on_params(live["params"], grad)
            grad.flags.writeable = False  # as what this node's own server hands out: numba compiles that apart
            exchange.on_params(live["params"], grad)
            if exchange.traffic is Traffic.PULLED:
                for fetched in (grad, grad.copy()):
                    exchange.pull(live["params"], fetched, view.accrued, [live["params"]], 0.0)
            _rehearse_words(live)
        params_finite(live["params"])
        control = Control(live["control"])
        control.take_ticket(lambda ticket: None)
        control.stop()
        if ready.test is not None:
            model = Model(job, ready.network, live["params"], ready.encoding)
            model.evaluate(ready.test, iter([True, False]).__next__)  # one batch of it
    except HogpourError:
        raise
    except MemoryError as error:
        raise ResourceError(f"a step with run.batch = {job.batch} does not fit into memory") from error
    except Exception as error:  # of a layer or loss that is not ours, or a bug of ours
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        raise ConfigError(f"the first step fails in {where}: {type(error).__name__}: {error}") from error


def _rehearse_words(live: Mapping[str, npt.NDArray[Any]]) -> None:
    """Say once everything that a replica and its link tell each other: compiled in the midst of training, the words
    would stop the event loop of a node, heartbeats and all."""
    queue, landing = TicketQueue(live["queue"], live["queue_ring"]), Mailbox(live["mailbox"])
    queue.put([0])
    queue.take(lambda ticket: None)
    queue.close()
    landing.wait_for(0, 0)
    landing.waits_for(0)
    accrual = Accrual(live["accrual"][0], live["accrual_tickets"][0], live["accrued"][0])
    accrual.seal()
    for push in list_sealed(live["accrual"], live["accrual_tickets"], 0):
        release(live["accrual"], push)
