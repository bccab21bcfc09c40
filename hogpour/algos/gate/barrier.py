"""Barrier: a step is made of one gradient of every origin, or of all but the slowest few.

Synchronous SGD, and with backups that of Chen, Pan, Monga, Bengio, Jozefowicz 2016 (section 3, Algorithms 3 and 4): of
N + b workers the first N gradients of a step are averaged and applied, the b others are dropped when they arrive.

    w(t+1) = w(t) - lr/N · Σ of the N gradients computed on w(t)

What the paper leaves open, and what we do:

- *Who is N + b.* Whoever is present when the step is decided: nodes join and leave, and at the end of the data some
  have none left. So b is given, and N is the rest, at least 1. Those that have no data left count as zero gradients:
  the rate is divided by the N of everybody (``gatekeeper``).
- *What becomes of the examples of a dropped gradient.* They are used up; their worker goes on with the current step,
  as in the paper. How many were dropped is counted and told. What is dropped of a scheme with local steps is a whole
  round: its worker begins the next one at the parameters of all, where that of DiLoCo (section on dropped
  communication) goes on from its own.
- *What counts as a gradient.* Each push, whatever it is made of: the last, shorter batch of an epoch counts like a
  whole one, and a round of local steps that was cut short like a full one. The mean is over origins, not examples.
- *The order of the sum*, which decides its last bits, is that of the origins' numbers and not that of their arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.gate.base import Gate
from hogpour.core.limits import Natural

__all__ = ["Barrier"]


@dataclass(frozen=True, slots=True)
class Barrier(Gate):
    """All but ``backups``."""

    holds: ClassVar[bool] = True
    counts_late: ClassVar[bool] = False

    backups: Natural = 0
    """Origins that no step waits for; so many may die without a step being held up."""

    def needed(self, present: int) -> int:
        return max(1, present - self.backups)
