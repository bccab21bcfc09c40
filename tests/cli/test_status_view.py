"""How a cluster is drawn: from made-up states, as wide as a terminal of 100 characters."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from support.cluster_views import CLUSTER, FIRST, SECOND, THIRD, VIEW, of_shards, shard

from hogpour.cli.status_json import Silent, View, quantile
from hogpour.cli.status_view import drawn
from hogpour.core.cluster_state import STALENESS_COUNTS, WaitedFor


def lines(view: View, most: int = 20, width: int = 100) -> list[str]:
    """What is printed, without the blanks at the ends of lines."""
    pipe = io.StringIO()
    Console(file=pipe, width=width).print(drawn("10.0.0.1:7000", view, most))
    return [line.rstrip() for line in pipe.getvalue().splitlines()]


def table_of_shards(view: View, most: int) -> list[str]:
    drawing = lines(view, most)
    begin = next(k for k, line in enumerate(drawing) if line.split()[:2] == ["shard", "node"])
    return drawing[begin + 1 : drawing.index("", begin)]


def test_a_view_is_the_run_the_members_the_shards_and_the_staleness() -> None:
    assert lines(VIEW) == [
        "10.0.0.1:7000: running",
        "25.0% of 528 blocks, 1,299,000 examples done, 640 repeated, 12,568 examples/s, mean loss 0.1234",
        "",
        "node  name              address        phase    replicas  shards  examples  rate/s  silent  blocks",
        "   1  oak process 4711  10.0.0.1:7000  ready          16       2   234,567  12,346   0.0 s      18",
        "   2  elm process 77    10.0.0.2:7000  leaving         2       1    65,433     222   1.2 s       4",
        "   5  fir process 4     -              loading         0       0         0       0   0.4 s       0",
        "",
        "shard  node  elements  clock  pushes  repeated  amended  dropped  mean staleness  p90  max",
        "    0     1     1,000  5,100   5,000         3        0        7            0.94    1    4",
        "    1     1     1,000  5,100   5,000         3        0        7            0.94    1    4",
        "    2     2     1,001  5,101      80         3        0        7            0.25    1    1",
        "",
        "staleness of 10,080 pushes to all shards: mean 0.93, p50 1, p90 1, max 4",
        "0 ▃█▁ ▁ 4",
    ]


def test_no_line_is_longer_than_100_characters_and_no_number_is_cut() -> None:
    far = replace(FIRST, name="a-machine-with-a-long-name process 4194304", address="192.168.100.100:65535",
                  examples=123_456_789, rate=123_456.0, tickets=1024)  # fmt: skip
    drawing = lines(replace(VIEW, cluster=replace(CLUSTER, members=(far, SECOND, THIRD))))
    assert max(map(len, drawing)) <= 100
    row = next(line for line in drawing if "123,456,789" in line)
    assert row.split()[-8:] == ["ready", "16", "2", "123,456,789", "123,456", "0.0", "s", "1024"]


def test_a_column_says_who_waits_for_whom_where_somebody_does() -> None:
    waited = WaitedFor(2, 0, 12.3, (1, 5)), WaitedFor(5, None, 2.0, (1,))
    drawing = lines(replace(VIEW, cluster=replace(CLUSTER, waits_for=waited)), width=160)
    assert drawing[3].endswith("blocks  waits for")
    assert drawing[4].endswith("18  replica 0 of node 2, 12 s; blocks of node 5, 2 s")
    assert drawing[5].endswith(" 4  -")
    assert drawing[6].endswith(" 0  replica 0 of node 2, 12 s")
    assert max(map(len, lines(replace(VIEW, cluster=replace(CLUSTER, waits_for=waited))))) <= 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warming": True}, "warm start, one replica computes"),
        ({"reason": "waiting for nodes: 2 of 4 are ready"}, "waiting for nodes: 2 of 4 are ready"),
        ({"command": "finish"}, "every example is used, the run ends"),
        ({"command": "stop", "reason": "the first node was asked to stop"}, "stopping: the first node was asked to stop"),
        ({"command": "fail", "reason": "node 2 (x:1) is gone"}, "failed: node 2 (x:1) is gone"),
    ],
)
def test_the_first_line_says_what_the_run_is_about(changes: dict[str, Any], words: str) -> None:
    assert lines(replace(VIEW, cluster=replace(CLUSTER, **changes)))[0] == f"10.0.0.1:7000: {words}"


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        (("", "", ""), "running"),
        (("0.1.0", "0.1.0", "0.1.0"), "running, hogpour 0.1.0"),
        (("0.1.0", "0.2.0", "0.1.0"), "running, hogpour versions (nodes): 0.1.0 (1, 5), 0.2.0 (2)"),
        (("0.1.0", "", "0.1.0"), "running, hogpour versions (nodes): ? (2), 0.1.0 (1, 5)"),
    ],
)
def test_versions_are_told_with_their_nodes_where_they_differ(versions: tuple[str, ...], words: str) -> None:
    members = tuple(replace(member, version=version) for member, version in zip(CLUSTER.members, versions, strict=True))
    assert lines(replace(VIEW, cluster=replace(CLUSTER, members=members)))[0] == f"10.0.0.1:7000: {words}"


def test_what_a_gate_and_the_network_cost_has_a_line_of_its_own() -> None:
    costly = replace(CLUSTER, dropped=1_234, mean_wait_s=0.0123, bytes_per_example=5_678.4)
    assert lines(replace(VIEW, cluster=costly))[2:4] == [
        "a push waits 12.3 ms at the gate, 1,234 came too late, 5,678 bytes/example", "",
    ]  # fmt: skip


def test_a_run_is_not_done_before_its_last_block() -> None:
    almost = replace(CLUSTER, tickets_done=99_999, tickets_leased=1, tickets_free=0)
    assert lines(replace(VIEW, cluster=almost))[1].startswith("99.9% of 100,000 blocks, ")
    whole = replace(CLUSTER, tickets_done=3, tickets_leased=0, tickets_free=0)
    assert lines(replace(VIEW, cluster=whole))[1].startswith("100.0% of 3 blocks, ")


def test_before_the_first_push_there_is_no_staleness_and_no_loss() -> None:
    fresh = shard(0, clock=0, pushes=0, staleness=(), mean_staleness=0.0)
    view = of_shards(1, shard_0=fresh)
    drawing = lines(replace(view, cluster=replace(view.cluster, loss=None, mean_staleness=None)))
    assert "loss" not in drawing[1]
    assert drawing[-1] == "no push yet"
    assert drawing[-3].split() == ["0", "1", "1,000", "0", "0", "3", "0", "7", "0.00", "-", "-"]


def test_a_node_that_does_not_answer_is_shown_with_its_shards() -> None:
    drawing = lines(View(CLUSTER, (*VIEW.shards[:2], None), (Silent(2, "10.0.0.2:7000", "connection refused"),)))
    assert drawing[11:13] == [
        "    2     2     1,001      -       -         -        -        -               -    -    -",
        "node 2 (10.0.0.2:7000) serves shard 2 and does not answer: connection refused",
    ]
    assert drawing[14] == "staleness of 10,000 pushes to all shards: mean 0.94, p50 1, p90 1, max 4"


def test_an_owner_that_is_gone_has_no_address() -> None:
    drawing = lines(View(replace(CLUSTER, owners=(9, 9, 1)), (None, None, shard(2)), (Silent(9, "", "no member"),)))
    assert "node 9 serves shards 0 to 1 and does not answer: no member" in drawing


def test_shards_that_are_alike_are_summed_up_only_where_there_are_many() -> None:
    assert len(table_of_shards(of_shards(20), 20)) == 20
    assert table_of_shards(of_shards(21), 20) == ["0 to 20     1    21,000  5,100   5,000         3        0        7            0.94    1    4"]


def test_shards_of_two_owners_or_in_two_states_are_not_summed_up() -> None:
    view = of_shards(30, shard_10=shard(10, clock=5101))
    view = replace(view, cluster=replace(view.cluster, owners=(1,) * 25 + (2,) * 5))
    names = [row[:8].strip() for row in table_of_shards(view, 20)]
    assert names == ["0 to 9", "10", "11 to 24", "25 to 29"]


def test_shards_for_which_there_is_no_row_are_counted() -> None:
    changing = {f"shard_{k}": shard(k, clock=5000 + k) for k in range(50)}
    rows = table_of_shards(of_shards(51, **changing), 20)
    assert len(rows) == 21
    assert rows[-1] == "… and 31 more"


# -- staleness ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "p50", "p90", "largest"),
    [
        ([], None, None, None),
        ([0, 0], None, None, None),
        ([1], 0, 0, 0),
        ([0, 0, 7], 2, 2, 2),
        ([5, 5], 0, 1, 1),
        ([90, 10], 0, 0, 1),
        ([89, 10, 1], 0, 1, 2),
        ([1, 0, 0, 0, 1, 0], 0, 4, 4),
    ],
)
def test_a_quantile_is_the_smallest_staleness_that_enough_pushes_do_not_exceed(
    counts: list[int], p50: int | None, p90: int | None, largest: int | None
) -> None:
    assert (quantile(counts, 0.5), quantile(counts, 0.9), quantile(counts, 1.0)) == (p50, p90, largest)


def test_a_single_push_among_millions_has_a_bar() -> None:
    view = of_shards(1, shard_0=shard(0, pushes=8_000_001, staleness=(8_000_000, 0, 1), mean_staleness=0.0))
    assert lines(view)[-1] == "0 █ ▁ 2"


def test_the_last_bar_stands_for_all_that_were_later_still() -> None:
    late = (1,) + (0,) * (STALENESS_COUNTS - 2) + (1,)
    drawing = lines(of_shards(1, shard_0=shard(0, pushes=2, staleness=late, mean_staleness=50.0)))
    assert drawing[-2] == "staleness of 2 pushes to all shards: mean 50.00, p50 0, p90 63+, max 63+"
    assert drawing[-1] == "0 █" + " " * 62 + "█ 63+"


def test_the_mean_weighs_shards_by_their_pushes() -> None:
    view = of_shards(2, shard_0=shard(0, pushes=30, mean_staleness=1.0), shard_1=shard(1, pushes=10, mean_staleness=5.0))
    assert view.mean_staleness == 2.0
    assert of_shards(1, shard_0=None).mean_staleness == 0.0
