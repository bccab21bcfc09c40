"""The contract of layers and losses as two functions that anybody's tests can call.

    from hogpour import check_layer, check_loss

    def test_my_layer_keeps_the_contract():
        check_layer(MyLayer(units=3), (4,))

They raise ``AssertionError`` with a message that names the promise and the place. What they check is what
``layers/base.py`` promises to everything that stands on a layer: that gradients are right, that buffers are written
wholly and nothing else is, that equal seeds give equal bits on any number of threads, that examples do not see each
other, that a step allocates nothing, and that a job file can say the layer. Knows no test framework; slow on purpose
(some thousand small calls), so give it small shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core import registry
from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError
from hogpour.core.sparse_grad import SparseGrad
from hogpour.layers.base import Cell, Layer, Loss, Shape, Window
from hogpour.layers.sparse_batch import SparseBatch
from hogpour.testing.numeric import (
    check_slopes,
    distinct,
    expect,
    expect_close,
    expect_no_allocation,
    expect_same,
    expect_written,
    first_place,
)

__all__ = ["check_layer", "check_loss"]

Array = npt.NDArray[Any]

MEASURED_BYTES = 1 << 16
"""Least size of an activation when allocations are measured."""


def check_layer(
    layer: Layer, input_shape: Shape, *, batch: int = 5, x: Array | None = None, seed: int = 0, threads: int = 2
) -> None:
    """Check everything that is promised about a layer, for one input shape.

    Args:
        layer: a frozen dataclass of any package.
        input_shape: of one example; small, as the gradient is compared number by number.
        batch: examples; 1 is checked besides.
        x: (*input_shape, batch) float64 to take in place of the usual input, whose numbers are distinct and stay 5e-4
            away from 0. Where it holds a kink of the layer, difference quotients mean nothing.
        seed: of all random numbers here.
        threads: compared with one thread, bit for bit.

    Raises:
        AssertionError: a promise is broken; the message says which, and where.
    """
    trial = _Trial.begin(layer, tuple(input_shape), batch, x, seed)
    trial.check_words()
    trial.check_buffers()
    trial.check_bits(threads)
    trial.check_gradient()
    trial.check_examples()
    trial.check_reads()
    trial.check_zeros()
    trial.check_float32()
    trial.check_allocations()


def check_loss(loss: Loss, *, n_targets: int = 3, batch: int = 5, seed: int = 0) -> None:
    """Check everything that is promised about a loss, for every number of score units that it says to fit.

    Args:
        loss: a frozen dataclass of any package.
        n_targets: number of labels, or of values of an example.
        batch: examples; 1 is checked besides.
        seed: of all random numbers here.

    Raises:
        AssertionError: a promise is broken; the message says which, and where.
    """
    _check_round_trip("loss", loss)
    expect(loss.targets in ("labels", "values"), f"{loss}: targets = {loss.targets!r}, expected 'labels' or 'values'")
    sizes = loss.n_outputs(n_targets)
    expect(bool(sizes) and all(n >= 1 for n in sizes), f"{loss}: n_outputs({n_targets}) = {sizes}, expected numbers")
    for n_out in sizes:
        for n in dict.fromkeys((batch, 1)):
            _check_loss_on(loss, n_targets, n_out, n, np.random.default_rng(seed))


@dataclass(frozen=True, slots=True)
class _Trial:
    """A layer with the input, parameters and output gradient that all checks share."""

    layer: Layer
    shape: Shape
    out: Shape
    x: Array
    params: tuple[Array, ...]
    d_y: Array
    seed: int

    @classmethod
    def begin(cls, layer: Layer, shape: Shape, batch: int, x: Array | None, seed: int) -> _Trial:
        rng = np.random.default_rng(seed)
        out = layer.output_shape(shape)
        expect(isinstance(out, tuple) and all(d >= 1 for d in out), f"{layer}: output_shape({shape}) = {out!r}")
        params = tuple(np.full(size, np.nan) for size in layer.tensors(shape).values())
        layer.init(params, shape, rng)
        for name, array in zip(layer.tensors(shape), params):
            expect(bool(np.isfinite(array).all()), f"{layer}: init left part of {name!r} unwritten, or not finite")
            array += rng.uniform(-0.1, 0.1, array.shape)  # tensors that begin at 0 must not hide an error
        if x is None:
            x = distinct((*shape, batch), rng)
            if layer.sparse_input:
                x[rng.random(x.shape) < 0.5] = 0
        expect(x.shape == (*shape, batch) and x.dtype == np.float64, f"x: {x.shape} {x.dtype}, expected "
                                                                     f"{(*shape, batch)} float64")  # fmt: skip
        return cls(layer, shape, out, x, params, rng.standard_normal((*out, batch)), seed)

    @property
    def name(self) -> str:
        return f"{self.layer} on {self.shape}"

    def cell(
        self, *, x: Array | None = None, d_y: Array | None = None, poison: float = np.nan, threads: int = 1,
        training: bool = True, dtype: npt.DTypeLike = np.float64, first: bool = False,
    ) -> Cell:  # fmt: skip
        """Return fresh buffers; whatever the layer must write is filled with ``poison``."""
        x = np.array(self.x if x is None else x, dtype)
        batch, sparse = x.shape[-1], self.layer.sparse_input
        d_y = np.array(self.d_y if d_y is None else d_y, dtype)
        if self.layer.free:
            y, d_x = x.reshape(*self.out, batch), d_y.reshape(x.shape)
        else:
            y, d_x = np.full((*self.out, batch), poison, dtype), np.full(x.shape, poison, dtype)
        return Cell(
            x=_sparse(x) if sparse else x, y=y, d_y=d_y, d_x=None if first or sparse else d_x,
            params=tuple(np.array(p, dtype) for p in self.params),
            d_params=tuple(
                SparseGrad(len(p), p.shape[1], dtype) if name in self.layer.by_row else np.full(p.shape, poison, dtype)
                for name, p in zip(self.layer.tensors(self.shape), self.params)
            ),
            scratch=tuple(np.zeros((*s, batch), kind or dtype) for s, kind in self.layer.scratch(self.shape).values()),
            rng=np.random.default_rng(self.seed) if training else None,
            threads=threads,
        )  # fmt: skip

    def step(self, cell: Cell) -> dict[str, Array]:
        """Run forward and backward; return copies of all that they wrote."""
        self.layer.forward(cell)
        self.layer.backward(cell)
        return {name: array.copy() for name, array in self.written(cell).items()}

    def written(self, cell: Cell) -> dict[str, Array]:
        named = {}
        for name, grad, param in zip(self.layer.tensors(self.shape), cell.d_params, cell.params):
            if isinstance(grad, SparseGrad):
                grad.write_to(dense := np.empty_like(param))
                grad = dense
            named[f"d_params[{name!r}]"] = grad
        return {"y": cell.y} | ({} if cell.d_x is None else {"d_x": cell.d_x}) | named

    def check_words(self) -> None:
        _check_round_trip("layer", self.layer)
        reads = self.layer.reads(self.shape)
        expect(reads in ("all", "same") or isinstance(reads, Window), f"{self.name}: reads = {reads!r}")

    def check_buffers(self) -> None:
        """All of y, d_x and d_params is written, and nothing that is only lent."""
        cell = self.cell()
        x = cell.x.examples.values if self.layer.sparse_input else cell.x
        lent = {"x": x, "d_y": cell.d_y} | {f"params[{k}]": p for k, p in enumerate(cell.params)}
        before = {name: array.copy() for name, array in lent.items()}
        self.layer.forward(cell)
        expect_written(self.name, "forward", {"y": cell.y})
        expect_same(f"{self.name}: forward changed what is read only", before, lent)
        y = cell.y.copy()
        self.layer.backward(cell)
        expect_written(self.name, "backward", self.written(cell))
        expect_same(f"{self.name}: backward changed what is read only", before | {"y": y}, lent | {"y": cell.y})

    def check_bits(self, threads: int) -> None:
        """Equal seeds give equal bits: again, over other garbage, in used buffers, on threads, as the first layer."""
        cell = self.cell()
        expected = self.step(cell)
        assert cell.rng is not None
        drew = cell.rng.bit_generator.state != np.random.default_rng(self.seed).bit_generator.state
        expect(drew == self.layer.random, f"{self.name}: random is {self.layer.random}, but forward "
                                          f"{'drew' if drew else 'did not draw'} from cell.rng")  # fmt: skip
        expect_same(f"{self.name}: a second run with the same seed differs", expected, self.step(self.cell()))
        expect_same(f"{self.name}: the result depends on what was in the buffers", expected,
                     self.step(self.cell(poison=1e30)))  # fmt: skip
        used = self.cell(x=-self.x[..., ::-1])
        self.step(used)
        if not self.layer.free:
            used.x = _sparse(self.x) if self.layer.sparse_input else self.x
            used.rng = np.random.default_rng(self.seed)
            expect_same(f"{self.name}: the step before shows in the result", expected, self.step(used))
        expect_same(f"{self.name}: {threads} threads give other bits than one", expected,
                     self.step(self.cell(threads=threads)))  # fmt: skip
        as_first = self.step(self.cell(first=True))
        expect_same(f"{self.name}: without d_x the result differs", {name: expected[name] for name in as_first},
                     as_first)  # fmt: skip

    def check_gradient(self) -> None:
        """Gradients of Σ d_y · y equal difference quotients in float64."""
        cell = self.cell()
        got = self.step(cell)
        rng = np.random.default_rng(self.seed)
        read = cell.params if cell.d_x is None else (cell.x, *cell.params)
        sources = dict(zip([name for name in got if name != "y"], read))

        def forward() -> Array:
            cell.rng = np.random.default_rng(self.seed)
            self.layer.forward(cell)
            return cell.y.copy()

        for name, source in sources.items():
            check_slopes(f"{self.name}: {name}", forward, cell.d_y.copy(), source, got[name], rng)

    def check_examples(self) -> None:
        """An example's output depends on no other example, nor on the size of the batch; NaN shows in its own."""
        expected = self.step(self.cell(training=False))
        x = self.x.copy()
        x[..., 0] = np.nan
        with np.errstate(all="ignore"):
            cell = self.cell(x=x, training=False)
            self.layer.forward(cell)
        expect_same(f"{self.name}: an example sees another one", {"y": expected["y"][..., 1:]}, {"y": cell.y[..., 1:]})
        expect(bool(np.isnan(cell.y[..., 0]).any()), f"{self.name}: NaN in x does not show in y")
        got = self.step(self.cell(x=self.x[..., :1], d_y=self.d_y[..., :1], training=False))
        for name in {"y", "d_x"} & expected.keys():
            expect_close(f"{self.name}: {name} of a batch of one", expected[name][..., :1], got[name], 1e-9)

    def check_reads(self) -> None:
        """An output unit depends on no input that ``reads`` does not name."""
        reads = self.layer.reads(self.shape)
        rng = np.random.default_rng(self.seed)
        expected = self.cell(training=False)
        self.layer.forward(expected)
        for place in [np.unravel_index(k, self.shape) for k in rng.integers(prod(self.shape), size=4)]:
            x = self.x.copy()
            x[place] += 3.0
            cell = self.cell(x=x, training=False)
            self.layer.forward(cell)
            wrong = (cell.y != expected.y).any(axis=-1) & ~self.readers(reads, tuple(int(d) for d in place))
            expect(not wrong.any(), f"{self.name}: y{first_place(wrong)} depends on x{[int(d) for d in place]}, "
                                     f"but reads = {reads}")  # fmt: skip

    def readers(self, reads: Any, place: tuple[int, ...]) -> Array:
        """(*out,) bool: which output units may read this input."""
        if reads == "all":
            return np.ones(self.out, bool)
        if reads == "same":
            may = np.zeros(prod(self.out), bool)
            may[np.ravel_multi_index(place, self.shape)] = True
            return may.reshape(self.out)
        axes = []
        for axis in (0, 1):
            first = np.arange(self.out[axis + 1]) * reads.stride[axis] - reads.padding[axis]
            axes.append((first <= place[axis + 1]) & (place[axis + 1] < first + reads.size[axis]))
        channels = np.ones(self.out[0], bool) if reads.all_channels else np.arange(self.out[0]) == place[0]
        reached: npt.NDArray[np.bool_] = channels[:, None, None] & axes[0][:, None] & axes[1]
        return reached

    def check_zeros(self) -> None:
        got = self.step(self.cell(x=np.zeros_like(self.x)))
        for name, array in got.items():
            expect(bool(np.isfinite(array).all()), f"{self.name}: {name} is not finite where x is zero")

    def check_float32(self) -> None:
        """float32, in which models are trained, gives the results of float64 to its precision."""
        rounded = self.x.astype(np.float32).astype(np.float64)
        expected = self.step(self.cell(x=rounded, training=False))
        got = self.step(self.cell(x=rounded, training=False, dtype=np.float32))
        for name, array in got.items():
            expect_close(f"{self.name}: {name} in float32", expected[name], array, 1e-4)

    def check_allocations(self) -> None:
        smallest = 8 * min(prod(self.shape), prod(self.out))
        batch = min(-(-MEASURED_BYTES // smallest), 4096)
        repeats = -(-batch // self.x.shape[-1])
        x, d_y = (np.tile(a, repeats)[..., :batch] for a in (self.x, self.d_y))
        for training in (True, False):
            cell = self.cell(x=x, d_y=d_y, training=training)

            def step(cell: Cell = cell) -> None:
                self.layer.forward(cell)
                self.layer.backward(cell)

            expect_no_allocation(self.name, step)


def _sparse(x: Array) -> SparseBatch:
    """(features, batch) as a batch of sparse examples."""
    return SparseBatch(Csr.from_dense(np.ascontiguousarray(x.T)), np.arange(x.shape[1]))


def _check_loss_on(loss: Loss, n_targets: int, n_out: int, batch: int, rng: np.random.Generator) -> None:
    name = f"{loss} with {n_out} outputs on a batch of {batch}"
    labels = loss.targets == "labels"
    scores = distinct((n_out, batch), rng)
    target = rng.integers(n_targets, size=batch) if labels else rng.standard_normal((n_out, batch))
    d_scores = np.full_like(scores, np.nan)
    before = {"scores": scores.copy(), "target": target.copy()}
    total, right = loss.apply(scores, target, d_scores)
    expect_written(name, "apply", {"d_scores": d_scores})
    expect_same(f"{name}: apply changed what is read only", before, {"scores": scores, "target": target})
    again = np.full_like(scores, 1e30)
    expect(loss.apply(scores, target, again) == (total, right), f"{name}: a second call gives another result")
    expect_same(f"{name}: a second call gives another gradient", {"d_scores": d_scores}, {"d_scores": again})

    def mean() -> Array:
        return np.array([loss.apply(scores, target, again)[0] / batch])

    check_slopes(f"{name}: d_scores", mean, np.ones(1), scores, d_scores, rng)
    predicted = loss.predict(scores)
    if labels:
        expect(predicted.shape == (batch,), f"{name}: predict gives {predicted.shape}, expected ({batch},)")
        hits = int((predicted == target).sum())
        expect(int(right) == hits, f"{name}: {right} counted as right, predict gives {hits}")
    else:
        expect(predicted.shape == scores.shape, f"{name}: predict gives {predicted.shape}, expected {scores.shape}")
        expect(int(right) == 0, f"{name}: {right} counted as right, expected 0 for values")
    single = 0.0
    for k in range(batch):
        s, t, d = scores[:, k : k + 1].copy(), target[..., k : k + 1].copy(), np.full((n_out, 1), np.nan)
        single += loss.apply(s, t, d)[0]
        expect_close(f"{name}: gradient of example {k} alone", d / batch, d_scores[:, k : k + 1], 1e-9)
    expect(abs(single - total) <= 1e-9 * max(abs(total), 1.0),
            f"{name}: loss is {total}, its examples alone add up to {single}")  # fmt: skip
    _check_loss_numbers(name, loss, scores, target, d_scores, total)


def _check_loss_numbers(name: str, loss: Loss, scores: Array, target: Array, d_scores: Array, total: float) -> None:
    d_32 = np.full(scores.shape, np.nan, np.float32)
    target_32 = target if loss.targets == "labels" else target.astype(np.float32)
    total_32 = loss.apply(scores.astype(np.float32), target_32, d_32)[0]
    expect_close(f"{name}: d_scores in float32", d_scores, d_32, 1e-4)
    expect_close(f"{name}: loss in float32", np.array([total]), np.array([total_32]), 1e-4)
    bad = scores.copy()
    bad[0, 0] = np.nan
    with np.errstate(all="ignore"):
        got = loss.apply(bad, target, np.empty_like(bad))[0]
    expect(bool(np.isnan(got)), f"{name}: a score is NaN, the loss is {got}")
    repeats = -(-MEASURED_BYTES // (8 * scores.size))
    many, many_targets = np.tile(scores, repeats), np.tile(target, repeats)
    d_many = np.empty_like(many)
    expect_no_allocation(name, lambda: loss.apply(many, many_targets, d_many))


def _check_round_trip(kind: str, thing: Any) -> None:
    try:
        again = registry.build(kind, registry.describe(thing), at="contract")
    except ConfigError as error:
        raise AssertionError(f"{thing}: a job file cannot say it: {error}") from error
    expect(again == thing, f"{thing}: what its own words build is {again}")
