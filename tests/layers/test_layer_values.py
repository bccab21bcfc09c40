"""What single layers promise beyond the contract: ties, NaN, chance, settings."""

from __future__ import annotations

import numpy as np
import pytest

from hogpour.layers.base import Cell, Layer, Shape
from hogpour.layers.conv2d import Conv2D
from hogpour.layers.dropout import Dropout
from hogpour.layers.l2_pool2d import L2Pool2D
from hogpour.layers.linear import Linear
from hogpour.layers.local_contrast_norm import LocalContrastNorm
from hogpour.layers.locally_connected2d import LocallyConnected2D
from hogpour.layers.max_pool2d import MaxPool2D
from hogpour.layers.sigmoid import Sigmoid


def run(layer: Layer, x: np.ndarray, rng: np.random.Generator | None = None) -> Cell:
    """Forward, and backward with an output gradient of ones."""
    shape, batch = x.shape[:-1], x.shape[-1]
    out = (*layer.output_shape(shape), batch)
    scratch = tuple(np.zeros((*s, batch), kind or x.dtype) for s, kind in layer.scratch(shape).values())
    params = tuple(np.ones(s, x.dtype) for s in layer.tensors(shape).values())
    d_params = tuple(np.zeros_like(p) for p in params)
    y, d_y, d_x = np.zeros(out, x.dtype), np.ones(out, x.dtype), np.zeros_like(x)
    cell = Cell(x, y, d_y, d_x, params, d_params, scratch, rng)
    layer.forward(cell)
    layer.backward(cell)
    return cell


def test_of_equal_inputs_of_a_window_the_first_gets_the_gradient() -> None:
    cell = run(MaxPool2D(2), np.ones((1, 2, 4, 1)))
    assert cell.d_x is not None
    assert cell.d_x[0, :, :, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 1)])
def test_nan_wins_a_window(place: tuple[int, int]) -> None:
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    x[(0, *place)] = np.nan
    assert np.isnan(run(MaxPool2D(2), x).y).all()


def test_rows_and_columns_that_no_window_covers_get_no_gradient() -> None:
    cell = run(L2Pool2D(2), np.ones((1, 3, 5, 2)))
    assert cell.d_x is not None
    assert (cell.d_x[0, :2, :4] == 0.5).all()
    assert (cell.d_x[0, 2] == 0).all()
    assert (cell.d_x[0, :, 4] == 0).all()


def test_a_large_window_counts_its_taps_beyond_a_byte() -> None:
    x = np.zeros((1, 17, 17, 1))
    x[0, 16, 16] = 1
    cell = run(MaxPool2D(17), x)
    assert cell.d_x is not None
    assert np.argwhere(cell.d_x).tolist() == [[0, 16, 16, 0]]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_keeps_the_mean(rate: float, dtype: type) -> None:
    cell = run(Dropout(rate), np.ones((100, 1000), dtype), np.random.default_rng(0))
    scale = dtype(1 / (1 - rate))
    assert set(np.unique(cell.y)) == {dtype(0), scale}
    deviation = np.sqrt(rate / (1 - rate) / cell.y.size)
    assert abs(float(cell.y.mean(dtype=np.float64)) - 1) < 4 * deviation
    np.testing.assert_array_equal(cell.d_x, cell.y)


def test_dropout_drops_whole_channels_of_single_examples() -> None:
    y = run(Dropout(0.5, whole_channels=True), np.ones((8, 3, 4, 16)), np.random.default_rng(0)).y
    assert (y == y[:, :1, :1]).all()
    dropped = y[:, 0, 0] == 0
    assert 0.3 < dropped.mean() < 0.7
    assert len(np.unique(dropped, axis=1).T) > 8


def test_dropout_does_nothing_in_evaluation() -> None:
    x = np.random.default_rng(0).standard_normal((5, 6))
    np.testing.assert_array_equal(run(Dropout(0.9), x).y, x)


def test_dropout_draws_anew_at_every_step() -> None:
    rng = np.random.default_rng(0)
    first, second = (run(Dropout(0.5), np.ones((50, 4)), rng).y for _ in range(2))
    assert (first != second).any()


