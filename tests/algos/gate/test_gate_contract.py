"""What every gate keeps: how many make a step, how far ahead one may be, and with what it goes together. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hogpour as hp
from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.base import Gate, gate_end
from hogpour.algos.gate.open import Open
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.gate.slack import Slack
from hogpour.algos.schemes.base import Choices
from hogpour.core import registry
from hogpour.core.kernels.vector import vector_add, vector_scale

GATES = registry.available("gate")
PRESENT = range(0, 101)


def test_these_are_the_gates() -> None:
    ours = {"open": Open, "barrier": Barrier, "quorum": Quorum, "slack": Slack}
    assert ours.items() <= GATES.items()  # a new one is one new file


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Barrier(backups=-1), "backups = -1, expected 0 or more"),
        (lambda: Quorum(n=0), "n = 0, expected at least 1"),
        (lambda: Slack(s=-1), "s = -1, expected 0 or more"),
        (lambda: hp.BackupSync(backups=-2), "backups = -2, expected 0 or more"),
        (lambda: hp.Softsync(n=-1), "n = -1, expected at least 1"),
        (lambda: hp.Ssp(s=-3), "s = -3, expected 0 or more"),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_name(make: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_frozen_and_equal_to_one_like_it(name: str) -> None:
    gate = GATES[name]()
    assert isinstance(gate, Gate)
    assert (gate, hash(gate)) == (GATES[name](), hash(GATES[name]()))
    assert not hasattr(gate, "__dict__")


@pytest.mark.parametrize("gate", [Open(), Slack()])
def test_a_gate_that_holds_nothing_makes_no_steps(gate: Gate) -> None:
    assert not gate.holds
    with pytest.raises(NotImplementedError, match=f"{type(gate).__name__} holds no gradients"):
        gate.needed(3)


@pytest.mark.parametrize("gate", [Barrier(), Barrier(1), Barrier(4), Barrier(1000), Quorum(), Quorum(3), Quorum(1000)], ids=repr)
def test_a_step_has_at_least_one_gradient_and_never_waits_for_more_than_there_are(gate: Gate) -> None:
    needed = [gate.needed(present) for present in PRESENT]
    assert min(needed) == 1
    assert all(of <= max(1, present) for present, of in zip(PRESENT, needed, strict=True))
    assert needed == sorted(needed)  # whoever goes asks nobody else for more
    assert gate.ahead() is None


def test_a_barrier_is_of_all_but_its_backups() -> None:
    assert [Barrier().needed(present) for present in PRESENT] == [max(1, present) for present in PRESENT]
    assert [Barrier(4).needed(present) for present in (0, 1, 4, 5, 6, 100)] == [1, 1, 1, 1, 2, 96]


@pytest.mark.parametrize("n", [1, 2, 3, 30, 100])
def test_a_quorum_is_of_an_nth_of_all(n: int) -> None:
    assert [Quorum(n).needed(present) for present in PRESENT] == [max(1, present // n) for present in PRESENT]


def test_slack_says_how_far_ahead_one_may_be() -> None:
    assert [Slack(s).ahead() for s in (0, 1, 7)] == [0, 1, 7]


def test_what_the_gates_say_of_late_gradients() -> None:
    """A barrier drops them: so its origins wait. A quorum counts them."""
    assert {name: (cls.closes, cls.holds, cls.counts_late) for name, cls in GATES.items()}.items() >= {
        "open": (False, False, True), "barrier": (True, True, False), "quorum": (True, True, True),
        "slack": (True, False, True),
    }.items()  # fmt: skip


# -- with the other choices


@pytest.mark.parametrize("gate", [Barrier(), Quorum(), Slack()], ids=lambda g: type(g).__name__)
def test_a_gate_wants_an_exchange_that_pushes(gate: Gate) -> None:
    name = type(gate).__name__
    text = f"{name} decides on what is pushed to parameter servers, and InPlace pushes nothing; set an exchange that does"
    with pytest.raises(ValueError, match=f"^{text}$"):
        Choices(hp.InPlace(), gate=gate)
    assert Choices(hp.InPlace(), gate=Open()).gate == Open()


@pytest.mark.parametrize("gate", [Barrier(), Quorum(), Slack()], ids=lambda g: type(g).__name__)
def test_a_gate_wants_a_fetch_for_each_push(gate: Gate) -> None:
    text = (f"{type(gate).__name__} lets an origin fetch when its push is decided on, got n_push = 4 and n_fetch = 2; set "
            "both to the same")  # fmt: skip
    with pytest.raises(ValueError, match=f"^{text}$"):
        Choices(hp.Accrue(4, 2), gate=gate)
    assert Choices(hp.Accrue(4, 4), gate=gate).gate == gate
    assert Choices(hp.Accrue(4, 2), gate=Open()).gate == Open()


@pytest.mark.parametrize("correction", [hp.DelayCompensation(), hp.AdaptiveCompensation()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("gate", [Barrier(), Quorum()], ids=lambda g: type(g).__name__)
def test_a_mean_of_several_is_not_amended_like_one(gate: Gate, correction: Any) -> None:
    text = (f"{type(correction).__name__} amends one gradient by the parameters that it meets, and {type(gate).__name__} "
            "applies the mean of several; set another correction, or no gate")  # fmt: skip
    with pytest.raises(ValueError, match=f"^{text}$"):
        Choices(hp.Gradient(), correction, gate)
    assert Choices(hp.Gradient(), correction, Slack()).correction == correction


def test_what_drops_late_gradients_does_not_amend_them() -> None:
    text = "InverseStaleness amends late gradients, and Barrier drops them; set one of the two"
    with pytest.raises(ValueError, match=f"^{text}$"):
        Choices(hp.Gradient(), hp.InverseStaleness(), Barrier(1))
    for gate in (Quorum(), Slack()):
        assert Choices(hp.Gradient(), hp.InverseStaleness(), gate).gate == gate


@pytest.mark.parametrize(
    ("scheme", "gate", "n_push"),
    [
        (hp.Ssgd(), Barrier(), 1),
        (hp.BackupSync(), Barrier(1), 1),
        (hp.BackupSync(backups=4), Barrier(4), 1),
        (hp.Softsync(n=3), Quorum(3), 1),
        (hp.Ssp(s=2, clock_steps=5), Slack(2), 5),
        (hp.Asgd(), Open(), 1),
        (hp.Custom(gate=Slack(1)), Slack(1), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_schemes_name_their_gates(scheme: Any, gate: Gate, n_push: int) -> None:
    choices = scheme.choices()
    assert (choices.gate, choices.exchange.n_push, choices.exchange.n_fetch) == (gate, n_push, n_push)


def test_softsync_weighs_by_staleness_unless_it_is_told_not_to() -> None:
    assert hp.Softsync().choices().correction == hp.InverseStaleness()
    assert hp.Softsync(staleness_aware=False).choices().correction == hp.Plain()


# -- the kernels of a step


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_the_kernels_add_and_divide_element_by_element(real: Any, size: int, rng: np.random.Generator) -> None:
    first, second, third = rng.standard_normal((3, size)).astype(real)
    total = np.full(size, np.nan, real)
    vector_scale(total, first, real(2))
    vector_add(total, second, real(1))
    vector_add(total, third, real(1))
    assert total.tobytes() == (real(2) * first + second + third).tobytes()
    expected = total / real(3)
    gate_end(total, real(3))
    assert total.tobytes() == expected.tobytes()
