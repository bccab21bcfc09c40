"""What members say that they did, added up, and what they had no time to say."""

from __future__ import annotations

from hogpour.accounts import Accounts
from hogpour.stats import Totals


def accounts() -> Accounts:
    accounts = Accounts(0.0)
    accounts.open(1)
    return accounts


def test_what_a_member_did_remains_counted_when_it_is_gone() -> None:
    book = accounts()
    book.note(1, Totals(100, 90, 5.0, 4, 2.0), 2)
    book.close(1)
    assert book.totals == Totals(100, 90, 5.0, 4, 2.0)
    assert (book.examples, book.replicas) == (100, 0)


def test_a_portion_that_was_finished_is_counted_though_no_heartbeat_came_after_it() -> None:
    """A node that was killed had reported portions and not yet told its totals: the cluster trained for all epochs,
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
