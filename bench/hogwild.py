"""Is our Hogwild faster than its peers on the same cores, as accurate, and how many updates does the race lose?

MNIST, the same networks, batch, learning rate, momentum and epochs; ours as a user starts it (a node with replica
processes), the peers as their users write them: PyTorch's Hogwild, PyTorch in one process with all threads and with
``torch.compile``, JAX with an epoch or with a step in one jitted call, scikit-learn's MLPClassifier. Start-up,
compilation and warm-up count for nobody. Every round trains each contender once with the round's number as seed, in
turns. All use every example once an epoch.

Updates are lost where two replicas write an element at the same time. They are counted in the real loop, with an
optimiser that adds 1 to every parameter: what is missing at the end was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

import hogpour as hp
from bench import harness
from bench._peers.task import Task
from bench.record import Figures
from hogpour.algos.optim.base import Optimiser
from hogpour.data.load import Data, load
from hogpour.layers.base import Layer

__all__ = ["AddOne", "add_arguments", "measure"]

Layers = tuple[Layer, ...]
Run = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One network with the settings that both sides train it with."""

    name: str
    peer: str
    """Name of the same network in ``_peers.hogwild``."""
    layers: Layers
    input: tuple[int, ...]
    batch: int
    lr: float
    momentum: float
    epochs: int
    target: float
    """Test accuracy whose time is reported."""
    goals: Mapping[str, float]
    """Rates that we want, in rates of the contenders that are named."""


def _mlp(hidden: int) -> Layers:
    return (hp.Linear(hidden), hp.Relu(), hp.Linear(10))


_EXAMPLE: Layers = (
    hp.Conv2D(10, kernel=5), hp.MaxPool2D(2), hp.Relu(),
    hp.Conv2D(20, kernel=5), hp.Dropout(0.5, whole_channels=True), hp.MaxPool2D(2), hp.Relu(),
    hp.Linear(50), hp.Relu(), hp.Dropout(0.5), hp.Linear(10),
)  # fmt: skip

OURS, ONE = "ours, 2 replicas", "ours, 1 replica"

CASES = (
    Case("MLP 784-128-10", "mlp:784-128-10", _mlp(128), (784,), 8, 0.05, 0.0, 6, 0.96,
         {"JAX, scan": 2.0, "PyTorch Hogwild": 5.0, ONE: 1.7}),
    Case("MLP 784-256-10", "mlp:784-256-10", _mlp(256), (784,), 32, 0.1, 0.0, 6, 0.96,
         {"JAX, scan": 2.0, "PyTorch Hogwild": 2.6, ONE: 1.7}),
    Case("PyTorch's example", "example", _EXAMPLE, (1, 28, 28), 64, 0.01, 0.5, 3, 0.94,
         {"PyTorch Hogwild": 4.0, ONE: 1.7}),
)


@dataclass(frozen=True, slots=True)
class Peer:
    """One that trains the same network: ``run`` of a module of ``_peers``, in a process of its own."""

    name: str
    module: str
    package: str
    """What it needs; it is left out where that is not installed."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    cases: str = ""
    """Networks whose name contains this."""

    def train(self, case: Case, data: Data, seed: int) -> Run:
        assert data.test is not None
        task = Task(case.peer, data.train.x, data.train.y, data.test.x, data.test.y, case.batch, case.lr, case.momentum,
                    case.epochs, seed)  # fmt: skip
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            return alone.submit(_run, self.module, task, **self.settings).result()


def _run(module: str, task: Task, **settings: Any) -> Run:
    found: Run = importlib.import_module(f"bench._peers.{module}").run(task, **settings)
    return found


PEERS = (
    Peer("PyTorch Hogwild", "hogwild", "torch", {"processes": 2}),
    Peer("PyTorch, 2 threads", "hogwild", "torch", {"processes": 1, "threads": 2}),
    Peer("PyTorch, compiled", "hogwild", "torch", {"processes": 1, "threads": 2, "compiled": True}),
    Peer("JAX, scan", "jax_loop", "jax", {"scan": True}, "MLP"),  # of the other network it takes minutes an epoch
    Peer("JAX, steps", "jax_loop", "jax", {"scan": False}),
    Peer("scikit-learn", "sklearn_mlp", "sklearn", {}, "MLP"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this bench asks."""
    default = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    parser.add_argument("--data", type=Path, default=default, help="folder with MNIST's idx files")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--ours", action="store_true", help="run no peers")
    parser.add_argument("--once", action="store_true", help="after the first round, train only those that have a goal")
    parser.add_argument("--within", type=float, metavar="SECONDS", help="begin no round that would end later")


