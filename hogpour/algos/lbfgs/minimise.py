"""L-BFGS as a state machine without I/O: scalars in, commands on named vectors out (``commands.py``).

Whoever drives this has the shards carry out programs of few operations and hands the scalars back. The two-loop
recursion (Nocedal & Wright, algorithm 7.4) runs on the inner products of the history alone: "vector-free" L-BFGS (Chen,
Wang & Zhou 2014). With them known, a direction is one linear combination of 2m + 1 vectors, and an iteration needs one
round of new inner products, of the newest s, y and the gradient with all others.

With L1 it is OWL-QN (Andrew & Gao 2007): the direction is made of the pseudo-gradient and kept to what leads down,
trials stay in the orthant of the point, and a step counts when the objective has fallen (``orthant.py``).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

from hogpour.algos.lbfgs.commands import (
    DIRECTION,
    GRADIENT,
    MOVED,
    POINT,
    PSEUDO,
    TRIAL,
    TRIAL_GRADIENT,
    Evaluate,
    Evaluated,
    Iteration,
    Penalty,
    ResumePoint,
    first_of_history,
)
from hogpour.algos.lbfgs.line_search import TrialPoint, backtrack, search
from hogpour.core.vector_operations import Align, Combine, Dot, Largest, Magnitude, Operation, Orthant, Pseudo

__all__ = ["History", "LbfgsOptions", "Minimising", "minimise"]


@dataclass(frozen=True, slots=True)
class LbfgsOptions:
    """What a user may set."""

    memory: int = 10
    """Pairs (s, y) of the history, m."""
    iterations: int = 0
    """At most; 0: no bound."""
    gradient: float = 1e-6
    """Ends when no element of the gradient is larger."""
    decrease: float = 1e-10
    """Ends when an iteration lowers the objective by less than this, relatively."""
    c1: float = 1e-4
    c2: float = 0.9
    subsets: bool = False
    """Whether a line search looks for a step on a subset first; not with L1."""
    l1: Penalty = field(default_factory=Penalty)
    """What magnitudes cost; of factor 0: nothing."""

    @property
    def orthants(self) -> bool:
        """Whether there is L1."""
        return self.l1.factor > 0


_MOVE = (Combine(POINT, ((1.0, TRIAL),)), Combine(GRADIENT, ((1.0, TRIAL_GRADIENT),)))
"""The trial becomes the point."""

Minimising = Generator[Evaluate | list[Operation] | Iteration, Evaluated | list[float] | bool | None, str]


class History:
    """The scalars of the history: which pairs there are, and the inner products of all of them and the gradient.

    Args:
        memory: pairs at most, m.
        orthants: whether there is L1, and the gradient the pseudo-gradient.

    Attributes:
        gradient: the vector that the direction is made of, besides the pairs.
    """

    def __init__(self, memory: int, orthants: bool = False) -> None:
        self._memory, self._first = memory, first_of_history(orthants)
        self.gradient = PSEUDO if orthants else GRADIENT
        self.slots: list[int] = []
        self._products: dict[tuple[int, int], float] = {}

    def s(self, slot: int) -> int:
        """Return the number of a pair's s."""
        return self._first + slot

    def y(self, slot: int) -> int:
        """Return the number of a pair's y."""
        return self._first + self._memory + slot

    @property
    def vectors(self) -> list[int]:
        """All s and y, the oldest pair first."""
        return [self.s(k) for k in self.slots] + [self.y(k) for k in self.slots]

    def next_slot(self) -> int:
        """Return where the next pair goes; where all are taken, the oldest one is forgotten."""
        if len(self.slots) == self._memory:
            return self.slots.pop(0)
        return min(set(range(self._memory)) - set(self.slots))

    def wanted(self, new: list[int]) -> list[Dot]:
        """Return the inner products of these vectors with each other and with all of the history and the gradient."""
        others = [*self.vectors, self.gradient]
        pairs = {(min(a, b), max(a, b)): None for a in new for b in [*others, *new]}
        return [Dot(a, b) for a, b in pairs]

    def note(self, dots: list[Dot], results: list[float]) -> None:
        """Take the results of ``wanted`` in."""
        for dot, result in zip(dots, results, strict=True):
            self._products[dot.a, dot.b] = result

    def product(self, a: int, b: int) -> float:
        """Return an inner product that is known."""
        return self._products[min(a, b), max(a, b)]

    def direction(self) -> tuple[tuple[float, int], ...]:
        """Return -H g as a combination: the two-loop recursion on scalars."""
        basis = [*self.vectors, self.gradient]
        weight = dict.fromkeys(basis, 0.0)
        weight[self.gradient] = -1.0
        alpha = {}
        for slot in reversed(self.slots):
            s, y = self.s(slot), self.y(slot)
            alpha[slot] = self._with(s, weight) / self.product(s, y)
            weight[y] -= alpha[slot]
        if self.slots:  # H0 = (s'y / y'y) I of the newest pair
            s, y = self.s(self.slots[-1]), self.y(self.slots[-1])
            scale = self.product(s, y) / self.product(y, y)
            weight = {vector: scale * factor for vector, factor in weight.items()}
        for slot in self.slots:
            s, y = self.s(slot), self.y(slot)
            beta = self._with(y, weight) / self.product(s, y)
            weight[s] += alpha[slot] - beta
        return tuple((weight[vector], vector) for vector in [self.gradient, *self.vectors])

    def _with(self, vector: int, weight: dict[int, float]) -> float:
        """Return the inner product of a vector with a combination."""
        total = 0.0
        for other, factor in weight.items():
            if factor:
                total += factor * self.product(vector, other)
        return total


