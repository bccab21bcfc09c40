"""Gradients that name a few elements of a shard, and which elements changed when: a node is sent what it lacks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hogpour.algos.optim.base import Optimiser
from hogpour.core.kernels.jit import Array, njit
from hogpour.net.sparse_form import Elements, Form, changes, nonzeros, read

__all__ = ["ChangeLog", "apply_elements", "rehearse_sparse"]

_MOST_UPDATES = 2**31 - 1


class ChangeLog:
    """The updates that last changed each element, from the moment on when somebody first asked.

    Only for rules by which a gradient of 0 changes nothing, and corrections that leave such a gradient as it is.

    Args:
        size: elements of the shard.
        clock: updates that are in it now.
    """

    __slots__ = ("_base", "_changed")

    def __init__(self, size: int, clock: int) -> None:
        self._base, self._changed = clock, np.zeros(size, np.int32)

    def mark(self, grad: npt.NDArray[np.float32] | Elements, clock: int) -> None:
        """Say that update ``clock`` applied this gradient."""
        if clock - self._base > _MOST_UPDATES:
            self._changed[:], self._base = 0, clock
        if isinstance(grad, Elements):
            self._changed[grad.places] = clock - self._base
        else:
            mark_nonzeros(grad.view(np.int32), self._changed, clock - self._base)

    def since(self, params: npt.NDArray[np.float32], clock: int) -> Form | None:
        """Return the elements that changed since the shard was at ``clock``; None: that is not known, or not shorter
        than all of them."""
        if clock < self._base:
            return None
        return changes(params, self._changed, clock - self._base)


def apply_elements(
    optimiser: Optimiser,
    params: npt.NDArray[np.float32],
    grad: Elements,
    state: Sequence[npt.NDArray[np.float32]],
    lr_scale: float,
) -> None:
    """Apply a gradient to the elements that it names, as rows of one element each."""
    rows = tuple(row[:, None] for row in state)
    optimiser.apply_rows(params[:, None], grad.places, grad.values[:, None], rows, lr_scale=lr_scale)


def rehearse_sparse(optimiser: Optimiser) -> None:
    """Send nothing in the sparse form, so that the first push need not compile: in a node, and in its server.

    Args:
        optimiser: of the server.
    """
    vector = np.zeros(16, np.float32)
    if optimiser.by_rows:
        values = np.zeros(1, np.float32)
        for value in values, np.frombuffer(values.tobytes(), np.float32):  # what has come may not be written
            state = [vector.copy() for _ in optimiser.state]
            apply_elements(optimiser, vector.copy(), Elements(np.zeros(1, np.uint32), value), state, 1.0)
    log = ChangeLog(vector.size, 0)
    log.mark(vector, 1)
    for form in nonzeros(vector), log.since(vector, 0), nonzeros(np.eye(1, 16, dtype=np.float32)[0]):
        assert form is not None
        read(form[1], form[0], vector)


@njit(cache=True, nogil=True)
def mark_nonzeros(bits: Array, changed: Array, update: int) -> None:
    """changed[k] = update where bits[k], those of a gradient, are not 0. A zero with a sign is no zero here: SGD makes
    0 of -0 by it."""
    now = np.int32(update)
    for k in range(bits.size):
        changed[k] = now if bits[k] != 0 else changed[k]
