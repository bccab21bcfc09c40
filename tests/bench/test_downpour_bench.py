"""The downpour bench: gate, brake and watch by themselves, what its rows compare, every contender on tiny data."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hogpour as hp
from bench import downpour
from bench.__main__ import main
from bench._ours import braked, gate
from bench._ours.braked import Braked
from bench._ours.gate import Gate
from bench._ours.node import Watch
from bench.downpour import ADAGRAD, ALONE, GRID, HOGWILD, PAIRS, Run
from hogpour.core import registry


def came(folder: Path, name: str, moment: float) -> None:
    """Be a replica of another process that has come to the gate."""
    (folder / name).write_text(repr(moment))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but while the gate sleeps; ``clock.on_sleep`` is called then."""

    class Clock:
        now = 100.0
        on_sleep = staticmethod(lambda: None)

        def sleep(self, seconds):
            self.now += seconds
            self.on_sleep()

    clock = Clock()
    monkeypatch.setattr(gate, "monotonic", lambda: clock.now)
    monkeypatch.setattr(gate, "sleep", clock.sleep)
    return clock


def test_a_replica_does_one_block_and_waits_before_the_second_until_all_have_come(tmp_path, clock):
    schedule = Gate(str(tmp_path), 3)
    assert schedule.scale(0.0, 4) == 1.0
    assert list(tmp_path.iterdir()) == [], "the first block loads kernels and waits for nobody"
    others = iter("ab")
    clock.on_sleep = lambda: came(tmp_path, next(others), clock.now)
    assert schedule.scale(0.1, 4) == 1.0
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["a", "b", str(os.getpid())])
    assert gate.opened(str(tmp_path)) == clock.now == pytest.approx(100.002)
    assert schedule.scale(0.2, 4) == 1.0, "later blocks do not wait: another sleep would find no other replica"


def test_half_a_number_is_not_an_arrival(tmp_path):
    came(tmp_path, "1", 5.0)
    came(tmp_path, ".2", 9.0)
    assert gate.opened(str(tmp_path)) == 5.0


def test_a_replica_whose_companions_never_come_does_not_wait_for_ever(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(gate, "PATIENCE_S", 0.5)
    schedule = Gate(str(tmp_path), 2)
    schedule.scale(0.0, 1)
    with pytest.raises(TimeoutError, match=r"^1 of 2 replicas came to the gate within 0\.5 s$"):
        schedule.scale(0.1, 1)


def test_gate_and_brake_can_be_said_in_a_job(tmp_path):
    optimiser = Braked(0.1, weight_decay=0.01, times=5.0)
    algorithm = hp.Downpour(optimiser=optimiser, schedule=Gate(str(tmp_path), 2))
    tables = registry.describe(algorithm)
    assert tables["optimiser"]["name"] == "bench._ours.braked:Braked"
    assert registry.build("scheme", tables, "algorithm") == algorithm


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"lr": 0.1, "times": 0.5}])
def test_a_brake_that_is_none_or_has_no_rate_is_an_error(settings):
    with pytest.raises(ValueError, match="expected"):
        Braked(**settings)


def test_a_braked_step_is_that_of_sgd_and_sleeps_four_times_what_was_computed_since_the_last(monkeypatch):
    slept, thread = [], iter([7.0, 7.0, 9.0, 9.5, 10.0, 10.0])
    monkeypatch.setattr(braked, "sleep", slept.append)
    monkeypatch.setattr(braked, "thread_time", lambda: next(thread))
    monkeypatch.setattr(braked, "_steps", type("Steps", (), {})())
    params, grad = np.ones(20, np.float32), np.arange(20, dtype=np.float32)
    for _ in range(3):
        Braked(0.1, times=5.0).apply(params, grad, (), lr_scale=0.5, t=1)
    expected = np.ones(20, np.float32)
    for _ in range(3):
        hp.Sgd(0.1).apply(expected, grad, (), lr_scale=0.5, t=1)
    np.testing.assert_array_equal(params, expected)
    assert slept == [0.0, 8.0, 2.0], "before the first step there were imports; then 2 and 0.5 s were computed"


