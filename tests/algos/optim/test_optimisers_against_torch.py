"""The same steps as torch.optim, where PyTorch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hogpour.core import registry

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CASES = [
    ("sgd", {}, "SGD", {}),
    ("momentum", {"momentum": 0.8}, "SGD", {"momentum": 0.8}),
    ("nesterov", {"momentum": 0.8}, "SGD", {"momentum": 0.8, "nesterov": True}),
    ("adagrad", {}, "Adagrad", {"eps": 0.0}),
    ("rmsprop", {"decay": 0.95, "epsilon": 1e-6}, "RMSprop", {"alpha": 0.95, "eps": 1e-6}),
    ("adam", {"beta2": 0.99, "epsilon": 1e-6}, "Adam", {"betas": (0.9, 0.99), "eps": 1e-6}),
    ("adamw", {"beta2": 0.99, "epsilon": 1e-6}, "AdamW", {"betas": (0.9, 0.99), "eps": 1e-6}),
]


@pytest.mark.parametrize(("name", "ours", "their_name", "theirs"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_ten_steps_are_those_of_torch(name, ours, their_name, theirs, weight_decay, dtype, rtol):
    rng = np.random.default_rng(0)
    params, grads = rng.normal(size=50).astype(dtype), rng.normal(size=(10, 50)).astype(dtype)
    peer = torch.nn.Parameter(torch.from_numpy(params.copy()))
    peer_optimiser = getattr(torch.optim, their_name)([peer], lr=0.05, weight_decay=weight_decay, **theirs)
    optimiser = registry.find("optimiser", name)(lr=0.05, weight_decay=weight_decay, **ours)
    state = tuple(np.zeros_like(params) for _ in optimiser.state)
    for t, grad in enumerate(grads, 1):
        optimiser.apply(params, grad, state, lr_scale=1.0, t=t)
        peer.grad = torch.from_numpy(grad)
        peer_optimiser.step()
    np.testing.assert_allclose(params, peer.detach().numpy(), rtol=rtol, atol=rtol / 10)
