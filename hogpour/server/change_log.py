"""Which elements of a shard changed when, so that a node is sent what it does not have yet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hogpour.core.kernels.jit import Array, njit
from hogpour.net.sparse_form import Form, changes, nonzeros, read

__all__ = ["ChangeLog", "rehearse_sparse"]

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

    def mark(self, grad: npt.NDArray[np.float32], clock: int) -> None:
        """Say that update ``clock`` applied this gradient."""
        if clock - self._base > _MOST_UPDATES:
            self._changed[:], self._base = 0, clock
        mark_nonzeros(grad, self._changed, clock - self._base)

    def since(self, params: npt.NDArray[np.float32], clock: int) -> Form | None:
        """Return the elements that changed since the shard was at ``clock``; None: that is not known, or not shorter
        than all of them."""
        if clock < self._base:
            return None
        return changes(params, self._changed, clock - self._base)


def rehearse_sparse() -> None:
    """Send nothing in the sparse form, so that the first push need not compile: in a node, and in its server."""
    vector = np.zeros(16, np.float32)
    log = ChangeLog(vector.size, 0)
    log.mark(vector, 1)
    for form in nonzeros(vector), log.since(vector, 0), nonzeros(np.eye(1, 16, dtype=np.float32)[0]):
        assert form is not None
        read(form[1], form[0], vector)


@njit(cache=True, nogil=True)
def mark_nonzeros(grad: Array, changed: Array, update: int) -> None:
    """changed[k] = update where grad[k] is not 0."""
    now = np.int32(update)
    for k in range(grad.size):
        changed[k] = now if grad[k] != 0 else changed[k]
