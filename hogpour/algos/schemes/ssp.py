"""Stale Synchronous Parallel: asynchronous, but nobody gets more than s clocks ahead of the slowest.

Ho et al., "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server", 2013. ``gate/slack.py``
has the rule. A clock is ``clock_steps`` minibatches, whose accrued gradient is pushed at its end.

The bound is the paper's, its cache is not here: a read within the bound costs the network nothing there, while here
every clock ends with a push and a fetch of everything, for which the replica waits. And with several replicas on a node
nobody is sure to read what it wrote: a landing that one asks for undoes the steps of the others that are not pushed yet
(``exchange/accrue.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.exchange.accrue import Accrue
from hogpour.algos.gate.slack import Slack
from hogpour.algos.schemes.base import Choices, Scheme
from hogpour.core.limits import Count, Natural

__all__ = ["Ssp"]


@dataclass(frozen=True, kw_only=True)
class Ssp(Scheme):
    """s = 0 is bulk-synchronous; without end it is Downpour."""

    paper: ClassVar[str] = "Ho et al. 2013"
    summary: ClassVar[str] = "asynchronous within bounds: the fastest waits where it is s clocks ahead of the slowest"

    s: Natural = 3
    """Clocks."""
    clock_steps: Count = 1
    """Minibatches of a clock; the only replica of a node reads its own writes meanwhile."""

    def choices(self) -> Choices:
        return Choices(Accrue(self.clock_steps, self.clock_steps), gate=Slack(self.s))
