"""Control words, clocks, the doorbell and the live vector's copies, in one process."""

from __future__ import annotations

import numpy as np
from numba import njit

from hogpour.shm.clocks import COUNTERS, SUMS, Clocks
from hogpour.shm.control import DIVERGED, RUN, STOP, WORDS, Control
from hogpour.shm.doorbell import Doorbell, ring
from hogpour.shm.params import params_copy, params_finite


def clocks(replicas: int) -> Clocks:
    return Clocks(np.zeros((replicas, COUNTERS), np.int64), np.zeros((replicas, SUMS)))


def test_tickets_are_given_once_each() -> None:
    control = Control(np.zeros(WORDS, np.int64))
    assert [control.take_ticket() for _ in range(4)] == [0, 1, 2, 3]
    assert control.tickets_taken == 4
    control.tickets_taken = 10
    assert control.take_ticket() == 10


def test_commands_are_read_back() -> None:
    control = Control(np.zeros(WORDS, np.int64))
    assert control.command == RUN
    for command in (STOP, DIVERGED):
        control.command = command
        assert control.command == command
    assert control.tickets_taken == 0


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
    bell.answer()
    bell.close()


def test_a_bell_that_nobody_listens_to_any_more_is_no_error() -> None:
    import os

    bell = Doorbell()
    os.close(bell.listen_fd)
    ring(bell.ring_fd)
    os.close(bell.ring_fd)


def test_copy_and_finite() -> None:
    source, target = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    params_copy(source, target)
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
