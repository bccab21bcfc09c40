"""Replicas inline: time passes between a gradient and its use, they wait for their bell, are killed and start again.

What stands for the production's replica is a generator that says what it does; the production's own loop runs in
``test_simulation`` and under the sweep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import pytest

from hogpour.machine.replica_link import Moment
from hogpour.sim.world.host import Host
from hogpour.sim.world.loop import BEGIN_S, Loop, Stuck
from hogpour.sim.world.replicas import Bell, Replicas

COMPUTED, WAITING = Moment.COMPUTED, Moment.WAITING


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop(np.random.default_rng(0))
    yield made
    made.close()
    assert made.errors == []


class Fake:
    """A replica: it goes through its moments and notes what it does, and when. Where it waits, it waits until somebody
    sets ``free``, however often it is told to look around."""

    def __init__(self, node: Node, number: int, moments: list[Moment]) -> None:
        self._node, self._number, self._moments = node, number, moments

    def moments(self) -> Generator[Moment, None, None]:
        note = self._node.note
        note(self._number, "begins")
        try:
            for moment in self._moments:
                if moment is COMPUTED:
                    yield moment
                    note(self._number, "uses")
                else:
                    note(self._number, "waits")
                    while self._number not in self._node.free and not self._node.stopped:
                        yield moment
                        note(self._number, "looks")
                if self._node.stopped:
                    note(self._number, "stops")
                    return
            note(self._number, "ends")
        finally:
            note(self._number, "leaves")


class Node:
    """A machine with replicas that go through these moments, each life from the beginning."""

    def __init__(self, loop: Loop, *moments: list[Moment], seconds: Callable[[int], float] = lambda number: 1.0) -> None:
        self.loop, self.host, self.said = loop, Host(1, "a"), list[tuple[float, int, str]]()
        self.free: set[int] = set()
        self.stopped = False
        self._moments, self._seconds = moments, seconds
        self.replicas: Replicas
        self.task = loop.spawn(self.host, self._run())

    def note(self, number: int, what: str) -> None:
        self.said.append((round(self.loop.time() - BEGIN_S, 6), number, what))

    def of(self, number: int) -> list[tuple[float, str]]:
        return [(at, what) for at, one, what in self.said if one == number]

    async def _run(self) -> None:
        def make(number: int) -> Any:
            return Fake(self, number, self._moments[number])

        self.replicas = Replicas(len(self._moments), self._seconds)
        await self.replicas.run(make, None, None)
        self.note(-1, "all ended")

    def at(self, at_s: float, work: Callable[..., object], *arguments: Any) -> None:
        """Do something on this machine at a time since the beginning; it may name what is not there yet."""
        self.loop.call_on(self.host, BEGIN_S + at_s, lambda: work(*arguments))

    def wake(self, number: int) -> None:
        self.free.add(number)
        self.replicas.wake(number)

    def go(self, seconds: float) -> None:
        over: list[bool] = []
        self.loop.call_on(self.loop.outside, self.loop.time() + seconds, over.append, True)
        self.loop.run(lambda: bool(over))
        assert self.loop.errors == []


# -- the bell -----------------------------------------------------------------------------------------------------------


class Listener:
    """Who answers a bell, or not, and counts."""

    def __init__(self, bell: Bell, answers: bool = True) -> None:
        self.bell, self.answers, self.count = bell, answers, 0

    def __call__(self, *arguments: Any) -> None:
        self.count += 1
        if self.answers:
            self.bell.answer()


def turn(loop: Loop) -> None:
    """Let the loop do what is ready."""
    loop.run_until_complete(asyncio.sleep(1.0))


def test_a_bell_is_heard_once_however_often_it_rang(loop: Loop) -> None:
    bell = Bell(loop)
    heard = Listener(bell)
    loop.add_reader(bell.listen_fd, heard)
    turn(loop)
    assert heard.count == 0
    for _ in range(3):
        bell.ring()
    assert heard.count == 0  # not within the call that rings
    turn(loop)
    assert heard.count == 1
    bell.ring()
    turn(loop)
    assert heard.count == 2


def test_a_bell_that_rang_before_anybody_listened_is_heard(loop: Loop) -> None:
    bell = Bell(loop)
    heard = Listener(bell)
    bell.ring()
    turn(loop)
    loop.add_reader(bell.listen_fd, heard, "with", "arguments")
    turn(loop)
    assert heard.count == 1


def test_a_bell_that_is_answered_first_is_not_heard(loop: Loop) -> None:
    bell = Bell(loop)
    heard = Listener(bell)
    loop.add_reader(bell.listen_fd, heard)
    bell.ring()
    bell.answer()
    turn(loop)
    assert heard.count == 0


def test_nobody_hears_a_bell_after_he_stopped_listening(loop: Loop) -> None:
    bell = Bell(loop)
    heard = Listener(bell)
    assert loop.remove_reader(bell.listen_fd) is False
    loop.add_reader(bell.listen_fd, heard)
    bell.ring()
    assert loop.remove_reader(bell.listen_fd) is True
    turn(loop)
    assert heard.count == 0
    loop.add_reader(bell.listen_fd, heard)
    turn(loop)
    assert heard.count == 1


def test_a_ring_while_a_bell_is_answered_is_heard(loop: Loop) -> None:
    bell, heard = Bell(loop), []

    def listen() -> None:
        bell.answer()
        heard.append(loop.time())
        if len(heard) < 3:
            bell.ring()

    loop.add_reader(bell.listen_fd, listen)
    bell.ring()
    turn(loop)
    assert heard == [BEGIN_S] * 3


def test_a_bell_that_is_not_answered_goes_on(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there as long as it rings, like a descriptor that can be read; it was heard once."""
    monkeypatch.setattr("hogpour.sim.world.loop._AT_ONE_TIME", 1000)
    bell = Bell(loop)
    deaf = Listener(bell, answers=False)
    loop.add_reader(bell.listen_fd, deaf)
    bell.ring()
    with pytest.raises(Stuck, match=r"^1,000 callbacks at one moment: the last one was "):
        turn(loop)
    assert deaf.count > 990


