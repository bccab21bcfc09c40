"""What every optimiser promises, whatever its rule; runs over everything that the registry finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogpour.core import registry
from hogpour.core.errors import ConfigError

OPTIMISERS = registry.available("optimiser")
every_optimiser = pytest.mark.parametrize("cls", OPTIMISERS.values(), ids=OPTIMISERS.keys())
DECOUPLED = {"adamw"}  # whose weight decay is no part of the gradient
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def vectors(n, dtype, seed=0):
    """Parameters and three gradients."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=n).astype(dtype), [rng.normal(size=n).astype(dtype) for _ in range(3)]


def steps(optimiser, params, grads, lr_scale=1.0):
    """Return (params, *state) after a step for each gradient."""
    params = params.copy()
    state = tuple(np.zeros_like(params) for _ in optimiser.state)
    for t, grad in enumerate(grads, 1):
        optimiser.apply(params, grad, state, lr_scale=lr_scale, t=t)
    return params, *state


def same_bits(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def test_the_registry_finds_the_optimisers_of_the_papers():
    assert {"sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "delayed_nesterov"} <= set(OPTIMISERS)


@every_optimiser
@both_dtypes
def test_a_step_changes_parameters_and_every_declared_row_in_their_own_dtype(cls, dtype):
    params, grads = vectors(37, dtype)
    after = steps(cls(lr=0.1), params, grads)
    assert all(a.dtype == dtype and np.isfinite(a).all() and (a != 0).all() for a in after)
    assert (after[0] != params).all()


@every_optimiser
def test_rows_have_names_of_their_own_and_an_owner(cls):
    names = [row.name for row in cls.state]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert all(row.per in ("replica", "node") for row in cls.state)


@every_optimiser
@both_dtypes
def test_nan_in_a_gradient_reaches_its_parameter_and_no_other(cls, dtype):
    params, grads = vectors(37, dtype)
    clean = steps(cls(lr=0.1), params, grads)[0]
    grads[1][5] = np.nan
    params = steps(cls(lr=0.1), params, grads)[0]
    assert np.isnan(params[5])
    assert np.delete(params, 5).tobytes() == np.delete(clean, 5).tobytes()


@every_optimiser
@both_dtypes
def test_a_zero_gradient_without_history_leaves_parameters_alone(cls, dtype):
    params, _ = vectors(37, dtype)
    after = steps(cls(lr=0.1), params, [np.zeros(37, dtype)] * 3)
    assert after[0].tobytes() == params.tobytes()
    assert not np.any(after[1:])


@every_optimiser
@both_dtypes
def test_the_zeros_between_tensors_stay_zero_also_with_weight_decay(cls, dtype):
    params, grads = vectors(64, dtype)
    for vector in (params, *grads):
        vector[40:48] = 0
    after = steps(cls(lr=0.1, weight_decay=0.01), params, grads)
    assert not np.any([a[40:48] for a in after])


@every_optimiser
@both_dtypes
def test_the_same_steps_give_the_same_bits(cls, dtype):
    params, grads = vectors(1000, dtype)
    assert same_bits(steps(cls(lr=0.1), params, grads), steps(cls(lr=0.1), params, grads))


@every_optimiser
@given(n=st.integers(1, 150), cut=st.integers(0, 150), dtype=st.sampled_from([np.float32, np.float64]))
def test_an_element_does_not_depend_on_its_neighbours_nor_on_the_length(cls, n, cut, dtype):
    """Vector loop and remainder loop round alike: the reason why any number of shards gives the same bits."""
    optimiser = cls(lr=0.1, weight_decay=0.01)
    params, grads = vectors(n, dtype)
    whole = steps(optimiser, params, grads)
    left = steps(optimiser, params[:cut], [g[:cut] for g in grads])
    right = steps(optimiser, params[cut:], [g[cut:] for g in grads])
    assert same_bits(whole, [np.concatenate(halves) for halves in zip(left, right, strict=True)])


@every_optimiser
@both_dtypes
def test_the_schedule_multiplies_the_learning_rate(cls, dtype):
    params, grads = vectors(37, dtype)
    assert same_bits(steps(cls(lr=0.1), params, grads, lr_scale=0.5), steps(cls(lr=0.05), params, grads))


@every_optimiser
@both_dtypes
def test_a_rate_of_zero_moves_nothing(cls, dtype):
    params, grads = vectors(37, dtype)
    assert steps(cls(lr=0.1), params, grads, lr_scale=0.0)[0].tobytes() == params.tobytes()


@pytest.mark.parametrize("cls", [cls for name, cls in OPTIMISERS.items() if name not in DECOUPLED])
@both_dtypes
def test_weight_decay_is_added_to_the_gradient(cls, dtype):
    params, grads = vectors(37, dtype)
    decayed = steps(cls(lr=0.1, weight_decay=0.25), params, grads[:1])
    by_hand = steps(cls(lr=0.1), params, [grads[0] + dtype(0.25) * params])
    for got, expected in zip(decayed, by_hand, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("cls", [cls for name, cls in OPTIMISERS.items() if name not in DECOUPLED])
@pytest.mark.parametrize("gradients", [2, 16, 2.5])
def test_of_a_sum_of_gradients_each_has_its_weight_decay(cls, gradients):
    """At rest under each of them, a rule is at rest under their sum; and what it adds is what each would have had."""
    rule, (params, grads) = cls(lr=0.1, weight_decay=0.25), vectors(37, np.float64)
    rest = steps(rule.of_sum(gradients), params, [-0.25 * gradients * params] * 3)
    np.testing.assert_allclose(rest[0], params, rtol=1e-9)
    decayed = steps(rule.of_sum(gradients), params, grads[:1])
    by_hand = steps(cls(lr=0.1), params, [grads[0] + 0.25 * gradients * params])
    for got, expected in zip(decayed, by_hand, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@every_optimiser
def test_of_one_gradient_and_without_weight_decay_the_rule_is_the_same(cls):
    rule, plain = cls(lr=0.1, weight_decay=0.25), cls(lr=0.1)
    assert rule.of_sum(1) is rule
    assert plain.of_sum(16) is plain


@every_optimiser
@both_dtypes
def test_the_gradient_is_only_read(cls, dtype):
    params, grads = vectors(37, dtype)
    kept = [grad.copy() for grad in grads]
    steps(cls(lr=0.1, weight_decay=0.01), params, grads)
    assert same_bits(grads, kept)


@every_optimiser
def test_a_quadratic_is_minimised(cls):
    optimiser, goal = cls(lr=0.1), np.linspace(-1, 1, 16)
    params = np.zeros(16)
    state = tuple(np.zeros(16) for _ in optimiser.state)
    for t in range(1, 301):
        optimiser.apply(params, params - goal, state, lr_scale=1.0, t=t)
    # RMSProp's steps keep the length lr, however near the goal is.
    assert np.abs(params - goal).max() <= 0.1


@every_optimiser
@pytest.mark.parametrize(
    ("field", "value"), [("lr", 0.0), ("lr", -0.1), ("lr", np.nan), ("lr", np.inf), ("weight_decay", -1.0)]
)
def test_a_value_out_of_range_is_an_error_that_names_it(cls, field, value):
    with pytest.raises(ValueError, match=rf"^{field} = {value}, expected "):
        cls(**{"lr": 0.1, field: value})


@every_optimiser
def test_words_become_the_optimiser_and_the_optimiser_words(cls):
    optimiser = cls(lr=0.1, weight_decay=0.5)
    words = registry.describe(optimiser)
    assert words["name"] in OPTIMISERS
    assert registry.build("optimiser", words, "algorithm.optimiser") == optimiser


def test_a_misspelt_optimiser_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError) as raised:
        registry.build("optimiser", {"name": "adagrat", "lr": 0.1}, "algorithm.optimiser")
    assert str(raised.value) == "algorithm.optimiser: optimiser \"adagrat\" is not known; did you mean 'adagrad'?"


BY_ROWS = {name: cls for name, cls in OPTIMISERS.items() if cls(lr=0.1).by_rows}


def test_rules_that_leave_alone_what_has_no_gradient_take_gradients_by_row():
    assert {"sgd", "adagrad", "ftrl"} == set(BY_ROWS)
    assert not any(cls(lr=0.1, weight_decay=0.1).by_rows for cls in BY_ROWS.values())
    with pytest.raises(NotImplementedError, match="Adam changes every element at each step"):
        OPTIMISERS["adam"](lr=0.1).apply_rows(*[np.zeros((1, 1))] * 3, (), lr_scale=1.0)


@pytest.mark.parametrize("cls", BY_ROWS.values(), ids=BY_ROWS.keys())
@pytest.mark.parametrize("width", [1, 3])
@both_dtypes
def test_a_gradient_by_row_gives_the_bits_of_a_dense_one(cls, width, dtype):
    rng = np.random.default_rng(5)
    optimiser = cls(lr=0.1)
    params = rng.normal(size=(9, width)).astype(dtype)
    dense, by_row = params.copy(), params.copy()
    states = [tuple(np.zeros_like(params) for _ in cls.state) for _ in range(2)]
    for t in range(1, 5):
        rows = rng.permutation(9)[: 2 * t].astype(np.uint32)
        grad = rng.normal(size=(len(rows), width)).astype(dtype) * (rng.random((len(rows), width)) < 0.7)
        whole = np.zeros_like(params)
        whole[rows] = grad
        flat = tuple(row.reshape(-1) for row in states[0])
        optimiser.apply(dense.reshape(-1), whole.reshape(-1), flat, lr_scale=0.5, t=t)
        optimiser.apply_rows(by_row, rows, grad.astype(dtype), states[1], lr_scale=0.5)
    assert same_bits([dense, *states[0]], [by_row, *states[1]])


def test_ftrl_is_the_papers_rule_and_its_weights_are_0_within_l1():
    rng = np.random.default_rng(0)
    w, z, n = np.zeros(50), np.zeros(50), np.zeros(50)
    rule = OPTIMISERS["ftrl"](lr=0.3, beta=0.5, l1=0.8, l2=0.1)
    expected, z_, n_ = w.copy(), z.copy(), n.copy()
    for t in range(1, 6):
        g = rng.normal(size=50)
        rule.apply(w, g, (z, n), lr_scale=1.0, t=t)
        sigma = (np.sqrt(n_ + g**2) - np.sqrt(n_)) / 0.3
        z_ += g - sigma * expected
        n_ += g**2
        expected = np.where(np.abs(z_) <= 0.8, 0, -(z_ - np.sign(z_) * 0.8) / ((0.5 + np.sqrt(n_)) / 0.3 + 0.1))
    np.testing.assert_allclose(w, expected, rtol=1e-12)
    assert 5 < (w == 0).sum() < 45


@pytest.mark.parametrize("scale", [0.0, 1e-50, 1e-40, 1e-30])
def test_ftrl_leaves_everything_alone_at_a_rate_of_nothing(scale):
    """It divides by the rate."""
    rng = np.random.default_rng(0)
    arrays = [rng.random(5).astype(np.float32) for _ in range(3)]
    before = [array.copy() for array in arrays]
    OPTIMISERS["ftrl"](lr=0.3).apply(arrays[0], np.ones(5, np.float32), tuple(arrays[1:]), lr_scale=scale, t=1)
    assert same_bits(arrays, before)
