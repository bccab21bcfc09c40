"""``hogpour compare``: which keys a scheme takes over, what the rows say, what fails alone, and both ways to train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import hogpour as hp
from hogpour.algos.schemes.hogwild import Hogwild
from hogpour.cli.comparison import compare, names_in, variant
from hogpour.cli.main import main
from hogpour.cli.trial import LossPoint, Trial, count_pushes
from hogpour.core import job as config
from hogpour.core.cluster_state import ShardState
from hogpour.core.errors import ConfigError, ReplicaDied
from hogpour.core.job import Job

JOB = """
[model]
layers = [{layer = "linear", units = 10}]
[algorithm]
name = "downpour"
n_push = 3
optimiser = {name = "momentum", lr = 0.02}
schedule = {name = "cosine"}
[run]
epochs = 1
replicas = 2
"""

ROOT = Path(__file__).parents[2]

NEEDY = f"{__name__}:Needy"


@dataclass(frozen=True, kw_only=True)
class Needy(Hogwild):
    """A scheme of somebody's own, with a key that it cannot do without, and defaults of its own."""

    bound: int
    n_push: int = 8
    n_fetch: int = 9


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    return "job.toml"


@pytest.fixture
def job(job_file: str) -> Job:
    return config.read_job(job_file)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def trained(job: Job) -> Trial:
    """A run that takes no time."""
    points = (LossPoint(1.0, 2.0, 0.25), LossPoint(2.0, 0.5, 0.75))
    if not job.algorithm.federated:
        return Trial(outcome="finished", examples=1000, seconds=2.0, loss=0.5, accuracy=0.75, points=points)
    return Trial(outcome="finished", examples=1000, seconds=4.0, loss=0.25, accuracy=0.875, staleness=1.5, pushes=60,
                 pushes_repeated=2, pushes_amended=4, pushes_dropped=3, wait_s=0.0025, bytes=50_000, points=points)  # fmt: skip


def failing(error: Exception) -> Callable[[Job], Trial]:
    """Train as ``trained``, but for schemes that are not federated."""

    def train(job: Job) -> Trial:
        if not job.algorithm.federated:
            raise error
        return trained(job)

    return train


# -- the job under another scheme ---------------------------------------------------------------------------------------


def test_a_scheme_gets_optimiser_and_schedule_of_the_job_and_leaves_out_what_it_has_no_key_for(job: Job) -> None:
    other, left_out = variant(job, "hogwild", {"name", "n_push", "optimiser", "schedule"})
    assert other == replace(job, algorithm=hp.Hogwild(optimiser=hp.Momentum(lr=0.02), schedule=hp.Cosine()))
    assert left_out == ["algorithm.n_push"]


def test_the_jobs_own_scheme_is_the_job(job: Job) -> None:
    assert variant(job, "downpour", {"n_push", "optimiser", "schedule"}) == (job, [])


def test_what_nobody_said_is_the_other_schemes_own_default(job: Job) -> None:
    """A key of the same name may have another default there: the constant of its own paper."""
    job = replace(job, algorithm=Needy(bound=1))
    assert variant(job, "downpour", {"bound"})[0].algorithm == hp.Downpour()
    assert variant(job, "downpour", {"bound", "n_push"})[0].algorithm == hp.Downpour(n_push=8)


def test_without_a_job_file_what_is_not_as_it_would_be_was_said() -> None:
    job = config.default_job(True)
    assert (job.algorithm.n_push, job.algorithm.n_fetch) == (4, 4)
    assert variant(job, "hogwild")[1] == ["algorithm.n_push", "algorithm.n_fetch"]
    assert variant(replace(job, algorithm=hp.Downpour()), "hogwild")[1] == []


def test_a_batch_method_gets_no_optimiser_and_no_schedule(job: Job) -> None:
    other, left_out = variant(job, "sandblaster", {"optimiser", "schedule"})
    assert other.algorithm == hp.Sandblaster()
    assert left_out == ["algorithm.optimiser", "algorithm.schedule"]


def test_a_scheme_of_one_replica_runs_with_one(job: Job) -> None:
    other, left_out = variant(job, "sync_sgd", ())
    assert (other.replicas, left_out) == (0, ["run.replicas"])


