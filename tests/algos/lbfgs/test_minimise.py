"""L-BFGS without shards: the state machine on numpy vectors, and its line search on functions of one variable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hogpour.algos.lbfgs.commands import (
    DIRECTION,
    GRADIENT,
    POINT,
    TRIAL,
    TRIAL_GRADIENT,
    Evaluate,
    Evaluated,
    Iteration,
    Penalty,
    vector_names,
)
from hogpour.algos.lbfgs.line_search import backtrack, search
from hogpour.algos.lbfgs.minimise import History, LbfgsOptions, minimise
from hogpour.core.vector_operations import Align, Combine, Dot, Largest, Magnitude, Pseudo

Function = Callable[[Any], tuple[float, Any]]


class Machine:
    """Drives the state machine on float64 vectors; each program is carried out twice, as after a lost answer."""

    def __init__(self, function: Function, x: Any, rules: LbfgsOptions, most: int = 10**6, before: Machine | None = None,
                 part: float = 0.5) -> None:  # fmt: skip
        self.vectors = np.zeros((len(vector_names(rules.memory, rules.orthants)), len(x)))
        self.vectors[TRIAL] = x
        self.iterations: list[Iteration] = []
        self.longest = self.subsets = 0
        start = None
        if before is not None:
            self.vectors[...], start = before.vectors, before.iterations[-1].state
        machine, command, self.evaluations, self.why = minimise(rules, start), None, 0, ""
        try:
            command = next(machine)
            while True:
                if isinstance(command, Iteration):
                    self.iterations.append(command)
                    command = machine.send(len(self.iterations) < most)
                elif isinstance(command, Evaluate):
                    self.results(command.before)
                    value, gradient = function(self.vectors[TRIAL])
                    if command.subset is not None:
                        value, gradient = self.of_subset(part * value, part * gradient)
                    self.vectors[TRIAL_GRADIENT] = gradient
                    self.evaluations += command.subset is None
                    self.subsets += command.subset is not None
                    command = machine.send(Evaluated(value, self.results(command.after)))
                else:
                    command = machine.send(self.results(command))
        except StopIteration as end:
            self.why = end.value

    def of_subset(self, value: float, gradient: Any) -> tuple[float, Any]:
        """Return what a subset contributes, of which it is like the whole."""
        return value, gradient

    def results(self, program: Any) -> list[float]:
        self.longest = max(self.longest, len(program))
        for _ in range(2):
            results = []
            for operation in program:
                if isinstance(operation, Combine):
                    self.vectors[operation.out] = sum(factor * self.vectors[k] for factor, k in operation.terms)
                elif isinstance(operation, Dot):
                    results.append(float(self.vectors[operation.a] @ self.vectors[operation.b]))
                elif isinstance(operation, Largest):
                    results.append(float(np.abs(self.vectors[operation.of]).max()))
                else:
                    results += self.with_l1(operation)
        return results

    def with_l1(self, operation: Any) -> list[float]:
        """Carry out an operation of OWL-QN, in one range."""
        ((start, stop),) = operation.ranges
        v = self.vectors[:, start:stop]
        if isinstance(operation, Magnitude):
            return [float(np.abs(v[operation.of]).sum())]
        if isinstance(operation, Pseudo):
            self.vectors[operation.out] = self.vectors[operation.gradient]
            v[operation.out] = pseudo(v[operation.point], v[operation.gradient], operation.factor)
        elif isinstance(operation, Align):
            v[operation.direction][v[operation.direction] * v[operation.pseudo] >= 0] = 0
        else:
            point, trial = v[operation.point], v[operation.trial]
            trial[trial * np.where(point != 0, point, -v[operation.pseudo]) <= 0] = 0
        return []


def pseudo(w: Any, g: Any, c: float) -> Any:
    """The pseudo-gradient (Andrew & Gao 2007, eq. 4): from the left and from the right, the slope that leads down."""
    left, right = g + np.where(w > 0, c, -c), g + np.where(w < 0, -c, c)
    return np.where(left > 0, left, np.where(right < 0, right, 0.0))


def rosenbrock(x: Any) -> tuple[float, Any]:
    a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    grad = np.zeros_like(x)
    grad[:-1] = -400 * x[:-1] * a - 2 * b
    grad[1:] += 200 * a
    return float((100 * a**2 + b**2).sum()), grad


def test_rosenbrock_is_solved_as_fast_as_scipy_does() -> None:
    from scipy.optimize import minimize

    x = np.full(20, -1.2)
    found = Machine(rosenbrock, x, LbfgsOptions(gradient=1e-6, decrease=0))
    peer = minimize(rosenbrock, x, jac=True, method="L-BFGS-B", options={"gtol": 1e-6, "ftol": 0})
    assert "no element of the gradient is above" in found.why
    assert found.vectors[POINT] == pytest.approx(1, abs=1e-5)
    assert found.evaluations < 1.3 * peer.nfev


def test_a_run_that_goes_on_comes_to_the_same_by_programs_that_are_no_longer() -> None:
    """All inner products of a long history at once would take a server longer than it is waited for."""
    rules = LbfgsOptions(memory=20, decrease=0, iterations=40)
    whole = Machine(rosenbrock, np.full(30, -1.2), rules)
    part = Machine(rosenbrock, np.full(30, -1.2), rules, most=26)
    rest = Machine(rosenbrock, np.zeros(30), rules, before=part)
    assert len(part.iterations[-1].state.slots) == 20
    assert rest.vectors[POINT].tobytes() == whole.vectors[POINT].tobytes()
    assert rest.longest <= 3 * (2 * 20 + 1)


def test_a_step_that_is_found_on_a_subset_is_evaluated_once_on_the_whole() -> None:
    """Where the subset is like the whole, as here, every iteration takes one evaluation of it."""
    rules = LbfgsOptions(gradient=1e-6, decrease=0)
    whole = Machine(rosenbrock, np.full(20, -1.2), rules)
    found = Machine(rosenbrock, np.full(20, -1.2), replace(rules, subsets=True))
    assert found.vectors[POINT].tobytes() == whole.vectors[POINT].tobytes()
    assert found.evaluations == len(found.iterations) == len(whole.iterations) < whole.evaluations
    assert found.subsets == whole.evaluations - 1 + len(found.iterations) - 1


def test_where_a_subset_misleads_the_whole_batch_finds_its_step() -> None:
    rules = LbfgsOptions(gradient=1e-6, decrease=0)
    whole = Machine(rosenbrock, np.full(20, -1.2), rules)
    for part in (math.nan, -1.0):
        found = Machine(rosenbrock, np.full(20, -1.2), replace(rules, subsets=True), part=part)
        assert found.vectors[POINT].tobytes() == whole.vectors[POINT].tobytes()
        assert found.subsets == len(found.iterations) - 1


class Content(Machine):
    """The subset is at its optimum, but for a step that is too short for anything to change."""

    def of_subset(self, value: float, gradient: Any) -> tuple[float, Any]:
        there = self.vectors[TRIAL] - self.vectors[POINT] - 1e-14 * self.vectors[DIRECTION]
        return 1 + 0.5 * float(there @ there), there


def test_a_step_of_a_subset_that_leads_nowhere_is_not_the_end() -> None:
    """It was: no step along the negative gradient was said to lower the objective."""

    def half(x: Any) -> tuple[float, Any]:
        return 0.5 * float(x @ x) + 1, x.copy()

    found = Content(half, np.array([1.0, 2.0, 3.0]), LbfgsOptions(gradient=1e-6, subsets=True))
    assert found.why == "no element of the gradient is above 1e-06"


def test_the_direction_is_that_of_the_two_loop_recursion_on_vectors() -> None:
    """Nocedal & Wright, algorithm 7.4, with the newest pair's scale as H0."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((30, 30))
    matrix = matrix @ matrix.T + np.eye(30)
    machine = Machine(lambda x: (0.5 * float(x @ matrix @ x), matrix @ x), rng.standard_normal(30),
                      LbfgsOptions(memory=4, gradient=1e-9, iterations=7))  # fmt: skip
    history = History(4)
    history.slots = list(machine.iterations[-1].state.slots)
    dots = history.wanted([*history.vectors, GRADIENT])
    history.note(dots, machine.results(dots))
    found = sum(factor * machine.vectors[k] for factor, k in history.direction())
    q, alpha = machine.vectors[GRADIENT].copy(), {}
    pairs = [(machine.vectors[history.s(k)], machine.vectors[history.y(k)]) for k in history.slots]
    for i, (s, y) in reversed(list(enumerate(pairs))):
        alpha[i] = s @ q / (s @ y)
        q -= alpha[i] * y
    s, y = pairs[-1]
    q *= s @ y / (y @ y)
    for i, (s, y) in enumerate(pairs):
        q += (alpha[i] - y @ q / (s @ y)) * s
    assert found == pytest.approx(-q, rel=1e-8)
    assert len(pairs) == 4


