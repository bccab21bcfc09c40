"""What does training on several nodes cost on one, what do two give, and how do they bear a slow one, beside DDP?

MNIST, 784-256-10, batches of 32. Contenders train in turns, with the round's number as seed. A node of ours is a
process with replica processes of its own; two nodes speak over loopback, and the first one serves all shards. Each
replica has one kernel thread. PyTorch's DDP averages the gradients of two processes over gloo; its learning rate is
twice ours, so that an example moves the parameters as far. Where it averages parameters every 16 steps, as we push and
fetch every 16, its rate is ours.

Rates are examples/s from the moment when all replicas compute (``_ours/gate.py``; DDP: after warm steps) to the last
step of the last one. Copies of the parameters are kept at equal distances of examples and evaluated when training has
ended: those of the first node's live vector, and of DDP's first process. The slow machine sleeps four times what its
thread computed in a step, after each step.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import harness
from bench._ours.node import mnist
from bench._peers.contender import Contender
from bench._peers.task import Task
from bench.record import Figures
from hogpour.data.blocks import Blocks
from hogpour.data.load import Data, load

__all__ = ["Case", "Run", "add_arguments", "measure"]

BATCH = 32
HIDDEN = 256
LR = {"sgd": 0.1, "adagrad": 0.01}
TARGET = 0.96
SLOW = 5.0
LOOKS = 10
"""Copies of the parameters in an epoch."""
RUN_S = 120.0
"""For one training with its start and its evaluations, on a machine that is busy with something else."""
GOAL = 0.95
"""Rate on one node that we want, in rates of Hogwild."""
TURNS = 3
"""Of the contenders on one node in a round: what that costs is to be known to a twentieth."""
PARTS = ("one node", "two nodes", "ddp")


@dataclass(frozen=True, slots=True)
class Case:
    """One way to train."""

    scheme: str
    """hogwild, downpour or ddp."""
    nodes: int = 1
    replicas: int = 1
    """Of each node."""
    n_push: int = 0
    n_fetch: int = 0
    every: int = 1
    """Steps of DDP from one average to the next."""
    optimiser: str = "sgd"
    slow: float = 1.0
    """How many times as long the last node takes for what it computes."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one training reached."""

    rate: float
    """Examples/s of all replicas."""
    accuracy: float
    reached: float | None
    """Seconds to ``TARGET``; None: never."""
    staleness: float | None = None
    """Mean of all pushes, in updates."""


HOGWILD = {replicas: Case("hogwild", 1, replicas) for replicas in (1, 2)}
ALONE = {replicas: Case("downpour", 1, replicas, 16, 16) for replicas in (1, 2)}
GRID = tuple(Case("downpour", 2, 1, *every) for every in ((1, 1), (4, 4), (16, 16), (64, 64), (1, 16), (16, 4)))
ADAGRAD = (Case("hogwild", 1, 2, optimiser="adagrad"), Case("downpour", 2, 1, 4, 4, optimiser="adagrad"))
EVERY = (1, 16)
"""Steps from one exchange to the next, of ours and of DDP."""
PAIRS = {(every, slow): (Case("downpour", 2, 1, every, every, slow=slow), Case("ddp", 2, every=every, slow=slow))
         for every in EVERY for slow in (1.0, SLOW)}  # fmt: skip
RATIO_GOALS = {(1, 1.0): 4.0, (16, 1.0): 3.0}
"""Rates that we want, in rates of DDP."""
Runs = dict[Case, list[Run]]


class Node(Contender):
    """A process of ours that trains as it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__("bench._ours.node", str(folder))

    def begin(self, plan: dict[str, Any]) -> str:
        """Let it become a node; return its address."""
        address: str = self._ask(plan, RUN_S)["address"]
        return address

    def end(self) -> dict[str, Any]:
        """Return what was reached, when it is."""
        return self._hear(RUN_S)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this bench asks."""
    default = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    parser.add_argument("--data", type=Path, default=default, help="folder with MNIST's idx files")
    parser.add_argument("--only", default="", help=f"parts whose name contains this: {', '.join(PARTS)}")
    parser.add_argument("--epochs", type=int, default=4, help="of each training")
    parser.add_argument("--ours", action="store_true", help="do not run PyTorch")
    parser.add_argument("--once", action="store_true", help="slow one of two in the first round only")
    parser.add_argument("--within", type=float, metavar="SECONDS", help="begin no round that would end later")