# -- computing ----------------------------------------------------------------------------------------------------------


def test_the_time_of_a_gradient_passes_before_it_is_used(loop: Loop) -> None:
    times = iter([1.0, 2.5, 0.5])
    node = Node(loop, [COMPUTED] * 3, seconds=lambda number: next(times))
    node.go(10.0)
    assert node.of(0) == [(0.0, "begins"), (1.0, "uses"), (3.5, "uses"), (4.0, "uses"), (4.0, "ends"), (4.0, "leaves")]
    assert node.of(-1) == [(4.0, "all ended")]
    assert (node.replicas.computed_s, node.replicas.waited_s) == ([4.0], [0.0])


def test_replicas_compute_beside_each_other_and_all_are_waited_for(loop: Loop) -> None:
    node = Node(loop, [COMPUTED], [COMPUTED, COMPUTED], [], seconds=lambda number: 1.0 + number)
    node.go(0.5)
    assert node.replicas.alive == 2
    node.go(10.0)
    assert [entry for entry in node.said if entry[2] == "ends"] == [(0.0, 2, "ends"), (1.0, 0, "ends"), (4.0, 1, "ends")]
    assert node.of(-1) == [(4.0, "all ended")]
    assert node.replicas.computed_s == [1.0, 4.0, 0.0]
    assert node.replicas.alive == 0


# -- waiting ------------------------------------------------------------------------------------------------------------


def test_a_replica_that_waits_goes_on_when_its_bell_rings(loop: Loop) -> None:
    node = Node(loop, [WAITING, COMPUTED], [WAITING])
    node.at(0.1, node.wake, 0)
    node.go(0.2)
    assert node.of(0) == [(0.0, "begins"), (0.0, "waits"), (0.1, "looks")]
    assert node.of(1) == [(0.0, "begins"), (0.0, "waits")]
    assert node.replicas.waited_s == [pytest.approx(0.1), 0.0]


def test_a_replica_that_nobody_wakes_looks_around_every_quarter_of_a_second(loop: Loop) -> None:
    node = Node(loop, [WAITING])
    node.at(0.6, node.free.add, 0)
    node.go(10.0)
    looks = [(0.25, "looks"), (0.5, "looks"), (0.75, "looks")]
    assert node.of(0) == [(0.0, "begins"), (0.0, "waits"), *looks, (0.75, "ends"), (0.75, "leaves")]
    assert node.replicas.waited_s == [0.75]


