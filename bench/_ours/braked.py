"""SGD on a machine that is slower than the others: after each step it sleeps a multiple of what was computed in it.

What the thread computed is measured by its own clock, which stands still while it waits for anything, as in
``_peers/ddp.py``: from the end of one step's ``apply`` to the end of the next.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import sleep, thread_time
from typing import Annotated

from hogpour.algos.optim.sgd import Sgd
from hogpour.core.limits import Range

__all__ = ["Braked"]

_steps = threading.local()
"""``ended``: thread time at the end of the last step. An optimiser remembers nothing, and the clock is a thread's."""


@dataclass(frozen=True, slots=True)
class Braked(Sgd):
    """SGD that takes ``times`` as long. For a node that serves no shard: it would also brake a server."""

    times: Annotated[float, Range(1, 1e6)] = 5.0
    """How many times as long a step takes, at least 1."""

    def apply(self, params, grad, state, *, lr_scale, t):  # type: ignore[no-untyped-def]
        Sgd.apply(self, params, grad, state, lr_scale=lr_scale, t=t)
        now = thread_time()
        begun = getattr(_steps, "ended", now)  # before the first step there were imports
        sleep((self.times - 1) * (now - begun))
        _steps.ended = thread_time()
