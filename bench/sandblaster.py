"""What does L-BFGS over shards and nodes cost, and when is it worth it?

Against SciPy's L-BFGS-B on the same objective with the same kernels; what passes the coordinator and the wire; a slow
node, with and without copies of its blocks; and, in virtual time, Downpour with Adagrad at equal numbers of machines
(Dean et al. 2012, figure 5).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import uvloop

import hogpour as hp
from bench._papers.runs import Size, prepare
from bench.harness import ROOT, Report, Table, one_thread, spread, times
from bench.record import Figures
from hogpour.algos.lbfgs.commands import Iteration
from hogpour.algos.schemes.sandblaster import penalty
from hogpour.cluster import every_shard
from hogpour.node.first_node import FirstNode
from hogpour.sim.scenario import LinkConditions, Slow
from hogpour.sim.world.workload import Workload, workload_of

__all__ = ["add_arguments", "measure"]

DATA = ROOT.parent / "shared" / "data"
BATCH, L2 = 256, 1e-4
MEMORY = 10
BLOCKS = 32
"""Of a batch on one machine: each costs the node's own process some 0.4 ms, beside the replicas on two cores."""

TARGET = 1e-6
"""Of the optimum, relatively: what the time to it is measured to."""

MACHINES = (1, 8, 64)
ACCURACY = 0.85
RATES = (0.02, 0.05, 0.1)
"""Of Adagrad; each number of machines has the best one, as in the paper's figure."""

SIZE = Size(examples=6000, tests=1000)
EXAMPLE_S = 0.002
"""Virtual seconds of an example's gradient."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this bench's own options."""
    parser.add_argument("--evaluations", type=int, default=100, help="of each timed run")
    parser.add_argument("--converge", type=int, default=3000, help="evaluations that SciPy may take for the optimum")
    parser.add_argument("--examples", type=int, default=60_000, help="of Fashion-MNIST that are timed")
    parser.add_argument("--only", choices=("scipy", "traffic", "straggler", "machines"), help="one table only")


def measure(options: argparse.Namespace) -> Report:
    """Measure all four."""
    report = Report([], part=options.only is not None)
    parts: dict[str, Callable[[], tuple[Table, list[str]]]] = {
        "scipy": lambda: against_scipy(options.examples, options.evaluations, options.converge, options.rounds or 3),
        "traffic": traffic,
        "straggler": straggler,
        "machines": machines,
    }
    for name in (options.only,) if options.only else parts:
        table, notes = parts[name]()
        report.tables.append(table)
        if name == "scipy":
            report.figures = _figures(table)
        report.notes += notes
    return report


# -- against SciPy


def against_scipy(examples: int, evaluations: int, converge: int, rounds: int) -> tuple[Table, list[str]]:
    """Time evaluations and the way to the optimum, in turns."""
    folder = DATA / "fashion-mnist"
    data = hp.load(folder / "train-images-idx3-ubyte.gz", folder / "t10k-images-idx3-ubyte.gz")
    data = hp.arrays(data.train.x[:examples], data.train.y[:examples], data.test.x, data.test.y)
    workload = workload_of(job_of(data, evaluations, 1))
    with one_thread():
        objective = Objective(workload)
        optimum = objective.minimise(converge)
        goal = optimum[-1][1] * (1 + TARGET)
        contenders: dict[str, Callable[[], list[tuple[float, float]]]] = {
            "SciPy": lambda: objective.minimise(evaluations),
            "ours, 1 replica": lambda: ours(job_of(data, evaluations, 1)),
            "ours, 2 replicas": lambda: ours(job_of(data, evaluations, 2)),
            "ours, 2 nodes of 1": lambda: ours(job_of(data, evaluations, 1), nodes=2),
        }
        samples: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(rounds):
            for name in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
                points = contenders[name]()
                samples[name].append((points[-1][0] - points[0][0]) / (len(points) - 1))
        finals = {
            "SciPy": optimum,
            "ours, 1 replica": ours(job_of(data, converge, 1)),
            "ours, 2 replicas": ours(job_of(data, converge, 2)),
        }
    table = Table(
        f"scipy: softmax regression on Fashion-MNIST, {examples:,} images, L2 {L2:g}, batches of {BATCH}; ours in "
        f"{BLOCKS} blocks",
        ("contender", "ms_an_iteration", "p10", "p90", "of_scipy", "times_one_replica", "iterations", "above_optimum",
         "s_to_1e-6"),
    )  # fmt: skip
    best = min(value for points in finals.values() for _, value in points)
    scipy, one = median(samples["SciPy"]), median(samples["ours, 1 replica"])
    for name, seconds in samples.items():
        told = spread(seconds)
        row: dict[str, Any] = {"contender": name, "ms_an_iteration": 1e3 * told.median, "p10": 1e3 * told.p10,
                               "p90": 1e3 * told.p90, "of_scipy": told.median / scipy}  # fmt: skip
        if name.startswith("ours"):
            row["times_one_replica"] = one / told.median
        if name in finals:
            points = finals[name]
            row |= {"iterations": len(points) - 1, "above_optimum": points[-1][1] / best - 1,
                    "s_to_1e-6": next((at - points[0][0] for at, value in points if value <= goal), None)}  # fmt: skip
        table.add(**row)
    return table, [
        f"scipy: an iteration is what passed from the first to the last of {evaluations} evaluations, by the number of "
        "iterations; both take one evaluation for most of them",
        f"scipy: above_optimum: relative, of the last iteration of at most {converge} evaluations against the best of "
        "all; SciPy's parameters are float64, rounded for each evaluation, ours float32",
    ]


