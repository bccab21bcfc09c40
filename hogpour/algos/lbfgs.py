"""L-BFGS as a state machine without I/O: scalars in, commands on named vectors out.

The vectors are kept on the shards (``VECTORS``, then the history); whoever drives this has the shards carry out
programs of few operations and hands the scalars back. The two-loop recursion (Nocedal & Wright, algorithm 7.4) runs on
the inner products of the history alone: "vector-free" L-BFGS (Chen, Wang & Zhou 2014). With them known, a direction is
one linear combination of 2m + 1 vectors, and an iteration needs one round of new inner products, of the newest s, y and
the gradient with all others.

Every program may be carried out twice: it writes nothing that an earlier operation of it, or its own second run, reads
otherwise. So a lost answer costs a repetition, and shards need not remember what they did.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace

from hogpour.algos.line_search import Trial, search
from hogpour.algos.optim.base import Optimiser, Row

__all__ = ["DIRECTION", "GRADIENT", "POINT", "TRIAL", "TRIAL_GRADIENT", "Combine", "Dot", "Evaluate", "Evaluated",
           "History", "Iteration", "Largest", "Operation", "Penalty", "Rules", "Start", "Vectors", "minimise",
           "vector_names"]  # fmt: skip

TRIAL, POINT, GRADIENT, TRIAL_GRADIENT, DIRECTION = range(5)
"""Vectors of a shard by number: where the objective is evaluated (what nodes fetch), the point of the last iteration,
the gradients at the two, the direction. Behind them s and y of the pairs of the history, all s first."""

_FIXED = 5


@dataclass(frozen=True, slots=True)
class Combine:
    """out = sum of factor · vector, in this order."""

    out: int
    terms: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """The inner product of two vectors, in ranges of the model's vector; None: of all of it."""

    a: int
    b: int
    ranges: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest magnitude of a vector."""

    of: int


Operation = Combine | Dot | Largest
"""An operation that every shard carries out on its own range. ``Dot`` and ``Largest`` have a result."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Carry out ``before``, find the objective and its gradient at ``TRIAL``, put the gradient into ``TRIAL_GRADIENT``,
    carry out ``after`` and send ``Evaluated``."""

    before: tuple[Operation, ...]
    after: tuple[Operation, ...]
    subset: int | None = None
    """Of some of the examples only, as this number chooses them; None: of all. Value and gradient are then what those
    examples contribute to the whole, and so smaller."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The answer to ``Evaluate``."""

    value: float
    """The objective, regularisation included; not finite where it is not."""
    results: list[float]
    """Of ``after``."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """Said after each iteration; answered with whether to go on."""

    number: int
    """1, 2, 3 ...; 0: the beginning."""
    value: float
    gradient: float
    """Largest magnitude in the gradient."""
    step: float
    pairs: int
    """In the history."""
    state: Start
    """What a resumed run begins with, beside the vectors."""


@dataclass(frozen=True, slots=True)
class Rules:
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
    """Whether a line search looks for a step on a subset first."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """L2: factor / 2 times the sum of squares of some ranges of the model's vector."""

    factor: float = 0.0
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """Where a resumed run begins: behind which iteration."""

    iteration: int
    value: float
    slots: tuple[int, ...]
    """Pairs of the history, the oldest first."""
    evaluation: int = 0
    """Evaluations that were made; known to whoever drives."""
    addend: float = 1.0
    """The largest magnitude in what the last one's sums were made of; the same."""


@dataclass(frozen=True, slots=True)
class Vectors(Optimiser):
    """The rows of shards whose parameters are ``TRIAL``. No rule: nothing is pushed to them."""

    memory: int
    lr: float = 1.0

    @property
    def state(self) -> tuple[Row, ...]:  # type: ignore[override]
        """As many rows as the history has vectors."""
        return tuple(Row(name, "node") for name in vector_names(self.memory)[1:])

    def apply(self, params, grad, state, *, lr_scale, t):  # type: ignore[no-untyped-def]
        """Do nothing, which the server's constructor rehearses."""


def vector_names(memory: int) -> list[str]:
    """Return the names of all vectors of a shard, by number."""
    pairs = [f"{letter}{k}" for letter in "sy" for k in range(memory)]
    return ["trial", "point", "gradient", "trial_gradient", "direction", *pairs]


_MOVE = (Combine(POINT, ((1.0, TRIAL),)), Combine(GRADIENT, ((1.0, TRIAL_GRADIENT),)))
"""The trial becomes the point."""

Minimising = Generator[Evaluate | list[Operation] | Iteration, Evaluated | list[float] | bool | None, str]


class History:
    """The scalars of the history: which pairs there are, and the inner products of all of them and the gradient.

    Args:
        memory: pairs at most, m.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self.slots: list[int] = []
        self._products: dict[tuple[int, int], float] = {}

    def s(self, slot: int) -> int:
        """Return the number of a pair's s."""
        return _FIXED + slot

    def y(self, slot: int) -> int:
        """Return the number of a pair's y."""
        return _FIXED + self._memory + slot

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
        others = [*self.vectors, GRADIENT]
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
        basis = [*self.vectors, GRADIENT]
        weight = dict.fromkeys(basis, 0.0)
        weight[GRADIENT] = -1.0
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
        return tuple((weight[vector], vector) for vector in [GRADIENT, *self.vectors])

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

    rules: Rules
    history: History
    number: int = 0
    value: float = math.inf
    largest: float = math.inf
    step: float = 0.0
    slope: float | None = None
    """Along ``DIRECTION``, once that is there."""

    def said(self) -> Iteration:
        state = Start(self.number, self.value, tuple(self.history.slots))
        return Iteration(self.number, self.value, self.largest, self.step, len(self.history.slots), state)