def measure(options: argparse.Namespace) -> harness.Report:
    """Train every case, in turns."""
    files = mnist(options.data)
    if not all(file.is_file() for file in files):
        raise SystemExit(f"bench downpour: {files[0]} is missing; --data FOLDER names the folder of MNIST's files")
    torch = None if options.ours else harness.torch_or_none()
    parts = [part for part in PARTS if options.only in part]
    runs: Runs = {case: [] for part in parts for case in _cases(part, bool(torch))}
    data, rounds = load(*files), options.rounds or 2
    with ExitStack() as stack:
        nodes = [stack.enter_context(closing(Node(options.data.absolute()))) for _ in range(2)]
        turns = [*runs, *((TURNS - 1) * _cases("one node", False) if "one node" in parts else ())]
        for seed in harness.rounds(rounds, options.within):
            for case in _order(turns, seed, options.once):
                if case.scheme == "ddp":
                    runs[case].append(_peer(case, data, seed, options.epochs))
                else:
                    runs[case].append(_train(case, nodes, data, seed, options.epochs))
    reached = f"s to {TARGET}"
    one = harness.Table("one node, n_push = n_fetch = 16: examples/s, medians; the ratio is that of each round",
                        ("replicas", "hogwild", "downpour", "ratio", "p10", "p90", "goal"))  # fmt: skip
    two = harness.Table("two nodes with a replica each, against one with two replicas, medians",
                        ("optimiser", "nodes", "replicas", "n_push", "n_fetch", "rate", "p10", "p90", "of_hogwild",
                         "staleness", reached, "accuracy"))  # fmt: skip
    slow = harness.Table(f"two nodes or processes, alike and with one {SLOW:g} times slower, medians",
                         ("contender", "every", "slow", "rate", "p10", "p90", "of_alike", "times_ddp", "goal", reached,
                          "accuracy"))  # fmt: skip
    tables = dict(zip(PARTS, ((one, _one_node), (two, _two_nodes), (slow, _slowed)), strict=True))
    for part in parts:
        table, rows = tables[part]
        for row in rows(runs):
            table.add(**row)
    notes = [
        f"{options.epochs} epochs; seeds 0 to {seed}; learning rate {LR['sgd']} with SGD, "
        f"{LR['adagrad']} with Adagrad, {2 * LR['sgd']} with DDP, which averages the gradients of two, "
        f"and {LR['sgd']} where it averages parameters",
        "every: steps from one exchange to the next; of ours n_push = n_fetch, of PyTorch 1 is DDP's average of "
        "gradients, more that of parameters",
        "s to an accuracy: of copies of the first node's live vector, evaluated when the clock has stopped; nothing "
        "where a run never reached it",
    ]
    if options.once:
        notes.append("with a slow one: of the first round only")
    if not torch:
        notes.append("PyTorch was not run")
    return harness.Report([tables[part][0] for part in parts], notes, _figures(runs))


def _order(turns: Sequence[Case], seed: int, once: bool) -> list[Case]:
    """Return a round's cases: the next round has them turned round, and where wanted none with a slow one."""
    return [case for case in turns if not (once and seed and case.slow > 1)][:: 1 if seed % 2 == 0 else -1]


def _cases(part: str, torch: bool) -> list[Case]:
    if part == "one node":
        return [case for replicas in (1, 2) for case in (HOGWILD[replicas], ALONE[replicas])]
    if part == "two nodes":
        return [HOGWILD[2], ALONE[2], *GRID, *ADAGRAD]
    return [case for ours, peer in PAIRS.values() for case in (ours, *([peer] if torch else []))]


# -- training ---------------------------------------------------------------------------------------------------------