@dataclass(slots=True)
class _Run:
    """What changes from iteration to iteration."""

    rules: LbfgsOptions
    history: History
    number: int = 0
    value: float = math.inf
    largest: float = math.inf
    step: float = 0.0
    slope: float | None = None
    """Along ``DIRECTION``, once that is there."""

    def said(self) -> Iteration:
        state = ResumePoint(self.number, self.value, tuple(self.history.slots))
        return Iteration(self.number, self.value, self.largest, self.step, len(self.history.slots), state)


def minimise(rules: LbfgsOptions, start: ResumePoint | None = None) -> Minimising:
    """Minimise; a generator of commands that ends with why.

    It yields an ``Evaluate`` (sent: ``Evaluated``), a program (sent: its results) or an ``Iteration`` (sent: whether to
    go on). When it has ended, ``TRIAL`` is ``POINT``, the best that there is.

    Args:
        start: of a run that goes on: ``POINT``, ``GRADIENT`` and the pairs are on the shards.
    """
    run = _Run(rules, History(rules.memory, rules.orthants))
    if start is None:
        if not (yield from _begin(run)):
            return "the objective is not finite at the first point"
    else:
        yield from _resume(run, start)
    if not (yield run.said()):
        return "stopped"
    while True:
        if run.largest <= rules.gradient:
            return f"no element of the gradient is above {rules.gradient:g}"
        if rules.iterations and run.number >= rules.iterations:
            return f"{run.number} iterations were made"
        before = run.value
        reason = yield from _iterate(run)
        if reason:
            yield [Combine(TRIAL, ((1.0, POINT),))]
            return reason
        if not (yield run.said()):
            return "stopped"
        if before - run.value <= rules.decrease * abs(before):
            return f"an iteration lowered the objective by no more than {rules.decrease:g}, relatively"


def _begin(run: _Run) -> Generator[Evaluate | list[Operation], Evaluated | list[float], bool]:
    first = yield Evaluate((), (Largest(TRIAL_GRADIENT), *_magnitude(run.rules)))
    assert isinstance(first, Evaluated)
    run.value, run.largest = _value(run.rules, first), first.results[0]
    if not (math.isfinite(run.value) and math.isfinite(run.largest)):
        return False
    if run.rules.orthants:
        yield from _pseudo(run)
    yield from _products(run, [run.history.gradient], _MOVE)
    return True


def _resume(run: _Run, start: ResumePoint) -> Generator[list[Operation], list[float], None]:
    """Begin where another run ended: all inner products are asked for anew, and come out as they were."""
    run.number, run.value, run.history.slots = start.iteration, start.value, list(start.slots)
    (run.largest,) = yield [Largest(run.history.gradient)]
    yield from _products(run, [*run.history.vectors, run.history.gradient])


def _pseudo(run: _Run) -> Generator[list[Operation], list[float], None]:
    """Find the pseudo-gradient at the trial, which becomes the point."""
    l1 = run.rules.l1
    (run.largest,) = yield [Pseudo(PSEUDO, TRIAL, TRIAL_GRADIENT, l1.factor, l1.ranges), Largest(PSEUDO)]


def _magnitude(rules: LbfgsOptions) -> tuple[Operation, ...]:
    """Return what the last result of an evaluation is with L1; ``_value`` takes it in."""
    return (Magnitude(TRIAL, rules.l1.ranges),) if rules.orthants else ()


def _value(rules: LbfgsOptions, evaluated: Evaluated) -> float:
    return evaluated.value + (rules.l1.factor * evaluated.results[-1] if rules.orthants else 0.0)


def _products(
    run: _Run, new: list[int], before: tuple[Operation, ...] = (), gradient: int = GRADIENT
) -> Generator[list[Operation], list[float], None]:
    """Ask for inner products, no more at a time than an iteration does: all of a history of a hundred would take a
    server longer than it is waited for.

    Args:
        before: carried out before the first of them.
        gradient: the vector that ``GRADIENT`` will be a copy of.
    """
    dots, most = run.history.wanted(new), 3 * (2 * run.rules.memory + 1)
    asked = [Dot(_where(dot.a, gradient), _where(dot.b, gradient), dot.ranges) for dot in dots]
    for begin in range(0, len(dots), most):
        results = yield [*before, *asked[begin : begin + most]]
        run.history.note(dots[begin : begin + most], results)
        before = ()


