"""The contract of layers and losses: what a file of this folder must answer. Pure mathematics, no processes.

**The batch is the last axis.** An activation of shape ``(features...)`` is held as an array ``(features..., batch)``,
C-contiguous. Neighbouring elements belong to neighbouring examples, so every kernel vectorises over examples, and a
flatten is free.

A layer is a frozen dataclass of its settings. It is asked, once, for shapes; a ``Cell`` then gives it, per step, the
buffers that somebody else allocated, and nothing allocates inside a step. Forward and backward are called in turn, on
one thread; ``cell.threads`` kernel threads may be used inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.limits import Checked

__all__ = ["Cell", "Layer", "Loss", "Reads", "Scratch", "Shape", "Window", "uniform_fan_in"]

Shape = tuple[int, ...]
"""Shape of one example's activation; the batch axis is not counted."""

Scratch = dict[str, tuple[Shape, npt.DTypeLike | None]]
"""Name, shape without batch, and dtype of buffers; None is the dtype of the activations."""

@dataclass(frozen=True, slots=True)
class Window:
    """An output unit reads a window of rows and columns of its input, over all or one of the channels."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    all_channels: bool
    """False: an output channel reads its own input channel only (pooling)."""

Reads = Literal["all", "same"] | Window
"""Which inputs an output unit needs: all of them, the one of its own place, or a window. Cutting a replica over several
machines needs no more than this."""

@dataclass(slots=True)
class Cell:
    """The buffers of one layer for one batch size. The owner keeps them for the life of the workspace.

    ``params`` may be live shared memory that other processes write during the call: read elements, never assume that
    two reads agree. Everything else belongs to this replica alone.
    """

    x: Any
    """(shape_in..., batch): the input; read only. Where the layer has ``sparse_input``, a ``SparseBatch``."""
    y: npt.NDArray[Any]
    """(shape_out..., batch): ``forward`` writes all of it; still there in ``backward``."""
    d_y: npt.NDArray[Any]
    """(shape_out..., batch): gradient of the mean loss of the batch with respect to y; read only."""
    d_x: npt.NDArray[Any] | None
    """(shape_in..., batch): ``backward`` writes all of it; None in the first layer, where nobody needs it."""
    params: tuple[npt.NDArray[Any], ...]
    """One array for each of ``Layer.tensors``, in that order; read only."""
    d_params: tuple[Any, ...]
    """As params: ``backward`` writes all of them (it never adds to what was there). A ``SparseGrad`` for each tensor
    that ``Layer.by_row`` names."""
    scratch: tuple[npt.NDArray[Any], ...] = ()
    """One array for each of ``Layer.scratch``, kept from forward to backward."""
    rng: np.random.Generator | None = None
    """Source of randomness while training; None: this is evaluation, be deterministic."""
    threads: int = 1
    """Kernel threads that the layer may use."""

class Layer(Checked, ABC):
    """One layer of a network. Subclasses are frozen dataclasses whose fields are what a job file may say."""

    __slots__ = ()
    kind: ClassVar[str] = "layer"
    flat_input: ClassVar[bool] = False
    """True: the layer wants one axis of features; a ``Flatten`` is put before it where needed."""
    image_input: ClassVar[bool] = False
    """True: the layer wants (channels, rows, columns); two axes are taken as one channel."""
    sparse_input: ClassVar[bool] = False
    """True: the layer is the first one and takes sparse examples, whose non-zeros alone it reads; it has no d_x."""
    by_row: ClassVar[frozenset[str]] = frozenset()
    """Names of tensors with a row for each feature, of which a step reads and changes a few: a gradient of such a one
    is a ``SparseGrad``."""
    free: ClassVar[bool] = False
    """True: y is x's memory under another shape; forward and backward have nothing to do."""

    random: ClassVar[bool] = False
    """True: forward draws from ``cell.rng``; a replica then seeds it anew for every step."""

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for this input shape.

        Raises:
            ValueError: the input does not fit; the message says both shapes.
        """

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        """Return name and shape of every parameter, in the order of ``Cell.params``."""
        return {}

    def init(self, params: Sequence[npt.NDArray[Any]], shape: Shape, rng: np.random.Generator) -> None:
        """Write the initial value of every parameter; called once, on private memory."""
        assert not params, f"{type(self).__name__} has parameters and must say how they begin"

    def scratch(self, shape: Shape) -> Scratch:
        """Return what must be kept from forward to backward."""
        return {}

    def refused(self, x: Csr) -> tuple[int, str] | None:
        """Return a row of these sparse examples that the layer does not take, and why; None: it takes all.

        Asked before they are used. Kernels must stay within their arrays whatever the answer is.
        """
        del x
        return None

    @abstractmethod
    def reads(self, shape: Shape) -> Reads:
        """Say which inputs an output unit needs."""

    @abstractmethod
    def forward(self, cell: Cell) -> None:
        """Write ``cell.y`` from ``cell.x`` and ``cell.params``."""

    @abstractmethod
    def backward(self, cell: Cell) -> None:
        """Write ``cell.d_params``, and ``cell.d_x`` unless it is None, from ``cell.d_y``.

        Called after ``forward`` with the same cell, x and y unchanged.
        """

class Loss(Checked, ABC):
    """What training minimises: the mean over the batch of a loss of scores and targets."""

    __slots__ = ()
    kind: ClassVar[str] = "loss"
    targets: ClassVar[Literal["labels", "values"]]
    """``labels``: target is (batch,) int64, 0 to n_labels - 1. ``values``: target is (n_out, batch) floats."""

    @abstractmethod
    def n_outputs(self, n_targets: int) -> tuple[int, ...]:
        """Return the numbers of score units that fit ``n_targets`` labels or values, the usual one first."""

    @abstractmethod
    def apply(
        self, scores: npt.NDArray[Any], target: npt.NDArray[Any], d_scores: npt.NDArray[Any]
    ) -> tuple[float, int]:
        """Write the gradient of the mean loss and return (sum of the losses of the batch, number predicted right).

        Args:
            scores: (n_out, batch), read only.
            target: (batch,) int64 or (n_out, batch) floats, see ``targets``; read only.
            d_scores: (n_out, batch), all of it is written; may not alias scores.

        The number right is 0 for losses on values.
        """

    @abstractmethod
    def predict(self, scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the prediction for each example: (batch,) labels, or (n_out, batch) values."""

def uniform_fan_in(array: npt.NDArray[Any], fan_in: int, rng: np.random.Generator) -> None:
    """Fill with U(-1/√fan_in, 1/√fan_in), the beginning that PyTorch gives linear and convolution layers."""
    array[...] = rng.uniform(-1.0, 1.0, array.shape) / np.sqrt(fan_in)
