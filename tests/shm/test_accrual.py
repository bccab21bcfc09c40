"""Accrual buffers, landings and the ticket queue: who may touch what when, and what a killed replica leaves behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hogpour.shm import accrual, mailbox, queue
from hogpour.shm.accrual import Accrual, list_sealed, release
from hogpour.shm.layout import flat_words
from hogpour.shm.mailbox import Mailbox
from hogpour.shm.queue import TicketQueue


class Killed(Exception):
    """Stands for a kill -9 between two stores."""


class Memory:
    """The words of one replica, which die before store number ``stores``."""

    def __init__(self) -> None:
        self.words = np.zeros((1, *accrual.WORDS), np.int64)
        self.tickets = np.zeros((1, accrual.BUFFERS, accrual.TICKETS), np.int64)
        self.buffers = np.zeros((accrual.BUFFERS, 16), np.float32)

    def replica(self) -> Accrual:
        return Accrual(self.words[0], self.tickets[0], self.buffers)

    def sealed(self) -> list[accrual.Sealed]:
        return list_sealed(self.words, self.tickets, 0)


class Mortal:
    """Words whose owner is killed before one of its stores."""

    left = 10**9

    def __init__(self, words: memoryview[Any]) -> None:
        self._words = words

    def cast(self, kind: Any) -> Mortal:
        return Mortal(self._words.cast(kind))

    def __getitem__(self, word: int) -> Any:
        return self._words[word]

    def __setitem__(self, word: int, value: Any) -> None:
        mortal_store()
        self._words[word] = value


def mortal_store() -> None:
    Mortal.left -= 1
    if Mortal.left < 0:
        raise Killed


def add(replica: Accrual, value: float, scale: float = 1.0) -> None:
    if not replica.count:
        replica.begin(7)
        replica.buffer[:] = 0
    replica.buffer[:] += np.float32(value)
    replica.added(scale)


def test_a_sealed_buffer_stays_as_it_is_while_the_other_one_fills() -> None:
    memory = Memory()
    replica = memory.replica()
    add(replica, 1)
    add(replica, 2, 0.5)
    replica.finish(5)
    replica.seal()
    add(replica, 9)
    (push,) = memory.sealed()
    assert push == accrual.Sealed(0, 0, 1, 2, 7, 0.5, (5,))
    assert memory.buffers[push.buffer].tolist() == [3] * 16
    assert replica.free
    replica.seal()
    assert not replica.free
    assert [push.sequence for push in memory.sealed()] == [1, 2]
    release(memory.words, push)
    assert replica.free
    assert [push.sequence for push in memory.sealed()] == [2]


@pytest.mark.parametrize("before", range(5))
def test_whoever_reads_while_both_buffers_are_sealed_never_sees_the_second_without_the_first(
    before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that was preempted between the two saw the second one alone, took it for the newest, and never sent the
    first: its replica, and with a batch method the whole run, waited for ever."""
    memory = Memory()
    replica, loads, load = memory.replica(), 0, accrual.accrual_load

    def slow(words: Any, word: int) -> int:
        nonlocal loads
        if loads == before:
            for _ in range(2):
                monkeypatch.setattr(accrual, "accrual_load", load)
                add(replica, 1)
                replica.seal()
                monkeypatch.setattr(accrual, "accrual_load", slow)
        loads += 1
        return load(words, word)

    monkeypatch.setattr(accrual, "accrual_load", slow)
    assert [push.sequence for push in memory.sealed()] in ([], [1], [1, 2])
    monkeypatch.setattr(accrual, "accrual_load", load)
    assert [push.sequence for push in memory.sealed()] == ([1, 2] if loads > before else [])


def test_a_window_that_is_full_of_tickets_says_so() -> None:
    replica = Memory().replica()
    assert not replica.waiting
    for ticket in range(accrual.TICKETS):
        assert not replica.full
        replica.finish(ticket)
    assert replica.full
    assert replica.waiting


def test_a_successor_goes_on_in_the_unsealed_buffer() -> None:
    memory = Memory()
    add(memory.replica(), 1)
    successor = memory.replica()
    assert successor.count == 1
    add(successor, 1)
    successor.seal()
    assert memory.buffers[memory.sealed()[0].buffer].tolist() == [2] * 16


