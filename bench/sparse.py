"""Do sparse linear models train and load as fast as memory allows, and what does a private head of hot features gain?

Logistic regression on text and on binary features, an example at a time; ours as a user starts it (a node with replica
processes), the peers as their users write them: scikit-learn's ``SGDClassifier`` for SGD, Vowpal Wabbit from its cache
for Adagrad. Time is taken over many epochs, start-up apart, and the loss after few, the same number on both sides.
Every round trains each contender once with the round's number as seed, in turns; ratios are those of rounds.

Without a head two replicas write the same few weights at each example: that is Hogwild! as its paper has it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import lzma
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import geometric_mean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import hogpour as hp
from bench import harness
from bench._ours.gate import Gate
from bench._ours.headless import Headless
from bench._peers.task import Rows, SparseTask
from bench.record import Figures
from hogpour.algos.optim.base import Optimiser
from hogpour.core.csr import Csr
from hogpour.data.formats import svmlight
from hogpour.data.formats.base import Wanted
from hogpour.data.load import Data, Dataset, load

__all__ = ["add_arguments", "measure"]

Run = dict[str, float]
Runs = dict[str, list[Run]]


@dataclass(frozen=True, slots=True)
class Source:
    """Two files in svmlight's format, and how many features they have."""

    train: str
    test: str
    n_features: int


IMDB = Source("imdb/imdb_bow_train.svm.xz", "imdb/imdb_bow_test.svm.xz", 89_527)
REUTERS = Source("reuters21578/modapte_earn_ltc_train.svm.xz", "reuters21578/modapte_earn_ltc_test.svm.xz", 27_349)
A9A = Source("a9a/a9a.xz", "a9a/a9a.t.xz", 123)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who trains the same model: ``run`` of a module of ``_peers``, in a process of its own."""

    name: str
    module: str
    package: str
    """What it needs; it is left out where that is not installed."""
    share: int
    """It is given one of so many of our epochs to take time over."""

    def train(self, case: Case, data: Data, folder: Path, seed: int) -> Run:
        assert data.test is not None
        train, test = (_rows(part, data) for part in (data.train, data.test))
        many = max(1, case.many // self.share)
        task = SparseTask(train, test, data.train.shape[0], case.rule.lr, case.epochs, many, seed, folder)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            return alone.submit(_run, self.module, task).result()


def _run(module: str, task: SparseTask) -> Run:
    found: Run = importlib.import_module(f"bench._peers.{module}").run(task)
    return found


SKLEARN = Peer("scikit-learn", "sklearn_sgd", "sklearn", 2)
VOWPAL = Peer("Vowpal Wabbit", "vowpal", "vowpalwabbit", 8)


@dataclass(frozen=True, slots=True)
class Case:
    """A data set and a rule, with the settings that both sides train with."""

    data: str
    source: Source
    rule: Any
    """An ``Optimiser`` with a rate ``lr``, which scikit-learn shares; Vowpal Wabbit has its own."""
    epochs: int
    """After which the loss counts."""
    many: int
    """Over which time is taken."""
    peer: Peer
    values: bool = False
    """Whether values are kept that are all 1, as scikit-learn keeps them; ours are left out otherwise."""

    @property
    def name(self) -> str:
        return f"{'SGD' if isinstance(self.rule, hp.Sgd) else 'Adagrad'}, {self.data}"


TWO, ONE, NAIVE = "ours, 2 replicas", "ours, 1 replica", "ours, 2 replicas, no head"
READERS = "ours, 1 core", "ours, all cores", "scikit-learn"

# Rates were chosen so that the last step's loss varies little with the seed: of the median of 10 seeds, ours is within
# 0.3 % of scikit-learn's. At four times the rate single runs lie up to 20 % apart.
CASES = (
    Case("imdb", IMDB, hp.Sgd(0.001), 5, 80, SKLEARN),
    Case("reuters", REUTERS, hp.Sgd(0.5), 10, 300, SKLEARN),
    Case("a9a", A9A, hp.Sgd(0.002), 20, 300, SKLEARN, values=True),
    Case("a9a without values", A9A, hp.Sgd(0.002), 20, 300, SKLEARN),
    Case("imdb", IMDB, hp.Adagrad(0.05), 5, 60, VOWPAL),
    Case("reuters", REUTERS, hp.Adagrad(0.5), 10, 200, VOWPAL),
    Case("a9a", A9A, hp.Adagrad(0.05), 20, 150, VOWPAL),
)
SGD, BINARY, ADAGRAD = CASES[:3], CASES[3:4], CASES[4:]


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of rates that is wanted, of several cases together."""

    what: str
    above: str
    below: str
    cases: Sequence[Case]
    least: float
    of: Callable[[list[float]], float] = min
    worst: bool = False
    """Whether the worst round of each case counts, not the median."""

    def reached(self, runs: Mapping[str, Runs]) -> float | None:
        """Return the ratio; None where it was not measured."""
        found = [_ratios(runs[case.name], self.above, self.below) for case in self.cases if case.name in runs]
        if len(found) < len(self.cases) or not all(found):
            return None
        return self.of([min(ratios) if self.worst else median(ratios) for ratios in found])


