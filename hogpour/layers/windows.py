"""What layers over windows of an image share: shapes, and for those with weights padding, forward and backward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.errors import ConfigError
from hogpour.core.kernels.jit import Array
from hogpour.core.limits import Count, Natural
from hogpour.layers.base import Cell, Layer, Scratch, Shape, Window, uniform_fan_in
from hogpour.layers.kernels.linear import sum_over_batch
from hogpour.layers.kernels.threaded import Threaded
from hogpour.layers.kernels.window import copy_into_frame

__all__ = ["Filters", "Windowed"]


class Windowed(Layer):
    """A layer on (channels, rows, columns) whose output units read a window each."""

    __slots__ = ()
    image_input: ClassVar[bool] = True

    @abstractmethod
    def reads(self, shape: Shape) -> Window:
        """Return the window of an output unit."""

    def output_shape(self, shape: Shape) -> Shape:
        """As many channels as the input; rows and columns that no whole window covers are not read."""
        window = self.reads(shape)
        size, stride, padding = window.size[0], window.stride[0], window.padding[0]
        channels, rows, columns = shape
        if min(rows, columns) + 2 * padding < size:
            raise ValueError(f"a window of {size} x {size} does not fit the {rows} x {columns} input"
                             + (f" with padding {padding}" if padding else ""))  # fmt: skip
        return channels, (rows + 2 * padding - size) // stride + 1, (columns + 2 * padding - size) // stride + 1


@dataclass(frozen=True, slots=True)
class Filters(Windowed):
    """A layer with weights for every tap of a window, and a bias.

    With padding, x is first copied into a frame of zeros (scratch), so that the loops over taps have constant bounds.
    """

    forward_kernel: ClassVar[Threaded]
    """Called with x (framed), weight, bias, y, stride; writes y."""
    d_weight_kernel: ClassVar[Threaded]
    """Called with x (framed), d_y, d_weight, stride; writes d_weight."""
    d_x_kernel: ClassVar[Threaded]
    """Called with weight, d_y, d_x, stride, padding; writes d_x."""

    channels: Count
    """Output channels."""
    kernel: Count
    """Rows and columns of the window."""
    stride: Count = 1
    """Rows and columns from a window to the next."""
    padding: Natural = 0
    """Zeros put around the image, less than kernel."""

    def __post_init__(self) -> None:
        Windowed.__post_init__(self)
        if self.padding >= self.kernel:
            raise ConfigError(f"padding = {self.padding}, expected 0 to kernel - 1 = {self.kernel - 1}")

    def reads(self, shape: Shape) -> Window:
        return Window((self.kernel,) * 2, (self.stride,) * 2, (self.padding,) * 2, all_channels=True)

    def output_shape(self, shape: Shape) -> Shape:
        return self.channels, *Windowed.output_shape(self, shape)[1:]

    def init(self, params: Sequence[Array], shape: Shape, rng: np.random.Generator) -> None:
        for array in params:
            uniform_fan_in(array, shape[0] * self.kernel**2, rng)

    def scratch(self, shape: Shape) -> Scratch:
        if not self.padding:
            return {}
        return {"framed": ((shape[0], *[d + 2 * self.padding for d in shape[1:]]), None)}

    def forward(self, cell: Cell) -> None:
        x = cell.x
        if self.padding:
            x = cell.scratch[0]  # its frame was zero from the beginning and nothing writes there
            copy_into_frame(cell.x, x, self.padding)
        self.forward_kernel.on(cell.threads)(x, *cell.params, cell.y, self.stride)

    def backward(self, cell: Cell) -> None:
        x = cell.scratch[0] if self.padding else cell.x
        d_weight, d_bias = cell.d_params
        self.d_weight_kernel.on(cell.threads)(x, cell.d_y, d_weight, self.stride)
        sum_over_batch(cell.d_y.reshape(d_bias.size, -1), d_bias.reshape(-1))
        if cell.d_x is not None:
            self.d_x_kernel.on(cell.threads)(cell.params[0], cell.d_y, cell.d_x, self.stride, self.padding)