def minimise(rules: Rules, start: Start | None = None) -> Minimising:
    """Minimise; a generator of commands that ends with why.

    It yields an ``Evaluate`` (sent: ``Evaluated``), a program (sent: its results) or an ``Iteration`` (sent: whether to
    go on). When it has ended, ``TRIAL`` is ``POINT``, the best that there is.

    Args:
        start: of a run that goes on: ``POINT``, ``GRADIENT`` and the pairs are on the shards.
    """
    run = _Run(rules, History(rules.memory))
    if start is None:
        if not (yield from _begin(run)):
            return "the objective is not finite at the first point"
    else:
        yield from _go_on(run, start)
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
    first = yield Evaluate((), (Largest(TRIAL_GRADIENT),))
    assert isinstance(first, Evaluated)
    run.value, run.largest = first.value, first.results[0]
    if not (math.isfinite(run.value) and math.isfinite(run.largest)):
        return False
    yield from _products(run, [GRADIENT], _MOVE)
    return True


def _go_on(run: _Run, start: Start) -> Generator[list[Operation], list[float], None]:
    """Begin where another run ended: all inner products are asked for anew, and come out as they were."""
    run.number, run.value, run.history.slots = start.iteration, start.value, list(start.slots)
    (run.largest,) = yield [Largest(GRADIENT)]
    yield from _products(run, [*run.history.vectors, GRADIENT])


def _products(
    run: _Run, new: list[int], before: tuple[Operation, ...] = (), gradient: int = GRADIENT
) -> Generator[list[Operation], list[float], None]:
    """Ask for inner products, no more at a time than an iteration does: all of a history of a hundred would take a
    server longer than it is waited for.

    Args:
        before: carried out before the first of them.
        gradient: the vector that is ``GRADIENT`` soon.
    """
    dots, most = run.history.wanted(new), 3 * (2 * run.rules.memory + 1)
    asked = [replace(dot, a=_where(dot.a, gradient), b=_where(dot.b, gradient)) for dot in dots]
    for begin in range(0, len(dots), most):
        results = yield [*before, *asked[begin : begin + most]]
        run.history.note(dots[begin : begin + most], results)
        before = ()


def _where(vector: int, gradient: int) -> int:
    return gradient if vector == GRADIENT else vector


def _turn(run: _Run, before: tuple[Operation, ...] = ()) -> Generator[list[Operation], list[float], None]:
    """Find the direction of the next iteration, and the slope along it."""
    (run.slope,) = yield [*before, Combine(DIRECTION, run.history.direction()), Dot(DIRECTION, GRADIENT)]


def _iterate(run: _Run) -> Generator[Evaluate | list[Operation], Evaluated | list[float], str]:
    """Make one iteration; return why there can be none, or nothing."""
    history, rules = run.history, run.rules
    while True:
        found, gradient = None, math.inf
        if run.slope is None:
            yield from _turn(run)
        slope, run.slope = run.slope, None
        if slope < 0 and math.isfinite(slope):
            step = 1.0 if history.slots else min(1.0, 1.0 / math.sqrt(history.product(GRADIENT, GRADIENT)))
            if rules.subsets:
                step = yield from _propose(run, step)
            found, gradient = yield from _along(run.rules, run.value, slope, step)
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
    rules: Rules, value: float, slope: float, step: float, subset: int | None = None
) -> Generator[Evaluate, Evaluated, tuple[Trial | None, float]]:
    """Search along the direction, where the objective has this value and slope; return the trial that was found, which
    is the last one that was evaluated, and the largest magnitude in its gradient."""
    gradient = math.inf
    searching = search(value, slope, step, rules.c1, rules.c2)
    try:
        step = next(searching)
        while True:
            tried = yield Evaluate(
                (Combine(TRIAL, ((1.0, POINT), (step, DIRECTION))),),
                (Dot(TRIAL_GRADIENT, DIRECTION), Largest(TRIAL_GRADIENT)),
                subset,
            )
            gradient = tried.results[1]
            step = searching.send((tried.value, tried.results[0]))
    except StopIteration as end:
        return end.value, gradient


def _accept(run: _Run, found: Trial, gradient: float) -> Generator[list[Operation], list[float], None]:
    """Make a trial the point of this iteration, and a pair of what changed."""
    history = run.history
    slot = history.next_slot()
    s, y = history.s(slot), history.y(slot)
    pair = (
        Combine(s, ((1.0, TRIAL), (-1.0, POINT))),
        Combine(y, ((1.0, TRIAL_GRADIENT), (-1.0, GRADIENT))),
    )
    yield from _products(run, [s, y, GRADIENT], pair, TRIAL_GRADIENT)
    if history.product(s, y) > 1e-10 * math.sqrt(history.product(s, s) * history.product(y, y)):
        history.slots.append(slot)
    else:  # no curvature that an update could use: the rest of the history is of another place
        history.slots.clear()
    run.number, run.value, run.largest, run.step = run.number + 1, found.value, gradient, found.step
    yield from _turn(run, _MOVE)