def test_sigmoid_keeps_the_digits_of_small_values_and_never_overflows() -> None:
    x = np.array([[-1e4, -80.0, -20.0, 0.0, 20.0, 1e4]], np.float32)
    y = run(Sigmoid(), x).y[0]
    np.testing.assert_allclose(y, [0.0, np.exp(-80.0), 1 / (1 + np.exp(20.0)), 0.5, 1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_contrast_normalisation_follows_its_formula(window: str) -> None:
    """Against loops over places and windows, the weights cut at the border and scaled to a sum of 1."""
    size, floor, x = 5, 0.2, np.random.default_rng(0).standard_normal((2, 6, 4, 3))
    near = np.arange(size) - size // 2
    line = np.exp(-0.5 * (near / (size / 4)) ** 2) if window == "gaussian" else np.ones(size)

    def mean(z: np.ndarray) -> np.ndarray:
        out = np.zeros(z.shape[1:])
        for r in range(6):
            for c in range(4):
                total = 0.0
                for p in range(size):
                    for q in range(size):
                        at = r + near[p], c + near[q]
                        if 0 <= at[0] < 6 and 0 <= at[1] < 4:
                            out[r, c] += line[p] * line[q] * z[:, at[0], at[1]].mean(axis=0)
                            total += line[p] * line[q]
                out[r, c] /= total
        return out

    v = x - mean(x)
    expected = v / np.sqrt(floor**2 + mean(v * v))
    np.testing.assert_allclose(run(LocalContrastNorm(size, window, floor), x).y, expected, rtol=1e-12, atol=1e-14)


def test_a_constant_image_has_no_contrast_even_at_its_border() -> None:
    np.testing.assert_allclose(run(LocalContrastNorm(5), np.full((2, 7, 6, 2), 3.0)).y, 0, atol=1e-13)


def test_the_smallest_floor_divides_no_constant_image_by_zero() -> None:
    """Its square is 0, in any precision."""
    cell = run(LocalContrastNorm(5, floor=5e-324), np.zeros((2, 7, 6, 2)))
    assert not cell.y.any()
    assert np.isfinite(cell.d_x).all()


@pytest.mark.long
def test_untied_weights_with_equal_values_are_a_convolution() -> None:
    x = np.random.default_rng(0).standard_normal((3, 7, 6, 5))
    local, tied = run(LocallyConnected2D(4, 3, 2, 1), x), run(Conv2D(4, 3, 2, 1), x)
    np.testing.assert_allclose(local.y, tied.y, rtol=1e-12)
    np.testing.assert_allclose(local.d_x, tied.d_x, rtol=1e-12)
    for ours, shared in zip(local.d_params, [tied.d_params[0], tied.d_params[1][:, None, None]]):
        total = ours.sum(axis=(0, 1)) if ours.ndim == 6 else ours.sum(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(total, shared, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(0), "units = 0, expected at least 1"),
        (lambda: Conv2D(0, 3), "channels = 0, expected at least 1"),
        (lambda: Conv2D(1, 3, padding=3), "padding = 3, expected 0 to kernel - 1 = 2"),
        (lambda: LocallyConnected2D(1, 3, -1), "stride = -1, expected at least 1"),
        (lambda: MaxPool2D(0), "size = 0, expected at least 1"),
        (lambda: MaxPool2D(2, -1), "stride = -1, expected 0 or more"),
        (lambda: Dropout(1.0), "rate = 1.0, expected at least 0 and less than 1"),
        (lambda: LocalContrastNorm(4), "size = 4, expected an odd number"),
        (lambda: LocalContrastNorm(3, "round"), "window = 'round': expected one of 'gaussian', 'uniform'"),  # type: ignore[arg-type]
        (lambda: LocalContrastNorm(3, floor=0.0), "floor = 0.0, expected more than 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape"), [(MaxPool2D(3), (1, 2, 9)), (Conv2D(1, 3), (1, 2, 9)), (LocallyConnected2D(1, 3), (1, 2, 9))]
)
def test_a_window_larger_than_the_image_is_refused_with_both_sizes(layer: Layer, shape: Shape) -> None:
    with pytest.raises(ValueError, match="a window of 3 x 3 does not fit the 2 x 9 input"):
        layer.output_shape(shape)
