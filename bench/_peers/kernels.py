"""Layers, losses and optimisers as PyTorch says them: for each, every formulation that might be its best.

PyTorch is handed in: the kernels bench runs without it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Call",
    "Peer",
    "Peers",
    "torch_avg_pool",
    "torch_contrast",
    "torch_conv2d",
    "torch_dropout",
    "torch_l2_pool",
    "torch_linear",
    "torch_local",
    "torch_loss",
    "torch_max_pool",
    "torch_optimisers",
    "torch_unary",
]

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to say a layer in PyTorch."""

    function: Callable[..., Any]
    """Of the input, batch first, and the parameters."""
    arrange: Callable[..., list[Any]] = lambda *params: list(params)
    """Puts our parameters into the order that suits the function; a user would keep them so, and it is not timed."""


Peers = dict[str, Peer]


def torch_linear(torch: Any, layer: Any) -> Peers:
    return {"linear": Peer(torch.nn.functional.linear, lambda w, b: [w.T, b])}


def torch_conv2d(torch: Any, layer: Any) -> Peers:
    return {"conv2d": Peer(lambda x, w, b: torch.nn.functional.conv2d(x, w, b, layer.stride, layer.padding))}


def torch_local(torch: Any, layer: Any) -> Peers:
    """PyTorch has no such layer. w: (rows, columns, n_out, n_in, kernel, kernel), b: (n_out, rows, columns)."""
    k, s, pad = layer.kernel, layer.stride, layer.padding

    def places(x: Any) -> Any:
        return torch.nn.functional.unfold(x, k, stride=s, padding=pad)  # (batch, taps, places)

    def windows(x: Any) -> Any:
        return torch.nn.functional.pad(x, (pad,) * 4).unfold(2, k, s).unfold(3, k, s)

    def by_place(w: Any, b: Any) -> list[Any]:
        return [w.flatten(3).flatten(0, 1), b.flatten(1)]  # (places, n_out, taps), (n_out, places)

    return {
        "unfold + einsum, places first": Peer(lambda x, w, b: torch.einsum("bkp,pok->bop", places(x), w) + b, by_place),
        "unfold + einsum, places last": Peer(
            lambda x, w, b: torch.einsum("bkp,okp->bop", places(x), w) + b,
            lambda w, b: [w.flatten(3).flatten(0, 1).permute(1, 2, 0), b.flatten(1)],
        ),
        "unfold + bmm": Peer(lambda x, w, b: torch.bmm(w, places(x).permute(2, 1, 0)).permute(2, 1, 0) + b, by_place),
        "windows + einsum": Peer(lambda x, w, b: torch.einsum("nircpq,rcoipq->norc", windows(x), w) + b),
    }


def torch_max_pool(torch: Any, layer: Any) -> Peers:
    return {"max_pool2d": Peer(lambda x: torch.nn.functional.max_pool2d(x, layer.size, layer.step))}


def torch_avg_pool(torch: Any, layer: Any) -> Peers:
    return {"avg_pool2d": Peer(lambda x: torch.nn.functional.avg_pool2d(x, layer.size, layer.step))}


def torch_l2_pool(torch: Any, layer: Any) -> Peers:
    pools, size, step = torch.nn.functional, layer.size, layer.step
    return {
        "lp_pool2d": Peer(lambda x: pools.lp_pool2d(x, 2.0, size, step)),
        "avg_pool2d of squares": Peer(lambda x: (pools.avg_pool2d(x * x, size, step) * size**2).sqrt()),
    }


def torch_contrast(torch: Any, layer: Any) -> Peers:
    """PyTorch has no such layer; the weighted mean over the window as two convolutions or as two matrix products."""
    from hogpour.layers.local_contrast_norm import mean_matrix

    conv2d, half, cache = torch.nn.functional.conv2d, layer.size // 2, {}
    middle = mean_matrix(2 * layer.size + 1, layer.size, layer.window, "f", False)[layer.size]
    weights = torch.from_numpy(middle[layer.size - half : layer.size + half + 1].copy())

    def convolved(z: Any) -> Any:
        along_columns = conv2d(z, weights.reshape(1, 1, 1, -1), padding=(0, half))
        return conv2d(along_columns, weights.reshape(1, 1, -1, 1), padding=(half, 0))

    def by_convolution(z: Any) -> Any:
        if z.shape[2:] not in cache:  # at the border, the weights that exist
            cache[z.shape[2:]] = convolved(torch.ones(1, 1, *z.shape[2:]))
        return convolved(z) / cache[z.shape[2:]]

    def by_product(z: Any) -> Any:
        if z.shape not in cache:
            matrices = [mean_matrix(length, layer.size, layer.window, "f", False) for length in z.shape[2:]]
            cache[z.shape] = [torch.from_numpy(m.copy()) for m in matrices]
        rows, columns = cache[z.shape]
        return rows @ z @ columns.T

    def normalised(x: Any, mean: Callable[[Any], Any]) -> Any:
        v = x - mean(x.mean(1, keepdim=True))
        return v / (layer.floor**2 + mean((v * v).mean(1, keepdim=True))).sqrt()

    return {
        "two conv2d": Peer(lambda x: normalised(x, by_convolution)),
        "two products": Peer(lambda x: normalised(x, by_product)),
    }


def torch_unary(name: str) -> Callable[[Any, Any], Peers]:
    return lambda torch, layer: {name: Peer(getattr(torch, name))}


def torch_dropout(torch: Any, layer: Any) -> Peers:
    return {"dropout": Peer(lambda x: torch.nn.functional.dropout(x, layer.rate, training=True))}


def torch_loss(name: str, torch: Any, target: npt.NDArray[Any], shape: tuple[int, int]) -> Callable[[Any], Any]:
    functional = torch.nn.functional
    n_outputs, batch = shape
    if name == "squared_error":
        values = torch.from_numpy(np.ascontiguousarray(target.T))
        return lambda s: functional.mse_loss(s, values, reduction="sum") / (2 * batch)
    labels = torch.from_numpy(target)
    if name == "softmax_xent":
        return lambda s: functional.cross_entropy(s, labels)
    one_hot = functional.one_hot(labels, n_outputs).float()
    signs = 2 * one_hot - 1
    if name == "logistic":
        return lambda s: functional.binary_cross_entropy_with_logits(s, one_hot, reduction="sum") / batch
    assert name == "hinge"
    return lambda s: (1 - signs * s).clamp(min=0).sum() / batch


def torch_optimisers(name: str, optimiser: Any, params: npt.NDArray[Any], torch: Any) -> dict[str, Call]:
    """Return a step of each implementation that PyTorch has: one tensor after the other, foreach, fused."""
    classes = {"sgd": ("SGD", {}), "momentum": ("SGD", {"momentum": 0.9}), "adagrad": ("Adagrad", {}),
               "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}), "rmsprop": ("RMSprop", {"alpha": 0.9}),
               "adam": ("Adam", {}), "adamw": ("AdamW", {})}  # fmt: skip
    if name not in classes:
        return {}
    class_name, settings = classes[name]
    found: dict[str, Call] = {}
    for way in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        parameter = torch.nn.Parameter(torch.from_numpy(params.copy()))
        parameter.grad = torch.ones_like(parameter)
        try:
            peer = getattr(torch.optim, class_name)([parameter], lr=1e-4, **settings, **way)
            peer.step()
        except (TypeError, RuntimeError):  # this optimiser has no such implementation
            continue
        found[f"torch:{next(iter(way)) if any(way.values()) else 'single tensor'}"] = peer.step
    return found
