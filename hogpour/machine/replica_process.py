"""The process of a replica (``python -m hogpour.machine.replica_process``).

It reads its orders from standard input, maps the segments that it inherited and runs the loop. Between two steps it
looks at the control words and at its parent, so that it stops within a step of being told to, or of its node's death.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from hogpour.core.job import job_from
from hogpour.layers.sequential import network_of
from hogpour.machine.replica import Replica, examples_of
from hogpour.machine.sweeping import head_of
from hogpour.shm.doorbell import answer, ring
from hogpour.shm.layout import Field, Layout
from hogpour.shm.segment import Segment

__all__ = ["Orders", "main"]


_FOR_THE_NODE = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
"""What terminals, batch systems and service managers send to every process of a job. The node tells its replicas."""


class Orders(msgspec.Struct, frozen=True):
    """What a node tells a replica process, as JSON on its standard input. Plain data, never code."""

    job: dict[str, Any]
    """The job's tables, see ``job.job_to_dict``."""
    input_shape: tuple[int, ...]
    replica: int
    replicas: int
    """Replicas of this run; ``block_replicas`` decides the cutting into blocks, which outlives a resumed run."""
    block_replicas: int
    threads: int
    parent: int
    """Process id of the node."""
    bell_fd: int
    wake_fd: int
    """The replica's own bell, which the client rings; -1 where there is none."""
    live_fd: int
    live: tuple[Field, ...]
    live_size: int
    data_fd: int
    data: tuple[Field, ...]
    data_size: int


def main() -> int:
    """Run one replica process; the exit status is 0 when it ended as it was told to."""
    for number in _FOR_THE_NODE:
        signal.signal(number, signal.SIG_IGN)
    message = sys.stdin.buffer.read()
    if not message:
        return 0  # the node ended, or found its job wrong, before it gave orders
    np.seterr(all="ignore")  # a loss that is not finite is looked for; a warning would say of it where, and not what
    orders = msgspec.json.decode(message, type=Orders)
    live = Segment.attach(orders.live_fd, Layout(orders.live, orders.live_size))
    data = Segment.attach(orders.data_fd, Layout(orders.data, orders.data_size))
    job = job_from(orders.job, "job")
    network = network_of(job, orders.input_shape)
    x, y = examples_of(network, data.arrays)
    replica = Replica(
        job, network, live.arrays, x, y, orders.replica, block_replicas=orders.block_replicas,
        head=head_of(job, network, x, live, orders.replicas), threads=orders.threads,
        alive=lambda: os.getppid() == orders.parent, on_block=lambda: ring(orders.bell_fd),
        wait=_bell_waiter(orders.wake_fd) if orders.wake_fd >= 0 else lambda: None,
    )  # fmt: skip
    replica.run()
    ring(orders.bell_fd)
    return 0


def _bell_waiter(fd: int) -> Callable[[], None]:
    """Return what waits for a ring of this bell, a quarter of a second at most: a stop may come without one."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)

    def wait() -> None:
        if poll.poll(250):
            answer(fd)

    return wait


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # taking the interpreter apart would cost 0.15 s of every stop; all that lasts is in the segment