def _train(case: Case, nodes: Sequence[Node], data: Data, seed: int, epochs: int) -> Run:
    """Train on as many nodes of ours as the case wants."""
    with tempfile.TemporaryDirectory() as gate:
        plan = {"job": _job(case, data, seed, epochs, gate), "join": "", "algorithm": None, "gate": gate,
                "listen": "127.0.0.1:0" if case.scheme == "downpour" else "", "target": TARGET,
                "every": max(1, data.train.n // (BATCH * LOOKS * case.nodes))}  # fmt: skip
        address = nodes[0].begin(plan)
        for node in nodes[1 : case.nodes]:
            algorithm = _algorithm(case, gate, case.slow) if case.slow > 1 else None
            node.begin(plan | {"join": address, "algorithm": algorithm, "target": None, "every": 0})
        found = [node.end() for node in nodes[: case.nodes]]
    assert all(one["outcome"] == "finished" for one in found), f"{case}: {[one['outcome'] for one in found]}"
    opened = found[0]["opened"]
    before = case.nodes * case.replicas * Blocks(data.train.n, BATCH, case.replicas, epochs).block_size
    return Run(
        rate=(epochs * data.train.n - before) / (max(one["moved"] for one in found) - opened),
        accuracy=found[0]["accuracy"],
        reached=found[0]["reached"] - opened if found[0]["reached"] is not None else None,
        staleness=found[0]["staleness"],
    )


def _job(case: Case, data: Data, seed: int, epochs: int, gate: str) -> dict[str, Any]:
    """Return the tables of a job, as in a job file."""
    layers = [{"layer": "linear", "units": HIDDEN}, {"layer": "relu"}, {"layer": "linear", "units": _labels(data)}]
    return {
        "model": {"layers": layers, "input": [_features(data)]},
        "algorithm": _algorithm(case, gate),
        "run": {"epochs": epochs, "batch": BATCH, "replicas": case.replicas, "seed": seed, "model": ""},
    }


def _algorithm(case: Case, gate: str, slow: float = 1.0) -> dict[str, Any]:
    optimiser: dict[str, Any] = {"name": case.optimiser, "lr": LR[case.optimiser]}
    if slow > 1:
        optimiser |= {"name": "bench._ours.braked:Braked", "times": slow}
    schedule = {"name": "bench._ours.gate:Gate", "folder": gate, "replicas": case.nodes * case.replicas}
    every = {"n_push": case.n_push, "n_fetch": case.n_fetch} if case.scheme == "downpour" else {}
    return {"name": case.scheme, "optimiser": optimiser, "schedule": schedule, **every}


def _peer(case: Case, data: Data, seed: int, epochs: int) -> Run:
    from bench._peers import ddp

    assert data.test is not None
    flat = [part.x.reshape(part.n, -1) for part in (data.train, data.test)]
    task = Task(
        f"mlp:{_features(data)}-{HIDDEN}-{_labels(data)}", flat[0], data.train.y, flat[1], data.test.y, BATCH,
        LR["sgd"] * (case.nodes if case.every == 1 else 1), 0.0, epochs, seed,
    )  # fmt: skip
    found = ddp.run(task, processes=case.nodes, every=case.every, slow=case.slow, target=TARGET, looks=LOOKS)
    return Run(found["rate"], found["accuracy"], found["to_target"])


def _features(data: Data) -> int:
    features: int = data.train.x[0].size
    return features


def _labels(data: Data) -> int:
    labels: int = data.train.n_labels
    return labels


# -- rows -------------------------------------------------------------------------------------------------------------


def _one_node(runs: Runs) -> Iterator[dict[str, Any]]:
    for replicas in HOGWILD:
        hogwild, ours = ([run.rate for run in runs[cases[replicas]]] for cases in (HOGWILD, ALONE))
        ratio, p10, p90 = harness.paired(ours, hogwild)
        yield {"replicas": replicas, "hogwild": harness.spread(hogwild).median,
               "downpour": harness.spread(ours).median, "ratio": ratio, "p10": p10, "p90": p90,
               "goal": GOAL}  # fmt: skip


def _two_nodes(runs: Runs) -> Iterator[dict[str, Any]]:
    for cases in ((HOGWILD[2], ALONE[2], *GRID), ADAGRAD):
        of = _median([run.rate for run in runs[cases[0]]])
        for case in cases:
            row = {"optimiser": case.optimiser, "nodes": case.nodes, "replicas": case.replicas, **_reached(runs[case])}
            if case.scheme == "downpour":
                row |= {"n_push": case.n_push, "n_fetch": case.n_fetch,
                        "staleness": _median([run.staleness for run in runs[case]])}  # fmt: skip
            yield row | {"of_hogwild": row["rate"] / of}


def _slowed(runs: Runs) -> Iterator[dict[str, Any]]:
    for (every, slow), pair in PAIRS.items():
        for name, case, alike in zip(("ours", "PyTorch DDP, gloo"), pair, PAIRS[every, 1.0]):
            if case not in runs:
                continue
            row = {"contender": name, "every": every, "slow": slow, **_reached(runs[case])}
            if slow > 1:
                row["of_alike"] = row["rate"] / _median([run.rate for run in runs[alike]])
            if case is pair[0] and pair[1] in runs:
                row["times_ddp"] = row["rate"] / _median([run.rate for run in runs[pair[1]]])
                row["goal"] = RATIO_GOALS.get((every, slow))
            yield row


def _figures(runs: Runs) -> Figures:
    """Return the ratios that have goals."""
    pairs = {f"hogwild: one node of {replicas}": (ALONE[replicas], HOGWILD[replicas]) for replicas in HOGWILD}
    pairs |= {f"DDP: an exchange every {every} steps": pair for (every, slow), pair in PAIRS.items() if slow == 1}
    rates = {case: [run.rate for run in found] for case, found in runs.items()}
    return {name: harness.paired(rates[ours], rates[other]) for name, (ours, other) in pairs.items()
            if ours in rates and other in rates}  # fmt: skip


def _reached(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the columns that tell how fast and how good."""
    rate = harness.spread([run.rate for run in runs])
    return {"rate": rate.median, "p10": rate.p10, "p90": rate.p90,
            f"s to {TARGET}": _median([run.reached for run in runs]),
            "accuracy": _median([run.accuracy for run in runs])}  # fmt: skip


def _median(values: Sequence[float | None]) -> Any:
    """Return the median; None where a value is missing."""
    known = [value for value in values if value is not None]
    return harness.spread(known).median if len(known) == len(values) else None
