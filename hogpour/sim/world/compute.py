"""How long a replica computes the gradient of one minibatch, in virtual seconds. Pure; chance is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nextafter
from typing import Annotated, Literal

import numpy as np

from hogpour.core.limits import FINITE, AboveZero, Checked, Range

__all__ = ["Compute"]

_DRAWN = 256
"""Times that are drawn at once: one alone would cost ten times as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute(Checked):
    """A model of compute times."""

    distribution: Literal["constant", "exponential", "log_normal", "pareto", "measured"] = "constant"
    """constant: always the mean. exponential: memoryless, what the laws of asynchrony are about. log_normal: what
    machines that are shared with others look like. pareto: now and then a straggler, however long one looks.
    measured: ``times_s``."""
    mean_s: AboveZero = 0.01
    """Mean of a gradient on a node of speed 1. Of ``measured`` it is that of the list."""
    sigma: Annotated[float, Range(0, 10)] = 0.5  # beyond, the mean is made by times that nobody ever draws
    """log_normal: standard deviation of the logarithm."""
    shape: Annotated[float, Range(nextafter(1, 2), FINITE, "above 1: with less, there is no mean")] = 2.5
    """pareto: the tail index: P(time > t) falls like t to the power of minus this."""
    times_s: tuple[float, ...] = ()
    """measured: seconds, drawn with replacement, each as likely as the others. Not in their order: replicas that all
    walk through one list would have their slow moments together."""
    speeds: tuple[float, ...] = (1.0,)
    """How fast nodes are, node k the (k modulo length)-th; 2.0 takes half the time."""

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.distribution == "measured" and not self.times_s:
            raise ValueError("times_s is empty, expected the seconds that were measured")
        if self.times_s and self.distribution != "measured":
            raise ValueError(f'times_s is of no use with distribution = "{self.distribution}", expected "measured"')
        for name in ("times_s", "speeds"):
            if not all(0 < number < inf for number in getattr(self, name)):
                raise ValueError(f"{name} = {getattr(self, name)}, expected finite numbers above 0")
        if not self.speeds:
            raise ValueError("speeds is empty, expected at least one number")
        if self.times_s:
            object.__setattr__(self, "mean_s", sum(self.times_s) / len(self.times_s))

    def sampler(self, node: int, rng: np.random.Generator) -> Callable[[], float]:
        """Return what draws the times of one replica of a node, one after the other."""
        speed = self.speeds[node % len(self.speeds)]
        drawn: list[float] = []

        def draw() -> float:
            if not drawn:
                drawn.extend((self._draw(rng) / speed).tolist())
            return drawn.pop()

        return draw

    def _draw(self, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        if self.distribution == "constant":
            return np.full(_DRAWN, self.mean_s)
        if self.distribution == "exponential":
            return rng.exponential(self.mean_s, _DRAWN)
        if self.distribution == "log_normal":
            return self.mean_s * rng.lognormal(-(self.sigma**2) / 2, self.sigma, _DRAWN)
        if self.distribution == "pareto":  # numpy's begins at 0; the mean of 1 + it is shape / (shape - 1)
            return self.mean_s * (self.shape - 1) / self.shape * (1 + rng.pareto(self.shape, _DRAWN))
        return rng.choice(np.array(self.times_s), _DRAWN)
