"""How far is each layer, loss and optimiser from its limit, and how does it compare with PyTorch's?

One thread each. Everything runs as the product runs it: layers through ``forward`` and ``backward`` on a ``Cell``,
losses and optimisers through ``apply``. The limit of a row is measured in turns with it:

    same products   the products of a linear layer by BLAS alone (numba's np.dot): the best of batch first, batch last
                    and turned weights
    BLAS peak       a product of 512 x 512 matrices, in floating-point operations a second
    copy            a plain loop that copies as many bytes as the pass must read and write, in as much memory
    plain loops     optimisers: the best of copy, sum, sum in place into one and two vectors, all of the same length

Corrections have no peers: their pushes are late ones, applied with SGD, in turns with plain SGD on the same vectors.

PyTorch runs its best formulation of the same arithmetic on the same numbers, batch first as it likes them, forward with
the record of the graph as in training, backward by ``autograd.grad``. Outputs are compared before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from bench._peers.kernels import (
    Call,
    Peers,
    torch_avg_pool,
    torch_contrast,
    torch_conv2d,
    torch_dropout,
    torch_l2_pool,
    torch_linear,
    torch_local,
    torch_loss,
    torch_max_pool,
    torch_optimisers,
    torch_unary,
)
from bench.harness import Report, Spread, Table, alternate, one_thread, times, torch_or_none
from hogpour.algos.correction.base import Late
from hogpour.algos.optim.sgd import Sgd
from hogpour.core import registry
from hogpour.layers.base import Cell, Layer

__all__ = ["add_arguments", "measure"]

COLUMNS = ("what", "pass", "us", "p10_us", "p90_us", "rate", "unit", "limit", "limit_rate", "of_limit",
           "torch_us", "times_torch", "torch_best")  # fmt: skip

PUSH_COLUMNS = ("what", "pass", "us", "p10_us", "p90_us", "times_sgd")


@dataclass(frozen=True, slots=True)
class Case:
    """A layer at one shape."""

    layer: str
    shape: tuple[int, ...]
    batch: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    peers: Callable[[Any, Layer], Peers] | None = None
    limit: str = "copy"
    """``same products``, ``BLAS peak`` or ``copy``."""
    backward_reads: tuple[str, ...] = ("y",)
    """Copy: what backward must read besides d_y, by the names of ``Cell``."""
    forward_writes: tuple[str, ...] = ()
    """Copy: what forward must write besides y."""


def cases() -> list[Case]:
    """Return the layers and shapes that are measured; those whose file does not exist are left out."""
    image: dict[str, Any] = {"shape": (16, 32, 32), "batch": 64}
    every = [
        Case("linear", (784,), 8, {"units": 128}, torch_linear, "same products"),
        Case("linear", (784,), 32, {"units": 256}, torch_linear, "same products"),
        Case("linear", (1024,), 128, {"units": 1024}, torch_linear, "same products"),
        Case("conv2d", (1, 28, 28), 64, {"channels": 10, "kernel": 5}, torch_conv2d, "BLAS peak"),
        Case("conv2d", (10, 12, 12), 64, {"channels": 20, "kernel": 5}, torch_conv2d, "BLAS peak"),
        Case("conv2d", (16, 32, 32), 64, {"channels": 32, "kernel": 3, "padding": 1}, torch_conv2d, "BLAS peak"),
        Case("locally_connected2d", (1, 28, 28), 64, {"channels": 10, "kernel": 5}, torch_local, "BLAS peak"),
        Case("locally_connected2d", (10, 12, 12), 64, {"channels": 20, "kernel": 5}, torch_local, "BLAS peak"),
        Case("max_pool2d", **image, settings={"size": 2}, peers=torch_max_pool, backward_reads=("scratch",),
             forward_writes=("scratch",)),
        Case("avg_pool2d", **image, settings={"size": 2}, peers=torch_avg_pool, backward_reads=()),
        Case("l2_pool2d", **image, settings={"size": 2}, peers=torch_l2_pool, backward_reads=("x", "y")),
        Case("local_contrast_norm", **image, peers=torch_contrast, backward_reads=("x", "y")),
        Case("relu", **image, peers=torch_unary("relu")),
        Case("sigmoid", **image, peers=torch_unary("sigmoid")),
        Case("tanh", **image, peers=torch_unary("tanh")),
        Case("dropout", **image, settings={"rate": 0.5}, peers=torch_dropout, backward_reads=("scratch",),
             forward_writes=("scratch",)),
    ]  # fmt: skip
    there = registry.available("layer")
    return [case for case in every if case.layer in there]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains TEXT")
    parser.add_argument("--elements", type=int, default=1 << 24, help="length of the optimisers' vectors (64 MB)")


def measure(options: argparse.Namespace) -> Report:
    """Measure all rows."""
    rounds = options.rounds or 25
    torch = torch_or_none()
    layers, losses = Table("Layers, float32, one thread", COLUMNS), Table("Losses with their gradient", COLUMNS)
    title = f"Optimisers on vectors of {options.elements * 4 / 2**20:.0f} MiB"
    optimisers = Table(title, COLUMNS)
    with one_thread():
        for case in cases():
            if options.only in case.layer:
                for row in _layer_rows(case, torch, rounds):
                    layers.add(**row)
        for name, shape in (("softmax_xent", (10, 64)), ("softmax_xent", (1000, 128)), ("logistic", (10, 64)),
                            ("hinge", (10, 64)), ("squared_error", (10, 64))):  # fmt: skip
            if options.only in name and name in registry.available("loss"):
                losses.add(**_loss_row(name, shape, torch, rounds))
        for name in registry.available("optimiser"):
            if options.only in name:
                optimisers.add(**_optimiser_row(name, options.elements, torch, max(3, rounds // 2)))
        corrections = Table("Late pushes with SGD, against pushes on time", PUSH_COLUMNS)
        for name in registry.available("correction"):
            for n in (1 << 18, options.elements):  # 1 MiB, which stays in the caches, and what does not
                if options.only in name:
                    corrections.add(**_correction_row(name, n, rounds))
    notes = [] if torch else ["PyTorch is not installed: no peers"]
    slowest = {"layer": layers, "loss": losses, "optimiser": optimisers} if torch and not options.only else {}
    figures = {f"PyTorch: slowest {what}": _slowest(table.rows) for what, table in slowest.items()}
    return Report([table for table in (layers, losses, optimisers, corrections) if table.rows], notes, figures)


def _slowest(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the rate of the row that loses most against PyTorch, in PyTorch's."""
    row = min((row for row in rows if "times_torch" in row), key=lambda row: row["times_torch"])  # some have no peer
    return times(*(row[key] for key in ("torch_us", "us", "p10_us", "p90_us")))


