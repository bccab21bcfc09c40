"""Scenario files: what they mean, what is wrong with them in one line, and the single actions that follow."""

from __future__ import annotations

from itertools import islice
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from hogpour.core.errors import ConfigError
from hogpour.sim.scenario import (
    Death,
    DiskConditions,
    Firewall,
    LinkConditions,
    NodeJoin,
    Partition,
    Pause,
    ReplicaDeath,
    ReplicaPause,
    Scenario,
    Slow,
    SlowLink,
    read_scenario,
    scenario_from,
)
from hogpour.sim.world.actions import Action, actions
from hogpour.sim.world.compute import Compute

EXAMPLE = Path(__file__).parents[2] / "examples" / "spot.toml"

FILE = """
nodes = 8
replicas = 2
serving = 3
seed = 7
until_s = 3600
look_every_s = 10
shuffle = true
[compute]
distribution = "pareto"
mean_s = 0.2
speeds = [1, 2]
[link]
delay_s = 0.01
window_bytes = 4096
look_up_s = 1.5
[disk]
bandwidth = 1e6
[[slow_link]]
nodes = [2, 3]
delay_s = 0.1
[[death]]
at_s = 5
nodes = [1]
kind = "power"
[[death]]
every_s = 60
fraction = 0.1
back_s = 20
[[replica_death]]
at_s = 4
node = 7
replica = 1
[[partition]]
at_s = 9
for_s = 2
nodes = [1, 2]
[[firewall]]
at_s = 6
for_s = 4
nodes = [2]
sources = [1, 3]
[[pause]]
at_s = 9
for_s = 3
nodes = [4]
[[replica_pause]]
at_s = 13
for_s = 1
nodes = [6]
replica = 1
[[slow]]
at_s = 1
for_s = 4
every_s = 10
until_s = 30
nodes = [5]
times = 8
[[join]]
at_s = 50
nodes = 2
serving = true
"""


