"""L-BFGS without shards: the state machine on numpy vectors, and its line search on functions of one variable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hogpour.algos.lbfgs import (
    GRADIENT,
    POINT,
    TRIAL,
    TRIAL_GRADIENT,
    Combine,
    Dot,
    Evaluate,
    Evaluated,
    History,
    Iteration,
    Rules,
    minimise,
    vector_names,
)
from hogpour.algos.line_search import search

Function = Callable[[Any], tuple[float, Any]]


class Machine:
    """Drives the state machine on float64 vectors; each program is carried out twice, as after a lost answer."""

    def __init__(self, function: Function, x: Any, rules: Rules, most: int = 10**6, before: Machine | None = None,
                 part: float = 0.5) -> None:  # fmt: skip
        self.vectors = np.zeros((len(vector_names(rules.memory)), len(x)))
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
                    of_all = 1.0 if command.subset is None else part
                    value, gradient = function(self.vectors[TRIAL])
                    value, self.vectors[TRIAL_GRADIENT] = of_all * value, of_all * gradient
                    self.evaluations += command.subset is None
                    self.subsets += command.subset is not None
                    command = machine.send(Evaluated(value, self.results(command.after)))
                else:
                    command = machine.send(self.results(command))
        except StopIteration as end:
            self.why = end.value

    def results(self, program: Any) -> list[float]:
        self.longest = max(self.longest, len(program))
        for _ in range(2):
            results = []
            for operation in program:
                if isinstance(operation, Combine):
                    self.vectors[operation.out] = sum(factor * self.vectors[k] for factor, k in operation.terms)
                elif isinstance(operation, Dot):
                    results.append(float(self.vectors[operation.a] @ self.vectors[operation.b]))
                else:
                    results.append(float(np.abs(self.vectors[operation.of]).max()))
        return results


def rosenbrock(x: Any) -> tuple[float, Any]:
    a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    grad = np.zeros_like(x)
    grad[:-1] = -400 * x[:-1] * a - 2 * b
    grad[1:] += 200 * a
    return float((100 * a**2 + b**2).sum()), grad


def test_rosenbrock_is_solved_as_fast_as_scipy_does() -> None:
    from scipy.optimize import minimize

    x = np.full(20, -1.2)
    found = Machine(rosenbrock, x, Rules(gradient=1e-6, decrease=0))
    peer = minimize(rosenbrock, x, jac=True, method="L-BFGS-B", options={"gtol": 1e-6, "ftol": 0})
    assert "no element of the gradient is above" in found.why
    assert found.vectors[POINT] == pytest.approx(1, abs=1e-5)
    assert found.evaluations < 1.3 * peer.nfev


def test_a_run_that_goes_on_comes_to_the_same_by_programs_that_are_no_longer() -> None:
    """All inner products of a long history at once would take a server longer than it is waited for."""
    rules = Rules(memory=20, decrease=0, iterations=40)
    whole = Machine(rosenbrock, np.full(30, -1.2), rules)
    part = Machine(rosenbrock, np.full(30, -1.2), rules, most=26)
    rest = Machine(rosenbrock, np.zeros(30), rules, before=part)
    assert len(part.iterations[-1].state.slots) == 20
    assert rest.vectors[POINT].tobytes() == whole.vectors[POINT].tobytes()
    assert rest.longest <= 3 * (2 * 20 + 1)


def test_a_step_that_is_found_on_a_subset_is_evaluated_once_on_the_whole() -> None:
    """Where the subset is like the whole, as here, every iteration takes one evaluation of it."""
    rules = Rules(gradient=1e-6, decrease=0)
    whole = Machine(rosenbrock, np.full(20, -1.2), rules)
    found = Machine(rosenbrock, np.full(20, -1.2), replace(rules, subsets=True))
    assert found.vectors[POINT].tobytes() == whole.vectors[POINT].tobytes()
    assert found.evaluations == len(found.iterations) == len(whole.iterations) < whole.evaluations
    assert found.subsets == whole.evaluations - 1 + len(found.iterations) - 1


def test_where_a_subset_misleads_the_whole_batch_finds_its_step() -> None:
    rules = Rules(gradient=1e-6, decrease=0)
    whole = Machine(rosenbrock, np.full(20, -1.2), rules)
    for part in (math.nan, -1.0):
        found = Machine(rosenbrock, np.full(20, -1.2), replace(rules, subsets=True), part=part)
        assert found.vectors[POINT].tobytes() == whole.vectors[POINT].tobytes()
        assert found.subsets == len(found.iterations) - 1


def test_the_direction_is_that_of_the_two_loop_recursion_on_vectors() -> None:
    """Nocedal & Wright, algorithm 7.4, with the newest pair's scale as H0."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((30, 30))
    matrix = matrix @ matrix.T + np.eye(30)
    machine = Machine(lambda x: (0.5 * float(x @ matrix @ x), matrix @ x), rng.standard_normal(30),
                      Rules(memory=4, gradient=1e-9, iterations=7))  # fmt: skip
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

    assert "1 iterations were made" in Machine(half, np.ones(3), Rules(iterations=1, gradient=0)).why
    assert "lowered the objective by no more" in Machine(half, np.ones(3), Rules(gradient=0, decrease=1e-3)).why
    assert Machine(half, np.ones(3), Rules(gradient=0), most=2).why == "stopped"
    assert Machine(half, np.zeros(3), Rules()).why == "no element of the gradient is above 1e-06"
    assert Machine(lambda x: (math.nan, x), np.ones(3), Rules()).why == "the objective is not finite at the first point"


def test_where_no_step_helps_the_point_stays() -> None:
    """A gradient that points uphill."""
    machine = Machine(lambda x: (float(x @ x), -2 * x), np.ones(3), Rules())
    assert machine.why == "no step along the negative gradient lowers the objective"
    assert machine.vectors[TRIAL].tolist() == machine.vectors[POINT].tolist() == [1, 1, 1]


def test_the_curvature_that_is_enough_does_not_depend_on_the_scale() -> None:
    def steep(x: Any) -> tuple[float, Any]:
        curvature = np.array([1e12, 2e12, 5e12])
        return 0.5 * float(curvature @ x**2) + 1, curvature * x

    machine = Machine(steep, np.ones(3), Rules(gradient=1e-3))
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
    machine = Flat(rosenbrock, np.full(4, -1.2), Rules(memory=3, gradient=1e-6))
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
