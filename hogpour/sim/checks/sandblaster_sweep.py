"""The sweep's seeds of batch methods: Sandblaster trains for real there, and comes to the bits of a serial run.

What a run comes to is held against the same job on one node with one shard, to which nothing happens: every iteration
that the cluster speaks of, by its number; the shards and the models of all nodes at the end of a run that has finished;
and what the first node keeps of one that was stopped or has failed, which must be the point of some iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hogpour.algos.lbfgs.commands import POINT, TRIAL, Iteration
from hogpour.algos.schemes.sandblaster import Sandblaster
from hogpour.core.job import ClusterConfig
from hogpour.core.shard_map import LARGEST_SHARD_BYTES
from hogpour.data.blocks import generator
from hogpour.node.first_node import FirstNode
from hogpour.sim.checks.probes import replaced
from hogpour.sim.checks.witness import Witness
from hogpour.sim.scenario import Scenario
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.compute import Compute
from hogpour.sim.world.workload import Workload

__all__ = ["EVALUATIONS", "Points", "Serial", "is_batch", "scheme_of", "serial_of"]

EVALUATIONS = 12
"""Of the objective, in a run: what ``run.epochs`` says."""

_OPTIONS = 121
"""Stream of the choices of a scheme."""


def is_batch(seed: int) -> bool:
    """Whether a seed is of this kind: one of twenty, which no ablation of another kind names."""
    return seed % 20 == 3


def scheme_of(seed: int) -> Sandblaster:
    """Return what trains in a seed."""
    rng = generator(seed, _OPTIONS)
    return Sandblaster(
        blocks=int(rng.choice([3, 8, 24])),
        memory=int(rng.choice([1, 3])),
        l2=float(rng.choice([0.0, 0.01])),
        subset=float(rng.choice([1.0, 1.0, 0.4])),
        iterations=int(rng.choice([0, 0, 5])),
        copies=bool(rng.random() < 0.7),
    )


@dataclass(frozen=True, slots=True)
class Serial:
    """What a job comes to where nothing happens."""

    points: dict[int, bytes]
    """Iteration → its point."""
    begin: bytes
    """The parameters that a run begins with."""

    @property
    def final(self) -> bytes:
        """The parameters at the end."""
        return self.points[max(self.points)]


class Points:
    """The points of the iterations of a simulation; use as a context manager around its run.

    Args:
        witness: of the simulation; knows where the shards are.
        serial: what they must be; None: this is the serial run.

    Attributes:
        found: iteration → the point, when the first node spoke of it last.
        violations: what is not as it must be, a line each.
    """

    def __init__(self, simulation: Simulation, witness: Witness, serial: Serial | None = None) -> None:
        self.found: dict[int, bytes] = {}
        self.violations: list[str] = []
        self._simulation, self._witness, self._serial = simulation, witness, serial
        told = FirstNode._on_iteration

        def seen(founding: FirstNode, iteration: Iteration) -> None:
            told(founding, iteration)
            if simulation.loop.host.alive:
                self._look(iteration.number)

        self._replaced = replaced(FirstNode, "_on_iteration", seen)

    def __enter__(self) -> Points:
        self._replaced.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._replaced.__exit__(*error)

    def _look(self, number: int) -> None:
        self.found[number] = self._vector(POINT)
        if self._serial is None or self.found[number] == self._serial.points.get(number):
            return
        what = "another point than" if number in self._serial.points else "none in"
        seconds = self._simulation.loop.time()
        self.violations.append(f"at {seconds:.6f} s: bits: iteration {number} is {what} the serial run")

    def _vector(self, vector: int) -> bytes:
        """Return a vector of all shards, wherever they are served."""
        shards = sorted(self._witness.shards().items())
        return b"".join([shard.params, *shard.rows][vector].tobytes() for _, shard in shards)

    def end(self, outcome: str) -> None:
        """Look at the end of a run."""
        assert self._serial is not None
        kept = {site.number: site.lives[-1] for site in self._simulation.sites if site.lives}
        held = {number: life.training.evaluator.final.params.tobytes() for number, life in kept.items()
                if life.training is not None and life.training.summary is not None}  # fmt: skip
        if outcome == "finished":
            if self._vector(TRIAL) != self._serial.final:
                self.violations.append("bits: the shards end with other parameters than the serial run")
            for number, params in held.items():
                if kept[number].outcome == "finished" and params != self._serial.final:
                    self.violations.append(f"bits: node {number} ends with other parameters than the serial run")
        elif held.get(0, self._serial.begin) not in (self._serial.begin, *self._serial.points.values()):
            self.violations.append(f"bits: the first node ends as {outcome}, and keeps the point of no iteration")


def serial_of(workload: Workload) -> Serial:
    """Return what the job of a workload comes to on one node, with one shard."""
    scheme = workload.job.algorithm
    assert isinstance(scheme, Sandblaster)
    one = replace(workload.job, cluster=ClusterConfig(shard_bytes=LARGEST_SHARD_BYTES), save="model.safetensors")
    key: Any = len(one.model), replace(scheme, copies=True), one.epochs
    if key not in _serials:
        scenario = Scenario(nodes=1, look_every_s=1e9, compute=Compute(mean_s=0.01))
        simulation = Simulation(one, scenario, workload=replace(workload, job=one))
        with Witness(simulation.loop) as witness, Points(simulation, witness) as points:
            simulation.loop.after = witness.look
            report = simulation.run()
        assert report.outcome == "finished", f"the serial run of {one.algorithm}: {report.outcome} ({report.error})"
        assert not witness.violations, f"the serial run of {one.algorithm}: {witness.violations[0]}"
        _serials[key] = Serial(points.found, workload.params.tobytes())
    return _serials[key]


_serials: dict[Any, Serial] = {}
