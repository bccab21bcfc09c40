"""A replica behind a gate, in this process: when it says that it takes part, asks for parameters, and waits."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from hogpour.algos.exchange.accrue import Accrue
from hogpour.algos.exchange.base import ReplicaView
from hogpour.algos.optim.sgd import Sgd
from hogpour.machine.replica_link import AccruedLink, Moment, link_arrays
from hogpour.shm.accrual import list_sealed, release
from hogpour.shm.layout import Layout
from hogpour.shm.mailbox import BLOCKS, BUFFER, LANDING, Mailbox

N = 16


class Behind:
    """A replica's side of the link, and its node's as the test plays it."""

    def __init__(self, steps: int = 1, *, gated: bool = True) -> None:
        layout = Layout.pack([("params", (N,), np.float32), *link_arrays(N, 1)])
        self.live = layout.views(bytearray(layout.size))
        self.landing = Mailbox(self.live["mailbox"])
        self.exchange, self.gated = Accrue(steps, steps), gated
        self.rings, self.goes_on, self.done = 0, True, 0
        self.begin()

    def begin(self) -> None:
        """A new life of the replica, after a kill perhaps."""
        zeros = np.zeros(N, np.float32)
        self.view = ReplicaView(zeros, (), Sgd(0.1))
        self.link = AccruedLink(self.live, 0, self.exchange, self.view, gated=self.gated, steps=self.done, total=0,
                             ring=self._ring, go_on=lambda: self.goes_on)  # fmt: skip

    def _ring(self) -> None:
        self.rings += 1

    def land(self) -> None:
        self.landing.land(self.landing.wanted(), self.landing.number(0) + 1)

    def release(self) -> None:
        for push in self.sealed:
            release(self.live["accrual"], push)

    @property
    def sealed(self) -> list[Any]:
        return list(list_sealed(self.live["accrual"], self.live["accrual_tickets"], 0))

    @property
    def wanted(self) -> int:
        return self.landing.wanted()[0]

    def step(self) -> None:
        """A step that need not wait."""
        assert result(self.link.before_step()) is True
        self.compute()

    def compute(self) -> None:
        self.link.accrued(0.0)
        self.done += 1
        self.link.after_step()


def result(waiting: Generator[Moment, None, Any] | None) -> Any:
    """What it returns, or WAITING; what need not wait at all, True."""
    if waiting is None:
        return True
    try:
        return next(waiting)
    except StopIteration as stop:
        return stop.value


def test_it_takes_part_before_it_asks_for_what_it_computes_on_first() -> None:
    one = Behind()
    waiting = one.link.before_step()
    assert result(waiting) is Moment.WAITING
    assert (one.landing.attends(0), one.wanted, one.rings) == (True, 1, 1)
    assert one.landing.waits_for(0) == LANDING
    one.land()
    assert result(waiting) is True
    assert one.landing.waits_for(0) == 0


def test_it_asks_after_every_push_and_computes_nothing_before_that_has_landed() -> None:
    one = Behind()
    result(one.link.before_step())
    one.land()
    for k in range(1, 5):
        one.step()
        assert (len(one.sealed), one.wanted) == (1, 1 + k)
        one.release()
        waiting = one.link.before_step()
        assert result(waiting) is Moment.WAITING
        one.land()
        assert result(waiting) is True


def test_with_a_window_of_several_steps_it_asks_at_its_end() -> None:
    one = Behind(steps=3)
    result(one.link.before_step())
    one.land()
    for wanted in (1, 1, 2):
        one.step()
        assert one.wanted == wanted
    assert [push.steps for push in one.sealed] == [3]
    assert result(one.link.before_step()) is Moment.WAITING


def test_a_window_that_ends_early_is_followed_by_a_fetch_too() -> None:
    """Where its blocks end. What it computed on next was of a step that was over, and nobody counted it."""
    one = Behind(steps=3)
    result(one.link.before_step())
    one.land()
    one.step()
    taking = one.link.take(lambda ticket: None)
    assert result(taking) is Moment.WAITING
    assert ([push.steps for push in one.sealed], one.wanted) == ([1], 2)
    one.link.queue.put([0])
    assert result(taking) is not None
    waiting = one.link.before_step()
    assert result(waiting) is Moment.WAITING


def test_without_blocks_it_takes_no_part_until_it_has_some() -> None:
    one = Behind()
    result(one.link.before_step())
    one.land()
    one.step()
    one.release()
    one.land()
    taking = one.link.take(lambda ticket: None)
    assert result(taking) is Moment.WAITING
    assert (one.landing.attends(0), one.landing.waits_for(0)) == (False, BLOCKS)
    one.link.queue.put([0])
    assert result(taking) is not None
    assert not one.landing.attends(0)
    wanted = one.wanted
    waiting = one.link.before_step()
    assert result(waiting) is Moment.WAITING
    assert (one.landing.attends(0), one.wanted) == (True, wanted + 1)  # what it had may be of a step that is over


def test_what_it_had_is_sealed_before_it_says_that_it_takes_no_part() -> None:
    """The link looks in the other order, and so finds the push first."""
    one = Behind(steps=4)
    result(one.link.before_step())
    one.land()
    one.step()
    seen: list[tuple[bool, int]] = []
    attend = one.link._mailbox.attend

    def watched(replica: int, present: bool) -> None:
        seen.append((present, len(one.sealed)))
        attend(replica, present)

    one.link._mailbox.attend = watched  # type: ignore[method-assign]
    result(one.link.take(lambda ticket: None))
    assert seen == [(False, 1)]


def test_a_successor_asks_anew_although_its_predecessor_had_what_it_asked_for() -> None:
    """Killed behind its seal: the gradient that is of this step is the predecessor's, and what it had fetched is of a
    step that is over when the gate lets that pass."""
    one = Behind()
    result(one.link.before_step())
    one.land()
    assert result(one.link.before_step()) is True
    one.link.accrued(0.0)
    one.link._accrual.seal()  # and is killed before it asks
    assert one.wanted == 1
    one.begin()
    waiting = one.link.before_step()
    assert result(waiting) is Moment.WAITING
    assert (one.wanted, one.landing.attends(0)) == (2, True)
    one.release()
    one.land()
    assert result(waiting) is True


def test_a_successor_seals_a_window_that_was_full_and_asks_for_what_comes_after() -> None:
    one = Behind(steps=1)
    result(one.link.before_step())
    one.land()
    result(one.link.before_step())
    one.link.accrued(0.0)  # killed before it sealed
    wanted = one.wanted
    one.begin()
    taking = one.link.take(lambda ticket: None)
    assert result(taking) is Moment.WAITING
    assert len(one.sealed) == 1
    assert one.wanted > wanted


def test_it_waits_for_its_buffer_and_for_parameters_at_once() -> None:
    one = Behind()
    result(one.link.before_step())
    one.land()
    one.step()
    one.link._accrual.begin(1)
    one.link._accrual.added(1.0)
    one.link._accrual.seal()
    waiting = one.link.before_step()
    assert result(waiting) is Moment.WAITING
    assert one.landing.waits_for(0) == BUFFER | LANDING
    one.land()
    assert result(waiting) is Moment.WAITING
    one.release()
    assert result(waiting) is True


def test_a_stop_ends_its_wait_at_the_gate() -> None:
    one = Behind()
    waiting = one.link.before_step()
    assert result(waiting) is Moment.WAITING
    one.goes_on = False
    assert result(waiting) is False


@pytest.mark.parametrize("steps", [1, 2])
def test_without_a_gate_it_takes_no_part_and_asks_by_its_steps(steps: int) -> None:
    one = Behind(steps, gated=False)
    for k in range(1, 5):
        one.step()
        one.release()
        one.land()
        assert (one.landing.attends(0), one.wanted) == (False, k // steps)
