"""The sparse bench: what its rows and goals compare, every contender on tiny data, peers that learn."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import hogpour as hp
from bench import sparse
from bench.__main__ import main
from bench._ours.headless import Headless
from bench._peers.task import Rows, SparseTask, log_loss
from bench.harness import Table
from bench.sparse import ADAGRAD, BINARY, CASES, GOALS, NAIVE, ONE, READERS, SGD, SKLEARN, TWO, VOWPAL
from hogpour.layers.sequential import network_of
from hogpour.machine import sweeping

N, FEATURES = 300, 40


def ran(*rates, loss=0.3):
    return [{"rate": 1e6 * rate, "loss": loss, "accuracy": 0.9} for rate in rates]


def runs_of(case, two, one, peer, loss=0.3):
    return {TWO: ran(*two, loss=loss), ONE: ran(*one), NAIVE: ran(*one), case.peer.name: ran(*peer)}


def separable(seed, n=N):
    """Examples of ten features each, of which the first twenty say yes and the others no."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    indices = np.concatenate([np.sort(rng.choice(20, 10, replace=False)) + 20 * (1 - label) for label in y])
    return Rows(np.arange(0, 10 * n + 1, 10), indices.astype(np.int32), rng.random(10 * n).astype(np.float32) + 0.5, y)


@pytest.fixture
def folder(tmp_path):
    """A folder with all data sets of the bench, tiny."""
    for source in (sparse.IMDB, sparse.REUTERS, sparse.A9A):
        for seed, name in enumerate((source.train, source.test)):
            rows = separable(seed)
            words = [f"{i + 1}:{1 if source is sparse.A9A else v}" for i, v in zip(rows.indices, rows.values)]
            text = "".join(f"{2 * y - 1} {' '.join(words[10 * k : 10 * k + 10])}\n" for k, y in enumerate(rows.y))
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(lzma.compress(text.encode()))
    return tmp_path


def test_each_contender_has_a_row_that_says_how_often_the_peer_and_one_replica_are_in_it():
    two, one, naive, peer = sparse._rows_of(SGD[0], runs_of(SGD[0], (8.0, 9.0, 10.0), (6.0, 6.0, 5.0), (2.0, 4.0, 1.0)))
    assert (two["M nnz/s"], two["times the peer"], two["times 1 replica"]) == (pytest.approx(9.0), 4.0, 1.5)
    assert (one["times the peer"], "times 1 replica" in one) == (3.0, False)
    assert (naive["contender"], naive["times 1 replica"]) == (NAIVE, 1.0)
    assert (peer["rounds"], "times the peer" in peer, peer["log loss"]) == (3, False, 0.3)


def test_figures_are_ratios_of_rounds_as_far_as_they_were_measured():
    runs = runs_of(SGD[0], (8.0, 9.0), (4.0, 6.0), (2.0, 3.0))
    figures = sparse._figures(SGD[0], runs)
    assert list(figures) == ["scikit-learn: SGD, imdb, 2 replicas", "scikit-learn: SGD, imdb, 1 replica",
                             "ours, 1 replica: SGD, imdb", "ours, 2 replicas, no head: SGD, imdb"]  # fmt: skip
    assert figures["ours, 1 replica: SGD, imdb"] == pytest.approx((1.75, 1.55, 1.95))
    del runs[SKLEARN.name]
    assert list(sparse._figures(SGD[0], runs)) == ["ours, 1 replica: SGD, imdb", "ours, 2 replicas, no head: SGD, imdb"]


def test_goals_say_where_we_lose():
    """One case of each kind is slow, so the worst of them is; of the mean of Adagrad's it is a part."""
    runs = {case.name: runs_of(case, (12.0, 12.0), (6.0, 6.0), (1.0, 1.0)) for case in CASES}
    runs[SGD[1].name] = runs_of(SGD[1], (12.0, 4.0, 12.0), (8.0, 8.0, 8.0), (8.0, 8.0, 8.0), loss=0.33)
    runs[ADAGRAD[2].name] = runs_of(ADAGRAD[2], (12.0,), (6.0,), (8.0,))
    reading = Table("", (), [{READERS[0]: 400.0, "1 core / scikit-learn": 30.0}, {READERS[0]: 250.0, "1 core / scikit-learn": 25.0}])
    rows = {row["what"]: (pytest.approx(row["times"]), row["reached"]) for row in sparse._goals(runs, reading).rows}
    assert rows == {
        "SGD, 1 replica / scikit-learn, worst of three": (1.0, "no"),
        "SGD, 2 replicas / scikit-learn, worst of three": (1.5, "no"),
        "SGD, 2 replicas / scikit-learn, mean of three": (6.0, "yes"),
        "without values, 1 replica / scikit-learn": (6.0, "yes"),
        "without values, 2 replicas / scikit-learn": (12.0, "yes"),
        "SGD, 2 replicas / 1, worst of all": (1.5, "yes"),
        "Adagrad, 2 replicas / 1, worst of three": (2.0, "yes"),
        "2 replicas / 1, worst round of all": (0.5, "no"),
        "Adagrad, 1 replica / Vowpal Wabbit, mean of three": (3.0, "no"),
        "Adagrad, 2 replicas / Vowpal Wabbit, mean of three": (6.0, "no"),
        "SGD, log loss / scikit-learn's, worst of all": (1.1, "no"),
        "svmlight, ours, 1 core, worst file": (250.0, "no"),
        "svmlight, 1 core / scikit-learn, worst file": (25.0, "yes"),
    }