class Training:
    """A node as far as a watch sees it."""

    steps = 0

    def parameters(self):
        return np.full(2, self.steps, np.float32)


def test_a_watch_keeps_copies_at_equal_distances_of_steps_and_the_moment_of_the_last_step():
    node = Training()
    watch = Watch(node, 10)
    for now, steps in enumerate((0, 4, 11, 19, 19, 37, 40, 40)):
        node.steps = steps
        watch.look(float(now))
    assert [(moment, params[0]) for moment, params in watch.copies] == [(2.0, 11.0), (5.0, 37.0), (6.0, 40.0)]
    assert watch.moved == 6.0, "nothing moved afterwards"


def test_a_watch_that_is_told_to_keep_nothing_only_looks():
    node = Training()
    watch = Watch(node, 0)
    node.steps = 5
    watch.look(1.0)
    assert (watch.copies, watch.moved) == ([], 1.0)


def runs(*rates, reached=2.0, staleness=None):
    return [Run(rate, 0.97, reached, staleness) for rate in rates]


def test_what_one_node_costs_is_the_median_of_neighbouring_runs():
    found = {HOGWILD[1]: runs(100.0, 50.0, 100.0), ALONE[1]: runs(98.0, 49.0, 10.0),
             HOGWILD[2]: runs(200.0), ALONE[2]: runs(220.0)}  # fmt: skip
    rows = list(downpour._one_node(found))
    assert [(row["replicas"], row["ratio"], row["goal"]) for row in rows] == [(1, 0.98, 0.95), (2, 1.1, 0.95)]
    assert (rows[0]["hogwild"], rows[0]["downpour"]) == (100.0, 49.0)


def test_two_nodes_are_compared_with_hogwild_under_the_same_optimiser():
    found = {case: runs(50.0, staleness=3.0) for case in (ALONE[2], *GRID, ADAGRAD[1])}
    found |= {HOGWILD[2]: runs(100.0), ADAGRAD[0]: runs(25.0)}
    rows = list(downpour._two_nodes(found))
    assert [row["of_hogwild"] for row in rows] == [1.0, 0.5, *[0.5] * len(GRID), 1.0, 2.0]
    assert "staleness" not in rows[0], "Hogwild pushes nothing"
    assert {row["staleness"] for row in rows if row.get("n_push")} == {3.0}
    assert [row["optimiser"] for row in rows][-2:] == ["adagrad", "adagrad"]


def test_a_time_that_one_run_never_reached_has_no_median():
    assert downpour._reached(runs(1.0) + runs(1.0, reached=None))["s to 0.96"] is None


def test_a_slow_one_is_compared_with_those_that_are_alike_and_with_the_peer_that_exchanges_as_often():
    rates = {(1, 1.0): (50.0, 10.0), (1, 5.0): (20.0, 5.0), (16, 1.0): (100.0, 40.0), (16, 5.0): (60.0, 10.0)}
    found = {case: runs(rate) for pair, both in rates.items() for case, rate in zip(PAIRS[pair], both)}
    rows = list(downpour._slowed(found))
    assert [(row["every"], row["slow"], row.get("of_alike"), row.get("times_ddp"), row.get("goal")) for row in rows] == [
        (1, 1.0, None, 5.0, 4.0), (1, 1.0, None, None, None), (1, 5.0, 0.4, 4.0, None), (1, 5.0, 0.5, None, None),
        (16, 1.0, None, 2.5, 3.0), (16, 1.0, None, None, None), (16, 5.0, 0.6, 6.0, None), (16, 5.0, 0.25, None, None),
    ]  # fmt: skip
    alone = list(downpour._slowed({ours: found[ours] for ours, _ in PAIRS.values()}))
    assert [row.get("times_ddp") for row in alone] == [None] * 4, "without PyTorch"


