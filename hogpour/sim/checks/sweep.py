"""Many small clusters by seed, each with its own misfortunes, all under the eyes of a witness.

A seed decides how many nodes there are, how they compute, push and fetch, and what happens to them: deaths of
processes and machines, of the first node too; partitions, pauses, resets, slow links, nodes that come and leave. The
model is made to count: a batch is one element of the parameters, and its gradient ticks that element once, so that
the shards say at the end how often every single batch was applied. In the seeds of a batch method it trains for real
(``sandblaster_sweep``).

    python -m hogpour sweep --seeds 0-199
    python -m hogpour sweep --seeds 17 --without window
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.correction.adaptive_compensation import AdaptiveCompensation
from hogpour.algos.exchange.accrue import Accrue
from hogpour.algos.exchange.elastic import Elastic
from hogpour.algos.exchange.local import Local
from hogpour.algos.gate.barrier import Barrier
from hogpour.algos.gate.open import Open
from hogpour.algos.gate.quorum import Quorum
from hogpour.algos.gate.slack import Slack
from hogpour.algos.optim.nesterov import Nesterov
from hogpour.algos.optim.sgd import Sgd
from hogpour.algos.schemes.base import Scheme
from hogpour.algos.schemes.custom import Custom
from hogpour.algos.schemes.downpour import Downpour
from hogpour.core.errors import HogpourError
from hogpour.core.job import ClusterConfig, Job
from hogpour.data.blocks import Blocks, generator
from hogpour.data.load import arrays
from hogpour.layers.linear import Linear
from hogpour.machine.replica import Replica
from hogpour.sim.checks.ablations import ABLATIONS
from hogpour.sim.checks.hard_links import CRAWLING, are_hard, hard_links_of, slow_leavers, with_hard_links
from hogpour.sim.checks.sandblaster_sweep import EVALUATIONS, Points, is_batch, scheme_of, serial_of
from hogpour.sim.checks.sleeps import sleeps, unrested, with_sleep
from hogpour.sim.checks.stalls import STALL_S, could_compute, has_stalls, stalls
from hogpour.sim.checks.witness import Witness
from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import (
    Death,
    DiskConditions,
    DiskFault,
    LinkConditions,
    NodeJoin,
    Partition,
    Pause,
    ReplicaDeath,
    Scenario,
    SecondRun,
    Slow,
    SlowLink,
)
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.compute import Compute
from hogpour.sim.world.loop import Stuck
from hogpour.sim.world.workload import Workload, workload_of

__all__ = ["Counting", "Finding", "run_seed", "scenario_of", "sweep"]

_SWEEP = 120
"""Stream of the sweep's choices."""

_EXAMPLES, _BATCH, _EPOCHS, _REPLICAS = 192, 8, 2, 2
_WIDE = 1024
"""Units of a layer that makes a model of 16,400 parameters."""

_NARROW = 1e5
"""Bytes a second of a network on which heartbeats queue."""

_LEASE_S, _GIVE_UP_S = 1.0, 3.0

_UNTIL_S = 200.0
"""Virtual seconds within which every run must have ended: it computes for 2 to 20, and the slowest deadlines of the
cluster, for shards that are moved and for leaves, are 60 and 90."""


_KINDS = (
    "death", "death", "first", "replica_death", "partition", "partition", "pause", "early pause", "slow", "join",
    "slow_link",
)  # fmt: skip
"""Of misfortunes; what stands twice comes twice as often."""


_TOLD = (
    "the run has ended: ",
    "was started anew: ",
    "it must be joined again",
    "is no member of the cluster: ",
    "fell silent while it was leaving",
    "does not answer: ",
    "no answer to Join within ",
    " is gone; it served shard",
    "serves at 10.",
)
"""What a node says that cannot go on, or is not taken in."""

_UNLOCKED = ".lock: cannot be made: Read-only file system"

_DISK_TOLD = ("; it is in ", _UNLOCKED)
"""What the first node says at its end, or where it begins again, of a disk that takes nothing."""


