"""Linear models of one unit, an example at a time: Hogwild! as its paper has it (Niu et al. 2011, Algorithm 1).

What makes a non-zero cost some 2 ns: no call of Python, the data of the next example but one asked for ahead,
four partial sums, one logarithm for eight examples, and frequent rows in memory of the replica's own (``shm/head.py``).
Kernels alone, one process, SGD, millions of non-zeros a second: IMDB 355 → 413 by slices and the logarithm → 562 by
asking ahead; a9a 122 → 142 → 257. Asking ahead for the weights instead of the data was slower: IMDB 316 → 250 and
a9a 112 → 87, with the time to shuffle.
"""

from __future__ import annotations

import numpy as np

from hogpour.algos.optim.adagrad import Adagrad
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.ftrl import Ftrl
from hogpour.algos.optim.sgd import Sgd
from hogpour.algos.sweeps.base import Sweep
from hogpour.algos.sweeps.parts import LOGS, adagrad, ask_for_data, ftrl, hinge, logistic, sgd, squared_error
from hogpour.core.kernels.jit import njit
from hogpour.core.kernels.vector import vector_merge
from hogpour.layers.base import Loss
from hogpour.layers.kernels.sparse import row_dot
from hogpour.layers.losses.hinge import Hinge
from hogpour.layers.losses.logistic import Logistic
from hogpour.layers.losses.squared_error import SquaredError
from hogpour.layers.sparse_linear import SparseLinear

__all__ = ["sweep"]

_AHEAD = 2
"""Examples ahead whose data are asked for."""


def sweep(layer: SparseLinear, loss: Loss, rule: Optimiser) -> Sweep | None:
    """Return the loop for a loss and a rule; None: there is none."""
    kernel = _KERNELS.get((type(loss), type(rule)))
    if layer.units != 1 or kernel is None:
        return None
    if isinstance(rule, Ftrl):
        return Sweep(kernel, lambda scale: (rule.lr * scale, rule.beta, rule.l1, rule.l2))
    return Sweep(kernel, lambda scale: (rule.lr * scale,))


def _loop_of(slope_of, step):
    """Return the loop for a loss and a rule. Made here and not given both as arguments: numba keeps no kernel that
    passes a function."""

    @njit(error_model="numpy")  # x / 0 is a number, no exception
    def loop(data, live, rates, heads, merge_every):
        """See ``base.Sweep.run``, which packs the arguments."""
        indptr, indices, values, targets, order = data
        weight, _, bias, row_states, bias_states = live
        one = weight.dtype.type(1)
        loss, product, right = 0.0, 1.0, 0
        for q in range(order.size):
            row = order[q]
            ask_for_data(indptr, indices, values, order, q + _AHEAD)
            features = indices[indptr[row] : indptr[row + 1]]
            own = values[indptr[row] : indptr[row + 1]] if values.size else values
            score = row_dot(weight, features, own)
            if bias.size:
                score += bias[0]
            slope, least, e, hit = slope_of(score, targets[row], one)
            right += hit
            loss += least
            product *= 1.0 + e
            if q % LOGS == LOGS - 1:
                loss += np.log(product)
                product = 1.0
            if own.size:
                for k in range(features.size):
                    step(features[k], slope * own[k], weight, row_states, rates)
            else:
                for k in range(features.size):
                    step(features[k], slope, weight, row_states, rates)
            if bias.size:
                step(0, slope, bias, bias_states, rates)
            if merge_every and q % merge_every == merge_every - 1:
                for head in heads:
                    vector_merge(head[0], head[1], head[2])
        if merge_every:
            for head in heads:
                vector_merge(head[0], head[1], head[2])
        return loss + np.log(product), right

    return loop


# A function apart for each pair: numba keeps those compiled that have a name, and none that was made at run time.


_logistic_sgd = _loop_of(logistic, sgd)


@njit(cache=True, nogil=True)
def logistic_sgd(data, live, rates, heads, merge_every):
    return _logistic_sgd(data, live, rates, heads, merge_every)


_logistic_adagrad = _loop_of(logistic, adagrad)


@njit(cache=True, nogil=True)
def logistic_adagrad(data, live, rates, heads, merge_every):
    return _logistic_adagrad(data, live, rates, heads, merge_every)


_logistic_ftrl = _loop_of(logistic, ftrl)


@njit(cache=True, nogil=True)
def logistic_ftrl(data, live, rates, heads, merge_every):
    return _logistic_ftrl(data, live, rates, heads, merge_every)


_hinge_sgd = _loop_of(hinge, sgd)


@njit(cache=True, nogil=True)
def hinge_sgd(data, live, rates, heads, merge_every):
    return _hinge_sgd(data, live, rates, heads, merge_every)


_hinge_adagrad = _loop_of(hinge, adagrad)


@njit(cache=True, nogil=True)
def hinge_adagrad(data, live, rates, heads, merge_every):
    return _hinge_adagrad(data, live, rates, heads, merge_every)


_hinge_ftrl = _loop_of(hinge, ftrl)


@njit(cache=True, nogil=True)
def hinge_ftrl(data, live, rates, heads, merge_every):
    return _hinge_ftrl(data, live, rates, heads, merge_every)


_squared_error_sgd = _loop_of(squared_error, sgd)


@njit(cache=True, nogil=True)
def squared_error_sgd(data, live, rates, heads, merge_every):
    return _squared_error_sgd(data, live, rates, heads, merge_every)


_squared_error_adagrad = _loop_of(squared_error, adagrad)


@njit(cache=True, nogil=True)
def squared_error_adagrad(data, live, rates, heads, merge_every):
    return _squared_error_adagrad(data, live, rates, heads, merge_every)


_squared_error_ftrl = _loop_of(squared_error, ftrl)


@njit(cache=True, nogil=True)
def squared_error_ftrl(data, live, rates, heads, merge_every):
    return _squared_error_ftrl(data, live, rates, heads, merge_every)


_KERNELS = {
    (Logistic, Sgd): logistic_sgd,
    (Logistic, Adagrad): logistic_adagrad,
    (Logistic, Ftrl): logistic_ftrl,
    (Hinge, Sgd): hinge_sgd,
    (Hinge, Adagrad): hinge_adagrad,
    (Hinge, Ftrl): hinge_ftrl,
    (SquaredError, Sgd): squared_error_sgd,
    (SquaredError, Adagrad): squared_error_adagrad,
    (SquaredError, Ftrl): squared_error_ftrl,
}