def _where(vector: int, gradient: int) -> int:
    return gradient if vector == GRADIENT else vector


def _next_direction(
    run: _Run, before: tuple[Operation, ...] = ()
) -> Generator[list[Operation], list[float], float]:
    """Find the direction of the next iteration; return the slope along it."""
    history, rules = run.history, run.rules
    aligned = (Align(DIRECTION, PSEUDO, rules.l1.ranges),) if rules.orthants else ()
    combined = Combine(DIRECTION, history.direction())
    (slope,) = yield [*before, combined, *aligned, Dot(DIRECTION, history.gradient)]
    return slope


def _iterate(run: _Run) -> Generator[Evaluate | list[Operation], Evaluated | list[float], str]:
    """Make one iteration; return why there can be none, or nothing."""
    history, rules = run.history, run.rules
    while True:
        found, gradient = None, math.inf
        slope = (yield from _next_direction(run)) if run.slope is None else run.slope
        run.slope = None
        if slope < 0 and math.isfinite(slope):
            step = 1.0 if history.slots else min(1.0, 1.0 / math.sqrt(history.product(*[history.gradient] * 2)))
            first = (yield from _propose(run, step)) if rules.subsets else step
            found, gradient = yield from _along(rules, run.value, slope, first)
            if found is None and first != step:  # the subset is to blame before the history is
                found, gradient = yield from _along(rules, run.value, slope, step)
        if found is not None:
            yield from _accept(run, found, gradient)
            return ""
        if not history.slots:
            return "no step along the negative gradient lowers the objective"
        history.slots.clear()  # perhaps the history is to blame


def _propose(run: _Run, step: float) -> Generator[Evaluate, Evaluated, float]:
    """Return the step to try first on the whole batch: one that is good on the subset of this iteration."""
    here = yield Evaluate((Combine(TRIAL, ((1.0, POINT),)),), (Dot(TRIAL_GRADIENT, DIRECTION),), run.number)
    slope = here.results[0]
    if not (math.isfinite(here.value) and -math.inf < slope < 0):
        return step
    found, _ = yield from _along(run.rules, here.value, slope, step, run.number)
    return step if found is None else found.step


def _along(
    rules: LbfgsOptions, value: float, slope: float, step: float, subset: int | None = None
) -> Generator[Evaluate, Evaluated, tuple[TrialPoint | None, float]]:
    """Search along the direction, where the objective has this value and slope; return the trial that was found, which
    is the last one that was evaluated, and the largest magnitude in its gradient."""
    gradient = math.inf
    if rules.orthants:
        searching = backtrack(value, step, rules.c1)
        kept: tuple[Operation, ...] = (Orthant(TRIAL, POINT, PSEUDO, rules.l1.ranges),)
        judged: tuple[Operation, ...] = (Combine(MOVED, ((1.0, TRIAL), (-1.0, POINT))), Dot(MOVED, PSEUDO))
    else:
        searching, kept, judged = search(value, slope, step, rules.c1, rules.c2), (), (Dot(TRIAL_GRADIENT, DIRECTION),)
    try:
        step = next(searching)
        while True:
            tried = yield Evaluate(
                (Combine(TRIAL, ((1.0, POINT), (step, DIRECTION))), *kept),
                (*judged, Largest(TRIAL_GRADIENT), *_magnitude(rules)),
                subset,
            )
            gradient = tried.results[1]
            step = searching.send((_value(rules, tried), tried.results[0]))
    except StopIteration as end:
        return end.value, gradient


def _accept(run: _Run, found: TrialPoint, gradient: float) -> Generator[list[Operation], list[float], None]:
    """Make a trial the point of this iteration, and a pair of what changed."""
    history = run.history
    slot = history.next_slot()
    s, y = history.s(slot), history.y(slot)
    pair = (
        Combine(s, ((1.0, TRIAL), (-1.0, POINT))),
        Combine(y, ((1.0, TRIAL_GRADIENT), (-1.0, GRADIENT))),
    )
    run.number, run.value, run.largest, run.step = run.number + 1, found.value, gradient, found.step
    if run.rules.orthants:
        yield from _pseudo(run)
    yield from _products(run, [s, y, history.gradient], pair, TRIAL_GRADIENT)
    if history.product(s, y) > 1e-10 * math.sqrt(history.product(s, s) * history.product(y, y)):
        history.slots.append(slot)
    elif not run.rules.orthants:
        # No curvature that an update could use, which Wolfe's conditions should have seen to: the rest of the history
        # is of another place. A step of OWL-QN promises none, and is left out.
        history.slots.clear()
    run.slope = yield from _next_direction(run, _MOVE)
