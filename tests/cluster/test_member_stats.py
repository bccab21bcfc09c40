"""What members say that they did, added up, and what they had no time to say."""

from __future__ import annotations

import math

import pytest

from hogpour.cluster.member_stats import MemberStats
from hogpour.core.cluster_state import Totals


def accounts() -> MemberStats:
    accounts = MemberStats(0.0)
    accounts.open(1, 10**6)
    return accounts


def test_what_a_member_did_remains_counted_when_it_is_gone() -> None:
    book = accounts()
    book.note(1, Totals(100, 90, 5.0, 4, 2.0), 2)
    book.close(1)
    assert book.totals == Totals(100, 90, 5.0, 4, 2.0)
    assert (book.examples, book.replicas) == (100, 0)


def test_a_block_that_was_finished_is_counted_though_no_heartbeat_came_after_it() -> None:
    """A node that was killed had reported blocks and not yet told its totals: the cluster trained for all epochs,
    and said that it had used fewer examples than there are in them."""
    book = accounts()
    book.note(1, Totals(100, 90, 5.0, 4, 2.0), 2)
    book.finish(1, 80)
    book.finish(1, 50)
    assert book.totals.examples == 100
    book.close(1)
    assert (book.totals.examples, book.examples) == (130, 130)


def test_what_was_used_and_not_finished_stays_counted() -> None:
    book = accounts()
    book.note(1, Totals(100), 2)
    book.finish(1, 80)
    book.close(1)
    assert (book.totals.examples, book.examples) == (100, 100)


def told(book: MemberStats, second: int, **examples: int) -> None:
    """Members 1, 2 ... say by the name m1, m2 ... how many examples they have used by now."""
    for name, count in examples.items():
        book.note(int(name[1:]), Totals(count), 2 if name == "m2" else 1)
    book.measure(float(second))


def test_the_pace_of_a_member_is_the_speed_of_its_replicas_to_that_of_the_fastest_ones() -> None:
    book = accounts()
    book.open(2, 10**6)
    book.open(3, 10**6)
    assert [book.pace(node) for node in (1, 2, 3)] == [1.0, 1.0, 1.0], "nothing is known yet"
    told(book, 1, m1=100, m2=400)
    told(book, 2, m1=200, m2=800, m3=50)
    assert [book.pace(node) for node in (1, 2, 3)] == [0.5, 1.0, 1.0], "the third one's first step may be any"
    told(book, 3, m1=300, m2=1200, m3=100)
    assert book.pace(3) == 0.25
    book.close(2)
    assert book.pace(1) == 1.0


def test_a_heartbeat_that_comes_late_changes_a_pace_a_little_and_one_without_news_nothing() -> None:
    book = accounts()
    book.open(2, 10**6)
    for second in range(1, 6):
        told(book, second, m1=200 * second, m2=200 * second)
    assert book.pace(2) == 0.5
    told(book, 6, m1=1100, m2=1200)
    assert book.pace(1) == 1.0
    assert 0.5 < book.pace(2) < 0.6
    before = book.pace(2)
    told(book, 7, m1=1100, m2=1200)
    assert book.pace(2) == before
    told(book, 8, m1=1600, m2=1600)
    assert book.pace(2) == pytest.approx(0.5, rel=0.02), "the first one was as fast as ever, but for a while unheard"


@pytest.mark.parametrize("step_s", [0.02, 0.3, 0.8, 1.5, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_pace_is_the_same_for_steps_of_any_length(step_s: float, times: int) -> None:
    """Heard of once a second: most of these are many steps, or a part of one."""
    book = accounts()
    book.open(3, 10**6)
    for second in range(round(200 * max(1.0, step_s))):
        steps = [math.floor(second / one + 1e-9) for one in (step_s, times * step_s)]
        told(book, second, m1=32 * steps[0], m3=32 * steps[1])
    assert book.pace(3) == pytest.approx(1 / times, rel=0.2)


def test_a_member_that_is_slower_from_now_on_has_another_pace_some_steps_later() -> None:
    book = accounts()
    book.open(3, 10**6)
    for second in range(80):
        told(book, second, m1=32 * second, m3=32 * (min(second, 20) + max(0, second - 20) // 4))
        assert second != 20 or book.pace(3) == 1.0
    assert book.pace(3) == pytest.approx(0.25, rel=0.2)


def test_of_a_member_whose_replicas_are_gone_nothing_is_measured() -> None:
    book = accounts()
    for second in (1, 2, 3):
        book.note(1, Totals(100 * second), 0)
        book.measure(float(second))
    assert book.pace(1) == 1.0


def test_a_member_is_believed_no_more_examples_than_it_was_given() -> None:
    """One heartbeat of 2^64 - 1 examples made the sum one that no answer could hold: every other member ended."""
    book = MemberStats(0.0)
    book.open(1, 50)
    book.lease(1, [50, 50])
    book.note(1, Totals(2**64 - 1, 2**64 - 1), 2)
    assert (book.examples, book.totals) == (150, Totals(150, 150))
    book.lease(1, [50, 50])
    book.note(1, Totals(2**64 - 1, 90), 2)
    assert (book.examples, book.totals) == (250, Totals(250, 90))
