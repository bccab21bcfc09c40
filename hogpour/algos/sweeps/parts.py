"""What loops over examples are made of: the slope of a loss at one score, the step of a rule on one element or several.

    slope_of(score, target, one) -> slope, a, e, right      loss = a + log(1 + e), of which logarithms are multiplied up
    step(k, g, w, states, rates)                            w[k], or WIDTH elements from there on, after gradient g
"""

from __future__ import annotations

from hogpour.algos.optim.adagrad import adagrad_step
from hogpour.algos.optim.ftrl import ftrl_step
from hogpour.algos.optim.sgd import sgd_step
from hogpour.core.kernels.jit import njit
from hogpour.layers.kernels.simd import simd_load, simd_store
from hogpour.layers.kernels.tile import LANES, prefetch
from hogpour.layers.losses.hinge import hinge_slope
from hogpour.layers.losses.logistic import logistic_slope

__all__ = ["LOGS", "adagrad", "adagrad_simd", "ask_for_data", "ftrl", "hinge", "logistic", "sgd", "sgd_simd",
           "squared_error"]  # fmt: skip

LOGS = 8
"""Examples whose 1 + e, each at most 2, are multiplied before a logarithm is taken."""


@njit(inline="always")
def logistic(score, target, one):
    slope, least, e = logistic_slope(score, target == 1, one)
    return slope, least, e, (score > 0) == (target == 1)


@njit(inline="always")
def hinge(score, target, one):
    slope, short = hinge_slope(score, target == 1, one)
    return slope, short, one - one, (score > 0) == (target == 1)


@njit(inline="always")
def squared_error(score, target, one):
    error = score - target[0]
    return error, 0.5 * error * error, one - one, False


@njit(inline="always")
def sgd(k, g, w, states, rates):
    w[k] = sgd_step(w[k], g, rates[0])


@njit(inline="always")
def adagrad(k, g, w, states, rates):
    w[k], states[0][k] = adagrad_step(w[k], g, states[0][k], rates[0])


@njit(inline="always")
def ftrl(k, g, w, states, rates):
    if g != 0:
        lr, beta, l1, l2 = rates
        w[k], states[0][k], states[1][k] = ftrl_step(w[k], g, states[0][k], states[1][k], lr, beta, l1, l2)


@njit(inline="always")
def sgd_simd(k, g, w, states, rates):
    simd_store(sgd_step(simd_load(w, k), g, rates[0]), w, k)


@njit(inline="always")
def adagrad_simd(k, g, w, states, rates):
    stepped, seen = adagrad_step(simd_load(w, k), g, simd_load(states[0], k), rates[0])
    simd_store(seen, states[0], k)
    simd_store(stepped, w, k)


@njit(inline="always")
def ask_for_data(indptr, indices, values, order, q):
    """Ask for the data of an example that comes soon: order[q], where there is one."""
    if q < order.size:
        soon = order[q]
        for k in range(indptr[soon], indptr[soon + 1], LANES):
            prefetch(indices, k)
        if values.size:
            for k in range(indptr[soon], indptr[soon + 1], LANES):
                prefetch(values, k)
