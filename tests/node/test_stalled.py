"""Replicas that make no step: who is spoken of, and whose process is killed so that the run can end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from hogpour.core.progress import Notice
from hogpour.node.stalled import StalledReplicas


class Machine:
    """Two replicas; what they did is as the test says, a second apart."""

    def __init__(self) -> None:
        self.steps, self.waiting, self.ended = np.array([5, 5]), set[int](), set[int]()
        self.said, self.killed = list[str](), list[int]()
        self.nothing_else = False
        self.now = 100.0
        self.stalled = StalledReplicas(4.0, self, self.backend, self.note, self.now)

    @property
    def backend(self) -> Any:
        return self

    @property
    def clocks(self) -> Any:
        return SimpleNamespace(steps=self.steps.copy())

    def idle(self, replica: int) -> bool:
        return replica in self.waiting

    def lives(self, replica: int) -> bool:
        return replica not in self.ended

    def kill(self, replica: int) -> None:
        self.killed.append(replica)

    def note(self, notice: Notice) -> None:
        self.said.append(notice.text)

    def run(self, seconds: int, *, stopped: tuple[int, ...] = (1,), trained_s: float = 1.0) -> None:
        for _ in range(seconds):
            self.steps += [replica not in stopped for replica in (0, 1)]
            self.now += 1.0
            self.stalled.look(self.now, trained_s)


def test_a_replica_that_makes_no_step_is_spoken_of_once_and_again_when_it_has_moved() -> None:
    machine = Machine()
    machine.run(20)
    assert machine.said == ["replica 1 has made no step for 4 s: is its process stopped or starved?"]
    machine.run(1, stopped=())
    machine.run(20)
    assert len(machine.said) == 2
    assert machine.killed == []


def test_one_that_waits_has_ended_or_takes_long_steps_is_not() -> None:
    for changes in ({"waiting": {1}}, {"ended": {1}}):
        machine = Machine()
        vars(machine).update(changes)
        machine.run(20)
        assert machine.said == []
    machine = Machine()
    machine.run(20, trained_s=50.0)
    assert machine.said == []


def test_one_that_stopped_after_few_steps_is_spoken_of_though_time_goes_on() -> None:
    """Time without a step was taken for that of its steps, ten times of which no time comes to."""
    machine = Machine()
    machine.steps[:] = 0
    machine.run(3, stopped=(), trained_s=3.0)
    for second in range(4, 20):
        machine.run(1, trained_s=float(second))
    assert len(machine.said) == 1


def test_one_whose_block_is_the_last_is_killed_once_though_it_was_spoken_of_before() -> None:
    machine = Machine()
    machine.run(10)
    machine.nothing_else = True
    machine.ended = {0}
    machine.run(10, stopped=(0, 1))
    assert (len(machine.said), machine.killed) == (1, [1])


def test_one_that_never_began_has_more_time_and_is_killed_at_the_end() -> None:
    """It was not spoken of before the end, which a run of many epochs takes long to come to."""
    machine = Machine()
    machine.steps[1] = 0
    machine.run(40)
    assert machine.said == []
    machine.run(1)
    assert machine.said == ["replica 1 has made no step for 40 s: is its process stopped or starved?"]
    machine.nothing_else = True
    machine.run(1)
    assert (len(machine.said), machine.killed) == (1, [1])


def test_time_in_which_the_node_stood_still_itself_does_not_count() -> None:
    machine = Machine()
    machine.run(2)
    machine.now += 60.0
    machine.run(4)
    assert machine.said == []
