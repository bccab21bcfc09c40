"""A trained model: layers, parameters, and what turns raw examples into the network's inputs and scores into answers.

Evaluation and prediction go through here, on one thread, from any thread and from several: they take
turns batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError, DataError, LayoutError
from hogpour.core.job import Job
from hogpour.core.progress import Evaluation
from hogpour.data import given
from hogpour.data.load import Dataset, Encoding, encoded
from hogpour.layers.sequential import Network, Workspace
from hogpour.model import model_file

__all__ = ["Model"]

_BATCH = 64  # examples at a time: activations stay in cache, and no layer calls a BLAS that would start threads


class Model:
    """A network with parameters.

    Attributes:
        job: what it was trained by.
        network: the layers bound to the examples' shape.
        params: (n,) float32; the model reads them on every call and never writes them.
        encoding: how raw examples become inputs, and what the labels are called.
    """

    def __init__(
        self,
        job: Job,
        network: Network,
        params: npt.NDArray[np.float32],
        encoding: Encoding,
    ) -> None:
        self.job, self.network, self.params, self.encoding = job, network, params, encoding
        self._workspaces: dict[int, Workspace] = {}
        self._lock = Lock()  # held while a workspace is in use

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, or another process, needs of it: all but buffers and the lock on them."""
        return {name: vars(self)[name] for name in ("job", "network", "params", "encoding")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        n, shapes = self.network.spec.n_parameters, f"{self.network.input_shape} → {self.network.output_shape}"
        return f"Model({n} parameters, {shapes})"

    @classmethod
    def load(cls, path: str) -> Model:
        """Read a model file; see ``model_file.load``."""
        stored, params, _ = model_file.load(path)
        return cls(stored.job, stored.network, params, stored.encoding)

    def save(self, path: str) -> None:
        """Write a model file, atomically; see ``model_file.save``."""
        model_file.save(path, self, None)

    def scores(self, x: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the scores of raw examples.

        Args:
            x: (n, ...) numbers, as in the data files, not yet scaled; uint8 becomes 0..1, as when files are read. The
                columns of a DataFrame are found by their names, where the training set had names.

        Returns:
            (n, n_out) float32, new.

        Raises:
            DataError: the examples are not numbers, not finite, or on another scale than the training set; or so far
                from it that scores are not finite.
            LayoutError: the examples have another size than the network wants.
        """
        rows = given.features(x, "model: x", self.encoding.columns)
        if prod(rows.shape[1:]) != prod(self.network.input_shape):
            raise LayoutError(f"model: got examples of shape {rows.shape[1:]}, expected {self.network.input_shape}")
        if isinstance(rows, Csr):
            rows = rows if self.encoding.sparse else rows.toarray()
        if not isinstance(rows, Csr):
            rows = rows.reshape(-1, *self.encoding.shape)
        return self.scores_of_scaled(encoded(rows, self.encoding, "model"))

    def scores_of_scaled(self, x: npt.NDArray[np.float32] | Csr, source: str = "model") -> npt.NDArray[np.float32]:
        """As ``scores``, for examples that are scaled already. ``source`` begins an error message."""
        rows = _flat(x)
        self.network.check_examples(rows, source)
        out = np.empty((len(rows), *self.network.output_shape), np.float32)
        order = np.arange(len(rows))
        for start in range(0, len(rows), _BATCH):
            with self._lock:
                workspace = self._forward(rows, order, start)
                out[start : start + workspace.batch] = workspace.scores.T
        if bad := np.flatnonzero(~np.isfinite(out).all(axis=1)).tolist():
            raise DataError(f"{source}: row {bad[0]}, counted from 0: the scores are not finite, as the example lies "
                            "too far from those of the training set")  # fmt: skip
        return out

    def predict(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the prediction for raw examples, as the training set's y was given.

        Args:
            x: as in ``scores``.

        Returns:
            (n,) labels, of the type that they had in Python or in the file: numbers, or text. Or values, float32: (n,)
            where y was (n,), else (n, n_out). New.

        Raises:
            DataError, LayoutError: as ``scores``.
        """
        if self.job.loss.targets == "labels":
            places = self.label_indices(x)
            return self.encoding.labels[places] if self.encoding.label_names else places
        values = self.job.loss.predict(self.scores(x).T)
        return values[0] if self.encoding.y_flat and len(values) == 1 else values.T

    def label_indices(self, x: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the predicted label of raw examples by its place among ``encoding.label_names``: (n,) int64, new.

        Raises:
            ConfigError: this model predicts values.
            DataError, LayoutError: as ``scores``.
        """
        if self.job.loss.targets != "labels":
            raise ConfigError(f"model: {type(self.job.loss).__name__} predicts values, which have no labels")
        return self.job.loss.predict(self.scores(x).T)

    def evaluate(self, dataset: Dataset, go_on: Callable[[], bool] = lambda: True) -> Evaluation | None:
        """Return mean loss and accuracy on a data set whose examples are scaled already.

        Args:
            go_on: asked before each batch; when it says no, the answer is None.

        Raises:
            DataError: the first layer does not take one of its examples.
        """
        rows, n = _flat(dataset.x), len(dataset.x)
        self.network.check_examples(rows, dataset.source, dataset.rows)
        labels = self.job.loss.targets == "labels"
        order = np.arange(n)
        total, right = 0.0, 0
        for start in range(0, n, _BATCH):
            if not go_on():
                return None
            y = dataset.y[start : start + _BATCH]
            target = y if labels else np.ascontiguousarray(y.T)
            with self._lock:
                workspace = self._forward(rows, order, start)
                loss, hits = self.job.loss.apply(workspace.scores, target, workspace.d_scores)
            total, right = total + float(loss), right + int(hits)
        return Evaluation(total / n, right / n if labels else None, n)

    def _forward(self, rows: npt.NDArray[np.float32] | Csr, order: npt.NDArray[np.int64], start: int) -> Workspace:
        """Compute the scores of the batch at ``start``; the caller holds the lock and reads them."""
        workspace = self._workspace(min(_BATCH, len(rows) - start))
        workspace.gather(rows, order, start)
        workspace.forward()
        return workspace

    def _workspace(self, batch: int) -> Workspace:
        if batch not in self._workspaces:
            # Kept: that of whole batches and that of the newest remainder; a service may ask for any number.
            self._workspaces = {n: kept for n, kept in self._workspaces.items() if n == _BATCH}
            self._workspaces[batch] = self.network.workspace(batch, self.params)
        return self._workspaces[batch]


def _flat(x: npt.NDArray[np.float32] | Csr) -> npt.NDArray[np.float32] | Csr:
    """(n, *shape) as (n, features), also where n is 0; sparse rows as they are."""
    return x if isinstance(x, Csr) else np.ascontiguousarray(x, np.float32).reshape(len(x), prod(x.shape[1:]))