# Layers.


def _layer_rows(case: Case, torch: Any, rounds: int) -> Iterator[dict[str, Any]]:
    layer = registry.build("layer", {"name": case.layer, **case.settings}, "bench")
    rng = np.random.default_rng(0)
    cell = _cell(layer, case.shape, case.batch, rng)
    layer.forward(cell)
    peers = _peers_of_layer(case, layer, cell, torch) if torch and case.peers else {}
    settings = "".join(f" {key} {value}" for key, value in case.settings.items())
    what = f"{case.layer} {'x'.join(map(str, case.shape))}{settings}, batch {case.batch}"
    for side, call in (("forward", lambda: layer.forward(cell)), ("backward", lambda: layer.backward(cell))):
        limit, work, unit = _limit_of_layer(case, cell, side)
        rivals = {f"torch:{name}": calls[side] for name, calls in peers.items()}
        found = alternate({"ours": call, **limit, **rivals}, rounds=rounds)
        yield _row(what, side, found, work, unit, case.limit)


def _cell(layer: Layer, shape: tuple[int, ...], batch: int, rng: np.random.Generator) -> Cell:
    """Return the cell of one layer as a workspace makes it, with the gradient of its input."""

    def drawn(size: tuple[int, ...]) -> npt.NDArray[Any]:
        return rng.normal(size=size).astype(np.float32)

    x, d_y = drawn((*shape, batch)), drawn((*layer.output_shape(shape), batch))
    params = tuple(np.zeros(size, np.float32) for size in layer.tensors(shape).values())
    if params:
        layer.init(params, shape, rng)
    scratch = tuple(np.zeros((*size, batch), kind or np.float32) for size, kind in layer.scratch(shape).values())
    own_gradients = tuple(map(np.zeros_like, params))
    return Cell(x, np.zeros_like(d_y), d_y, np.zeros_like(x), params, own_gradients, scratch, rng)