def _figures(table: Table) -> Figures:
    scipy, *others = table.rows
    ms = scipy["ms_an_iteration"]
    return {f"SciPy: {row['contender']}": times(ms, row["ms_an_iteration"], row["p10"], row["p90"]) for row in others}


def job_of(data: Any, evaluations: int, replicas: int) -> hp.Job:
    scheme = hp.Sandblaster(l2=L2, memory=MEMORY, blocks=BLOCKS, gradient=0.0, decrease=0.0)
    return hp.Job(data=data, model=[hp.Linear(10)], algorithm=scheme, epochs=evaluations, batch=BATCH,
                  replicas=replicas, save="")  # fmt: skip


class Objective:
    """The objective on one thread, by the kernels that replicas use."""

    def __init__(self, workload: Workload) -> None:
        self.workload, self.n = workload, len(workload.x)
        self.w = workload.params.copy()
        self.penalty = penalty(workload.job.algorithm, workload.network.spec)  # type: ignore[arg-type]
        self.rows = workload.x.reshape(self.n, -1)
        self.workspaces = {size: workload.network.workspace(size, self.w) for size in {BATCH, self.n % BATCH} - {0}}

    def __call__(self, x: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        from hogpour.layers.kernels.gather import gather_rows

        self.w[:] = x
        total, loss, order = np.zeros(x.size), 0.0, np.arange(self.n)
        for start in range(0, self.n, BATCH):
            size = min(BATCH, self.n - start)
            workspace = self.workspaces[size]
            gather_rows(self.rows, order, start, workspace.x.reshape(-1, size))
            workspace.forward()
            labels = self.workload.y[start : start + size]
            loss += float(self.workload.job.loss.apply(workspace.scores, labels, workspace.d_scores)[0])
            workspace.backward()
            total += (size / self.n) * workspace.grad
        value = loss / self.n
        for start, stop in self.penalty.ranges:
            value += 0.5 * self.penalty.factor * float(x[start:stop] @ x[start:stop])
            total[start:stop] += self.penalty.factor * x[start:stop]
        return value, total

    def minimise(self, evaluations: int) -> list[tuple[float, float]]:
        """Return when each iteration was done, and its value."""
        from scipy.optimize import minimize

        start = self.workload.params.astype(np.float64)
        points = [(time.perf_counter(), self(start)[0])]
        minimize(self, start, jac=True, method="L-BFGS-B",
                 callback=lambda intermediate_result: points.append((time.perf_counter(), intermediate_result.fun)),
                 options={"maxcor": MEMORY, "maxfun": evaluations, "maxiter": 10**6, "ftol": 0, "gtol": 1e-9},
                 )  # fmt: skip
        return points


def ours(job: hp.Job, nodes: int = 1) -> list[tuple[float, float]]:
    """Train in this process and its replicas; return when each iteration was done, and its value."""
    points: list[tuple[float, float]] = []
    with _watched(lambda iteration: points.append((time.perf_counter(), iteration.value))):
        uvloop.run(_train(job, nodes))  # as the command line does
    return points


async def _train(job: hp.Job, nodes: int) -> None:
    first = hp.Node(job, listen="127.0.0.1:0" if nodes > 1 else "", token=b"of the bench" if nodes > 1 else b"")
    async with first:
        others = [hp.Node(join=first.address, token=b"of the bench", changes={"data": job.data, "replicas": 1})
                  for _ in range(nodes - 1)]  # fmt: skip
        for other in others:
            await other.__aenter__()
        await first.model()
        for other in others:
            await other.__aexit__(None, None, None)


@contextmanager
def _watched(told: Callable[[Iteration], None]) -> Iterator[None]:
    """Hear of each iteration of whatever trains in this process."""
    before = FirstNode._on_iteration
    FirstNode._on_iteration = lambda self, iteration: told(iteration)  # type: ignore[method-assign]
    try:
        yield
    finally:
        FirstNode._on_iteration = before  # type: ignore[method-assign]


# -- what passes


def traffic(sizes: Sequence[int] = (12, 12_580)) -> tuple[Table, list[str]]:
    """Count what an iteration sends, with hidden layers of these sizes: few parameters and many."""
    table = Table(
        "traffic: what an iteration sends; 2 nodes, 64 examples in 8 blocks, m = 5",
        ("parameters", "shards", "iterations", "evaluations", "programs_kB", "fetches_a_node_and_evaluation",
         "other_MB_an_evaluation"),
    )  # fmt: skip
    for hidden in sizes:
        rng = np.random.default_rng(0)
        data = hp.arrays(rng.random((64, 784), np.float32), rng.integers(0, 10, 64), validation=0.0)
        scheme = hp.Sandblaster(memory=5, blocks=8, gradient=0.0, decrease=0.0)
        job = hp.Job(data=data, model=[hp.Linear(hidden), hp.Tanh(), hp.Linear(10)], algorithm=scheme, epochs=6,
                     batch=8, save="")  # fmt: skip
        table.add(**_counted(job))
    return table, ["traffic: programs: what the coordinator sends to servers and what they answer, encoded, a program "
                   "of each server; blocks leased and losses reported come to it, some 100 bytes each; other: "
                   "parameters and gradients between nodes"]  # fmt: skip


def _counted(job: hp.Job) -> dict[str, Any]:
    encoded: list[int] = []
    ask = every_shard._ask

    async def counting(requests: Any, operate: Any, *rest: Any) -> Any:
        answer = await ask(requests, operate, *rest)
        encoded.append(len(msgspec.msgpack.encode(operate)) + len(msgspec.msgpack.encode(answer)))
        return answer

    iterations: list[Iteration] = []
    every_shard._ask = counting  # type: ignore[assignment]
    try:
        with _watched(iterations.append):
            link, compute = LinkConditions(delay_s=0, bandwidth=0), hp.Compute(mean_s=1.0)
            scenario = hp.Scenario(nodes=2, join_spread_s=0.0, link=link, compute=compute, look_every_s=1e6)
            simulation = hp.Simulation(job, scenario)
            report = simulation.run()
    finally:
        every_shard._ask = ask
    evaluations = (report.examples - report.repeated) // len(simulation.workload.x)  # also of an iteration not finished
    n = simulation.workload.network.spec.n
    other = simulation.sites[1].lives[0].endpoint
    assert other is not None
    n_shards = len(simulation.sites[0].lives[0].endpoint.stats.coordinator.map.owners)  # type: ignore[union-attr]
    fetches = other.stats.link.path.fetches  # type: ignore[union-attr]
    made = iterations[-1].number
    return {"parameters": n, "shards": n_shards, "iterations": made, "evaluations": evaluations,
            "programs_kB": sum(encoded) / made / 1e3, "fetches_a_node_and_evaluation": fetches / evaluations,
            "other_MB_an_evaluation": report.bytes / evaluations / 1e6}  # fmt: skip


# -- a slow node


def straggler(cuts: Sequence[int] = (64, 128, 256)) -> tuple[Table, list[str]]:
    """Slow one of eight nodes down, with and without copies."""
    table = Table("straggler: 8 nodes of one replica, one 10 times slower; virtual seconds of an evaluation",
                  ("blocks", "alike", "slow_with_copies", "slow_without", "times_with", "times_without"))  # fmt: skip
    for blocks in cuts:
        alike, helped, alone = (
            _batch_s(blocks, copies=copies, slow=slow) for copies, slow in ((True, 1.0), (True, 10.0), (False, 10.0))
        )
        table.add(blocks=blocks, alike=alike, slow_with_copies=helped, slow_without=alone, times_with=helped / alike,
                  times_without=alone / alike)  # fmt: skip
    return table, ["straggler: medians of the iterations that took one evaluation; a batch of 5 examples takes "
                   "10 virtual ms, and a block has four"]  # fmt: skip


def _batch_s(blocks: int, *, copies: bool, slow: float) -> float:
    rng, n = np.random.default_rng(1), 20 * blocks
    data = hp.arrays(rng.random((n, 8), np.float32), rng.integers(0, 3, n), validation=0.0)
    scheme = hp.Sandblaster(memory=4, l2=0.01, blocks=blocks, copies=copies)
    job = hp.Job(data=data, model=[hp.Linear(10), hp.Sigmoid(), hp.Linear(3)], algorithm=scheme, epochs=16, batch=5,
                 save="")  # fmt: skip
    scenario = hp.Scenario(nodes=8, join_spread_s=0.0, compute=hp.Compute(mean_s=0.01), look_every_s=1e6,
                           slow=(Slow(at_s=0.0, for_s=1e6, nodes=(3,), times=slow),))  # fmt: skip
    report = hp.Simulation(job, scenario).run()
    at = [h.seconds for h in report.happenings if h.text.startswith("iteration") and h.text.endswith("step 1")]
    return median(b - a for a, b in pairwise(at[2:]))


# -- equal numbers of machines


def machines(counts: Sequence[int] = MACHINES, size: Size = SIZE) -> tuple[Table, list[str]]:
    """Wait for an accuracy, by both of DistBelief's algorithms."""
    table = Table(
        f"machines: {size.words}, virtual seconds to accuracy {ACCURACY}, {EXAMPLE_S * 1e3:g} ms an example, 1 Gbit/s",
        ("machines", "downpour_adagrad", "rate", "sandblaster", "times", "downpour_MB", "sandblaster_MB"),
    )
    for count in counts:
        found = []
        for rate in RATES:
            scheme = hp.Downpour(n_push=1, n_fetch=1, optimiser=hp.Adagrad(rate))
            found.append((rate, _time_to(scheme, count, 16, 5, size)))
        rate, (first, sent) = min(found, key=lambda one: one[1][0] or float("inf"))
        scheme = hp.Sandblaster(blocks=256, l2=0.0)
        second, also = _time_to(scheme, count, 24, 40, size)
        table.add(machines=count, downpour_adagrad=first, rate=rate, sandblaster=second,
                  times=second / first if first and second else None, downpour_MB=sent,
                  sandblaster_MB=also)  # fmt: skip
    return table, [
        "machines: the paper's figure 5: Downpour with Adagrad needs the fewest machines for any time; L-BFGS goes on "
        "gaining",
        f"machines: rate: of Adagrad, the best of {', '.join(map(str, RATES))} for each number of machines; "
        "minibatches of 16, of 24 with L-BFGS; MB: sent until the end of the run",
    ]


def _time_to(scheme: Any, count: int, batch: int, epochs: int, size: Size) -> tuple[float | None, float]:
    compute = hp.Compute(distribution="log_normal", mean_s=EXAMPLE_S * batch, sigma=0.3)
    report = prepare(scheme, workers=count, batch=batch, epochs=epochs, seed=0, size=size, compute=compute,
                     link=LinkConditions(), join_spread_s=0.0,
                     look_every_s=max(0.05, EXAMPLE_S * size.examples * epochs / count / 200)).run()  # fmt: skip
    return report.time_to(ACCURACY), report.bytes / 1e6
