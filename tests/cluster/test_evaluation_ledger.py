"""The ledger of a batch: every block once, neighbours together, copies at the end, nothing lost with a member."""

from __future__ import annotations

import math

from hogpour.cluster.evaluation_ledger import EvaluationLedger
from hogpour.data.blocks import Blocks

BLOCKS = Blocks(n=95, batch=5, replicas=1, epochs=9, count=10)


def opened(**changes: bool) -> EvaluationLedger:
    batch = EvaluationLedger(BLOCKS, **changes)
    batch.open()
    return batch


def losses(tickets: list[int], loss: float = 1.0) -> dict[int, float]:
    return dict.fromkeys(tickets, loss)


def test_every_block_is_given_out_once_and_neighbours_together() -> None:
    batch = opened(copies=False)
    given: dict[int, list[int]] = {1: [], 2: []}
    for turn in range(10):
        node = 1 + turn % 2
        tickets = batch.grant(node, batch.held(node), 1)
        given[node] += [ticket % 10 for ticket in tickets]
    assert sorted(given[1] + given[2]) == list(range(10))
    assert given[1] == [0, 1, 2, 3, 4]
    assert batch.grant(1, batch.held(1), 1) == []


def test_an_evaluation_is_complete_when_every_block_is_done() -> None:
    batch = opened()
    for node in (1, 2):
        tickets = batch.grant(node, (), 5)
        assert batch.finish(node, losses(tickets, 9.5)) == (50 if node == 1 else 45)
    assert batch.complete
    assert batch.loss == 1.0
    assert batch.grant(1, (), 1) == []
    batch.open()
    assert not batch.complete
    assert batch.evaluation == 2


def test_a_loss_that_is_not_finite_makes_the_objective_so() -> None:
    batch = opened()
    tickets = batch.grant(1, (), 10)
    batch.finish(1, losses(tickets[1:]) | {tickets[0]: math.nan})
    assert batch.loss == math.inf


def test_copies_are_given_when_no_block_is_left_and_the_first_counts() -> None:
    batch = opened()
    slow, quick = batch.grant(1, (), 2), batch.grant(2, (), 8)
    batch.finish(2, losses(quick))
    assert batch.grant(2, (), 1, 1) == [slow[0]]
    assert batch.grant(2, batch.held(2), 1, 1) == []  # it has as many as it has replicas
    assert batch.grant(2, batch.held(2), 1, 2) == [slow[1]]
    assert batch.finish(2, losses(slow[:1], 2.0)) == 10
    assert batch.finish(1, losses(slow[:1], 3.0)) == 0
    assert batch.examples_repeated == 20
    batch.finish(1, losses(slow[1:]))
    assert batch.complete
    assert batch.loss == (2.0 + 9.0) / 95


def test_without_copies_who_is_done_waits() -> None:
    batch = opened(copies=False)
    batch.grant(1, (), 2)
    batch.finish(2, losses(batch.grant(2, (), 8)))
    assert batch.grant(2, (), 1, 1) == []


def test_what_a_dead_member_held_is_free_again_unless_another_has_it() -> None:
    batch = opened()
    slow = batch.grant(1, (), 2)
    batch.finish(2, losses(batch.grant(2, (), 8)))
    batch.grant(2, (), 1, 1)
    assert batch.take_back(1) == 20
    assert batch.free == 1  # the other one is being copied
    assert batch.grant(3, (), 5, 5) == [slow[1], slow[0]]
    assert batch.finish(1, losses(slow)) == 0  # it is no member any more
    assert batch.finish(3, losses(slow)) == 20
    assert batch.complete


def test_a_lost_answer_is_given_again_and_what_is_of_the_evaluation_before_counts_for_nothing() -> None:
    batch = opened()
    first = batch.grant(1, (), 3)
    assert batch.grant(1, (), 3) == first
    batch.finish(2, losses(batch.grant(2, (), 10)))
    batch.finish(2, losses(batch.grant(2, (), 3, 3)))
    assert batch.complete
    batch.open()
    assert batch.held(1) == frozenset()
    assert batch.finish(1, losses(first)) == 0
    assert not batch.complete


def test_blocks_are_the_same_for_any_number_of_replicas() -> None:
    for replicas in (1, 7):
        blocks = Blocks(n=95, batch=5, replicas=replicas, epochs=2, count=10)
        assert (blocks.block_size, blocks.n_blocks) == (10, 10)
        assert blocks.epoch_order(3, 1).tolist() == list(range(10))
    assert Blocks(n=7, batch=5, replicas=1, epochs=1, count=100).n_blocks == 2
