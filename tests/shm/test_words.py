"""Control words, clocks, the doorbell and the live vector's copies, in one process."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numba import njit

from hogpour.core.kernels.vector import vector_copy
from hogpour.shm.clocks import COUNTERS, SUMS, Clocks
from hogpour.shm.control import DIVERGED, RUN, STOP, WORDS, Control
from hogpour.shm.doorbell import Doorbell, ring
from hogpour.shm.params import params_finite


def clocks(replicas: int) -> Clocks:
    return Clocks(np.zeros((replicas, COUNTERS), np.int64), np.zeros((replicas, SUMS)))


def test_tickets_are_given_once_each() -> None:
    control, announced = Control(np.zeros(WORDS, np.int64)), []
    assert [control.take_ticket(announced.append) for _ in range(4)] == [0, 1, 2, 3]
    assert announced == [0, 1, 2, 3]
    assert control.tickets_taken == 4
    control.tickets_taken = 10
    assert control.take_ticket(announced.append) == 10


def test_a_ticket_that_somebody_else_took_is_not_given_twice() -> None:
    """The other replica takes a ticket between the announcement and the taking."""
    words = np.zeros(WORDS, np.int64)
    control, other, announced = Control(words), Control(words), []

    def announce(ticket: int) -> None:
        announced.append(ticket)
        if len(announced) == 1:
            other.take_ticket(lambda ticket: None)

    assert control.take_ticket(announce) == 1
    assert announced == [0, 1]


def test_a_stop_is_said_once_and_never_hides_divergence() -> None:
    control = Control(np.zeros(WORDS, np.int64))
    assert control.command == RUN
    control.stop()
    assert control.command == STOP
    control.diverge()
    control.stop()
    assert control.command == DIVERGED
    assert control.tickets_taken == 0


def test_words_that_let_go_of_the_memory_keep_what_they_said() -> None:
    words, rows = np.zeros(WORDS, np.int64), clocks(2)
    control = Control(words)
    control.stop()
    rows.record(0, 5, 1.0, 1)
    control.detach()
    rows.detach()
    words[...] = 0
    assert control.command == STOP
    assert rows.examples == 5


def test_a_step_is_recorded_in_its_replicas_row() -> None:
    c = clocks(3)
    assert c.record(1, 32, 4.5, 20) == 1
    assert c.record(2, 8, 0.5, 1) == 2
    assert c.record(1, 32, 4.0, 21) == 3
    assert c.steps.tolist() == [0, 2, 1]
    assert (c.examples, c.right, c.loss) == (72, 42, 9.0)


def test_an_unfinished_block_is_known_with_its_place() -> None:
    c = clocks(2)
    assert c.unfinished(0) is None
    c.begin_block(0, 7)
    assert c.unfinished(0) == (7, 0)
    c.record(0, 32, 1.0, 1)
    c.record(0, 32, 1.0, 1)
    assert c.unfinished(0) == (7, 64)
    assert c.unfinished(1) is None
    c.end_block(0)
    assert c.unfinished(0) is None
    c.begin_block(0, 0, 5)
    assert c.unfinished(0) == (0, 5)


def test_training_began_when_the_first_replica_had_done_a_step() -> None:
    c = clocks(2)
    assert c.began is None
    c.begin(1, 20.0)
    c.begin(0, 15.0)
    c.begin(0, 30.0)
    assert c.began == 15.0


def test_a_bell_rings_once_however_often_it_is_rung_and_never_blocks() -> None:
    bell = Doorbell()
    for _ in range(100_000):
        ring(bell.ring_fd)
    bell.answer()
    bell.answer()
    ring(bell.ring_fd)
    assert os.read(bell.listen_fd, 10) == b"\0"
    with pytest.raises(BlockingIOError):
        os.read(bell.listen_fd, 1)
    bell.close()


def test_a_bell_that_nobody_listens_to_any_more_is_no_error() -> None:
    bell = Doorbell()
    os.close(bell.listen_fd)
    assert ring(bell.ring_fd) is None
    os.close(bell.ring_fd)


def test_copy_and_finite() -> None:
    source, target = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    vector_copy(target, source)
    assert target.tolist() == source.tolist()
    assert params_finite(target)
    for bad in (np.nan, np.inf, -np.inf):
        target[37] = bad
        assert not params_finite(target)


def test_the_search_for_what_is_not_finite_takes_several_elements_at_a_time() -> None:
    """It said so and summed floats, which has an order: 11 times slower."""
    fresh = njit(params_finite.py_func)
    assert fresh(np.zeros(8, np.float32))
    assert "x float>" in next(iter(fresh.inspect_llvm().values()))