def test_every_replica_of_every_node_must_come_to_the_gate_and_only_the_joined_node_is_braked(tmp_path):
    (slowed, _), (alike, _) = PAIRS[16, 5.0], PAIRS[16, 1.0]
    first = downpour._algorithm(slowed, "g")
    joined = downpour._algorithm(slowed, "g", slowed.slow)
    assert first["optimiser"] == {"name": "sgd", "lr": 0.1}
    assert joined["optimiser"] == {"name": "bench._ours.braked:Braked", "lr": 0.1, "times": 5.0}
    assert {key: first[key] for key in first if key != "optimiser"} == {key: joined[key] for key in joined if key != "optimiser"}
    assert [downpour._algorithm(case, "g")["schedule"]["replicas"] for case in (HOGWILD[1], HOGWILD[2], alike)] == [1, 2, 2]
    assert "n_push" not in downpour._algorithm(HOGWILD[1], "g")


def test_files_that_are_missing_end_the_bench_with_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"^bench downpour: .*train-images-idx3-ubyte\.gz is missing; --data FOLDER names"):
        main(["downpour", "--data", str(tmp_path)])


def idx(folder: Path, part: str, x: np.ndarray, y: np.ndarray) -> None:
    for name, array in ((f"{part}-images-idx3-ubyte.gz", x), (f"{part}-labels-idx1-ubyte.gz", y)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """A folder with files named as MNIST's: 2,400 images of 5 x 5 pixels with three labels that are easy to tell."""
    folder, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    y = np.arange(3000) % 3
    means = rng.integers(40, 216, (3, 5, 5))
    x = np.clip(means[y] + rng.normal(0, 8, (3000, 5, 5)), 0, 255).astype(np.uint8)
    idx(folder, "train", x[:2400], y[:2400].astype(np.uint8))
    idx(folder, "t10k", x[2400:], y[2400:].astype(np.uint8))
    return str(folder)


def bench(capsys, *options):
    """Run the bench once; return the rows of its tables."""
    assert main(["downpour", "--json", "--rounds", "1", "--epochs", "4", *options]) == 0
    return [table["rows"] for table in json.loads(capsys.readouterr().out)["tables"]]


@pytest.mark.long
@pytest.mark.serial
@pytest.mark.real
def test_one_node_and_two_nodes_of_ours_are_measured_one_of_them_slowed(tiny, monkeypatch, capsys):
    monkeypatch.setattr(downpour, "GRID", (PAIRS[16, 1.0][0],))
    monkeypatch.setattr(downpour, "PAIRS", {every: pair for every, pair in PAIRS.items() if every[0] == 16})
    monkeypatch.setattr(downpour, "TURNS", 1)
    one, two, slowed = bench(capsys, "--data", tiny, "--ours")
    assert [row["replicas"] for row in one] == [1, 2]
    assert all(row["ratio"] > 0 for row in one)
    assert [(row["nodes"], row.get("n_push")) for row in two] == [(1, None), (1, 16), (2, 16), (1, None), (2, 4)]
    assert [row["slow"] for row in slowed] == [1.0, 5.0]
    for row in (*two, *slowed):
        assert row["rate"] > 0
        assert row["accuracy"] >= 0.97
        assert row["s to 0.96"] > 0
    assert all(row["staleness"] >= 0 for row in two if row.get("n_push"))


PEER = """
import json, sys
from pathlib import Path
from bench import downpour
from bench._ours.node import mnist
from hogpour.data.load import load

runs = [downpour._peer(downpour.PAIRS[every, 5.0][1], load(*mnist(Path(sys.argv[1]))), 0, 4) for every in (1, 16)]
print(json.dumps([[run.rate, run.accuracy, run.reached] for run in runs]))
"""


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.torch
def test_ddp_trains_the_same_network_on_the_same_data(tiny):
    """In a process of its own, because multiprocessing leaves its resource tracker running."""
    pytest.importorskip("torch")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", PEER, tiny], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for rate, accuracy, reached in json.loads(done.stdout):
        assert rate > 0
        assert accuracy >= 0.97
        assert reached > 0