def _limit_of_layer(case: Case, cell: Cell, side: str) -> tuple[dict[str, Call], float, str]:
    """Return what to time as the limit, the work of our pass in operations or bytes, and the unit of the rate."""
    if case.limit == "copy":
        names = ("x", "y", *case.forward_writes) if side == "forward" else ("d_y", "d_x", *case.backward_reads)
        moved = sum(sum(a.nbytes for a in value) if isinstance(value := getattr(cell, name), tuple) else value.nbytes
                    for name in names)  # fmt: skip
        source = np.ones(moved // 8, np.float32)
        target = np.ones_like(source)
        return {"limit": lambda: copy(source, target)}, moved, "GB/s"
    weight = cell.params[0]
    n_weights_used = weight.size if case.limit == "same products" else weight[0].size * cell.y[..., 0].size
    if case.layer == "locally_connected2d":
        n_weights_used = weight.size  # every weight is used at one place only
    work = 2.0 * n_weights_used * case.batch * (1 if side == "forward" else 2)
    if case.limit == "BLAS peak":
        a, b, c = (np.ones((512, 512), np.float32) for _ in range(3))
        return {f"limit:{2 * 512**3}": lambda: dot(a, b, c)}, work, "GF/s"
    w, x, y, d_y, d_x, d_w = weight, cell.x, cell.y, cell.d_y, cell.d_x, cell.d_params[0]
    assert d_x is not None
    rows = [np.ascontiguousarray(a.T) for a in (x, y, d_y, d_x)]
    turned, d_turned = np.ascontiguousarray(w.T), np.ascontiguousarray(d_w.T)
    calls: dict[str, Call]
    if side == "forward":
        calls = {
            "limit:batch last": lambda: dot(w.T, x, y),
            "limit:batch last, weights by output": lambda: dot(turned, x, y),
            "limit:batch first": lambda: dot(rows[0], w, rows[1]),
        }
    else:
        calls = {
            "limit:batch last": lambda: (dot(x, d_y.T, d_w), dot(w, d_y, d_x)),
            "limit:batch last, weights by output": lambda: (dot(d_y, x.T, d_turned), dot(turned.T, d_y, d_x)),
            "limit:batch first": lambda: (dot(rows[0].T, rows[2], d_w), dot(rows[2], w.T, rows[3])),
        }
    return calls, work, "GF/s"


def _peers_of_layer(case: Case, layer: Layer, cell: Cell, torch: Any) -> dict[str, dict[str, Call]]:
    """Return forward and backward of each formulation, after a look whether it computes the same."""

    def batch_first(a: npt.NDArray[Any]) -> Any:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, -1, 0)))

    assert case.peers is not None
    x = batch_first(cell.x).requires_grad_()
    d_y, y = batch_first(cell.d_y), batch_first(cell.y)
    found: dict[str, dict[str, Call]] = {}
    for name, peer in case.peers(torch, layer).items():
        arranged = peer.arrange(*[torch.from_numpy(p.copy()) for p in cell.params])
        inputs = [x, *[p.contiguous().requires_grad_() for p in arranged]]
        out = peer.function(*inputs)
        same = case.layer == "dropout" or torch.allclose(out.reshape(y.shape), y, rtol=1e-3, atol=1e-3)
        assert same, f"{case.layer}: {name} of PyTorch computes something else"
        grad = d_y.reshape(out.shape)
        found[name] = {
            "forward": partial(peer.function, *inputs),
            "backward": partial(torch.autograd.grad, out, inputs, grad, retain_graph=True),
        }
    return found


# Losses.


