"""The strong Wolfe line search of a batch method: one trial at a time, on scalars alone.

Nocedal & Wright, Numerical Optimization, 2nd ed., algorithms 3.5 (bracket) and 3.6 (zoom), cubic interpolation with
safeguards (eq. 3.59). Dean et al. 2012 state no constants; c1 = 1e-4 and c2 = 0.9 are the usual ones.

Near the optimum a decrease drowns in the rounding of float32 activations, and the first condition can no longer be
judged. There a step also counts as good where the objective is what it was but for that noise, and the slopes say that
it fell (the approximate Wolfe conditions of Hager & Zhang 2005, eq. 4.1 and 4.3); and there the slopes alone say on
which side of a trial such a step lies.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

__all__ = ["TrialPoint", "backtrack", "search"]

_TRIALS = 25
_GROWTH = 4.0
"""At most so many times a step without an upper bound yet."""

_NOISE = 1e-9
"""Of the objective, relative: means of float32 losses over a batch agree to about so much."""

Searching = Generator[float, "tuple[float, float]", "TrialPoint | None"]


@dataclass(frozen=True, slots=True)
class TrialPoint:
    """A point on the line."""

    step: float
    value: float
    """Objective there; infinite where it is not finite."""
    slope: float
    """Its derivative along the line."""


def search(value: float, slope: float, step: float, c1: float, c2: float) -> Searching:
    """Find a step; a generator that yields steps to try and is sent their (objective, slope).

    The trial that was sent last is the one that is returned, so that its parameters and gradient are there.

    Args:
        value, slope: at step 0; the slope is below 0.
        step: to try first.
        c1, c2: of the conditions, 0 < c1 < c2 < 1.

    Returns:
        The step found; None where there is none.
    """
    start = TrialPoint(0.0, value, slope)
    noise = _NOISE * abs(value)
    low, high = start, None
    for _ in range(_TRIALS):
        f, g = yield step
        trial = TrialPoint(step, f if math.isfinite(f) else math.inf, g)
        finite = trial.value < math.inf and math.isfinite(g)
        decrease = trial.value <= value + c1 * step * slope
        near = finite and abs(trial.value - value) <= noise
        flat = near and abs(low.value - value) <= noise
        if (finite and decrease and abs(g) <= -c2 * slope) or (near and (2 * c1 - 1) * slope >= g >= c2 * slope):
            return trial
        if flat:  # values say nothing here, slopes do
            between = g * (1.0 if high is None else high.step - low.step) >= 0
        else:
            between = not finite or not decrease or trial.value >= low.value
        if between:  # what is looked for lies between low and this trial
            high = trial
        elif high is None and g < 0:
            wanted = _wanted(low, trial, noise)
            low = trial
            step = min(max(wanted, 1.1 * step), _GROWTH * step) if math.isfinite(wanted) else 2 * step
            continue
        elif high is None:
            low, high = trial, low
        else:
            if g * (high.step - low.step) >= 0:
                high = low
            low = trial
        step = _between(low, high, noise)
        if not step > 0 or step in (low.step, high.step):
            return None
    return None


def backtrack(value: float, step: float, c1: float) -> Searching:
    """Find a step for OWL-QN, as ``search``: halved until the objective falls enough (Andrew & Gao 2007, section 3.3).

    It is sent (objective, what the pseudo-gradient promises of the way to the trial): where elements of a trial were
    set to 0 that is no longer the step times the slope.
    """
    for _ in range(_TRIALS):
        f, promised = yield step
        if f <= value + c1 * promised and promised < 0:
            return TrialPoint(step, f, promised)
        step *= 0.5
    return None


def _wanted(a: TrialPoint, b: TrialPoint, noise: float) -> float:
    """Return where the slope is expected to be 0, by values that differ by more than noise or by slopes alone."""
    if abs(a.value - b.value) > noise:
        return _cubic(a, b)
    bend = (b.slope - a.slope) / (b.step - a.step) if a.step != b.step else math.nan
    return b.step - b.slope / bend if bend > 0 else math.nan


def _cubic(a: TrialPoint, b: TrialPoint) -> float:
    """Return the minimiser of the cubic through two points; NaN where it has none."""
    if b.value == math.inf or a.step == b.step:
        return math.nan
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    inside = d1 * d1 - a.slope * b.slope
    if not inside >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(inside), b.step - a.step)
    below = b.slope - a.slope + 2 * d2
    return b.step - (b.step - a.step) * (b.slope + d2 - d1) / below if below else math.nan


def _between(low: TrialPoint, high: TrialPoint, noise: float) -> float:
    """Return a step inside of an interval, not too near to its ends."""
    if high.value == math.inf:  # nothing is known of that end
        return low.step + 0.1 * (high.step - low.step)
    wanted, width = _wanted(low, high, noise), high.step - low.step
    a, b = sorted((low.step + 0.1 * width, low.step + 0.9 * width))
    return min(max(wanted, a), b) if math.isfinite(wanted) else low.step + 0.5 * width
