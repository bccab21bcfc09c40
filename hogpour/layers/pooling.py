"""What the pooling layers share: a window over the rows and columns of each channel by itself, without padding."""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.core.limits import Count, Natural
from hogpour.layers.base import Cell, Shape, Window
from hogpour.layers.windows import Windowed

__all__ = ["Pool"]


@dataclass(frozen=True, slots=True)
class Pool(Windowed):
    """Settings and shapes of a pooling layer."""

    size: Count
    """Rows and columns of the window."""
    stride: Natural = 0
    """Rows and columns from a window to the next; 0: the same as size, so that windows tile the image."""

    @property
    def step(self) -> int:
        """Rows and columns from a window to the next."""
        return self.stride or self.size

    def reads(self, shape: Shape) -> Window:
        return Window((self.size, self.size), (self.step, self.step), (0, 0), all_channels=False)

    def tiles(self, cell: Cell) -> bool:
        """Whether the windows cover every input once, so that ``backward`` writes all of d_x without zeroing it."""
        return self.step == self.size and all(d % self.size == 0 for d in cell.x.shape[1:3])