GOALS = (
    Goal("SGD, 1 replica / scikit-learn, worst of three", ONE, SKLEARN.name, SGD, 1.9),
    Goal("SGD, 2 replicas / scikit-learn, worst of three", TWO, SKLEARN.name, SGD, 2.8),
    Goal("SGD, 2 replicas / scikit-learn, mean of three", TWO, SKLEARN.name, SGD, 3.0, geometric_mean),
    Goal("without values, 1 replica / scikit-learn", ONE, SKLEARN.name, BINARY, 3.5),
    Goal("without values, 2 replicas / scikit-learn", TWO, SKLEARN.name, BINARY, 5.0),
    Goal("SGD, 2 replicas / 1, worst of all", TWO, ONE, SGD + BINARY, 1.5),
    Goal("Adagrad, 2 replicas / 1, worst of three", TWO, ONE, ADAGRAD, 1.5),
    Goal("2 replicas / 1, worst round of all", TWO, ONE, CASES, 1.2, worst=True),
    Goal("Adagrad, 1 replica / Vowpal Wabbit, mean of three", ONE, VOWPAL.name, ADAGRAD, 5.0, geometric_mean),
    Goal("Adagrad, 2 replicas / Vowpal Wabbit, mean of three", TWO, VOWPAL.name, ADAGRAD, 8.5, geometric_mean),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this bench asks."""
    default = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="folder with imdb, reuters21578 and a9a")
    parser.add_argument("--only", default="", help="cases whose name contains this; see the tables")
    parser.add_argument("--ours", action="store_true", help="run no peers")
    parser.add_argument("--within", type=float, metavar="SECONDS", help="begin no round that would end later")


def measure(options: argparse.Namespace) -> harness.Report:
    """Train every case under every contender, in turns, and read every file."""
    cases = [case for case in CASES if options.only in case.name]
    for source in {case.source for case in cases}:
        if not (options.data / source.train).is_file():
            raise SystemExit(f"bench sparse: {options.data / source.train} is missing; --data FOLDER names the folder")
    sets = {source: _loaded(options.data, source) for source in {case.source for case in cases}}
    present = {peer for peer in (SKLEARN, VOWPAL) if find_spec(peer.package) and not options.ours}
    rates = harness.Table(
        "training, medians",
        ("case", "contender", "rounds", "M nnz/s", "p10", "p90", "times the peer", "times 1 replica", "log loss",
         "accuracy"),
    )  # fmt: skip
    figures, runs = {}, {}
    within_s = options.within and options.within / len(cases)
    for case in cases:
        data = _with_values(sets[case.source]) if case.values else sets[case.source]
        runs[case.name] = _rounds(case, data, harness.rounds(options.rounds or 5, within_s), present)
        for row in _rows_of(case, runs[case.name]):
            rates.add(**row)
        figures |= _figures(case, runs[case.name])
    reading = harness.Table("svmlight text to arrays, MB/s", ("file", "MB", *READERS, "1 core / scikit-learn"))
    for source in dict.fromkeys(case.source for case in cases):
        reading.add(**_reading(options.data / source.train, SKLEARN in present, options.rounds or 5))
    notes = [
        "rates in non-zeros of the file/s, from the moment when all replicas compute to the end of the last; a peer's "
        "are of whole calls",
        "losses are medians over seeds, after the same number of epochs; without a peer's package its rows are missing",
        "scikit-learn moves the intercept of sparse data at a hundredth of the rate, ours at the whole one: our "
        "losses vary more with the seed",
        "Vowpal Wabbit updates by its own rule (adaptive, normalised, invariant) and rate, in the order of the file",
        *[f"{peer.name}: {peer.package} is not installed" for peer in (SKLEARN, VOWPAL)
          if peer not in present and not options.ours],
    ]  # fmt: skip
    return harness.Report([rates, _goals(runs, reading), reading], notes, figures)


def _goals(runs: Mapping[str, Runs], reading: harness.Table) -> harness.Table:
    """Return every goal of which everything was measured, and what was reached."""
    table = harness.Table("goals", ("what", "times", "goal", "reached"))

    def add(what: str, times: float | None, least: float) -> None:
        if times is not None:
            table.add(what=what, times=times, goal=f"at least {least:g}", reached="yes" if times >= least else "no")

    for goal in GOALS:
        add(goal.what, goal.reached(runs), goal.least)
    if (worst := _worst_loss(runs)) is not None:
        table.add(what="SGD, log loss / scikit-learn's, worst of all", times=worst, goal="at most 1.01",
                  reached="yes" if worst <= 1.01 else "no")  # fmt: skip
    for column, least in ((READERS[0], 300), ("1 core / scikit-learn", 20)):
        worst = min((row[column] for row in reading.rows if column in row), default=None)
        add(f"svmlight, {column}, worst file", worst, least)
    return table


def _worst_loss(runs: Mapping[str, Runs]) -> float | None:
    """Return our median loss in scikit-learn's, where it is worst; None: there is none to compare with."""
    losses = [{name: median(run["loss"] for run in found) for name, found in runs[case.name].items()}
              for case in SGD + BINARY if case.name in runs]  # fmt: skip
    found = [loss[ours] / loss[SKLEARN.name] for loss in losses for ours in (ONE, TWO) if SKLEARN.name in loss]
    return max(found, default=None)


def _rounds(case: Case, data: Data, rounds: Iterator[int], present: set[Peer]) -> Runs:
    """Train every contender once a round, in turns; the seed is the round."""
    with TemporaryDirectory() as folder:
        turns: dict[str, Callable[[int], Run]] = {
            TWO: partial(_train, case, data, 2, Gate),
            ONE: partial(_train, case, data, 1, Gate),
            NAIVE: partial(_train, case, data, 2, Headless),
        }
        if case.peer in present:
            turns[case.peer.name] = partial(case.peer.train, case, data, Path(folder))
        runs: Runs = {name: [] for name in turns}
        for seed in rounds:
            for name in list(turns)[:: 1 if seed % 2 == 0 else -1]:
                runs[name].append(turns[name](seed))
    return runs


def _ratios(runs: Runs, above: str, below: str) -> list[float]:
    return [a["rate"] / b["rate"] for a, b in zip(runs.get(above, []), runs.get(below, []))]


def _rows_of(case: Case, runs: Runs) -> Iterator[dict[str, Any]]:
    """One for each contender: how often the rate of the peer, and of one replica, is in its own."""
    for name, found in runs.items():
        rate = harness.spread([run["rate"] / 1e6 for run in found])
        row: dict[str, Any] = {
            "case": case.name, "contender": name, "rounds": rate.samples, "M nnz/s": rate.median, "p10": rate.p10,
            "p90": rate.p90, "log loss": median(run["loss"] for run in found),
            "accuracy": median(run["accuracy"] for run in found),
        }  # fmt: skip
        for column, below in (("times the peer", case.peer.name), ("times 1 replica", ONE)):
            if name != below and (ratios := _ratios(runs, name, below)):
                row[column] = median(ratios)
        yield row


def _figures(case: Case, runs: Runs) -> Figures:
    """Return our rate in the peer's, and that of two replicas in that of one."""
    peer, rates = case.peer.name, {name: [run["rate"] for run in found] for name, found in runs.items()}
    pairs = {f"{peer}: {case.name}, 2 replicas": (TWO, peer), f"{peer}: {case.name}, 1 replica": (ONE, peer),
             f"{ONE}: {case.name}": (TWO, ONE), f"{NAIVE}: {case.name}": (TWO, NAIVE)}  # fmt: skip
    return {said: harness.paired(rates[a], rates[b]) for said, (a, b) in pairs.items() if b in rates}


def _train(case: Case, data: Data, replicas: int, gate: type[Gate], seed: int) -> Run:
    """Train one contender of ours twice: over many epochs for the rate, over few for the loss."""
    rate, _ = _trained(case.rule, data, replicas, gate, case.many, seed)
    _, model = _trained(case.rule, data, replicas, gate, case.epochs, seed)
    assert data.test is not None
    evaluation = model.evaluate(data.test)
    assert evaluation is not None
    assert evaluation.accuracy is not None
    return {"rate": rate, "loss": evaluation.loss, "accuracy": evaluation.accuracy}


def _trained(
    rule: Optimiser, data: Data, replicas: int, gate: type[Gate], epochs: int, seed: int
) -> tuple[float, hp.Model]:
    """Return the non-zeros a second, from when all replicas compute, and the model."""

    async def run(folder: str) -> tuple[float, hp.Model]:
        algorithm = hp.Hogwild(optimiser=rule, schedule=gate(folder, replicas))
        job = hp.Job(data=replace(data, test=None), model=(hp.SparseLinear(1),), loss=hp.Logistic(), epochs=epochs,
                     algorithm=algorithm, batch=1, replicas=replicas, seed=seed)  # fmt: skip
        begin = None
        async with hp.Node(job, every_s=0.02, threads=1) as node:
            async for progress in node:
                if begin is None and progress.computing == replicas:
                    begin = progress
            summary, model = await node.wait(), await node.model()
        assert begin is not None
        assert isinstance(data.train.x, Csr)
        examples, seconds = summary.examples - begin.examples, summary.seconds - begin.seconds
        return examples * data.train.x.nnz / data.train.n / max(seconds, 1e-9), model

    with TemporaryDirectory() as folder:
        return asyncio.run(run(folder))


def _loaded(folder: Path, source: Source) -> Data:
    paths = folder / source.train, folder / source.test
    return load(*paths, format="svmlight", n_features=source.n_features, sparse=True)


def _with_values(data: Data) -> Data:
    """Return the same data with values that say that they are all 1."""
    x = data.train.x
    assert isinstance(x, Csr)
    kept = Csr(x.indptr, x.indices, np.ones(x.nnz, np.float32), x.n_features)
    return replace(data, train=replace(data.train, x=kept))


def _rows(dataset: Dataset, data: Data) -> Rows:
    """Return examples for a peer, under the numbers of the file."""
    x = dataset.x
    assert isinstance(x, Csr)
    numbers = data.encoding.by_frequency[x.indices].astype(np.int32)
    by_number = np.lexsort((numbers, np.repeat(np.arange(len(x)), np.diff(x.indptr))))
    values = x.values[by_number] if x.values.size else x.values
    return Rows(x.indptr, numbers[by_number], values, dataset.y)


def _reading(path: Path, beside: bool, rounds: int) -> dict[str, Any]:
    """Read a file as it is when it is unpacked, on one core and on all, and by scikit-learn."""
    with TemporaryDirectory() as folder:
        file = Path(folder, path.with_suffix("").name)
        file.write_bytes(lzma.decompress(path.read_bytes()))
        megabytes = file.stat().st_size / 1e6

        def ours() -> object:
            return svmlight.read(file, Wanted(sparse=True))

        def alone() -> object:
            with _one_core():
                return ours()

        contenders = dict(zip(READERS, (alone, ours)))
        if beside:
            from sklearn.datasets import load_svmlight_file

            contenders[READERS[2]] = lambda: load_svmlight_file(str(file))
        seconds = harness.alternate(contenders, rounds=rounds)
    row: dict[str, Any] = {"file": path.stem, "MB": megabytes}
    row |= {name: megabytes / took.median for name, took in seconds.items()}
    if beside:
        row["1 core / scikit-learn"] = row[READERS[0]] / row[READERS[2]]
    return row


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread, and what it starts, on one of its cores."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
