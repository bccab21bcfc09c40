"""Is our Hogwild faster than PyTorch's on the same cores, as accurate, and how many updates does the race lose?

MNIST, the same networks, batch, learning rate, momentum and epochs; ours as a user starts it (a node with replica
processes), PyTorch's as its users write it (torch.multiprocessing, a model in shared memory, one thread a process, an
optimiser each). Start-up, compilation and warm-up count for neither side. Every round trains each contender once with
the round's number as seed, in turns. Both use every example once an epoch.

Updates are lost where two replicas write an element at the same time. They are counted in the real loop, with an
optimiser that adds 1 to every parameter: what is missing at the end was lost.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

import hogpour as hp
from bench import harness
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
    goal: float
    """Rate that we want, in rates of PyTorch's."""


def _mlp(hidden: int) -> Layers:
    return (hp.Linear(hidden), hp.Relu(), hp.Linear(10))


_EXAMPLE: Layers = (
    hp.Conv2D(10, kernel=5), hp.MaxPool2D(2), hp.Relu(),
    hp.Conv2D(20, kernel=5), hp.Dropout(0.5, whole_channels=True), hp.MaxPool2D(2), hp.Relu(),
    hp.Linear(50), hp.Relu(), hp.Dropout(0.5), hp.Linear(10),
)  # fmt: skip

CASES = (
    Case("MLP 784-128-10", "mlp:784-128-10", _mlp(128), (784,), 8, 0.05, 0.0, 6, 0.96, 4.0),
    Case("MLP 784-256-10", "mlp:784-256-10", _mlp(256), (784,), 32, 0.1, 0.0, 6, 0.96, 1.5),
    Case("PyTorch's example", "example", _EXAMPLE, (1, 28, 28), 64, 0.01, 0.5, 3, 0.94, 1.0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this bench asks."""
    default = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    parser.add_argument("--data", type=Path, default=default, help="folder with MNIST's idx files")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--ours", action="store_true", help="do not run PyTorch")


def measure(options: argparse.Namespace) -> harness.Report:
    """Train every case under every contender, in turns."""
    files = [options.data / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")]
    if not all(file.is_file() for file in files):
        raise SystemExit(f"bench hogwild: {files[0]} is missing; --data FOLDER names the folder of MNIST's files")
    data = load(*files)
    assert data.test is not None
    rounds = options.rounds or 3
    torch = None if options.ours else harness.torch_or_none()
    rates = harness.Table(
        "training rate and accuracy, 2 processes each, medians",
        ("network", "batch", "ours", "p10", "p90", "pytorch", "ratio", "goal", "one replica", "2 against 1",
         "our accuracy", "its accuracy", "difference (points)", "epochs"),
    )  # fmt: skip
    times = harness.Table("seconds to a test accuracy, medians", ("network", "accuracy", "ours", "pytorch"))
    for case in (c for c in CASES if options.only in c.name):
        ours, one, peer = _rounds(case, data, rounds, bool(torch))
        rates.add(**_compare(case, ours, one, peer))
        times.add(network=case.name, accuracy=case.target, pytorch=_when(peer, case.target),
                  ours=_when([_train(case, data, 2, seed, True) for seed in range(rounds)], case.target))  # fmt: skip
    lost = harness.Table("updates lost to the race, 2 replicas", ("network", "batch", "lost (%)", "worst tensor (%)"))
    for case in (c for c in CASES if options.only in c.name):
        lost.add(**_lost(case, data))
    notes = [
        "rates in images/s, from the moment when all processes compute to the end of the last",
        "accuracies are means over seeds, after the same number of epochs",
        "our times to accuracy include evaluations on the same two cores while replicas train; PyTorch's do not",
    ]
    return harness.Report([rates, times, lost], notes if torch else [*notes, "PyTorch was not run"])


def _rounds(case: Case, data: Data, rounds: int, torch: bool) -> tuple[list[Run], list[Run], list[Run]]:
    """Train with two replicas, with one, and with PyTorch, in turns; the seed is the round."""
    ours: list[Run] = []
    one: list[Run] = []
    peer: list[Run] = []
    for seed in range(rounds):
        turns = [
            lambda s=seed: ours.append(_train(case, data, 2, s, False)),
            lambda s=seed: one.append(_train(case, data, 1, s, False)),
        ]
        if torch:
            turns.append(lambda s=seed: peer.append(_peer(case, data, s)))
        for turn in turns[:: 1 if seed % 2 == 0 else -1]:
            turn()
    return ours, one, peer


def _compare(case: Case, ours: list[Run], one: list[Run], peer: list[Run]) -> dict[str, Any]:
    rate = harness.spread([r["rate"] for r in ours])
    alone = harness.spread([r["rate"] for r in one]).median
    accuracy = float(np.mean([r["accuracy"] for r in ours]))
    row: dict[str, Any] = {
        "network": case.name, "batch": case.batch, "ours": rate.median, "p10": rate.p10, "p90": rate.p90,
        "one replica": alone, "2 against 1": rate.median / alone, "our accuracy": accuracy, "epochs": case.epochs,
        "goal": case.goal,
    }  # fmt: skip
    if peer:
        its = harness.spread([r["rate"] for r in peer]).median
        its_accuracy = float(np.mean([r["accuracy"] for r in peer]))
        row |= {"pytorch": its, "ratio": rate.median / its, "its accuracy": its_accuracy,
                "difference (points)": 100 * (accuracy - its_accuracy)}  # fmt: skip
    return row


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


def _peer(case: Case, data: Data, seed: int) -> Run:
    from bench._peers import hogwild

    assert data.test is not None
    shape = case.input
    return hogwild.run(
        case.peer, data.train.x.reshape(-1, *shape), data.train.y, data.test.x.reshape(-1, *shape), data.test.y,
        processes=2, batch=case.batch, lr=case.lr, momentum=case.momentum, epochs=case.epochs, seed=seed,
    )  # fmt: skip


def _when(runs: list[Run], target: float) -> float | None:
    """Return the median time of the first evaluation that reached ``target``; None where a run never did."""
    times = [next((seconds for seconds, accuracy in run["curve"] if accuracy >= target), None) for run in runs]
    return None if not times or None in times else harness.spread([t for t in times if t is not None]).median


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