def refused(tables: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        scenario_from(tables, "spot.toml")
    return str(error.value)


# -- the file -----------------------------------------------------------------------------------------------------------


def test_a_scenario_file_says_what_the_api_says(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(FILE)
    assert read_scenario(str(tmp_path / "scenario.toml")) == Scenario(
        nodes=8,
        replicas=2,
        serving=3,
        seed=7,
        until_s=3600.0,
        look_every_s=10.0,
        shuffle=True,
        compute=Compute(distribution="pareto", mean_s=0.2, speeds=(1.0, 2.0)),
        link=LinkConditions(delay_s=0.01, window_bytes=4096, look_up_s=1.5),
        disk=DiskConditions(bandwidth=1e6),
        slow_link=(SlowLink(nodes=(2, 3), delay_s=0.1),),
        death=(Death(at_s=5, nodes=(1,), kind="power"), Death(every_s=60, fraction=0.1, back_s=20)),
        replica_death=(ReplicaDeath(at_s=4, node=7, replica=1),),
        partition=(Partition(at_s=9, for_s=2, nodes=(1, 2)),),
        firewall=(Firewall(at_s=6, for_s=4, nodes=(2,), sources=(1, 3)),),
        pause=(Pause(at_s=9, for_s=3, nodes=(4,)),),
        replica_pause=(ReplicaPause(at_s=13, for_s=1, nodes=(6,), replica=1),),
        slow=(Slow(at_s=1, for_s=4, every_s=10, until_s=30, nodes=(5,), times=8),),
        join=(NodeJoin(at_s=50, nodes=2, serving=True),),
    )


def test_an_empty_file_is_the_default_scenario() -> None:
    assert scenario_from({}, "x") == Scenario()


def test_the_example_loses_a_fifth_of_its_machines_in_an_hour() -> None:
    scenario = read_scenario(str(EXAMPLE))
    (death,) = scenario.death
    assert scenario.nodes == 50
    assert death.fraction * 3600 / death.every_s == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        ({"deth": []}, "deth: no such key; did you mean 'death'?"),
        ({"link": {"bandwith": 1}}, "link.bandwith: no such key; did you mean 'bandwidth'?"),
        ({"death": [{"at": 1}]}, "death[0].at: no such key; did you mean 'at_s'?"),
        ({"nodes": "x"}, "nodes = 'x': expected int, got str"),
        ({"nodes": 0}, "nodes = 0, expected at least 1"),
        ({"replicas": 0}, "replicas = 0, expected at least 1"),
        ({"compute": {"mean_s": 1e12}}, "a gradient takes 1e+12 s on a node of speed 1, expected at most until_s = 864000"),
        ({"compute": {"speeds": [1, 1e-9]}, "until_s": 9.0}, "a gradient takes 1e+07 s on a node of speed 1e-09, expected at most until_s = 9"),
        ({"slow": [{"at_s": 1, "for_s": 1, "nodes": [1], "times": 1e9}]}, "a gradient takes 1e+07 s in slow[0] on a node of speed 1, expected at most until_s = 864000"),
        ({"serving": 4}, "serving = 4, expected at most the 3 nodes that join"),
        ({"seed": -1}, "seed = -1, expected at least 0"),
        ({"until_s": 0}, "until_s = 0.0, expected above 0 and finite"),
        ({"until_s": inf}, "until_s = inf, expected above 0 and finite"),
        ({"look_every_s": -1}, "look_every_s = -1.0, expected 0 or more, and finite"),
        ({"parameters": 5}, "parameters = 5, expected 0 where gradients are computed"),
        ({"compute": 3}, "compute: expected a table [compute], got 3"),
        ({"compute": {"mean_s": 0}}, "compute.mean_s = 0.0, expected above 0 and finite"),
        ({"link": {"delay_s": nan}}, "link.delay_s = nan, expected 0 or more, and finite"),
        ({"link": {"window_bytes": 9}}, "link.window_bytes = 9, expected at least 1024"),
        ({"disk": {"bandwidth": 0}}, "disk.bandwidth = 0.0, expected above 0 and finite"),
        ({"slow_link": [{"nodes": []}]}, "slow_link[0].nodes = [], expected at least one number, and none twice"),
        ({"firewall": [{"nodes": [1], "sources": [4], "at_s": 0, "for_s": 1}]}, "firewall[0]: node 4, expected 0 to 3"),
        ({"slow_link": [{"nodes": [4]}]}, "slow_link[0]: node 4, expected 0 to 3"),
        ({"death": {"at_s": 1}}, "death: expected tables [[death]], got {'at_s': 1}"),
        ({"death": [{"nodes": [1]}]}, "death[0].at_s is missing, expected a time, or every_s"),
        ({"death": [{"at_s": -1, "nodes": [1]}]}, "death[0].at_s = -1.0, expected 0 or more, and finite"),
        ({"death": [{"at_s": 1, "nodes": [1], "back_s": inf}]}, "death[0].back_s = inf, expected 0 or more, and finite"),
        ({"death": [{"at_s": 1, "fraction": 1.5}]}, "death[0].fraction = 1.5, expected 0 to 1"),
        ({"death": [{"at_s": 1}]}, "death[0].nodes = [] and fraction = 0.0, expected one of the two"),
        (
            {"death": [{"at_s": 1, "nodes": [1], "fraction": 0.5}]},
            "death[0].nodes = [1] and fraction = 0.5, expected one of the two",
        ),
        ({"death": [{"at_s": 1, "nodes": [1, 1]}]}, "death[0].nodes = [1, 1], expected at least one number, and none twice"),
        ({"death": [{"at_s": 1, "nodes": [1]}, {"at_s": 1, "nodes": [9]}]}, "death[1]: node 9, expected 0 to 3"),
        (
            {"death": [{"at_s": 1, "nodes": [1], "kind": "kil"}]},
            "death[0].kind = 'kil': expected one of 'kill', 'power', 'leave'",
        ),
        (
            {"death": [{"at_s": 9, "until_s": 3, "nodes": [1]}]},
            "death[0].until_s = 3.0, expected at least 9.0, when it happens first",
        ),
        ({"replica_death": [{"at_s": 1}]}, "replica_death[0].node is missing"),
        ({"replica_death": [{"at_s": 1, "node": -1}]}, "replica_death[0]: node -1, expected 0 to 3"),
        ({"replica_death": [{"at_s": 1, "node": 1, "replica": 1}]}, "replica_death[0]: replica 1, expected 0 to 0"),
        ({"partition": [{"at_s": 1, "nodes": [1]}]}, "partition[0].for_s is missing"),
        ({"pause": [{"at_s": 1, "for_s": 0, "nodes": [1]}]}, "pause[0].for_s = 0.0, expected above 0 and finite"),
        (
            {"pause": [{"at_s": 1, "for_s": 5, "every_s": 5, "nodes": [1]}]},
            "pause[0].for_s = 5.0, expected below every_s = 5.0",
        ),
        ({"slow": [{"at_s": 1, "for_s": 1, "nodes": [1], "times": 0}]}, "slow[0].times = 0.0, expected above 0"),
        ({"join": [{"at_s": 1, "nodes": 0}]}, "join[0].nodes = 0, expected at least 1"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(tables: dict[str, Any], text: str) -> None:
    assert refused(tables) == f"spot.toml: {text}"


def test_nodes_that_join_later_may_be_named() -> None:
    tables = {"join": [{"at_s": 1, "nodes": 2}], "death": [{"at_s": 9, "nodes": [5]}]}
    assert scenario_from(tables, "x").death[0].nodes == (5,)
    tables["death"][0]["nodes"] = [6]
    assert refused(tables) == "spot.toml: death[0]: node 6, expected 0 to 5"


def test_a_missing_scenario_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: no such scenario file$"):
        read_scenario(str(tmp_path / "nothing.toml"))


def test_a_file_that_is_not_toml_is_told_where(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text("nodes = 4\nseed = = 3\n")
    with pytest.raises(ConfigError, match=r"scenario\.toml: not TOML: .*line 2"):
        read_scenario(str(tmp_path / "scenario.toml"))


# -- the actions --------------------------------------------------------------------------------------------------------


def test_every_kind_of_table_becomes_its_actions_in_the_order_of_their_times() -> None:
    from tomllib import loads

    scenario = scenario_from(loads(FILE), "x")
    one, fraction = scenario.death
    assert list(islice(actions(scenario), 20)) == [
        Action(1.0, "slow", (5,), number=8.0),
        Action(4.0, "kill_replica", (7,), number=1),
        Action(5.0, "die", (1,), one),
        Action(5.0, "slow", (5,), number=1.0),
        Action(6.0, "shut", (2,), number=1, sources=(1, 3)),
        Action(9.0, "cut", (1, 2), number=1),
        Action(9.0, "pause", (4,)),
        Action(10.0, "open", (2,), number=1),
        Action(11.0, "heal", (1, 2), number=1),
        Action(11.0, "slow", (5,), number=8.0),
        Action(12.0, "go_on", (4,)),
        Action(13.0, "freeze", (6,), number=1),
        Action(14.0, "thaw", (6,), number=1),
        Action(15.0, "slow", (5,), number=1.0),
        Action(21.0, "slow", (5,), number=8.0),
        Action(25.0, "slow", (5,), number=1.0),
        Action(50.0, "join", number=2, serving=True),
        Action(60.0, "die", (), fraction),
        Action(120.0, "die", (), fraction),
        Action(180.0, "die", (), fraction),
    ]


def test_two_tables_of_a_kind_keep_their_own_numbers() -> None:
    """All tables of a kind had nodes, length and count of the last one, since generators looked at them late."""
    scenario = Scenario(
        replica_death=(ReplicaDeath(at_s=1, node=1), ReplicaDeath(at_s=2, node=2)),
        partition=(Partition(at_s=3, for_s=1, nodes=(1,)), Partition(at_s=5, for_s=2, nodes=(2, 3))),
        pause=(Pause(at_s=10, for_s=1, nodes=(1,)), Pause(at_s=12, for_s=2, nodes=(2, 3))),
        slow=(Slow(at_s=20, for_s=1, nodes=(1,), times=2), Slow(at_s=22, for_s=2, nodes=(2, 3), times=9)),
        join=(NodeJoin(at_s=30), NodeJoin(at_s=31, nodes=7, serving=True)),
    )
    assert list(actions(scenario)) == [
        Action(1, "kill_replica", (1,)),
        Action(2, "kill_replica", (2,)),
        Action(3, "cut", (1,), number=1),
        Action(4, "heal", (1,), number=1),
        Action(5, "cut", (2, 3), number=2),
        Action(7, "heal", (2, 3), number=2),
        Action(10, "pause", (1,)),
        Action(11, "go_on", (1,)),
        Action(12, "pause", (2, 3)),
        Action(14, "go_on", (2, 3)),
        Action(20, "slow", (1,), number=2),
        Action(21, "slow", (1,), number=1),
        Action(22, "slow", (2, 3), number=9),
        Action(24, "slow", (2, 3), number=1),
        Action(30, "join", number=1),
        Action(31, "join", number=7, serving=True),
    ]


def test_a_schedule_counts_its_times_and_does_not_drift() -> None:
    scenario = Scenario(death=(Death(at_s=0.0, every_s=0.1, fraction=0.5),))
    assert next(islice(actions(scenario), 1000, None)).at_s == 1000 * 0.1


def test_what_is_repeated_ends_with_its_last_time() -> None:
    deaths = (Death(at_s=1, every_s=2, until_s=5, fraction=0.5), Death(every_s=4, until_s=8, nodes=(1,)))
    assert [action.at_s for action in actions(Scenario(death=deaths))] == [1, 3, 4, 5, 8]


def test_actions_of_one_time_come_in_the_order_of_the_tables() -> None:
    scenario = Scenario(
        pause=(Pause(at_s=1, for_s=2, nodes=(1,)), Pause(at_s=3, for_s=1, nodes=(1,))),
        death=(Death(at_s=3, nodes=(1,)),),
    )
    assert [action.kind for action in actions(scenario)] == ["pause", "die", "go_on", "pause", "go_on"]


def test_a_scenario_without_misfortunes_has_no_actions() -> None:
    assert list(actions(Scenario())) == []
