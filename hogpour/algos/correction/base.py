"""The contract of corrections: the third of the four choices that make a scheme. Decides, and does no I/O.

A parameter server asks one for every push, between "it counts" and "it is applied". The staleness of a push is the
clock of its shard now minus the clock of the fetch that its gradient was computed on. A correction may change the rate
(``scale``), or the gradient itself (``amends``); for that it is shown the parameters which the pushing node had
fetched, and rows of its own. It declares what must be remembered and holds no vector: ``fetch_history.py`` keeps it,
bounded and for members only.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from hogpour.algos.optim.base import Optimiser
from hogpour.core.limits import Checked

__all__ = ["Correction", "Late"]


@dataclass(slots=True)
class Late:
    """A push as a correction sees it. All arrays are (size,) float32, of one shard."""

    params: npt.NDArray[Any]
    """The shard's parameters, to be changed."""
    grad: npt.NDArray[Any]
    """What was pushed; read only."""
    fetched: npt.NDArray[Any] | None
    """The parameters that the gradient was computed on; read only. None: it is not late, or nobody knows them any more
    (the shard came from another server meanwhile, or the node has fetched too often since; ``fetch_history``)."""
    rows: tuple[npt.NDArray[Any], ...]
    """One for each of ``Correction.rows``, of the pushing node; zeros at its first push."""
    state: tuple[npt.NDArray[Any], ...]
    """The optimiser's rows, of the shard."""
    scratch: npt.NDArray[Any] | None
    """Memory for an amended gradient, its content means nothing; None where ``Correction.amends`` is False."""
    lr_scale: float
    """Factor of the rate: the schedule's, times what ``scale`` said."""
    t: int
    """Count of updates of the shard, this one included."""


class Correction(Checked, ABC):
    """What is done about staleness. Subclasses are frozen dataclasses. By default what comes is applied as it comes."""

    __slots__ = ()
    kind: ClassVar[str] = "correction"
    amends: ClassVar[bool] = False
    """Whether gradients are changed: then what each node fetched is kept for a while (``fetch_history``)."""
    rows: ClassVar[tuple[str, ...]] = ()
    """Vectors to remember for each node and shard, by name."""

    def remembered(self, most: int) -> int:
        """Return of how many nodes a server keeps what they fetched, at most so many."""
        return most if self.amends else 0

    def scale(self, staleness: int) -> float:
        """Return the factor of the rate for a push that is so many updates late; exactly 1 at 0."""
        del staleness
        return 1.0

    def apply(self, optimiser: Optimiser, late: Late) -> None:
        """Apply a push, amended. May run in a thread: it touches nothing but its arguments."""
        optimiser.apply(late.params, late.grad, late.state, lr_scale=late.lr_scale, t=late.t)
