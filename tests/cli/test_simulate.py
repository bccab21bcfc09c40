"""The commands of the laboratory, as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hogpour.cli.main import main

SCENARIO = """
nodes = 3
seed = 5

[compute]
distribution = "exponential"
mean_s = 0.2

[[death]]
at_s = 2.0
nodes = [2]
back_s = 1.0
"""


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return str(path)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_run_that_is_to_stop_at_no_time_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """0 meant never."""
    assert main(["sim", f"--until={seconds}"]) == 2
    assert capsys.readouterr().err.startswith(f"hogpour: --until {seconds}: expected seconds above 0; without it")


def test_a_model_of_more_shards_than_can_be_simulated_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It did not end."""
    assert main(["sim", "--model-only", "--parameters", str(10**12)]) == 2
    assert "is 953675 shards of cluster.shard_bytes = 4194304, expected at most 16384" in capsys.readouterr().err


def test_sim_prints_points_and_tables(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--scenario", scenario, "--epochs", "3"]) == 0
    told = capsys.readouterr().out
    assert "virtual time    epoch     examples  test loss  accuracy  nodes  staleness" in told
    assert "node 2: is killed" in told
    assert "node 2: begins again" in told
    assert "1 deaths" in told
    assert "finished after " in told
    assert "replicas waited " in told


def test_sim_prints_json_whose_last_line_is_the_report(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--scenario", scenario, "--epochs", "3", "--json", "--nodes", "4"]) == 0
    *points, report = lines(capsys)
    assert {point["event"] for point in points} == {"point"}
    assert report["event"] == "finished"
    assert (report["outcome"], len(report["nodes"]), report["deaths"]) == ("finished", 4, 1)
    assert 3 * 1438 <= report["examples"] <= 3 * 1438 + report["repeated"]
    assert len(report["trace"]) == 32


def test_sim_of_a_model_only_stops_when_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--nodes", "5", "--model-only", "--parameters", "1000000", "--compute", "log_normal:0.5", "--until", "5"]
    assert main(["sim", *options, "--json"]) == 0
    report = lines(capsys)[-1]
    assert (report["outcome"], report["loss"]) == ("stopped", None)
    assert report["bytes"] > 50e6


def test_sim_that_fails_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    path.write_text("nodes = 3\nserving = 1\n[compute]\nmean_s = 0.5\n[[death]]\nat_s = 3.0\nnodes = [1]\n")
    job = tmp_path / "job.toml"
    job.write_text('[model]\nlayers = [{layer = "linear", units = 10}]\n[algorithm]\nname = "downpour"\n'
                   "[cluster]\nshard_bytes = 1024\n")  # fmt: skip
    assert main(["sim", str(job), "--scenario", str(path), "--json"]) == 1
    report = lines(capsys)[-1]
    assert report["outcome"] == "failed"
    assert "it served shard" in report["error"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--scenario", "missing.toml"], "missing.toml: no such scenario file"),
        (["--nodes", "0"], "scenario: nodes = 0, expected at least 1"),
        (["--compute", "exponentil:1"], "--compute exponentil:1: distribution = 'exponentil': expected one of 'constant', "
         "'exponential', 'log_normal', 'pareto', 'measured'"),
        (["--compute", "exponential:soon"], "--compute exponential:soon: expected for example exponential:0.1 (could not "
         "convert string to float: 'soon')"),
        (["--compute", "constant:-1"], "--compute constant:-1: mean_s = -1.0, expected above 0 and finite"),
        (["--parameters", "5"], "scenario: parameters = 5, expected 0 where gradients are computed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sim", *words]) == 2
    assert capsys.readouterr().err == f"hogpour: {text}\n"


def test_a_typo_in_a_scenario_file_names_the_nearest_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    path.write_text("[[death]]\nat_s = 1\nnode = [1]\n")
    assert main(["sim", "--scenario", str(path)]) == 2
    assert capsys.readouterr().err == f"hogpour: {path}: death[0].node: no such key; did you mean 'nodes'?\n"


def test_sweep_says_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--seeds", "0-4"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("5 seeds, 0 broke a promise; runs: ")


def test_sweep_prints_the_command_that_replays_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    from hogpour.sim.checks.ablations import ABLATIONS

    seed = ABLATIONS["window"].seed
    assert main(["sweep", "--seeds", str(seed), "--without", "window"]) == 1
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert first == f"seed {seed}: python -m hogpour sweep --seeds {seed} --without window"
    assert "is applied a second time" in second
    assert last.startswith("1 seeds, 1 broke a promise")
    assert main(["sweep", "--seeds", str(seed), "--without", "window", "--json"]) == 1
    found, summary = lines(capsys)
    assert (found["seed"], bool(found["violations"])) == (seed, True)
    assert (summary["seeds"], summary["failed"]) == (1, 1)


def test_sweep_lists_what_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--without", "list"]) == 0
    assert "window         a push that comes again is applied once; seed " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--seeds", "some"], "--seeds some: expected a number, or a range such as 0-199"),
        (["--seeds", "9-3"], "--seeds 9-3: expected a number, or a range such as 0-199"),
        (["--without", "windows"], "--without windows: no such safeguard; did you mean 'window'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_of_a_sweep_is_one_line(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *words]) == 2
    assert capsys.readouterr().err == f"hogpour: {text}\n"


def test_a_place_that_takes_no_picture_is_refused_before_anything_is_simulated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found out at the end, and told with the number of the error and the path once more."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("hogpour.sim.simulation.Simulation.run", lambda _: pytest.fail("simulated"))
    assert main(["sim", "--plot", "/nonexistent/x.png"]) == 2
    text = "hogpour: --plot /nonexistent/x.png: cannot be written: No such file or directory\n"
    assert capsys.readouterr() == ("", text)


@pytest.mark.long
@pytest.mark.real
def test_a_picture_is_drawn(scenario: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "a.png"
    command = [sys.executable, "-m", "hogpour", "sim", "--scenario", scenario, "--epochs", "3", "--plot", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert picture.read_bytes().startswith(b"\x89PNG")
    command[-1] = str(tmp_path / "nowhere" / "a.png")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"hogpour: --plot {command[-1]}: cannot be written: ")


@pytest.mark.long
@pytest.mark.real
def test_one_seed_has_one_trace_whatever_python_does(scenario: str) -> None:
    """Two processes with different hash seeds, one of them with optimisations; another seed is another trace."""
    traces = []
    for hash_seed, optimise, seed in ((1, [], 5), (2, ["-O"], 5), (1, [], 6)):
        command = [sys.executable, *optimise, "-m", "hogpour", "sim", "--scenario", scenario, "--seed", str(seed), "--json",
                   "--epochs", "3", "--serving", "1"]  # fmt: skip
        environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
        traces.append(json.loads(done.stdout.splitlines()[-1])["trace"])
    assert traces[0] == traces[1] != traces[2]


@pytest.mark.parametrize("words", [["sim"], ["sweep", "--seeds", "0-9"]], ids=lambda words: words[0])
def test_ctrl_c_ends_with_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hogpour.sim.simulation.Simulation.run", interrupted)
    assert main(words) == 130
    assert capsys.readouterr().err == "hogpour: interrupted\n"