def test_a_ring_during_computing_is_kept_for_the_next_wait(loop: Loop) -> None:
    node = Node(loop, [COMPUTED, WAITING])
    node.at(0.5, lambda: node.replicas.wake(0))
    node.go(1.1)
    assert node.of(0) == [(0.0, "begins"), (1.0, "uses"), (1.0, "waits"), (1.0, "looks")]
    assert node.replicas.waited_s == [0.0]  # not yet
    node.go(0.2)
    assert node.of(0)[-1] == (1.25, "looks")
    assert node.replicas.waited_s == [0.25]


def test_a_ring_ends_one_wait_however_often_it_rang(loop: Loop) -> None:
    """It was there for the next wait, too, which ended at once."""
    node = Node(loop, [WAITING])
    node.at(0.125, lambda: [node.replicas.wake(0) for _ in range(2)])
    node.go(0.25)
    assert node.of(0) == [(0.0, "begins"), (0.0, "waits"), (0.125, "looks")]
    node.go(0.25)
    assert node.of(0)[3:] == [(0.375, "looks")]
    assert node.replicas.waited_s == [0.375]


def test_who_is_not_there_is_not_woken(loop: Loop) -> None:
    node = Node(loop, [])
    node.at(0.5, lambda: node.replicas.wake(0))
    node.at(0.5, lambda: node.replicas.wake(7))
    node.go(1.0)
    assert node.of(0) == [(0.0, "begins"), (0.0, "ends"), (0.0, "leaves")]


# -- killing ------------------------------------------------------------------------------------------------------------


def test_a_replica_that_is_killed_uses_nothing_more_and_begins_again_after_half_a_second(loop: Loop) -> None:
    node = Node(loop, [COMPUTED, COMPUTED], [COMPUTED] * 4)
    found: list[bool] = []
    node.at(1.25, lambda: found.append(node.replicas.kill(0)))
    node.at(1.5, lambda: found.append(node.replicas.kill(0)))
    node.go(10.0)
    assert node.of(0)[:3] == [(0.0, "begins"), (1.0, "uses"), (1.75, "leaves")]
    assert node.of(0)[3:] == [(1.75, "begins"), (2.75, "uses"), (3.75, "uses"), (3.75, "ends"), (3.75, "leaves")]
    assert found == [True, False]
    assert node.replicas.restarts == 1
    assert node.of(-1) == [(4.0, "all ended")]


def test_only_what_a_killed_replica_had_computed_or_waited_counts(loop: Loop) -> None:
    """The whole gradient was counted, however little of it there had been, and nothing of a wait."""
    node = Node(loop, [COMPUTED], [WAITING])
    node.at(0.125, lambda: [node.replicas.kill(number) for number in (0, 1)])
    node.go(0.25)
    assert (node.replicas.computed_s, node.replicas.waited_s) == ([0.125, 0.0], [0.0, 0.125])
    node.at(1.0, node.wake, 1)
    node.go(10.0)
    assert (node.replicas.computed_s, node.replicas.waited_s) == ([1.125, 0.0], [0.0, 0.5])


def test_what_a_killed_replica_left_stays_until_its_successor_begins(loop: Loop) -> None:
    """Its ``finally`` blocks, which write to the memory of the node, ran in the moment of its death."""
    node = Node(loop, [WAITING])
    node.at(0.1, lambda: node.replicas.kill(0))
    node.go(0.5)
    assert node.of(0) == [(0.0, "begins"), (0.0, "waits")]
    node.go(0.2)
    assert node.of(0)[2:] == [(0.6, "leaves"), (0.6, "begins"), (0.6, "waits")]


def test_a_replica_that_was_woken_and_killed_at_one_moment_does_not_go_on(loop: Loop) -> None:
    node = Node(loop, [WAITING])
    node.at(0.1, lambda: (node.wake(0), node.replicas.kill(0)))
    node.go(0.5)
    assert node.of(0) == [(0.0, "begins"), (0.0, "waits")]


