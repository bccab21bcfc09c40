"""PyTorch's Hogwild as our benches run it, where PyTorch is installed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from bench._peers import hogwild  # noqa: E402  imports torch

pytestmark = pytest.mark.torch


def test_the_example_network_is_that_of_pytorch():
    network = hogwild.network("example")
    assert sum(p.numel() for p in network.parameters()) == 21_840
    network.eval()
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_an_mlp_is_named_by_its_units():
    shapes = [tuple(p.shape) for p in hogwild.network("mlp:4-3-2").parameters()]
    assert shapes == [(3, 4), (3,), (2, 3), (2,)]
