"""Every layer that the registry finds keeps the contract, over drawn shapes and settings.

A new file in ``hogpour/layers`` is found and tested. Where it cannot be made without settings, or wants another shape
than (3, 6, 5), give it a line in ``EXAMPLES``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hogpour.core import registry
from hogpour.layers.avg_pool2d import AvgPool2D
from hogpour.layers.base import Layer, Shape
from hogpour.layers.conv2d import Conv2D
from hogpour.layers.dropout import Dropout
from hogpour.layers.flatten import Flatten
from hogpour.layers.l2_pool2d import L2Pool2D
from hogpour.layers.linear import Linear, _threads
from hogpour.layers.local_contrast_norm import LocalContrastNorm
from hogpour.layers.locally_connected2d import LocallyConnected2D
from hogpour.layers.max_pool2d import MaxPool2D
from hogpour.layers.sequential import Sequential
from hogpour.layers.sigmoid import Sigmoid
from hogpour.layers.tanh import Tanh
from hogpour.testing.layers import check_layer

LAYERS = registry.available("layer")
SHAPE = (3, 6, 5)

EXAMPLES: dict[str, list[tuple[dict[str, Any], Shape]]] = {
    "avg_pool2d": [({"size": 2}, SHAPE), ({"size": 3, "stride": 2}, SHAPE), ({"size": 1, "stride": 3}, SHAPE)],
    "conv2d": [
        ({"channels": 5, "kernel": 3}, SHAPE),
        ({"channels": 6, "kernel": 3, "stride": 2, "padding": 1}, SHAPE),
        ({"channels": 1, "kernel": 1}, (1, 1, 1)),
    ],
    "dropout": [({"rate": 0.5}, (7,)), ({"rate": 0.2, "whole_channels": True}, SHAPE), ({"rate": 0.0}, SHAPE)],
    "l2_pool2d": [({"size": 2}, SHAPE), ({"size": 3, "stride": 2}, SHAPE), ({"size": 1, "stride": 3}, SHAPE)],
    "embedding": [({"units": 4, "fields": 2}, (5,)), ({"units": 1, "fields": 7}, (7,)), ({"units": 9, "fields": 1}, (3,))],
    "embedding_bag": [({"units": 4}, (5,)), ({"units": 1, "mode": "sum"}, (7,)), ({"units": 17}, (3,))],
    "factorization_machine": [({"factors": 8}, (5,)), ({"factors": 3, "bias": False}, (7,)), ({"factors": 17}, (3,))],
    "linear": [({"units": 4}, (5,)), ({"units": 1, "bias": False}, (7,)), ({"units": 3}, (1,))],
    "local_contrast_norm": [({}, SHAPE), ({"size": 3, "window": "uniform"}, (1, 4, 7)), ({"size": 1}, SHAPE)],
    "locally_connected2d": [
        ({"channels": 5, "kernel": 3}, SHAPE),
        ({"channels": 2, "kernel": 3, "stride": 2, "padding": 1}, SHAPE),
        ({"channels": 1, "kernel": 1}, (1, 1, 1)),
    ],
    "sparse_linear": [({"units": 4}, (5,)), ({"units": 1, "bias": False}, (7,)), ({"units": 17}, (3,))],
    "max_pool2d": [({"size": 2}, SHAPE), ({"size": 3, "stride": 2}, SHAPE), ({"size": 1, "stride": 3}, SHAPE)],
}


LONG = {Conv2D: [pytest.mark.long], LocallyConnected2D: [pytest.mark.long]}
"""Kernels that compile for half a minute each, in both precisions."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(layer, [])) for name, layer in LAYERS.items()])
def test_a_found_layer_keeps_the_contract(name: str) -> None:
    for config, shape in EXAMPLES.get(name, [({}, SHAPE), ({}, (4,))]):
        layer = registry.build("layer", {"name": name} | config, at="EXAMPLES")
        check_layer(layer, (int(np.prod(shape)),) if layer.flat_input else shape)


def test_every_example_is_of_a_layer_that_is_found() -> None:
    assert set(EXAMPLES) <= set(LAYERS)


BATCHES = st.sampled_from([1, 2, 5, 16, 17, 32, 64, 67])
"""Single, odd, whole vectors, masked ends, four vectors, and four vectors with an end."""
SIDES = st.integers(1, 9)
CHANNELS = st.integers(1, 6)
FEW = settings(max_examples=12)