# -- stopping -----------------------------------------------------------------------------------------------------------


def stop(node: Node, grace_s: float, *, says: bool = True) -> None:
    async def stops() -> None:
        node.stopped = says
        await node.replicas.stop(grace_s)
        node.note(-1, "stopped")

    node.loop.create_task(stops())


def test_stopping_wakes_who_waits_and_waits_for_who_computes(loop: Loop) -> None:
    node = Node(loop, [WAITING], [COMPUTED] * 3)
    node.at(0.125, stop, node, 5.0)
    node.go(10.0)
    assert node.of(0)[2:] == [(0.125, "looks"), (0.125, "stops"), (0.125, "leaves")]
    assert node.of(1)[1:] == [(1.0, "uses"), (1.0, "stops"), (1.0, "leaves")]
    assert sorted(node.of(-1)) == [(1.0, "all ended"), (1.0, "stopped")]
    assert (node.replicas.waited_s, node.replicas.computed_s) == ([0.125, 0.0], [0.0, 1.0])


def test_who_does_not_end_in_time_is_ended(loop: Loop) -> None:
    node = Node(loop, [COMPUTED], [WAITING], seconds=lambda number: 60.0)
    node.at(1.0, lambda: stop(node, 2.0, says=False))
    node.go(100.0)
    assert [what for _, what in node.of(0)] == ["begins", "leaves"]
    assert sorted(node.of(-1)) == [(3.0, "all ended"), (3.0, "stopped")]
    assert node.replicas.alive == 0
    assert (node.replicas.computed_s, node.replicas.waited_s) == ([3.0, 0.0], [0.0, 3.0])


def test_a_replica_that_was_killed_is_not_started_again_after_a_stop(loop: Loop) -> None:
    node = Node(loop, [COMPUTED])
    node.at(0.25, lambda: node.replicas.kill(0))
    node.at(0.5, stop, node, 5.0)
    node.go(10.0)
    assert node.of(0) == [(0.0, "begins"), (0.75, "leaves")]
    assert node.of(-1) == [(0.5, "stopped"), (0.75, "all ended")]
    assert node.replicas.restarts == 0


def test_a_dying_machine_takes_its_replicas_with_it(loop: Loop) -> None:
    node = Node(loop, [COMPUTED], [WAITING])
    loop.call_on(loop.outside, BEGIN_S + 0.1, loop.kill, node.host)
    node.go(10.0)
    assert [what for _, _, what in node.said if what not in ("begins", "waits", "leaves")] == []


# -- standing still -----------------------------------------------------------------------------------------------------


def test_a_replica_that_stands_still_goes_on_where_it_was(loop: Loop) -> None:
    node = Node(loop, [COMPUTED, COMPUTED], [COMPUTED])
    node.at(0.5, lambda: node.replicas.freeze(0))
    node.at(4.5, lambda: node.replicas.thaw(0))
    node.go(9.0)
    assert node.of(0) == [(0.0, "begins"), (4.5, "uses"), (5.5, "uses"), (5.5, "ends"), (5.5, "leaves")]
    assert node.of(1)[1] == (1.0, "uses")


def test_one_that_is_rung_while_it_stands_still_looks_when_it_goes_on(loop: Loop) -> None:
    node = Node(loop, [WAITING])
    node.at(0.1, lambda: node.replicas.freeze(0))
    node.at(0.2, lambda: node.wake(0))
    node.at(3.0, lambda: node.replicas.thaw(0))
    node.go(1.0)
    assert not node.replicas.moving
    assert node.replicas.lives(0)
    node.go(4.0)
    assert [what for _, what in node.of(0)] == ["begins", "waits", "looks", "ends", "leaves"]
    assert node.of(0)[2][0] == 3.0


def test_one_that_stands_still_can_be_killed_and_its_successor_does_not(loop: Loop) -> None:
    node = Node(loop, [COMPUTED])
    node.at(0.5, lambda: node.replicas.freeze(0))
    node.at(2.0, lambda: node.replicas.kill(0))
    node.at(2.6, lambda: node.replicas.thaw(0))
    node.go(9.0)
    assert (3.5, "uses") in node.of(0)
    assert node.replicas.restarts == 1