def measure(options: argparse.Namespace) -> harness.Report:
    """Train every case under every contender, in turns."""
    files = [options.data / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")]
    if not all(file.is_file() for file in files):
        raise SystemExit(f"bench hogwild: {files[0]} is missing; --data FOLDER names the folder of MNIST's files")
    data = load(*files)
    peers = [] if options.ours else [peer for peer in PEERS if find_spec(peer.package)]
    rates = harness.Table(
        "training on two cores, medians",
        ("network", "batch", "contender", "rounds", "images/s", "p10", "p90", "ours is times", "goal", "accuracy",
         "s to", "accuracy of"),
    )  # fmt: skip
    lost = harness.Table("updates lost to the race, 2 replicas", ("network", "batch", "lost (%)", "worst tensor (%)"))
    figures = {}
    cases = [case for case in CASES if options.only in case.name]
    for case in cases:
        within_s = options.within and options.within / len(cases)
        runs = _rounds(case, data, harness.rounds(options.rounds or 3, within_s), peers, options.once)
        for row in _rows(case, runs):
            rates.add(**row)
        figures |= _figures(case, runs)
        lost.add(**_lost(case, data))
    notes = [
        "rates in images/s, from the moment when all processes compute to the end of the last",
        "accuracies are means over seeds, after the same number of epochs",
        "our times to accuracy include evaluations on the same two cores while replicas train; those of others do not",
        *(["contenders without a goal were trained in the first round only"] if options.once else []),
        *[f"{peer.name}: {peer.package} is not installed" for peer in PEERS if peer not in peers and not options.ours],
    ]
    return harness.Report([rates, lost], notes, figures)


def _rounds(case: Case, data: Data, rounds: Iterator[int], peers: list[Peer], once: bool) -> dict[str, list[Run]]:
    """Train every contender once a round, in turns; the seed is the round.

    Args:
        once: those without a goal are trained in the first round only; they are the slow ones.
    """
    turns: dict[str, Callable[[int], Run]] = {
        OURS: lambda seed: _train(case, data, 2, seed, False) | {"curve": _train(case, data, 2, seed, True)["curve"]},
        ONE: lambda seed: _train(case, data, 1, seed, False),
    }
    turns |= {peer.name: partial(peer.train, case, data) for peer in peers if peer.cases in case.name}
    runs: dict[str, list[Run]] = {name: [] for name in turns}
    for seed in rounds:
        names = [name for name in turns if not (once and seed) or name == OURS or name in case.goals]
        for name in names[:: 1 if seed % 2 == 0 else -1]:
            runs[name].append(turns[name](seed))
    return runs


def _rows(case: Case, runs: dict[str, list[Run]]) -> Iterator[dict[str, Any]]:
    """One for each contender: how often its rate is in ours, and when it came to the accuracy."""
    spreads = {name: harness.spread([run["rate"] for run in found]) for name, found in runs.items()}
    for name, found in runs.items():
        rate = spreads[name]
        row: dict[str, Any] = {
            "network": case.name, "batch": case.batch, "contender": name, "rounds": rate.samples,
            "images/s": rate.median, "p10": rate.p10, "p90": rate.p90,
            "ours is times": spreads[OURS].median / rate.median,
            "accuracy": float(np.mean([run["accuracy"] for run in found])), "accuracy of": case.target,
        }  # fmt: skip
        if (when := _when(found, case.target)) is not None:
            row["s to"] = when
        if name in case.goals:
            row["goal"] = f"at least {case.goals[name]:g}"
        yield row


def _figures(case: Case, runs: dict[str, list[Run]]) -> Figures:
    """Return our rate in those that a goal is set in."""
    rates = {name: [run["rate"] for run in found] for name, found in runs.items()}
    return {f"{name}: {case.name}": harness.paired(rates[OURS], rates[name]) for name in case.goals if name in rates}


def _job(case: Case, data: Data, replicas: int, seed: int, optimiser: Optimiser) -> hp.Job:
    return hp.Job(data=data, model=case.layers, algorithm=hp.Hogwild(optimiser=optimiser), input=case.input,
                  epochs=case.epochs, batch=case.batch, replicas=replicas, seed=seed)  # fmt: skip


def _optimiser(case: Case) -> Optimiser:
    return hp.Momentum(case.lr, momentum=case.momentum) if case.momentum else hp.Sgd(case.lr)


def _train(case: Case, data: Data, replicas: int, seed: int, watch: bool) -> Run:
    """Train one contender of ours. One replica gets one kernel thread, as each of two has.

    Args:
        watch: evaluate while training goes on; otherwise at the end only, outside of the time.
    """
    assert data.test is not None
    test, given = data.test, data if watch else replace(data, test=None)

    async def run() -> Run:
        curve, begin = [], None
        async with hp.Node(_job(case, given, replicas, seed, _optimiser(case)), every_s=0.05, threads=1) as node:
            async for progress in node:
                if begin is None and progress.computing == replicas:
                    begin = progress
                if progress.new_evaluation:
                    curve.append([progress.seconds, progress.accuracy])
            summary, model = await node.wait(), await node.model()
        assert begin is not None
        rate = (summary.examples - begin.examples) / (summary.seconds - begin.seconds)
        evaluation = model.evaluate(test)
        assert evaluation is not None
        return {"rate": rate, "accuracy": evaluation.accuracy, "curve": curve}

    return asyncio.run(run())


def _when(runs: list[Run], target: float) -> float | None:
    """Return the median time of the first evaluation that reached ``target``; None where a run never did."""
    times = [next((seconds for seconds, accuracy in run["curve"] if accuracy >= target), None) for run in runs]
    return None if None in times else harness.spread([t for t in times if t is not None]).median


@dataclass(frozen=True, slots=True)
class AddOne(Optimiser):
    """Adds 1 to every parameter at every step, so that lost updates can be counted. Exact below 2^24 steps."""

    lr: float = 1.0
    """Not used."""

    def apply(self, params, grad, state, *, lr_scale, t):  # type: ignore[no-untyped-def]
        add_one(params)


@njit(cache=True, nogil=True)
def add_one(params):  # type: ignore[no-untyped-def]
    for k in range(params.size):
        params[k] += 1


def _lost(case: Case, data: Data) -> dict[str, Any]:
    """Count the updates that one epoch of two replicas loses."""

    async def run() -> tuple[np.ndarray, int, hp.Model]:
        job = hp.Job(data=data, model=case.layers, algorithm=hp.Hogwild(optimiser=AddOne()), input=case.input,
                     epochs=1, batch=case.batch, replicas=2)  # fmt: skip
        async with hp.Node(job) as node:
            begin = node.parameters()
            model = await node.model()
            return model.params - begin, node.steps, model

    added, steps, model = asyncio.run(run())
    spec = model.network.spec
    # A parameter begins as a fraction, and adding 1 to it many times rounds: what is there is whole to within 1.
    missing = {t.name: float(np.mean(1 - np.round(t.view(added)) / steps)) for t in spec.tensors}
    weights = [t.size for t in spec.tensors]
    mean = float(np.average(list(missing.values()), weights=weights))
    worst = max(missing.values())
    return {"network": case.name, "batch": case.batch, "lost (%)": 100 * mean, "worst tensor (%)": 100 * worst}
