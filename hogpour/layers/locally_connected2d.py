"""LocallyConnected2D: a window at every place of the output, each place with weights of its own.

    y[o, r, c]         = b[o, r, c] + Σ_i,p,q w[r, c, o, i, p, q] x[i, r·s + p - pad, c·s + q - pad]
    d_w[r,c,o,i,p,q]   = d_y[o, r, c] · x[i, r·s + p - pad, c·s + q - pad]                       (summed over the batch)
    d_x[i, r', c']     = Σ w[r, c, o, i, p, q] d_y[o, r, c]  over r·s + p - pad = r', c·s + q - pad = c'

The untied local receptive fields of DistBelief (Dean et al. 2012): most parameters of its large vision
models, and what makes cutting a model over machines cheap. A weight is used by one multiplication per example, so
weights lie in the order in which the kernels pass over them: all that one place reads is one run of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.layers.base import Shape
from hogpour.layers.kernels.threaded import Threaded
from hogpour.layers.kernels.window import local_d_weight, local_d_x, local_forward
from hogpour.layers.windows import Filters

__all__ = ["LocallyConnected2D"]


@dataclass(frozen=True, slots=True)
class LocallyConnected2D(Filters):
    """Local receptive fields over (channels, rows, columns) that share no weights."""

    forward_kernel: ClassVar[Threaded] = local_forward
    d_weight_kernel: ClassVar[Threaded] = local_d_weight
    d_x_kernel: ClassVar[Threaded] = local_d_x

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        channels, rows, columns = self.output_shape(shape)
        weight = (rows, columns, channels, shape[0], self.kernel, self.kernel)
        return {"weight": weight, "bias": (channels, rows, columns)}
