"""Compute times: each distribution has the mean that it says, and the same generator gives the same times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hogpour.sim.world.compute import Compute

N = 100_000


def times(compute: Compute, n: int = N, node: int = 0, seed: int = 0) -> np.ndarray[Any, Any]:
    draw = compute.sampler(node, np.random.default_rng(seed))
    return np.array([draw() for _ in range(n)])


def test_constant_times_are_the_mean_and_take_no_chance() -> None:
    rng = np.random.default_rng(0)
    draw = Compute(mean_s=0.25).sampler(0, rng)
    assert [draw() for _ in range(600)] == [0.25] * 600
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize(
    ("compute", "deviation"),
    [
        (Compute(distribution="exponential", mean_s=2.0), 2.0),
        (Compute(distribution="log_normal", mean_s=2.0, sigma=0.5), 2.0 * (np.exp(0.25) - 1) ** 0.5),
        (Compute(distribution="pareto", mean_s=2.0, shape=4.0), 2.0 / 8.0**0.5),
        (Compute(distribution="measured", times_s=(1.0, 3.0)), 1.0),
    ],
    ids=lambda value: getattr(value, "distribution", ""),
)
def test_the_mean_is_the_one_that_was_asked_for(compute: Compute, deviation: float) -> None:
    """Within four standard errors; the deviation, whose own error the heavy tail makes large, within a tenth."""
    found = times(compute)
    assert abs(found.mean() - 2.0) < 4 * deviation / N**0.5
    assert abs(found.std() - deviation) < 0.1 * deviation
    assert found.min() > 0


@pytest.mark.parametrize("shape", [1.5, 2.5, 4.0])
def test_a_pareto_tail_falls_with_its_index(shape: float) -> None:
    """Times over the least one have logarithms with mean 1 / shape: Hill's estimate of the index, here within 2 %."""
    found = times(Compute(distribution="pareto", mean_s=0.3, shape=shape))
    least = 0.3 * (shape - 1) / shape
    assert found.min() >= least
    assert 1 / np.log(found / least).mean() == pytest.approx(shape, rel=0.02)


def test_the_logarithm_of_a_log_normal_time_has_the_sigma() -> None:
    assert np.log(times(Compute(distribution="log_normal", sigma=0.7))).std() == pytest.approx(0.7, rel=0.02)


def test_a_log_normal_without_sigma_is_constant() -> None:
    assert set(times(Compute(distribution="log_normal", mean_s=0.5, sigma=0.0), 300)) == {0.5}


def test_exponential_times_have_no_memory() -> None:
    """P(time > 2 s, given > 1 s) = P(time > 1 s), within 0.01."""
    found = times(Compute(distribution="exponential", mean_s=1.0))
    assert (found > 2).sum() / (found > 1).sum() == pytest.approx((found > 1).mean(), abs=0.01)


def test_measured_times_are_drawn_alike_often_and_not_in_order() -> None:
    found = times(Compute(distribution="measured", times_s=(1.0, 2.0, 4.0)), 30_000)
    for time in (1.0, 2.0, 4.0):
        assert (found == time).mean() == pytest.approx(1 / 3, abs=0.02)
    assert (found[:-1] == found[1:]).mean() == pytest.approx(1 / 3, abs=0.02)


def test_a_node_of_speed_2_takes_half_the_time_and_speeds_go_round() -> None:
    compute = Compute(distribution="exponential", speeds=(1.0, 2.0, 0.5))
    first = times(compute, 300)
    for node, speed in ((1, 2.0), (2, 0.5), (3, 1.0), (7, 2.0)):
        np.testing.assert_array_equal(times(compute, 300, node=node), first / speed)


@pytest.mark.parametrize("distribution", ["exponential", "log_normal", "pareto"])
def test_times_follow_from_the_generator(distribution: Any) -> None:
    compute = Compute(distribution=distribution)
    np.testing.assert_array_equal(times(compute, 600, seed=3), times(compute, 600, seed=3))
    assert (times(compute, 600, seed=3) != times(compute, 600, seed=4)).all()


def test_two_samplers_do_not_disturb_each_other() -> None:
    compute = Compute(distribution="exponential")
    alone = times(compute, 600, seed=1).tolist()
    one, other = (compute.sampler(0, np.random.default_rng(seed)) for seed in (1, 2))
    assert [(one(), other())[0] for _ in range(600)] == alone


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"mean_s": 0.0}, "mean_s = 0.0, expected above 0 and finite"),
        ({"mean_s": float("inf")}, "mean_s = inf, expected above 0 and finite"),
        ({"sigma": -0.1}, "sigma = -0.1, expected 0 to 10"),
        ({"sigma": 11.0}, "sigma = 11.0, expected 0 to 10"),
        ({"shape": 1.0}, "shape = 1.0, expected above 1: with less, there is no mean"),
        ({"distribution": "measured"}, "times_s is empty, expected the seconds that were measured"),
        ({"times_s": (1.0,)}, 'times_s is of no use with distribution = "constant", expected "measured"'),
        ({"distribution": "measured", "times_s": (1.0, 0.0)}, "times_s = (1.0, 0.0), expected finite numbers above 0"),
        ({"speeds": (1.0, -1.0)}, "speeds = (1.0, -1.0), expected finite numbers above 0"),
        ({"speeds": ()}, "speeds is empty, expected at least one number"),
    ],
)
def test_what_is_out_of_range_is_named(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as error:
        Compute(**values)
    assert str(error.value) == text