def test_a_quadratic_ends_where_it_should_for_each_reason() -> None:
    def half(x: Any) -> tuple[float, Any]:
        return 0.5 * float(x @ x) + 1, x.copy()

    assert "1 iterations were made" in Machine(half, np.ones(3), LbfgsOptions(iterations=1, gradient=0)).why
    long = np.array([1.0, 10.0, 100.0])  # else a step may end at 0 to the last bit
    slow = Machine(lambda x: (half(x * long)[0], x * long**2), np.ones(3), LbfgsOptions(gradient=0, decrease=1e-3))
    assert "lowered the objective by no more" in slow.why
    assert Machine(half, np.ones(3), LbfgsOptions(gradient=0), most=2).why == "stopped"
    assert Machine(half, np.zeros(3), LbfgsOptions()).why == "no element of the gradient is above 1e-06"
    assert Machine(lambda x: (math.nan, x), np.ones(3), LbfgsOptions()).why == "the objective is not finite at the first point"


def test_where_no_step_helps_the_point_stays() -> None:
    """A gradient that points uphill."""
    machine = Machine(lambda x: (float(x @ x), -2 * x), np.ones(3), LbfgsOptions())
    assert machine.why == "no step along the negative gradient lowers the objective"
    assert machine.vectors[TRIAL].tolist() == machine.vectors[POINT].tolist() == [1, 1, 1]


