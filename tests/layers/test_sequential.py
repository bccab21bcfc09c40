"""Layers become a network: shapes, names and offsets, implicit flatten, and one gradient for all of it."""

from __future__ import annotations

import numpy as np
import pytest
from support.own_package.parts import Scale

from hogpour.core import registry
from hogpour.core.errors import ConfigError
from hogpour.layers.base import Layer, Shape
from hogpour.layers.conv2d import Conv2D
from hogpour.layers.dropout import Dropout
from hogpour.layers.flatten import Flatten
from hogpour.layers.linear import Linear
from hogpour.layers.local_contrast_norm import LocalContrastNorm
from hogpour.layers.locally_connected2d import LocallyConnected2D
from hogpour.layers.losses.softmax_xent import SoftmaxXent
from hogpour.layers.max_pool2d import MaxPool2D
from hogpour.layers.relu import Relu
from hogpour.layers.sequential import Network, Sequential, Workspace
from hogpour.layers.tanh import Tanh


def begin(network: Network, batch: int, seed: int | None = None) -> tuple[Workspace, np.ndarray]:
    """A float64 workspace with drawn parameters and inputs."""
    rng = np.random.default_rng(5)
    flat = network.spec.zeros(np.float64)
    network.init(flat, rng)
    workspace = network.workspace(batch, flat, rng=None if seed is None else np.random.default_rng(seed))
    workspace.x[...] = rng.standard_normal(workspace.x.shape)
    return workspace, flat


def test_tensors_are_named_by_place_and_file_and_aligned() -> None:
    network = Sequential(Conv2D(3, 3), Relu(), MaxPool2D(2), Linear(10)).network((1, 8, 8))
    assert [(t.name, t.shape, t.offset) for t in network.spec.tensors] == [
        ("0.conv2d.weight", (3, 1, 3, 3), 0),
        ("0.conv2d.bias", (3,), 32),
        ("3.linear.weight", (27, 10), 48),
        ("3.linear.bias", (10,), 320),
    ]
    assert network.spec.n == 336
    assert network.output_shape == (10,)


def test_flatten_is_put_where_a_layer_wants_one_axis() -> None:
    implicit = Sequential(MaxPool2D(2), Linear(4)).network((2, 4, 6))
    explicit = Sequential(MaxPool2D(2), Flatten(), Linear(4)).network((2, 4, 6))
    assert [stage.name for stage in implicit.stages] == ["0.max_pool2d", "1.flatten", "1.linear"]
    scores = []
    for network in (implicit, explicit):
        workspace, _ = begin(network, 3)
        workspace.forward()
        scores.append(workspace.scores.copy())
    np.testing.assert_array_equal(*scores)


def test_an_image_of_two_axes_is_taken_as_one_channel() -> None:
    plain, with_channel = (Sequential(Conv2D(2, 3), Linear(3)).network(shape) for shape in ((5, 6), (1, 5, 6)))
    assert plain.spec == with_channel.spec
    plain, with_channel = (Sequential(MaxPool2D(2), Linear(3)).network(shape) for shape in ((5, 6), (1, 5, 6)))
    workspace, flat = begin(plain, 2)
    assert workspace.x.shape == (5, 6, 2)
    other = with_channel.workspace(2, flat)
    other.x[0] = workspace.x
    workspace.forward()
    other.forward()
    np.testing.assert_array_equal(workspace.scores, other.scores)


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ((Linear(9), Conv2D(2, 3)), (4,), r"1.conv2d: expected an input of \(channels, rows, columns\), got \(9,\)"),
        ((Relu(), Conv2D(2, 5)), (1, 4, 4), "layer 1.conv2d: a window of 5 x 5 does not fit the 4 x 4 input"),
        ((MaxPool2D(3), Linear(2)), (1, 2, 9), "layer 0.max_pool2d: a window of 3 x 3 does not fit the 2 x 9 input"),
        ((Relu(), Tanh()), (4,), "model: no layer has parameters, nothing can be trained"),
        ((Conv2D(2, 3),), (1, 4, 4), r"model: the last layer gives \(2, 2, 2\), expected one axis of scores"),
    ],
)  # fmt: skip
def test_a_shape_that_does_not_fit_names_the_layer(layers: tuple[Layer, ...], shape: Shape, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sequential(*layers).network(shape)


def test_nobody_computes_a_gradient_for_the_input() -> None:
    """The first layer with parameters has no d_x, and layers before it are not asked at all."""
    network = Sequential(Dropout(0.5), Relu(), Linear(4), Relu(), Linear(2)).network((3,))
    workspace, _ = begin(network, 2, seed=0)
    assert [cell.d_x is None for _, cell in workspace.cells] == [True, False, True, False, False]
    before = workspace.cells[1][1].d_x
    assert before is not None
    before[...] = 7
    workspace.forward()
    workspace.d_scores[...] = 1
    workspace.backward()
    assert (before == 7).all()


def test_a_layer_reads_the_parameters_where_they_live() -> None:
    network = Sequential(Linear(2)).network((3,))
    workspace, flat = begin(network, 1)
    flat[...] = 0
    network.spec.views(flat)["0.linear.bias"][...] = [4.0, 5.0]
    workspace.forward()
    assert workspace.scores[:, 0].tolist() == [4.0, 5.0]


def test_the_caller_may_give_the_vector_of_the_gradient() -> None:
    network = Sequential(Linear(2)).network((3,))
    grad = network.spec.zeros()
    assert network.workspace(4, network.spec.zeros(), grad=grad).grad is grad


def test_a_layer_of_another_package_is_part_of_a_network() -> None:
    layer = registry.build("layer", {"layer": "support.own_package.parts:Scale", "first_gain": 2.0}, at="model.layers[0]")
    assert layer == Scale(2.0)
    network = Sequential(layer, Linear(2)).network((3,))
    assert next(t.name for t in network.spec.tensors) == "0.support.own_package.parts:Scale.gain"


@pytest.mark.long
def test_the_gradient_of_a_whole_network_equals_difference_quotients() -> None:
    network = Sequential(
        LocalContrastNorm(3), Conv2D(4, 3, padding=1), Tanh(), MaxPool2D(2), LocallyConnected2D(3, 2), Dropout(0.3),
        Relu(), Linear(3),
    ).network((2, 6, 6))  # fmt: skip
    workspace, flat = begin(network, 5)
    target = np.array([0, 2, 1, 1, 0])

    def loss() -> float:
        for _, cell in workspace.cells:
            cell.rng = np.random.default_rng(9)
        workspace.forward()
        return SoftmaxXent().apply(workspace.scores, target, workspace.d_scores)[0] / 5

    loss()
    workspace.backward()
    got = workspace.grad.copy()
    for k in np.random.default_rng(1).permutation(flat.size)[:80]:
        at, quotients = flat[k], []
        for h in (1e-4, 5e-5):
            flat[k] = at + h
            above = loss()
            flat[k] = at - h
            quotients.append((above - loss()) / (2 * h))
        flat[k] = at
        assert got[k] == pytest.approx((4 * quotients[1] - quotients[0]) / 3, rel=1e-6, abs=1e-10)
