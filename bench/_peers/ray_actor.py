"""A parameter server as a Ray actor, in the shape of Ray's own example: an object with get and push methods.

What is larger than 100 kB goes through Ray's object store, which is shared memory: nothing of it moves over TCP on one
machine. What ``ray.get`` returns is a read-only view of the store, one copy away from the actor's parameters. A fetch
ends with the bytes in the caller's own array, as everybody's does, so it copies them out; ``fetch_view`` does not. Both
are slow, by a factor of ten and more, whenever the store takes memory that it has not used before.

Ray runs several processes beside the two that are measured, and they are never quite idle.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

# Read when Ray is imported. It must not report to its makers, nor write a token into the user's home.
FOLDER = tempfile.TemporaryDirectory(prefix="ray")
Path(FOLDER.name, "token").write_text(secrets.token_hex(32))
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token",
               "RAY_AUTH_TOKEN_PATH": str(Path(FOLDER.name, "token"))}  # fmt: skip

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import ray  # noqa: E402

from bench._peers.contender import LR, answer, resident_bytes, timed, written  # noqa: E402

__all__ = ["ParameterServer"]

TIMEOUT_S = 60.0


class ParameterServer:
    """The actor."""

    def __init__(self, n_bytes: int) -> None:
        self._before = resident_bytes()
        self._params = written(n_bytes, 0)

    def process(self) -> tuple[int, int | None]:
        return os.getpid(), self._before

    def get(self) -> npt.NDArray[np.float32]:
        return self._params

    def push(self, grad: npt.NDArray[np.float32]) -> None:
        self._params -= np.float32(LR) * grad


def measure(n_bytes: int) -> None:
    """Be the client."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1",
             _temp_dir=FOLDER.name)  # fmt: skip
    try:
        there: Any = ray.remote(ParameterServer).remote(n_bytes)
        pid, before = ray.get(there.process.remote(), timeout=TIMEOUT_S)
        grad, params = written(n_bytes, 1), written(n_bytes, 0)

        def view() -> npt.NDArray[np.float32]:
            return ray.get(there.get.remote(), timeout=TIMEOUT_S)  # type: ignore[no-any-return]

        def fetch() -> None:
            np.copyto(params, view())

        def value() -> tuple[float, float]:
            fetch()
            return params.min() / -LR, params.max() / -LR

        def push() -> None:
            ray.get(there.push.remote(grad), timeout=TIMEOUT_S)

        answer({"fetch": timed(fetch), "push": timed(push), "fetch_view": timed(view)},
               value, server=pid, before=before)  # fmt: skip
    finally:
        ray.shutdown()
        FOLDER.cleanup()


if __name__ == "__main__":
    assert sys.argv[1] == "measure"
    measure(int(sys.argv[2]))