def test_the_curvature_that_is_enough_does_not_depend_on_the_scale() -> None:
    def steep(x: Any) -> tuple[float, Any]:
        curvature = np.array([1e12, 2e12, 5e12])
        return 0.5 * float(curvature @ x**2) + 1, curvature * x

    machine = Machine(steep, np.ones(3), LbfgsOptions(gradient=1e-3))
    assert max(iteration.pairs for iteration in machine.iterations) > 1
    assert np.abs(machine.vectors[POINT]).max() < 1e-6


class Flat(Machine):
    """After the third iteration rounding has eaten the curvature of a pair, which a line search does not leave so."""

    def results(self, program: Any) -> list[float]:
        results = super().results(program)
        dots = [operation for operation in program if isinstance(operation, Dot)]
        for k, dot in enumerate(dots):
            if len(self.iterations) == 4 and len(dots) > 2 and dot.b == dot.a + 3:  # s and y of one of three pairs
                results[k] = 0.0
        return results


def test_a_history_whose_newest_pair_has_no_curvature_is_forgotten() -> None:
    machine = Flat(rosenbrock, np.full(4, -1.2), LbfgsOptions(memory=3, gradient=1e-6))
    assert [iteration.pairs for iteration in machine.iterations[:7]] == [0, 1, 2, 3, 0, 1, 2]
    assert machine.vectors[POINT] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("step", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize(
    ("value", "slope"),
    [
        (lambda a: (a - 1) ** 2, lambda a: 2 * (a - 1)),
        (lambda a: -a / (a * a + 2), lambda a: (a * a - 2) / (a * a + 2) ** 2),  # Moré & Thuente's first
        (lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4, lambda a: 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3),
        (lambda a: a**4 - a if a < 20 else math.inf, lambda a: 4 * a**3 - 1),
    ],
)
def test_a_line_search_ends_with_the_strong_wolfe_conditions(value: Any, slope: Any, step: float) -> None:
    c1, c2 = 1e-4, 0.9
    searching = search(value(0.0), slope(0.0), step, c1, c2)
    tried = next(searching)
    found = None
    try:
        while True:
            tried = searching.send((value(tried), slope(tried)))
    except StopIteration as end:
        found = end.value
    assert found is not None
    assert found.value <= value(0.0) + c1 * found.step * slope(0.0)
    assert abs(found.slope) <= c2 * abs(slope(0.0))


def searched(value: Any, slope: Any, step: float) -> tuple[Any, list[float]]:
    """Return what a line search found, and the steps that it tried."""
    searching, steps = search(value(0.0), slope(0.0), step, 1e-4, 0.9), []
    try:
        steps.append(next(searching))
        while True:
            steps.append(searching.send((value(steps[-1]), slope(steps[-1]))))
    except StopIteration as end:
        return end.value, steps


def test_a_step_behind_a_hill_that_lowers_the_objective_too_little_is_not_passed() -> None:
    """The search went on to longer steps, as the slope was below 0, until all between its ends were as useless: 25
    trials, and none found, although every one was lower than the beginning."""

    from scipy.interpolate import CubicHermiteSpline

    value = CubicHermiteSpline([0, 0.5, 0.9, 1, 3, 4, 20], [0, -0.3, 1e-5, -2e-5, -6e-5, 0.1, 20],
                               [-1, 0, 0, -3e-5, 0, 0.3, 1.5])  # fmt: skip
    slope = value.derivative()
    found, steps = searched(lambda a: float(value(a)), lambda a: float(slope(a)), 1.0)
    assert found is not None
    assert 0 < found.step < 1
    assert len(steps) < 4


@pytest.mark.parametrize("seed", range(5))
def test_where_values_are_noise_the_slopes_say_where_to_look(seed: int) -> None:
    """A step that was too short ended between it and nothing, where its value was above the first by no more than
    rounding: about twenty evaluations for no step."""
    rng = np.random.default_rng(seed)
    found, steps = searched(
        lambda a: 1 + 1e-12 * (0.005 * a * a - a) + 1e-10 * rng.standard_normal(), lambda a: 1e-12 * (0.01 * a - 1), 1.0
    )
    assert found is not None
    assert found.slope >= -0.9e-12
    assert len(steps) <= 4


# -- OWL-QN


def logistic(n: int = 200, features: int = 30) -> tuple[Function, int]:
    """A convex function of which few weights matter, and the number of its parameters: weights, then an offset."""
    rng = np.random.default_rng(2)
    x = np.c_[rng.standard_normal((n, features)), np.ones(n)]
    y = np.where(x[:, :3] @ [2.0, -1.0, 1.0] + 0.5 + rng.standard_normal(n) > 0, 1.0, -1.0)

    def function(w: Any) -> tuple[float, Any]:
        margins = y * (x @ w)
        value = float(np.logaddexp(0, -margins).mean())
        return value, -(x * (y / (1 + np.exp(margins)))[:, None]).mean(0)

    return function, features + 1


def proximal(function: Function, w: Any, c: float, chosen: Any) -> Any:
    """The ruler: proximal gradient steps with momentum (FISTA), until they change nothing."""
    rate, z, t = 0.1, w.copy(), 1.0
    for _ in range(20_000):
        step = z - rate * function(z)[1]
        new = np.where(chosen, np.sign(step) * np.maximum(np.abs(step) - rate * c, 0), step)
        t, before = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        w, z = new, new + (before - 1) / t * (new - w)
    return w


@pytest.mark.parametrize("c", [0.01, 0.03, 0.2])
def test_owl_qn_finds_the_optimum_that_proximal_steps_find_and_the_same_zeros(c: float) -> None:
    function, n = logistic()
    chosen = np.arange(n) < n - 1
    found = Machine(function, np.zeros(n), LbfgsOptions(gradient=1e-9, decrease=0, l1=Penalty(c, ((0, n - 1),))))
    ruler = proximal(function, np.zeros(n), c, chosen)

    def whole(w: Any) -> float:
        return function(w)[0] + c * float(np.abs(w[chosen]).sum())

    point = found.vectors[POINT]
    assert found.iterations[-1].value == pytest.approx(whole(point), rel=1e-12)
    assert whole(point) == pytest.approx(whole(ruler), rel=1e-10)
    assert ((point == 0) == (ruler == 0)).all()
    assert point[-1] != 0
    assert found.evaluations < 60
    assert 0 < (point == 0).sum() < n


def test_a_cost_that_no_weight_is_worth_leaves_the_offset_alone() -> None:
    function, n = logistic()
    found = Machine(function, np.full(n, 0.3), LbfgsOptions(gradient=1e-6, decrease=0, l1=Penalty(5.0, ((0, n - 1),))))
    assert not found.vectors[POINT][:-1].any()
    assert found.vectors[POINT][-1] != 0
    assert "no element of the gradient is above" in found.why


def test_a_run_with_magnitudes_that_goes_on_comes_to_the_same() -> None:
    function, n = logistic()
    rules = LbfgsOptions(memory=3, gradient=0, decrease=0, iterations=12, l1=Penalty(0.01, ((0, n - 1),)))
    whole, part = Machine(function, np.zeros(n), rules), Machine(function, np.zeros(n), rules, most=6)
    rest = Machine(function, np.zeros(n), rules, before=part)
    assert rest.vectors[POINT].tobytes() == whole.vectors[POINT].tobytes()


def test_backtracking_halves_until_the_objective_falls_as_promised() -> None:
    searching = backtrack(1.0, 1.0, 1e-4)
    assert next(searching) == 1.0
    assert searching.send((math.nan, -1.0)) == 0.5
    assert searching.send((math.inf, -1.0)) == 0.25
    assert searching.send((0.9, 0.0)) == 0.125  # nothing of the way is left
    assert searching.send((0.99999, -1.0)) == 0.0625
    with pytest.raises(StopIteration) as end:
        searching.send((0.9998, -1.0))
    assert (end.value.value.step, end.value.value.value) == (0.0625, 0.9998)


def test_backtracking_gives_up() -> None:
    searching = backtrack(1.0, 1.0, 1e-4)
    steps = [next(searching)]
    for _ in range(24):
        steps.append(searching.send((2.0, -1.0)))
    assert steps == [2.0**-k for k in range(25)]
    with pytest.raises(StopIteration) as end:
        searching.send((2.0, -1.0))
    assert end.value.value is None
