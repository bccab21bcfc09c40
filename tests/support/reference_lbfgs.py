"""The ruler of batch methods: serial L-BFGS, written a second time on numpy arrays, to hold Sandblaster against.

Same kernels of layers and losses, same blocks, same line search; no shards, no messages, no programs. The inner products
are exact sums by ``math.fsum``, the sums of blocks are Python integers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.lbfgs.commands import Penalty
from hogpour.algos.lbfgs.line_search import search
from hogpour.algos.schemes.sandblaster import Sandblaster, penalty, rules
from hogpour.data.blocks import Blocks
from hogpour.sim.world.workload import Workload

Floats = npt.NDArray[np.float32]


def dot(a: Floats, b: Floats) -> float:
    """The inner product: lines of 16 in the stated order, their sums exactly."""
    p = (a.astype(np.float64) * b.astype(np.float64)).reshape(-1, 2, 2, 4)
    q = p[:, :, 0] + p[:, :, 1]  # k and k + 4
    halves = (q[:, :, 0] + q[:, :, 2]) + (q[:, :, 1] + q[:, :, 3])
    return math.fsum((0.0 + halves[:, 0]) + halves[:, 1])


class Objective:
    """The objective of a job, evaluated as Sandblaster does."""

    def __init__(self, workload: Workload) -> None:
        job = workload.job
        assert isinstance(job.algorithm, Sandblaster)
        self.job, self.workload, self.n = job, workload, len(workload.x)
        self.blocks = Blocks(self.n, job.batch, 1, job.epochs, job.algorithm.blocks)
        self.penalty = penalty(job.algorithm, workload.network.spec)
        self.l1 = rules(job.algorithm, workload.network.spec).l1
        self.assumed, self.evaluations = 1.0, 0

    def __call__(self, w: Floats, subset: int | None = None) -> tuple[float, Floats]:
        chosen, n = range(self.blocks.n_blocks), self.blocks.n_blocks
        if subset is not None:
            count = round(self.job.algorithm.subset * n)  # type: ignore[attr-defined]
            chosen = sorted({(subset + k * n // count) % n for k in range(count)})
            assert len(chosen) == count
        size = self.blocks.block_size
        factor = self.penalty.factor * (sum(min(size, self.n - k * size) for k in chosen) / self.n)
        blocks = [self.block(w, block) for block in chosen]
        self.evaluations += 1
        largest = max(float(np.abs(gradient).max()) for gradient, _ in blocks)
        room = math.frexp(self.assumed)[1] + 10
        grid = 2.0 ** (room + (n - 1).bit_length() - 62)
        fits = 2.0**room >= largest >= self.assumed * 2.0**-18 or largest == 0
        self.assumed = max(largest, 2.0**-149)
        if not fits:
            return self(w, subset)
        total = sum(np.rint(gradient.astype(np.float64) / grid).astype(np.int64) for gradient, _ in blocks)
        exact = total.astype(np.float64) * grid
        squares = 0.0
        if self.penalty.factor:
            mask = mask_of(self.penalty, w.size)
            exact[mask] += factor * w[mask].astype(np.float64)
            squares = dot(np.where(mask, w, np.float32(0)), np.where(mask, w, np.float32(0)))
        value = math.fsum(loss for _, loss in blocks) / self.n + 0.5 * factor * squares
        return value, exact.astype(np.float32)

    def within(self, w: Floats, subset: int | None) -> tuple[float, Floats]:
        """Evaluate, if one more may be made."""
        if self.evaluations == self.job.epochs:
            raise NoMoreEvaluations
        return self(w, subset)

    def block(self, w: Floats, block: int) -> tuple[Floats, float]:
        workload, job = self.workload, self.job
        start = block * self.blocks.block_size
        stop = min(start + self.blocks.block_size, self.n)
        total, loss = np.zeros_like(w), 0.0
        for at in range(start, stop, job.batch):
            chosen = np.arange(at, min(at + job.batch, stop))
            workspace = workload.network.workspace(len(chosen), w)
            workspace.x[...] = np.moveaxis(workload.x[chosen].reshape(-1, *workload.network.input_shape), 0, -1)
            workspace.forward()
            loss += float(job.loss.apply(workspace.scores, workload.y[chosen], workspace.d_scores)[0])
            workspace.backward()
            part = np.float32(len(chosen) / self.n) * workspace.grad
            total = part if at == start else total + part
        return total, loss


def minimise(workload: Workload) -> tuple[Floats, list[float]]:
    """Return the parameters at the end, and the objective after each iteration."""
    objective = Objective(workload)
    if objective.l1.factor:
        return minimise_with_l1(objective)
    scheme: Any = workload.job.algorithm
    x = workload.params.copy()
    f, g = objective(x)
    values, pairs = [f], list[tuple[Floats, Floats]]()
    while float(np.abs(g).max()) > scheme.gradient and not (scheme.iterations and len(values) > scheme.iterations):
        d = combine(two_loop(pairs, g))
        slope = dot(d, g)
        usual = first = 1.0 if pairs else min(1.0, 1 / math.sqrt(dot(g, g)))
        try:
            if scheme.subset < 1:
                number = len(values) - 1
                value, h = objective.within(x, number)
                if dot(h, d) < 0:
                    proposed = along(objective, x, d, value, dot(h, d), first, number)[0]
                    first = first if proposed is None else proposed.step
            found, t, value, h = along(objective, x, d, f, slope, first)
            if found is None and first != usual:
                found, t, value, h = along(objective, x, d, f, slope, usual)
        except NoMoreEvaluations:
            return x, values
        if found is None:
            if not pairs:
                return x, values
            pairs.clear()
            continue
        if len(pairs) == scheme.memory:
            del pairs[0]
        s, y = t - x, h - g
        pairs.append((s, y))
        if not dot(s, y) > 1e-10 * math.sqrt(dot(s, s) * dot(y, y)):
            pairs.clear()
        before, x, g, f = f, t, h, value
        values.append(f)
        if before - f <= scheme.decrease * abs(before):
            break
    return x, values


def minimise_with_l1(objective: Objective) -> tuple[Floats, list[float]]:
    """OWL-QN (Andrew & Gao 2007); as ``minimise``."""
    scheme: Any = objective.job.algorithm
    chosen, c = mask_of(objective.l1, objective.workload.params.size), objective.l1.factor

    def whole(w: Floats, evaluate: Any = objective) -> tuple[float, Floats]:
        value, gradient = evaluate(w)
        return value + c * math.fsum(np.abs(w[chosen]).astype(np.float64)), gradient

    def pseudo(w: Floats, g: Floats) -> Floats:
        left, right = g.astype(np.float64) - c, g.astype(np.float64) + c
        at_zero = np.where(right < 0, right, np.where(left > 0, left, 0.0))
        found = np.where(w > 0, right, np.where(w < 0, left, at_zero)).astype(np.float32)
        return np.where(chosen, found, g)

    x = objective.workload.params.copy()
    f, g = whole(x)
    p = pseudo(x, g)
    values, pairs = [f], list[tuple[Floats, Floats]]()
    while float(np.abs(p).max()) > scheme.gradient and not (scheme.iterations and len(values) > scheme.iterations):
        d = combine(two_loop(pairs, p))
        d[chosen & (np.sign(d) != -np.sign(p))] = 0
        orthant = np.where(x != 0, np.sign(x), -np.sign(p))
        step, found = 1.0 if pairs else min(1.0, 1 / math.sqrt(dot(p, p))), False
        for _ in range(25 if dot(d, p) < 0 else 0):
            t = combine([(1.0, x), (step, d)])
            t[chosen & (np.sign(t) != orthant)] = 0
            try:
                value, h = whole(t, lambda w: objective.within(w, None))
            except NoMoreEvaluations:
                return x, values
            promised = dot(t - x, p)
            found = value <= f + 1e-4 * promised and promised < 0
            if found:
                break
            step *= 0.5
        if not found:
            if not pairs:
                return x, values
            pairs.clear()
            continue
        if len(pairs) == scheme.memory:
            del pairs[0]
        s, y = t - x, h - g
        if dot(s, y) > 1e-10 * math.sqrt(dot(s, s) * dot(y, y)):
            pairs.append((s, y))
        before, x, g, f = f, t, h, value
        p = pseudo(x, g)
        values.append(f)
        if before - f <= scheme.decrease * abs(before):
            break
    return x, values


def mask_of(penalty: Penalty, size: int) -> npt.NDArray[np.bool_]:
    """Return which elements are regularised."""
    mask = np.zeros(size, bool)
    for start, stop in penalty.ranges:
        mask[start:stop] = True
    return mask


class NoMoreEvaluations(Exception):
    """As many were made as the job says."""


def along(
    objective: Objective, x: Floats, d: Floats, f: float, slope: float, step: float, subset: int | None = None
) -> tuple[Any, Floats, float, Floats]:
    """Search along a direction; return what was found, and the last trial with its value and gradient."""
    searching = search(f, slope, step, 1e-4, 0.9)
    try:
        step = next(searching)
        while True:
            t = combine([(1.0, x), (step, d)])
            value, h = objective.within(t, subset)
            step = searching.send((value, dot(h, d)))
    except StopIteration as end:
        return end.value, t, value, h


def combine(terms: list[tuple[float, Floats]]) -> Floats:
    total = terms[0][0] * terms[0][1].astype(np.float64)
    for factor, vector in terms[1:]:
        total = total + factor * vector.astype(np.float64)
    return total.astype(np.float32)


def two_loop(pairs: list[tuple[Floats, Floats]], g: Floats) -> list[tuple[float, Floats]]:
    """The direction as a combination of g, all s and all y: vector-free, on a matrix of inner products."""
    k = len(pairs)
    basis = [*(s for s, _ in pairs), *(y for _, y in pairs), g]
    gram = [[dot(a, b) for b in basis] for a in basis]
    weight = [0.0] * (2 * k) + [-1.0]

    def product(i: int) -> float:
        total = 0.0
        for j, w in enumerate(weight):
            if w:
                total += w * gram[j][i]
        return total

    alpha = [0.0] * k
    for i in reversed(range(k)):
        alpha[i] = product(i) / gram[i][k + i]
        weight[k + i] -= alpha[i]
    if k:
        scale = gram[k - 1][2 * k - 1] / gram[2 * k - 1][2 * k - 1]
        weight = [scale * w for w in weight]
    for i in range(k):
        beta = product(k + i) / gram[i][k + i]
        weight[i] += alpha[i] - beta
    return [(weight[-1], g), *zip(weight[:-1], basis[:-1], strict=True)]