def test_a_goal_needs_all_of_its_cases_and_its_peer():
    runs = {case.name: {TWO: ran(3.0), ONE: ran(2.0)} for case in SGD}
    assert [row["what"] for row in sparse._goals(runs, Table("", ())).rows] == []
    runs[BINARY[0].name] = {TWO: ran(3.0), ONE: ran(2.0)}
    assert [row["what"] for row in sparse._goals(runs, Table("", ())).rows] == ["SGD, 2 replicas / 1, worst of all"]


def test_names_of_cases_are_their_own_and_goals_name_contenders():
    assert len({case.name for case in CASES}) == len(CASES)
    assert {name for goal in GOALS for name in (goal.above, goal.below)} <= {ONE, TWO, SKLEARN.name, VOWPAL.name}


def test_a_headless_gate_takes_the_head_away(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "_HOT", sweeping._HOT)
    monkeypatch.setattr(sweeping, "Head", lambda live, names, n_bytes: n_bytes)
    data = hp.arrays(csr_matrix(np.ones((20, 3))), np.arange(20) % 2, validation=0.0)
    job = hp.Job(data=data, model=(hp.SparseLinear(1),), loss=hp.Logistic(), batch=1)
    asked = job, network_of(job, (3,)), data.train.x, None, 2
    assert sweeping.head_of(*asked) is not None
    assert Headless(str(tmp_path), 2).scale(0.0, 1) == 1.0
    assert sweeping.head_of(*asked) is None


def test_a_peer_gets_examples_under_the_numbers_of_the_file(folder):
    data = sparse._loaded(folder, sparse.IMDB)
    rows, wanted = sparse._rows(data.test, data), separable(1)
    assert rows.indices.tolist() == wanted.indices.tolist()
    assert rows.values.tolist() == wanted.values.tolist()
    assert (rows.indptr.tolist(), rows.y.tolist()) == (wanted.indptr.tolist(), wanted.y.tolist())
    ones = sparse._loaded(folder, sparse.A9A)
    assert sparse._rows(ones.train, ones).values.size == 0
    assert sparse._with_values(ones).train.x.values.tolist() == [1.0] * (10 * N)


def test_log_loss_is_finite_for_scores_of_any_size():
    assert log_loss(np.float32([0, 1e4, -1e4]), np.array([1, 1, 0])) == pytest.approx(np.log(2) / 3)
    assert log_loss(np.float32([-1e4]), np.array([1])) == pytest.approx(1e4)


@pytest.mark.parametrize("values", [True, False], ids=["values", "ones"])
@pytest.mark.parametrize("peer", [SKLEARN, VOWPAL], ids=lambda peer: peer.name)
def test_a_peer_learns_a_separable_problem_again_and_again(peer, values, tmp_path):
    if find_spec(peer.package) is None:
        pytest.skip(f"{peer.package} is not installed")
    train, test = (replace(rows, values=rows.values[: None if values else 0]) for rows in (separable(0), separable(1)))
    task = SparseTask(train, test, FEATURES, 0.1, epochs=5, many=2, seed=0, folder=tmp_path)
    first, second = (sparse._run(peer.module, task) for _ in range(2))
    assert first["accuracy"] == 1.0
    assert first["loss"] < 0.1
    assert first["rate"] > 0
    assert (second["loss"], second["accuracy"]) == (first["loss"], first["accuracy"])


@pytest.mark.long
def test_each_of_ours_trains_and_files_are_read(folder, monkeypatch, capsys):
    monkeypatch.setattr(sparse, "CASES", [replace(SGD[0], many=3000)])
    assert main(["sparse", "--data", str(folder), "--only", "imdb", "--rounds", "1", "--ours", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rates, goals, reading = (table["rows"] for table in result["tables"])
    assert [row["contender"] for row in rates] == [TWO, ONE, NAIVE]
    assert all(row["M nnz/s"] > 0 and row["accuracy"] > 0.9 for row in rates)
    assert [row["file"] for row in reading] == ["imdb_bow_train.svm"]
    assert [row["what"] for row in goals] == ["svmlight, ours, 1 core, worst file"]
    assert reading[0][READERS[0]] > 0


def test_without_the_files_it_says_which(tmp_path):
    with pytest.raises(SystemExit, match=r"a9a\.xz is missing; --data FOLDER names the folder"):
        main(["sparse", "--data", str(tmp_path), "--only", "without values"])
