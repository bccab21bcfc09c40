"""A parameter server by ``torch.distributed.rpc``, in the shape of PyTorch's own tutorials.

An object with the parameters lives on the server process; the trainer holds a reference to it and calls its methods
with ``rpc_sync``. On one machine TensorPipe does not use TCP: it copies from process to process through shared memory
(``auto``). Between machines it has TCP only; ``tcp`` has it use that here too.

Generous to PyTorch: one flat tensor, no autograd, no futures nor locks, the fetched tensor is taken as it is.
"""

from __future__ import annotations

import os
import sys
import tempfile

import torch
from torch.distributed import rpc

from bench._peers.contender import LR, answer, resident_bytes, server, tell, timed, written

__all__ = ["ParameterServer"]

TIMEOUT_S = 60.0


class ParameterServer:
    """Lives on the server; called from the client."""

    def __init__(self, n_bytes: int) -> None:
        self._before = resident_bytes()
        self._params = torch.from_numpy(written(n_bytes, 0))

    def process(self) -> tuple[int, int | None]:
        return os.getpid(), self._before

    def get(self) -> torch.Tensor:
        return self._params

    def push(self, grad: torch.Tensor) -> None:
        self._params.add_(grad, alpha=-LR)


def join(name: str, rank: int, store: str, transport: str) -> None:
    """Meet the other process through a file."""
    only = {"tcp": {"_transports": ["uv"], "_channels": ["mpt_uv", "basic"]}, "auto": {}}[transport]
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"file://{store}", rpc_timeout=TIMEOUT_S, **only)
    rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


def serve(transport: str, store: str) -> None:
    """Serve until the client shuts down."""
    tell(server=os.getpid())
    join("server", 0, store, transport)
    rpc.shutdown(timeout=TIMEOUT_S)


def measure(transport: str, n_bytes: int) -> None:
    """Be the client."""
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        with server(__spec__.name, "serve", transport, store):
            join("client", 1, store, transport)
            train(n_bytes)
            rpc.shutdown(timeout=TIMEOUT_S)


def train(n_bytes: int) -> None:
    """Make the object on the server, and call its methods; no reference to it is left afterwards."""
    there = rpc.remote("server", ParameterServer, args=(n_bytes,))
    pid, before = there.rpc_sync().process()
    grad = torch.ones(n_bytes // 4)

    def value() -> tuple[float, float]:
        params = there.rpc_sync().get()
        return float(params.min()) / -LR, float(params.max()) / -LR

    answer({"fetch": timed(lambda: there.rpc_sync().get()), "push": timed(lambda: there.rpc_sync().push(grad))},
           value, server=pid, before=before)  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3])
    else:
        measure(sys.argv[2], int(sys.argv[3]))
