"""What the pooling layers share: a window over the rows and columns of each channel by itself, without padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.layers.base import Cell, Layer, Reads, Shape, Window

__all__ = ["Pool"]


@dataclass(frozen=True, slots=True)
class Pool(Layer):
    """Settings and shapes of a pooling layer; rows and columns that no whole window covers are not read."""

    image_input: ClassVar[bool] = True

    size: int
    """Rows and columns of the window, at least 1."""
    stride: int = 0
    """Rows and columns from a window to the next; 0: the same as size, so that windows tile the image."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 0:
            raise ValueError(f"size = {self.size}, stride = {self.stride}: expected a size of at least 1 and a stride "
                             "of at least 0 (0: the same as size)")  # fmt: skip

    @property
    def step(self) -> int:
        """Rows and columns from a window to the next."""
        return self.stride or self.size

    def output_shape(self, shape: Shape) -> Shape:
        channels, rows, columns = shape
        if min(rows, columns) < self.size:
            raise ValueError(f"a window of {self.size} x {self.size} does not fit the {rows} x {columns} input")
        return (channels, (rows - self.size) // self.step + 1, (columns - self.size) // self.step + 1)

    def reads(self, shape: Shape) -> Reads:
        return Window((self.size, self.size), (self.step, self.step), (0, 0), all_channels=False)

    def tiles(self, cell: Cell) -> bool:
        """Whether the windows cover every input once, so that ``backward`` writes all of d_x without zeroing it."""
        return self.step == self.size and all(d % self.size == 0 for d in cell.x.shape[1:3])
