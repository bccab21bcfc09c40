"""Custom: the choices by hand, to combine what no paper has combined.

    [algorithm]
    name = "custom"
    exchange = {name = "accrue", n_push = 4, n_fetch = 4}
    correction = {name = "inverse_staleness"}
    optimiser = {name = "adagrad", lr = 0.05}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hogpour.algos.correction.base import Correction
from hogpour.algos.correction.plain import Plain
from hogpour.algos.exchange.base import Exchange, Traffic
from hogpour.algos.exchange.gradient import Gradient
from hogpour.algos.gate.base import Gate
from hogpour.algos.gate.open import Open
from hogpour.algos.schemes.base import Choices, Scheme

__all__ = ["Custom"]


@dataclass(frozen=True, kw_only=True)
class Custom(Scheme):
    """Any combination that makes sense; others are refused with the reason."""

    paper: ClassVar[str] = "–"
    summary: ClassVar[str] = "the choices by hand"

    exchange: Exchange = field(default_factory=Gradient, metadata={"kind": "exchange"})
    """What becomes of a gradient where it was computed: ``gradient``, ``accrue``, ``local``, ``elastic``;
    ``in_place``."""
    gate: Gate = field(default_factory=Open, metadata={"kind": "gate"})
    """Which gradients count, and who waits: ``open``, ``barrier``, ``quorum``, ``slack``."""
    correction: Correction = field(default_factory=Plain, metadata={"kind": "correction"})
    """What is done about staleness: ``plain``, ``inverse_staleness``, ``delay_compensation`` or
    ``adaptive_compensation``."""

    def choices(self) -> Choices:
        if self.exchange.traffic is Traffic.SUMMED:
            raise ValueError("portion sums gradients for a batch method, which is a scheme of its own; set "
                             'algorithm.name = "sandblaster"')  # fmt: skip
        return Choices(self.exchange, self.correction, self.gate)
