"""Sequential: layers one behind the other, bound to an input shape as a ``Network`` with a spec and workspaces.

Forward walks the cells, backward walks them reversed. A workspace allocates everything for one batch size once; a
step allocates nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core import registry
from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError, DataError
from hogpour.core.job import Job
from hogpour.core.sparse_grad import SparseGrad
from hogpour.core.spec import Spec, Tensor
from hogpour.layers.base import Cell, Layer, Shape
from hogpour.layers.flatten import Flatten
from hogpour.layers.kernels.gather import gather_rows
from hogpour.layers.sparse_batch import SparseBatch

__all__ = ["Network", "Sequential", "Workspace", "network_of"]


class Sequential:
    """Layers in order, not yet bound to an input shape.

    Raises:
        ConfigError: one of them is no layer.
    """

    def __init__(self, *layers: Layer) -> None:
        for place, layer in enumerate(layers):
            registry.check_kind(layer, "layer", f"layer {place}")
        self.layers = layers

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def network(self, input_shape: Shape) -> Network:
        """Bind the layers to an input shape.

        Raises:
            ConfigError: a shape does not fit; the message names the layer.
        """
        return Network(self.layers, input_shape)


@dataclass(frozen=True, slots=True)
class Stage:
    """One layer of a network with the shapes it has there."""

    name: str
    """Place and file name, such as ``0.linear``; first part of its tensors' names."""
    layer: Layer
    shape_in: Shape
    shape_out: Shape