class Counting(Replica):
    """A replica whose gradients count: a batch ticks one element of the parameters by one."""

    def _allocate(self) -> None:
        self._loss, self._right = 0.0, 0
        self._grad = self._network.spec.zeros()
        self._batches = self._blocks.block_size // self._job.batch

    def compute(self, order: npt.NDArray[np.int64], position: int, batch: int, ticket: int) -> bool:
        """Compute the gradient that ticks the element of this batch, at rate 1."""
        self._grad[:] = 0.0
        self._grad[ticket * self._batches + position // self._job.batch] = -1.0
        return True


@dataclass(frozen=True, slots=True)
class Finding:
    """What a seed showed."""

    seed: int
    violations: tuple[str, ...]
    """Empty: all that must hold held."""
    report: SimulationReport | None
    """None where it did not come to an end."""

    def replay(self, without: str = "") -> str:
        """Return the command that shows it again."""
        return f"python -m hogpour sweep --seeds {self.seed}" + (f" --without {without}" if without else "")


def sweep(seeds: Iterator[int] | range, without: str = "") -> Iterator[Finding]:
    """Run seeds one after the other and yield what each showed."""
    for seed in seeds:
        yield run_seed(seed, without)


def run_seed(seed: int, without: str = "") -> Finding:
    """Run the cluster of one seed.

    Args:
        without: name of a safeguard that is switched off; see ``ablations``.
    """
    scenario, job = scenario_of(seed)
    workload = _workload(job)
    serial = serial_of(workload) if is_batch(seed) else None  # with all safeguards
    blocks = Blocks(_EXAMPLES, _BATCH, scenario.replicas, _EPOCHS)
    each = blocks.block_size // _BATCH

    def batches(ticket: int) -> range:
        size = _EXAMPLES - (blocks.n_blocks - 1) * blocks.block_size  # of the short block, if there is one
        epoch, rank = blocks.place(ticket)
        short = blocks.epoch_order(job.seed, epoch)[rank] == blocks.n_blocks - 1
        return range(ticket * each, ticket * each + (-(-size // _BATCH) if short else each))

    with ExitStack() as stack:
        if without:
            stack.enter_context(ABLATIONS[without].off())
        simulation = Simulation(job, scenario, workload=workload)
        counted = batches if serial is None else None
        witness = stack.enter_context(Witness(
            simulation.loop, counted, calm=_is_calm(scenario), could=lambda: could_compute(simulation)
        ))  # fmt: skip
        points = stack.enter_context(Points(simulation, witness, serial)) if serial is not None else None
        simulation.loop.after = witness.look
        report: SimulationReport | None = None
        violations: list[str] = []
        try:
            report = simulation.run()
        except Stuck as error:
            violations.append(f"ends: {error}")
        except HogpourError as error:
            violations.append(f"bug: {error}")
        except Exception as error:
            violations.append(f"bug: {type(error).__name__}: {error}")
        if report is not None:
            witness.end(report.outcome == "finished", blocks.total)
            if points is not None:
                points.end(report.outcome)
            violations += (unrested if sleeps(seed) else _unexpected)(scenario, report)
    bits = points.violations if points is not None else []
    return Finding(seed, (*witness.violations, *bits, *violations), report)


def scenario_of(seed: int) -> tuple[Scenario, Job]:
    """Return what happens in a seed, and what is trained there."""
    rng = generator(seed, _SWEEP)
    nodes, replicas = int(rng.integers(2, 6)), int(rng.integers(1, 3))
    serving = int(rng.integers(0, nodes)) if rng.random() < 0.5 else 0
    n_push, n_fetch = (int(rng.choice([1, 1, 2, 4])) for _ in range(2))
    mean_s = float(rng.choice([0.01, 0.05, 0.2]))
    epochs = _EPOCHS
    if is_batch(seed):
        mean_s, epochs = mean_s * _EPOCHS / EVALUATIONS, EVALUATIONS  # as long as the others
    hard = hard_links_of(seed)
    wide = bool(rng.random() < 0.15) or hard == CRAWLING  # so that payloads are sent without a copy, and in pieces
    compute = Compute(
        distribution=rng.choice(["constant", "exponential", "log_normal", "pareto"]).item(),
        mean_s=mean_s,
        speeds=tuple(rng.choice([0.25, 1.0, 1.0, 2.0], nodes).tolist()),
    )
    length_s = _EXAMPLES * epochs / _BATCH * mean_s / (nodes * replicas)  # about
    link = LinkConditions(
        delay_s=float(rng.choice([0.0, 0.0002, 0.02])),
        jitter_s=float(rng.choice([0.0, 0.001])),
        bandwidth=float(rng.choice([0.0, 125e6, _NARROW * (20 if wide else 1)])),
        window_bytes=int(rng.choice([1024, 4096, 1 << 18])) if not wide else 1 << 15,
        split_reads=bool(rng.random() < 0.5),
        # Where connections break faster than they are made, nobody can be heard.
        reset_every_s=float(rng.choice([0.0, 0.0, max(0.4, length_s / 4)])),
    )
    scenario = Scenario(
        nodes=nodes,
        replicas=replicas,
        serving=serving,
        seed=seed,
        until_s=_UNTIL_S,
        look_every_s=1e9,
        join_spread_s=float(rng.choice([0.0, 0.1, 0.5])),
        shuffle=bool(rng.random() < 0.5),
        compute=compute,
        link=link,
        disk=DiskConditions(delay_s=float(rng.choice([0.0, 0.005, 0.1]))),
        **_misfortunes(rng, nodes, replicas, length_s),
        **(_disk_misfortunes(generator(seed, _SWEEP, 1), nodes, length_s) if seed % 20 == 6 else {}),
        **stalls(seed, nodes, replicas, length_s),
    )
    if hard is not None:
        scenario = with_hard_links(scenario, hard, generator(seed, _SWEEP, 2))
    if sleeps(seed):
        scenario = with_sleep(scenario, generator(seed, _SWEEP, 3), length_s)
    job = Job(
        data=_data(),
        model=(Linear(_WIDE), Linear(8)) if wide else (Linear(8),),
        algorithm=scheme_of(seed) if is_batch(seed) else _scheme(seed, n_push, n_fetch),
        epochs=epochs,
        batch=_BATCH,
        replicas=_REPLICAS,
        save="count.safetensors",
        save_every_s=float(rng.choice([0.5, 60.0])),
        cluster=ClusterConfig(
            lease_s=_LEASE_S,
            give_up_s=_GIVE_UP_S,
            stall_s=STALL_S if has_stalls(seed) else 10.0,
            shard_bytes=1 << 20 if wide else int(rng.choice([64, 128, 1 << 20])),
        ),
    )
    return scenario, job


def _scheme(seed: int, n_push: int, n_fetch: int) -> Scheme:
    """Return what trains: what is counted must be applied as it is, whatever a server remembers beside it.

    Of every eight seeds two have a gate, some of them rounds of local steps, and one has servers that remember what
    each node fetched, for a compensation of strength 0; of the others about a sixth are pulled elastically, with
    momentum or without. Drawn by the seed's number, so that those which the ablations name are what they were.
    """
    if seed % 4 == 0:
        gates = Barrier(), Barrier(backups=1), Quorum(1 + n_fetch % 2), Slack(n_fetch - 1)
        kind = seed // 16 % 5
        exchange = Local(n_push, Sgd(lr=1.0)) if kind < 2 else Accrue(n_push, n_push)
        return Custom(exchange=exchange, gate=gates[seed // 4 % 4] if kind else Open(), optimiser=Sgd(lr=1.0))
    if seed % 8 != 7 and seed % 10 in (1, 8):
        rule = Nesterov(lr=1.0, momentum=0.5) if n_fetch % 2 else Sgd(lr=1.0)
        return Custom(exchange=Elastic(0.5 ** (2 + seed // 10 % 3), n_push), optimiser=rule)
    if seed % 8 != 7:
        return Downpour(n_push=n_push, n_fetch=n_fetch, optimiser=Sgd(lr=1.0))
    compensation = AdaptiveCompensation(strength=0.0)
    return Custom(exchange=Accrue(1, 1), correction=compensation, optimiser=Sgd(lr=1.0))


def _misfortunes(rng: np.random.Generator, nodes: int, replicas: int, length_s: float) -> dict[str, Any]:
    """Draw what goes wrong: nothing in a few seeds, several things in most."""
    found: dict[str, Any] = {
        name: [] for name in ("death", "replica_death", "partition", "pause", "slow", "join", "slow_link")
    }
    length_s = max(1.0, length_s)

    def when() -> float:
        return round(float(rng.uniform(0.0, 1.2 * length_s)), 3)

    def some() -> tuple[int, ...]:
        return tuple(sorted(rng.choice(nodes, int(rng.integers(1, nodes)), replace=False).tolist()))

    for _ in range(int(rng.choice([0, 1, 2, 3, 5]))):
        kind = rng.choice(_KINDS)
        back_s = float(rng.choice([0.0, 0.1, 0.7, 2.5]))
        how = rng.choice(["kill", "kill", "power", "leave"]).item()
        if kind == "death":
            found["death"].append(Death(at_s=when(), nodes=(int(rng.integers(1, nodes)),), back_s=back_s, kind=how))
        elif kind == "first":
            found["death"].append(Death(at_s=when(), nodes=(0,), back_s=max(0.1, back_s), kind=how))
        elif kind == "replica_death":
            replica = int(rng.integers(replicas))
            found["replica_death"].append(ReplicaDeath(at_s=when(), node=int(rng.integers(nodes)), replica=replica))
        elif kind == "partition":
            found["partition"].append(Partition(at_s=when(), for_s=float(rng.choice([0.3, 1.5, 2.5])), nodes=some()))
        elif kind == "pause":
            found["pause"].append(Pause(at_s=when(), for_s=float(rng.choice([0.2, 0.8, 1.5, 2.5])), nodes=some()))
        elif kind == "early pause":  # of one that is about to take shards over
            at_s, for_s = float(rng.uniform(0.0, 0.8)), float(rng.choice([1.5, 2.5]))
            found["pause"].append(Pause(at_s=at_s, for_s=for_s, nodes=(int(rng.integers(1, nodes)),)))
        elif kind == "slow":
            found["slow"].append(Slow(at_s=when(), for_s=2.0, nodes=some(), times=10.0))
        elif kind == "join":
            found["join"].append(NodeJoin(at_s=when(), serving=bool(rng.random() < 0.5)))
        else:
            found["slow_link"].append(SlowLink(nodes=some(), delay_s=0.05, bandwidth=2e5))
    return {name: tuple(entries) for name, entries in found.items()}


def _disk_misfortunes(rng: np.random.Generator, nodes: int, length_s: float) -> dict[str, Any]:
    """Draw what becomes of disks, from a stream of its own, and when somebody begins a second run in the same folder.

    Of every twenty seeds one: so that those which the ablations name are what they were.
    """

    def when() -> float:
        return round(float(rng.uniform(0.0, 1.2 * max(1.0, length_s))), 3)

    faults = tuple(
        DiskFault(
            at_s=when(),
            for_s=float(rng.choice([0.5, 3.0, 12.0, 60.0])),
            nodes=(0,) if rng.random() < 0.8 else tuple(range(nodes)),
            kind=rng.choice(["full", "read_only"]).item(),
        )
        for _ in range(int(rng.integers(0, 3)))
    )
    return {"disk_fault": faults, "second_run": (SecondRun(at_s=when()),) if rng.random() < 0.7 else ()}


def _is_calm(scenario: Scenario) -> bool:
    """Whether nothing keeps a node from being heard."""
    left = all(death.kind == "leave" and not death.back_s for death in scenario.death)
    disturbed = not left or scenario.partition or scenario.pause or scenario.link.reset_every_s
    return not disturbed and not 0 < scenario.link.bandwidth < 1e7


def _unexpected(scenario: Scenario, report: SimulationReport) -> Iterator[str]:
    """Tell what should not have come out: a run ends in order, unless something happened that a cluster does not
    forgive; and then it says what that was."""
    told = (*_TOLD, *(_DISK_TOLD if scenario.disk_fault else ()))
    left = all(death.kind == "leave" and not death.back_s for death in scenario.death)
    disturbed = not left or scenario.partition or scenario.pause or scenario.link.reset_every_s
    if are_hard(scenario) and not disturbed:
        told = ("nobody listens there: ",)  # it has come too late
        yield from slow_leavers(report, 2 * _GIVE_UP_S)
    for node in report.nodes:
        if node.second_run:
            if node.outcome != "failed" or not any(words in node.error for words in (" trains it", _UNLOCKED)):
                yield f"alone: node {node.node} began a second run in the first one's folder: {node.outcome}"
        elif node.outcome == "failed" and not any(words in node.error for words in told):
            yield f"ends: node {node.node} failed without a word of what happened: {node.error}"
    if report.outcome == "finished":
        return
    first = any(0 in death.nodes for death in scenario.death)
    first_out = first or any(0 in entry.nodes for entry in (*scenario.partition, *scenario.pause))
    serving = scenario.serving or any(join.serving for join in scenario.join)
    killed = any(death.kind != "leave" for death in scenario.death)
    server_out = serving and (killed or scenario.partition or scenario.pause)
    must_finish = not (first_out or server_out or scenario.disk_fault)
    forgiven = (*_DISK_TOLD, " is gone; it served shard", "does not answer: ")
    if must_finish or not (report.outcome == "stopped" or any(words in report.error for words in forgiven)):
        yield f"ends: {report.outcome} ({report.error}), and nothing happened that could not be forgiven"


@cache
def _data() -> Any:
    """Examples that nobody looks at: what counts is which batch they are in."""
    rng = generator(0, _SWEEP)
    return arrays(rng.random((_EXAMPLES, 7)).astype(np.float32), rng.integers(0, 8, _EXAMPLES), validation=0.0)


_workloads: dict[tuple[int, Scheme], Workload] = {}


def _workload(job: Job) -> Workload:
    """Return what nodes train; made once for each model and scheme, which runs their kernels: compiled in virtual time
    they would read the clock."""
    key = len(job.model), job.algorithm
    if key not in _workloads:
        _workloads[key] = workload_of(job)
    one = replace(_workloads[key], job=replace(job, base="/"), test=None)
    if job.algorithm.batch_blocks:
        return one
    return replace(one, replica=Counting, params=np.zeros_like(one.params))
