"""Conv2D: the same weights over every window.

    y[o, r, c]     = b[o] + Σ_i,p,q w[o, i, p, q] x[i, r·s + p - pad, c·s + q - pad]
    d_w[o,i,p,q]   = Σ_r,c d_y[o, r, c] · x[i, r·s + p - pad, c·s + q - pad]       (and over the batch)
    d_x[i, r', c'] = Σ_o,p,q w[o, i, p, q] d_y[o, r, c]   where r·s + p - pad = r', c·s + q - pad = c'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.layers.base import Shape
from hogpour.layers.kernels.threaded import Threaded
from hogpour.layers.kernels.window import conv2d_d_weight, conv2d_d_x, conv2d_forward
from hogpour.layers.windows import Filters

__all__ = ["Conv2D"]


@dataclass(frozen=True, slots=True)
class Conv2D(Filters):
    """A convolution (cross-correlation, as everywhere in the field) over (channels, rows, columns)."""

    forward_kernel: ClassVar[Threaded] = conv2d_forward
    d_weight_kernel: ClassVar[Threaded] = conv2d_d_weight
    d_x_kernel: ClassVar[Threaded] = conv2d_d_x

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": (self.channels, shape[0], self.kernel, self.kernel), "bias": (self.channels,)}