def test_a_scheme_that_needs_a_key_says_so(job: Job) -> None:
    with pytest.raises(ConfigError, match=f"^algorithm: scheme {NEEDY} needs the key 'bound'$"):
        variant(job, NEEDY, ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hogwild,donpour", "--schemes: scheme \"donpour\" is not known; did you mean 'downpour'?"),
        ("hogwild, hogwild", "--schemes: hogwild is named twice, expected each scheme once"),
        (",", "--schemes: expected names with commas between them; known: "),
    ],
)
def test_a_mistake_in_the_names_is_one_line_and_exit_code_2(
    text: str, told: str, job_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", job_file, "--schemes", text]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"hogpour: {told}")
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_names_may_have_spaces_around_them() -> None:
    assert names_in(" hogwild, downpour,") == ["hogwild", "downpour"]


# -- what is printed ----------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_scheme_and_a_dash_where_nothing_is_known(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(job, ["hogwild", "downpour"], trained, said={"n_push"}) == 0
    assert capsys.readouterr().out.splitlines() == [
        "hogwild: left out, as this scheme has no use for it: algorithm.n_push",
        "scheme       examples    seconds  examples/s      loss  accuracy  staleness   pushes (repeated)   amended   dropped   wait ms  bytes/example",
        "hogwild         1,000       2.00         500    0.5000    0.7500          -                   -         -         -         -              -",
        "downpour        1,000       4.00         250    0.2500    0.8750       1.50              60 (2)         4         3      2.50             50",
    ]


def test_a_scheme_that_fails_is_a_row_and_the_next_one_has_its_turn(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    died = ReplicaDied(1, -9, "replica 1 died 3 times\nits last words")
    assert compare(job, ["hogwild", "downpour"], failing(died), said=()) == 1
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("-  failed: replica 1 died 3 times")
    assert second.startswith("downpour        1,000")


def test_a_bug_in_a_scheme_is_a_row_and_a_traceback(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(job, ["hogwild", "downpour"], failing(ZeroDivisionError("by 0")), said=(), json=True) == 1
    said = capsys.readouterr()
    first, second, last = (json.loads(line) for line in said.out.splitlines())
    assert (first["outcome"], first["error"], second["outcome"]) == ("failed", "ZeroDivisionError: by 0", "finished")
    assert (last["schemes"], last["failed"]) == (2, 1)
    assert "in train\n    raise error" in said.err


def test_a_scheme_whose_keys_are_missing_is_a_row(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(job, [NEEDY, "downpour"], trained, said=()) == 1
    assert f"{NEEDY} needs the key 'bound'" in capsys.readouterr().out.splitlines()[1]


def test_json_is_one_object_a_scheme_and_a_last_one(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    def diverges(job: Job) -> Trial:
        return replace(trained(job), outcome="diverged", loss=float("nan"), points=(LossPoint(1.0, float("inf"), None),))

    assert compare(job, ["downpour"], diverges, said={"n_push"}, json=True) == 1
    row, last = lines(capsys)
    assert row == {
        "event": "scheme", "scheme": "downpour", "outcome": "diverged", "error": "", "examples": 1000, "seconds": 4.0,
        "rate": 250.0, "loss": None, "accuracy": 0.875, "staleness": 1.5, "pushes": 60, "pushes_repeated": 2, "pushes_amended": 4, "pushes_dropped": 3, "wait_s": 0.0025, "bytes": 50_000,
        "bytes_per_example": 50.0, "points": [{"seconds": 1.0, "loss": None, "accuracy": None}], "left_out": [],
    }  # fmt: skip
    assert last == {"event": "finished", "schemes": 1, "failed": 1, "seconds": last["seconds"], "plot": ""}


def test_pushes_are_those_of_all_shards_and_staleness_is_weighed_by_them() -> None:
    def shard(pushes: int, repeated: int, staleness: float) -> ShardState:
        state = object.__new__(ShardState)
        for name, value in (("pushes", pushes), ("repeated", repeated), ("amended", 5), ("dropped", 7), ("mean_staleness", staleness)):
            object.__setattr__(state, name, value)
        return state

    def counts(*found: Any) -> dict[str, Any]:
        names = ("pushes", "pushes_repeated", "pushes_amended", "pushes_dropped", "staleness")
        return dict(zip(names, found, strict=True))

    assert count_pushes([shard(30, 1, 2.0), shard(10, 2, 4.0)]) == counts(40, 3, 10, 14, 2.5)
    assert count_pushes([shard(0, 0, 0.0)]) == counts(0, 0, 5, 7, None)
    assert count_pushes([]) == {}


# -- the picture --------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.real
def test_a_picture_is_drawn_also_where_a_scheme_has_no_curve(job_file: str, tmp_path: Path) -> None:
    """In a process of its own: matplotlib keeps the files of its fonts open."""
    pytest.importorskip("matplotlib")
    (tmp_path / "a.png").write_text("the one before")
    words = ["compare", job_file, "--schemes", "hogwild,downpour", "--sim", "--plot", "a.png"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-m", "hogpour", *words], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("\npicture: a.png\n")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nowhere/a.png", "--plot nowhere/a.png: cannot be written: No such file or directory"),
        ("a.foo", "--plot a.foo: expected a name that ends in .png, or in .pdf, .svg and the like"),
    ],
)
def test_a_picture_that_cannot_be_written_is_told_before_anything_is_trained(
    path: str, told: str, job_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert main(["compare", job_file, "--schemes", "hogwild", "--plot", path]) == 2
    assert capsys.readouterr() == ("", f"hogpour: {told}\n")


def test_a_path_that_is_checked_leaves_no_file(job: Job, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from hogpour.cli.plots import check_plot

    check_plot("a.png")
    assert not (tmp_path / "a.png").exists()


# -- as a person types it -----------------------------------------------------------------------------------------------


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["compare", "--help"])
    assert end.value.code == 0
    assert "example: python -m hogpour compare job.toml --schemes " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nodes", "3"], "--nodes: goes with --sim; without it this machine trains alone"),
        (["--replicas", "0"], "--replicas 0: expected at least 1, or no such option for all cores"),
        (["--sim", "--nodes", "0"], "scenario: nodes = 0, expected at least 1"),
        (["--epochs", "0"], "run: epochs = 0, expected at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str], told: str, job_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", job_file, "--schemes", "downpour", *words]) == 2
    assert capsys.readouterr() == ("", f"hogpour: {told}\n")


def test_data_that_cannot_be_read_are_told_once(job_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(job_file).write_text(JOB + '[data]\ntrain = "x.npz"\n')
    assert main(["compare", job_file, "--schemes", "hogwild,downpour"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "x.npz: no such file" in said.err


def test_a_simulation_knows_bytes_and_refuses_a_scheme_of_one_machine(
    job_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", job_file, "--schemes", "hogwild,downpour", "--sim", "--nodes", "3", "--seed", "7", "--json"]
    assert main(words) == 1
    refused, row, last = lines(capsys)
    assert refused["outcome"] == "failed"
    assert refused["error"].startswith("algorithm: this scheme trains on one machine, and a simulation is of several")
    assert (row["outcome"], row["examples"], row["pushes_repeated"]) == ("finished", 1438, 0)
    assert row["pushes"] >= 1438 / 32 / 3
    assert row["bytes_per_example"] == row["bytes"] / 1438 > 0
    seen = [point["loss"] for point in row["points"] if point["loss"] is not None]
    assert seen[-1] == row["loss"] < seen[0]
    assert (last["event"], last["schemes"], last["failed"]) == ("finished", 2, 1)
    assert main(words) == 1
    assert lines(capsys)[1] == row


@pytest.mark.long
@pytest.mark.real
def test_this_machine_trains_each_scheme_and_writes_no_model(
    job_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", job_file, "--schemes", "hogwild,sync_sgd,downpour", "--json"]) == 0
    *rows, last = lines(capsys)
    assert [row["scheme"] for row in rows] == ["hogwild", "sync_sgd", "downpour"]
    for row in rows:
        assert (row["outcome"], row["examples"]) == ("finished", 1438)
        assert row["accuracy"] > 0.3
        assert (row["points"][-1]["loss"], row["points"][-1]["seconds"]) == (row["loss"], row["seconds"])
    assert rows[1]["left_out"] == ["algorithm.n_push", "run.replicas"]
    assert [row["pushes"] for row in rows[:2]] == [None, None]
    assert rows[2]["pushes"] >= 1438 / 32 / 3
    assert (last["schemes"], last["failed"]) == (3, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


@pytest.mark.real
@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_a_row_that_says_so(job_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two linear layers: both are at 1e30 after a step, and their product is beyond float32."""
    layer = '{layer = "linear", units = 10}'
    Path(job_file).write_text(JOB.replace(layer, f"{layer}, {layer}").replace("lr = 0.02", "lr = 1e30"))
    assert main(["compare", job_file, "--schemes", "hogwild,sync_sgd"]) == 1
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert "  diverged: at epoch " in first
    assert "  diverged: at epoch " in second


def test_the_rule_of_gradients_is_the_jobs_whatever_a_scheme_calls_it() -> None:
    """An optimiser for gradients would have been compared as the outer rule for displacements, at a tenth of its rate."""
    job = hp.Job(model=[hp.Linear(10)], algorithm=hp.Asgd(optimiser=hp.Momentum(0.02), schedule=hp.Cosine()))
    local = variant(job, "local_sgd")[0]
    assert local.algorithm == hp.LocalSgd(inner=hp.Momentum(0.02), schedule=hp.Cosine())
    assert variant(replace(job, algorithm=hp.LocalSgd(inner=hp.Momentum(0.02), steps=7)), "asgd") == (
        replace(job, algorithm=hp.Asgd(optimiser=hp.Momentum(0.02))),
        ["algorithm.steps"],
    )
    both = hp.LocalSgd(inner=hp.Momentum(0.02), optimiser=hp.Sgd(0.5))
    assert variant(replace(job, algorithm=both), "diloco")[0].algorithm == hp.DiLoCo(
        inner=hp.Momentum(0.02), optimiser=hp.Sgd(0.5)
    )