@st.composite
def windowed(draw: st.DrawFn, kind: type[Conv2D] | type[LocallyConnected2D]) -> tuple[Layer, Shape]:
    kernel = draw(st.integers(1, 5))
    layer = kind(draw(st.integers(1, 11)), kernel, draw(st.integers(1, 3)), draw(st.integers(0, kernel - 1)))
    shape = (draw(CHANNELS), draw(SIDES), draw(SIDES))
    assume(min(shape[1:]) + 2 * layer.padding >= kernel)
    return layer, shape


@st.composite
def pooling(draw: st.DrawFn) -> tuple[Layer, Shape]:
    kind = draw(st.sampled_from([MaxPool2D, AvgPool2D, L2Pool2D]))
    rows, columns = draw(SIDES), draw(SIDES)
    return kind(draw(st.integers(1, min(rows, columns))), draw(st.integers(0, 4))), (draw(CHANNELS), rows, columns)


@pytest.mark.long
@given(windowed(Conv2D), BATCHES)
@FEW
def test_a_convolution_of_any_shape_keeps_the_contract(drawn: tuple[Layer, Shape], batch: int) -> None:
    check_layer(*drawn, batch=batch)


@pytest.mark.long
@given(windowed(LocallyConnected2D), BATCHES)
@FEW
def test_a_locally_connected_layer_of_any_shape_keeps_the_contract(drawn: tuple[Layer, Shape], batch: int) -> None:
    check_layer(*drawn, batch=batch)


@given(pooling(), BATCHES)
@settings(max_examples=30)
def test_a_pool_of_any_shape_keeps_the_contract(drawn: tuple[Layer, Shape], batch: int) -> None:
    check_layer(*drawn, batch=batch)


@given(st.sampled_from([1, 3, 5, 9]), st.sampled_from(["gaussian", "uniform"]), CHANNELS, SIDES, SIDES, BATCHES)
@FEW
def test_a_contrast_normalisation_of_any_shape_keeps_the_contract(
    size: int, window: Any, channels: int, rows: int, columns: int, batch: int
) -> None:
    check_layer(LocalContrastNorm(size, window), (channels, rows, columns), batch=batch)


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), BATCHES)
@FEW
def test_a_linear_layer_of_any_shape_keeps_the_contract(n_in: int, units: int, bias: bool, batch: int) -> None:
    check_layer(Linear(units, bias), (n_in,), batch=batch)


SMOOTH = [
    (AvgPool2D(2), SHAPE), (Conv2D(4, 3), SHAPE), (Dropout(0.5), SHAPE), (Flatten(), SHAPE), (Linear(3), (6,)),
    (LocalContrastNorm(3), SHAPE), (LocallyConnected2D(2, 3), SHAPE), (Sigmoid(), SHAPE), (Tanh(), SHAPE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "shape"),
    [pytest.param(*of, marks=LONG.get(type(of[0]), []), id=type(of[0]).__name__) for of in SMOOTH],
)
def test_gradients_are_right_where_rows_and_examples_are_zero(layer: Layer, shape: Shape) -> None:
    """Layers with a kink at 0 (Relu, MaxPool2D, L2Pool2D) have no derivative there; the contract checks that theirs
    are finite."""
    x = np.random.default_rng(3).standard_normal((*shape, 5))
    x[0] = 0
    x[..., 2] = 0
    check_layer(layer, shape, x=x)


@pytest.mark.long
def test_a_linear_layer_worth_its_threads_gives_the_bits_of_one(rng: np.random.Generator) -> None:
    """Small layers stay on one thread whatever they are given: the contract alone never reaches these kernels."""
    network = Sequential(Linear(256)).network((800,))
    params = network.spec.zeros()
    network.init(params, rng)
    x, d_scores = rng.normal(size=(800, 16)), rng.normal(size=(256, 16))
    x[::3] = 0
    found = []
    for threads in (1, 2):
        workspace = network.workspace(16, params, grad=np.full_like(params, np.nan), threads=threads)
        assert _threads(workspace.cells[0][1]) == threads
        workspace.x[...], workspace.d_scores[...] = x, d_scores
        workspace.forward()
        workspace.backward()
        found.append((workspace.scores.tobytes(), workspace.grad.tobytes()))
    assert found[0] == found[1]
    np.testing.assert_allclose(workspace.grad[: 800 * 256].reshape(800, 256), x @ d_scores.T, rtol=1e-4, atol=1e-4)
