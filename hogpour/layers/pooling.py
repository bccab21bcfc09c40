"""What the pooling layers share: a window over the rows and columns of each channel by itself, without padding."""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.layers.base import Cell, Shape, Window
from hogpour.layers.windows import Windowed

__all__ = ["Pool"]


@dataclass(frozen=True, slots=True)
class Pool(Windowed):
    """Settings and shapes of a pooling layer."""

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

    def reads(self, shape: Shape) -> Window:
        return Window((self.size, self.size), (self.step, self.step), (0, 0), all_channels=False)

    def tiles(self, cell: Cell) -> bool:
        """Whether the windows cover every input once, so that ``backward`` writes all of d_x without zeroing it."""
        return self.step == self.size and all(d % self.size == 0 for d in cell.x.shape[1:3])
