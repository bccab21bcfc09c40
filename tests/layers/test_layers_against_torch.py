"""PyTorch's float32 results and gradients, where PyTorch has the layer or the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hogpour.layers.avg_pool2d import AvgPool2D
from hogpour.layers.base import Cell, Layer, Loss
from hogpour.layers.conv2d import Conv2D
from hogpour.layers.l2_pool2d import L2Pool2D
from hogpour.layers.linear import Linear
from hogpour.layers.locally_connected2d import LocallyConnected2D
from hogpour.layers.losses.hinge import Hinge
from hogpour.layers.losses.logistic import Logistic
from hogpour.layers.losses.softmax_xent import SoftmaxXent
from hogpour.layers.losses.squared_error import SquaredError
from hogpour.layers.max_pool2d import MaxPool2D
from hogpour.layers.relu import Relu
from hogpour.layers.sigmoid import Sigmoid
from hogpour.layers.tanh import Tanh

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.torch

SHAPE = (3, 9, 8)
BATCH = 21


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """PyTorch keeps a row an output, we keep a row an input."""
    return F.linear(x, weight.T, bias)


def locally_connected(layer: LocallyConnected2D) -> Callable[..., Any]:
    def forward(x: Any, weight: Any, bias: Any) -> Any:
        rows, columns, channels = weight.shape[:3]
        windows = F.unfold(x, layer.kernel, padding=layer.padding, stride=layer.stride)
        y = torch.einsum("btl,lot->bol", windows, weight.reshape(rows * columns, channels, -1))
        return y.reshape(-1, channels, rows, columns) + bias

    return forward


def against(layer: Layer, function: Callable[..., Any], shape: tuple[int, ...] = SHAPE) -> Any:
    return pytest.param(layer, function, shape, id=repr(layer))


@pytest.mark.parametrize(
    ("layer", "function", "shape"),
    [
        against(Linear(5), linear, (13,)),
        against(Linear(7, bias=False), linear, (4,)),
        against(Conv2D(5, 3), F.conv2d),
        against(Conv2D(7, 4, 3, 2), lambda x, w, b: F.conv2d(x, w, b, stride=3, padding=2)),
        against(LocallyConnected2D(6, 3), locally_connected(LocallyConnected2D(6, 3))),
        against(LocallyConnected2D(4, 4, 2, 3), locally_connected(LocallyConnected2D(4, 4, 2, 3))),
        against(MaxPool2D(2), lambda x: F.max_pool2d(x, 2)),
        against(MaxPool2D(3, 2), lambda x: F.max_pool2d(x, 3, 2)),
        against(AvgPool2D(2), lambda x: F.avg_pool2d(x, 2)),
        against(AvgPool2D(3, 1), lambda x: F.avg_pool2d(x, 3, 1)),
        against(L2Pool2D(2), lambda x: F.lp_pool2d(x, 2, 2)),
        against(L2Pool2D(3, 2), lambda x: F.lp_pool2d(x, 2, 3, 2)),
        against(Relu(), F.relu),
        against(Sigmoid(), torch.sigmoid),
        against(Tanh(), torch.tanh),
    ],
)
def test_a_layer_agrees_with_torch(layer: Layer, function: Callable[..., Any], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    # Halves, so that ties and zeros occur: of equal inputs of a window, both give the gradient to the first. The root
    # of a sum of squares has no gradient at 0 in PyTorch.
    x = np.round(rng.standard_normal((*shape, BATCH)) * 4).astype(np.float32) / 2
    if isinstance(layer, L2Pool2D):
        x += 0.25
    params = [np.zeros(size, np.float32) for size in layer.tensors(shape).values()]
    layer.init(params, shape, rng)
    out = (*layer.output_shape(shape), BATCH)
    cell = Cell(
        x=x, y=np.zeros(out, np.float32), d_y=rng.standard_normal(out).astype(np.float32), d_x=np.zeros_like(x),
        params=tuple(params), d_params=tuple(np.zeros_like(p) for p in params),
        scratch=tuple(np.zeros((*s, BATCH), kind or np.float32) for s, kind in layer.scratch(shape).values()),
    )  # fmt: skip
    layer.forward(cell)
    layer.backward(cell)
    leaves = [torch.tensor(batch_first(x)).requires_grad_(), *[torch.tensor(p).requires_grad_() for p in params]]
    y = function(*leaves)
    gradients = torch.autograd.grad(y, leaves, torch.tensor(batch_first(cell.d_y)))
    agree(batch_first(cell.y), y.detach().numpy())
    agree(batch_first(cell.d_x), gradients[0].numpy())
    for got, gradient in zip(cell.d_params, gradients[1:]):
        agree(got, gradient.numpy())


@pytest.mark.parametrize(
    ("loss", "n_out", "function"),
    [
        (SoftmaxXent(), 7, lambda s, t: F.cross_entropy(s, t, reduction="sum")),
        (Logistic(), 7, lambda s, t: F.binary_cross_entropy_with_logits(s, F.one_hot(t, 7).float(), reduction="sum")),
        (Logistic(), 1, lambda s, t: F.binary_cross_entropy_with_logits(s[:, 0], t.float(), reduction="sum")),
        (Hinge(), 7, lambda s, t: F.relu(1 - (2 * F.one_hot(t, 7) - 1) * s).sum()),
        (Hinge(), 1, lambda s, t: F.relu(1 - (2 * t - 1) * s[:, 0]).sum()),
        (SquaredError(), 7, lambda s, t: 0.5 * F.mse_loss(s, t, reduction="sum")),
    ],
    ids=["softmax_xent", "logistic", "logistic-1", "hinge", "hinge-1", "squared_error"],
)
def test_a_loss_agrees_with_torch(loss: Loss, n_out: int, function: Callable[..., Any]) -> None:
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((n_out, BATCH)).astype(np.float32) * 3
    labels = loss.targets == "labels"
    target = rng.integers(max(n_out, 2), size=BATCH) if labels else rng.standard_normal(scores.shape).astype(np.float32)
    d_scores = np.zeros_like(scores)
    total, _ = loss.apply(scores, target, d_scores)
    leaf = torch.tensor(scores.T.copy()).requires_grad_()
    value = function(leaf, torch.tensor(target if labels else target.T.copy()))
    (gradient,) = torch.autograd.grad(value / BATCH, [leaf])
    agree(np.array([total]), np.array([float(value.detach())]))
    agree(d_scores.T, gradient.numpy())


def batch_first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


def agree(got: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-5 of the largest number."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))