class Network:
    """Layers bound to an input shape: what a replica, a server and a file need to know about a model.

    Attributes:
        stages: the layers with their shapes, implicit ones included.
        spec: the flat vector that holds all parameters.
        input_shape, output_shape: of one example.
    """

    def __init__(self, layers: tuple[Layer, ...], input_shape: Shape) -> None:
        self.input_shape = tuple(int(d) for d in input_shape)
        stages: list[Stage] = []
        shapes: list[tuple[str, Shape]] = []
        by_row: set[str] = set()
        shape = self.input_shape
        for place, layer in enumerate(layers):
            name = f"{place}.{registry.describe(layer)['name']}"
            if layer.flat_input and len(shape) != 1:
                stages.append(Stage(f"{place}.flatten", Flatten(), shape, (prod(shape),)))
                shape = (prod(shape),)
            if layer.image_input and len(shape) == 2:
                shape = (1, *shape)
            try:
                if layer.image_input and len(shape) != 3:
                    raise ValueError(f"expected an input of (channels, rows, columns), got {shape}; "
                                     "set model.input in the job")  # fmt: skip
                if layer.sparse_input and place:
                    raise ValueError(f"takes sparse examples, got the {shape} of the layer before; put it first")
                if layer.sparse_input and len(shape) != 1:
                    raise ValueError(f"expected examples of one axis of features, got {shape}")
                out = layer.output_shape(shape)
            except ValueError as error:
                raise ConfigError(f"model: layer {name}: {error}") from None
            stages.append(Stage(name, layer, shape, out))
            shapes += [(f"{name}.{tensor}", size) for tensor, size in layer.tensors(shape).items()]
            by_row |= {f"{name}.{tensor}" for tensor in layer.by_row}
            shape = out
        self.stages = tuple(stages)
        self.output_shape = shape
        self.spec = Spec.pack(shapes, by_row)
        self._tensors = {tensor.name: tensor for tensor in self.spec.tensors}
        if not shapes:
            raise ConfigError("model: no layer has parameters, nothing can be trained")
        if len(shape) != 1:
            raise ConfigError(f"model: the last layer gives {shape}, expected one axis of scores; "
                              "end with a linear layer")  # fmt: skip

    @property
    def sparse_input(self) -> bool:
        """Whether examples are the rows of a ``Csr``; else they are arrays of ``input_shape``."""
        return any(stage.layer.sparse_input for stage in self.stages)

    def check_examples(
        self, x: npt.NDArray[Any] | Csr, source: str, rows: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Check that the first layer takes these examples, which must be of the kind that it takes.

        Args:
            source: what to call them in the message; ``rows``: their numbers there, where they are in another order.

        Raises:
            DataError: it does not; the message names such a row.
        """
        first = self.stages[0]
        if isinstance(x, Csr) and (refused := first.layer.refused(x)) is not None:
            row, why = refused
            row = row if rows is None else int(rows[row])
            raise DataError(f"{source}: row {row}, counted from 0: layer {first.name}: {why}")

    def _own(self, stage: Stage) -> list[Tensor]:
        """Return the tensors of a layer, in its own order."""
        return [self._tensors[f"{stage.name}.{tensor}"] for tensor in stage.layer.tensors(stage.shape_in)]

    def init(self, flat: npt.NDArray[Any], rng: np.random.Generator) -> None:
        """Write the initial parameters into ``flat``: (n,) private memory; what lies between tensors becomes 0."""
        flat[...] = 0
        for stage in self.stages:
            stage.layer.init(tuple(tensor.view(flat) for tensor in self._own(stage)), stage.shape_in, rng)

    def workspace(
        self,
        batch: int,
        params: npt.NDArray[Any],
        *,
        grad: npt.NDArray[Any] | None = None,
        rng: np.random.Generator | None = None,
        threads: int = 1,
        rows: int = 0,
    ) -> Workspace:
        """Allocate all buffers for batches of this size.

        Args:
            batch: examples in a batch, at least 1.
            params: (n,) read during every step; may be live shared memory. Its dtype is the dtype of everything.
            grad: (n,) written by ``backward``; a private one is made where None.
            rng: randomness for training (dropout); None makes a workspace for evaluation.
            threads: kernel threads that layers may use.
            rows: most rows that a batch touches of a tensor by row; 0 makes a workspace for evaluation.
        """
        grad = self.spec.zeros(params.dtype) if grad is None else grad
        return Workspace(self, batch, params, grad, rng, threads, rows)


class Workspace:
    """The cells of a network for one batch size, and the two walks over them.

    Attributes:
        x: (*input_shape, batch), which ``gather`` writes, or a caller; with sparse examples a ``SparseBatch``.
        scores: (n_out, batch): ``forward`` leaves the scores here.
        d_scores: (n_out, batch): the loss writes its gradient here.
        grad: (n,): ``backward`` leaves the gradient here, but for that of tensors by row.
        by_row: those tensors, each with what ``backward`` leaves its gradient in.
    """

    x: Any

    def __init__(
        self,
        network: Network,
        batch: int,
        params: npt.NDArray[Any],
        grad: npt.NDArray[Any],
        rng: np.random.Generator | None,
        threads: int,
        rows: int,
    ) -> None:
        dtype = params.dtype
        self.batch, self.grad = batch, grad
        self.by_row: list[tuple[Tensor, SparseGrad]] = []
        sparse = network.sparse_input
        self.x = SparseBatch() if sparse else np.zeros((*network.input_shape, batch), dtype)
        self.cells: list[tuple[Layer, Cell]] = []
        x, d_x = self.x, None
        for stage in network.stages:
            layer, out = stage.layer, (*stage.shape_out, batch)
            x = x if layer.sparse_input else x.reshape(*stage.shape_in, batch)
            d_x = None if d_x is None else d_x.reshape(*stage.shape_in, batch)
            if layer.free:
                x, d_x = x.reshape(out), None if d_x is None else d_x.reshape(out)
                continue
            y, d_y = np.zeros(out, dtype), np.zeros(out, dtype)
            scratch = tuple(
                np.zeros((*size, batch), kind or dtype) for size, kind in layer.scratch(stage.shape_in).values()
            )
            tensors = network._own(stage)
            own, d_own = tuple(t.view(params) for t in tensors), tuple(self._gradient(t, rows) for t in tensors)
            self.cells.append((layer, Cell(x, y, d_y, d_x, own, d_own, scratch, rng, threads)))
            x, d_x = y, d_y
        assert d_x is not None
        self.scores, self.d_scores = x, d_x
        # Layers before the first one with parameters have nobody to give a gradient to.
        first = next(k for k, (_, cell) in enumerate(self.cells) if cell.params)
        self.cells[first][1].d_x = None
        self._last_to_first = self.cells[first:][::-1]

    def _gradient(self, tensor: Tensor, rows: int) -> npt.NDArray[Any] | SparseGrad:
        if not tensor.by_row:
            return tensor.view(self.grad)
        grad = SparseGrad(rows, tensor.shape[1], self.grad.dtype)
        self.by_row.append((tensor, grad))
        return grad

    def gather(self, examples: npt.NDArray[Any] | Csr, order: npt.NDArray[np.int64], start: int) -> None:
        """Take the batch order[start : start + batch] of ``examples``, (n, features) or sparse. Both are read until the
        backward pass is done where they are sparse, and copied here otherwise."""
        if isinstance(examples, Csr):
            self.x.examples, self.x.order, self.x.start = examples, order, start
        else:
            gather_rows(examples, order, start, self.x.reshape(-1, self.batch))

    def forward(self) -> None:
        """Compute ``scores`` from ``x``."""
        for layer, cell in self.cells:
            layer.forward(cell)

    def backward(self) -> None:
        """Compute ``grad`` from ``d_scores``, after ``forward``."""
        for layer, cell in self._last_to_first:
            layer.backward(cell)


def network_of(job: Job, input_shape: tuple[int, ...]) -> Network:
    """Bind the layers of a job to the shape of its examples, or to the shape that the job says they have."""
    return Sequential(*job.model).network(job.input or input_shape)