@pytest.mark.parametrize("answered", [False, True], ids=["unanswered", "answered"])
@pytest.mark.parametrize("stores", range(10))
def test_a_kill_at_any_store_of_sealing_neither_loses_nor_doubles_a_push(
    stores: int, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor seals what was not sealed, and does not seal again what was, even when it is answered already."""
    memory = Memory()
    store = accrual.accrual_store

    def accrual_store(words: Any, word: int, value: int) -> None:
        mortal_store()
        store(words, word, value)

    monkeypatch.setattr(accrual, "accrual_store", accrual_store)
    monkeypatch.setattr(accrual, "flat_words", lambda words: Mortal(flat_words(words)))
    monkeypatch.setattr(Mortal, "left", 10**9)
    replica = memory.replica()
    add(replica, 1)
    pushes = []

    def link() -> None:
        for push in memory.sealed():
            pushes.append((push.sequence, push.steps, memory.buffers[push.buffer][0]))
            release(memory.words, push)

    Mortal.left = stores
    try:
        replica.seal()
        died = False
    except Killed:
        died = True
    Mortal.left = 10**9
    assert died == (stores < 8), "the number of stores of a sealing has changed: cover them all"
    if answered:
        link()
    successor = memory.replica()
    if successor.count:  # it was not sealed yet
        successor.seal()
    add(successor, 10)
    successor.seal()
    link()
    assert pushes == [(1, 1, 1.0), (2, 1, 10.0)]


def test_a_wish_is_served_by_a_landing_that_began_after_it() -> None:
    words = Mailbox(np.zeros((2, *mailbox.WORDS), np.int64))
    words.want(1)
    assert words.wanted() == [0, 1]
    words.land([0, 1], 3)
    assert (words.landed(0), words.landed(1), words.number(0)) == (0, 1, 3)
    assert not words.held(0)
    words.hold(0, True)
    assert words.held(0)


def test_every_ticket_is_taken_once_and_announced_before() -> None:
    tickets = TicketQueue(np.zeros(queue.WORDS, np.int64), np.zeros(queue.ROOM, np.int64))
    announced: list[int] = []
    assert tickets.take(announced.append) is None
    tickets.put([4, 7])
    assert 7 in tickets
    assert tickets.take(announced.append) == 4
    assert announced == [4]
    assert 4 not in tickets
    tickets.put(list(range(100, 100 + queue.ROOM - 1)))
    assert len(tickets) == queue.ROOM
    assert tickets.take_all() == [7, *range(100, 100 + queue.ROOM - 1)]
    assert not tickets.closed
    tickets.close()
    assert tickets.closed


def test_whoever_loses_a_ticket_takes_its_announcement_back() -> None:
    """A replica that was killed later would otherwise have its successor do a block that another one did."""
    tickets = TicketQueue(np.zeros(queue.WORDS, np.int64), np.zeros(queue.ROOM, np.int64))
    tickets.put([4])
    announced: list[int] = []

    def announce(ticket: int) -> None:
        announced.append(ticket)
        if ticket == 4 and len(announced) == 1:
            tickets.take(lambda ticket: None)  # another replica, between the announcement and the taking

    assert tickets.take(announce) is None
    assert announced == [4, -1]


def test_what_is_in_a_buffer_that_the_link_sends_is_nobodys_to_seal() -> None:
    """A replica that waited for blocks sealed such a buffer once more: its push lost its gradients, or its memory was
    written while it was on the wire, and the answer to it undid a later sealing."""
    memory = Memory()
    replica = memory.replica()
    for value in (1, 2):
        add(replica, value)
        replica.finish(value)
        replica.seal()
    assert not replica.free
    assert not replica.waiting
    assert not replica.full
    with pytest.raises(AssertionError, match="that the client still sends"):
        replica.seal()
    assert [(push.sequence, push.steps, push.tickets) for push in memory.sealed()] == [(1, 1, (1,)), (2, 1, (2,))]