def _loss_row(name: str, shape: tuple[int, int], torch: Any, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    loss = registry.build("loss", name, "bench")
    scores = rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(0, shape[0], shape[1])
    target = labels if loss.targets == "labels" else rng.normal(size=shape).astype(np.float32)
    d_scores = np.zeros_like(scores)
    source, copied = scores.copy(), scores.copy()
    contenders: dict[str, Call] = {
        "ours": lambda: loss.apply(scores, target, d_scores),
        "limit": lambda: copy(source.reshape(-1), copied.reshape(-1)),
    }
    if torch:
        s = torch.from_numpy(np.ascontiguousarray(scores.T)).requires_grad_()
        function = torch_loss(name, torch, target, shape)

        def theirs() -> Any:
            value = function(s)
            return value, torch.autograd.grad(value, s)[0]

        value, gradient = theirs()
        total, _ = loss.apply(scores, target, d_scores)
        assert np.isclose(total / shape[1], value.item(), rtol=1e-4), f"{name}: PyTorch computes something else"
        np.testing.assert_allclose(d_scores, gradient.numpy().T, rtol=1e-3, atol=1e-6)
        contenders["torch:functional"] = theirs
    found = alternate(contenders, rounds=rounds)
    return _row(f"{name} {shape[0]} outputs, batch {shape[1]}", "both", found, 2.0 * scores.nbytes, "GB/s", "copy")


# Optimisers.


def _optimiser_row(name: str, n: int, torch: Any, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    optimiser = registry.find("optimiser", name)(lr=1e-4)
    params, grad, other, out, *state = _vectors(4 + len(optimiser.state), n)
    for vector in (params, grad, other):
        vector[:] = rng.standard_normal(n, np.float32)
    steps = {"t": 0}

    def ours() -> None:
        steps["t"] += 1
        optimiser.apply(params, grad, tuple(state), lr_scale=1.0, t=steps["t"])

    # The work of a limit stands in its name: bytes read and written.
    contenders: dict[str, Call] = {
        "ours": ours,
        f"limit:{8 * n} copy": lambda: copy(grad, out),
        f"limit:{12 * n} sum": lambda: add(grad, other, out),
        f"limit:{12 * n} in place": lambda: accumulate(out, grad),
        f"limit:{20 * n} two in place": lambda: accumulate_two(out, other, grad),
    }
    if torch:
        contenders |= torch_optimisers(name, optimiser, params, torch)
    found = alternate(contenders, rounds=rounds)
    # params and each row of state are read and written, the gradient is read.
    return _row(name, "step", found, 4.0 * n * (3 + 2 * len(state)), "GB/s", "plain loops")


def _correction_row(name: str, n: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    correction, sgd = registry.find("correction", name)(), Sgd(1e-4)
    params, grad, fetched, scratch, *rows = _vectors(4 + len(correction.rows), n)
    for vector in (params, grad):
        vector[:] = rng.standard_normal(n, np.float32)
    fetched[:] = params
    late = Late(params, grad, fetched if correction.amends else None, tuple(rows), (), scratch, correction.scale(7), 9)
    found = alternate(
        {
            "ours": lambda: correction.apply(sgd, late),
            "sgd": lambda: sgd.apply(params, grad, (), lr_scale=1.0, t=9),
        },
        rounds=rounds,
    )
    ours = found["ours"]
    return {
        "what": f"{name}, {n * 4 / 2**20:.0f} MiB", "pass": "push", "us": ours.median * 1e6, "p10_us": ours.p10 * 1e6,
        "p90_us": ours.p90 * 1e6, "times_sgd": ours.median / found["sgd"].median,
    }  # fmt: skip


def _vectors(number: int, n: int) -> list[npt.NDArray[np.float32]]:
    """Return vectors on cache lines, a few pages more than their length apart.

    Where separate allocations of 64 MB happen to lie is a lottery: with parameters and a row of state 128 MiB + 4 KiB
    apart every loop over three vectors, the plainest one too, fell from 55 to 30 GB/s (one thread of a 2-core EPYC).
    """
    step = -(-n // 1024) * 1024 + 17 * 1024
    buffer = np.zeros(number * step + 16, np.float32)
    first = -(buffer.ctypes.data // 4) % 16
    return [buffer[first + k * step :][:n] for k in range(number)]


# Rows and plain loops.


def _row(what: str, side: str, found: Mapping[str, Spread], work: float, unit: str, limit: str) -> dict[str, Any]:
    """Make a row of the medians. A limit whose name begins with a number did that much work, else as much as ours."""
    ours = found["ours"]
    rates = []
    for name, spread in found.items():
        kind, _, detail = name.partition(":")
        if kind == "limit":
            did = detail.partition(" ")[0]
            rates.append((float(did) if did.isdigit() else work) / spread.median / 1e9)
    rate = work / ours.median / 1e9
    row = {
        "what": what, "pass": side, "us": ours.median * 1e6, "p10_us": ours.p10 * 1e6, "p90_us": ours.p90 * 1e6,
        "rate": rate, "unit": unit, "limit": limit, "limit_rate": max(rates), "of_limit": rate / max(rates),
    }  # fmt: skip
    theirs = {name: spread.median for name, spread in found.items() if name.startswith("torch:")}
    if theirs:
        best = min(theirs, key=theirs.__getitem__)
        row |= {"torch_us": theirs[best] * 1e6, "times_torch": theirs[best] / ours.median,
                "torch_best": best.partition(":")[2]}  # fmt: skip
    return row


@njit(cache=True, nogil=True)
def dot(a, b, out):  # type: ignore[no-untyped-def]
    np.dot(a, b, out)


@njit(cache=True, nogil=True)
def copy(source, target):  # type: ignore[no-untyped-def]
    for k in range(source.size):
        target[k] = source[k]


@njit(cache=True, nogil=True)
def add(a, b, out):  # type: ignore[no-untyped-def]
    for k in range(a.size):
        out[k] = a[k] + b[k]


@njit(cache=True, nogil=True)
def accumulate(a, b):  # type: ignore[no-untyped-def]
    for k in range(a.size):
        a[k] += b[k]


@njit(cache=True, nogil=True)
def accumulate_two(a, b, c):  # type: ignore[no-untyped-def]
    for k in range(a.size):
        a[k] += c[k]
        b[k] += c[k]
