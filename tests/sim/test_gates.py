"""Gates in whole clusters, in virtual time: where they must come to what is known, and the laws of their waiting.

*Degenerate cases, bit for bit.* Here blocks are dealt out once, two to each node, and a gradient takes a second, which
is longer than all nodes need to join: so who trains on what is known beforehand, whatever the network is like.

*Laws.* As in ``test_laws``: messages take no time, all nodes begin together, hosts are not shuffled; what is looked at
is looked at from outside while everybody computes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import hogpour as hp
from hogpour.core.shard_map import cut
from hogpour.data.blocks import Blocks, example_order
from hogpour.server.gated_step import GatedStep
from hogpour.server.shard import Shard
from hogpour.sim.checks.witness import Witness
from hogpour.sim.scenario import Death, DiskConditions, LinkConditions, Scenario, Slow
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.loop import BEGIN_S, Stuck
from hogpour.sim.world.workload import Workload, workload_of

Floats = npt.NDArray[np.float32]
NODES, TICKETS = 4, 2
"""Of a run whose blocks are dealt out once: TICKETS for each node."""

QUIET: dict[str, Any] = {"join_spread_s": 0.0, "disk": DiskConditions(delay_s=0.0), "link": LinkConditions(delay_s=0.0, bandwidth=0.0)}


def dealt(scheme: Any, *, batches: int = 6, shards: int = 1, **changes: Any) -> hp.Job:
    """A job of NODES · TICKETS blocks of so many batches of 4 examples each."""
    n = NODES * TICKETS * batches * 4
    rng = np.random.default_rng(1)
    data = hp.arrays(rng.random((n, 8), np.float32), rng.integers(0, 3, n), validation=0.0)
    model = [hp.Linear(10), hp.Sigmoid(), hp.Linear(3)]  # nine lines of 16 numbers
    wanted = {"data": data, "model": model, "algorithm": scheme, "epochs": 1, "batch": 4, "replicas": 1}
    cluster = hp.ClusterConfig(shard_bytes={1: 1 << 20, 2: 5 * 64, 5: 2 * 64}[shards])
    return hp.Job(**wanted | {"cluster": cluster} | changes)


def run(job: hp.Job, workload: Workload | None = None, **scenario: Any) -> tuple[Simulation, bytes]:
    """A run that keeps every promise, and the bytes of the parameters at its end."""
    wanted = {"nodes": NODES, "compute": hp.Compute(mean_s=1.0), "look_every_s": 1e6}
    simulation = Simulation(job, Scenario(**QUIET | wanted | scenario), workload=workload)
    with Witness(simulation.loop) as witness:
        simulation.loop.after = witness.look
        report = simulation.run()
        witness.end(report.outcome == "finished", 0)
    assert (witness.violations, report.outcome) == ([], "finished")
    return simulation, params(simulation, job)


def params(simulation: Simulation, job: hp.Job) -> bytes:
    count = len(cut(simulation.workload.params.size, job.cluster.shard_bytes)) - 1
    return b"".join(shard_of(simulation, k).params.tobytes() for k in range(count))


def shard_of(simulation: Simulation, number: int = 0) -> Shard:
    shard = simulation.shard(number)
    assert shard is not None
    return shard


# -- a barrier is serial SGD on the mean


def serial(job: hp.Job) -> bytes:
    """Serial SGD whose gradient is the mean over the batches of all nodes, in the order of their numbers; written a
    second time, with the kernels of the layers and of the optimiser and nothing else."""
    workload = workload_of(job)
    network, w = workload.network, workload.params.copy()
    blocks = Blocks(len(workload.x), job.batch, 1, 1)
    assert blocks.total == NODES * TICKETS
    order = blocks.epoch_order(job.seed, 0)
    batches: list[list[npt.NDArray[np.int64]]] = []
    for node in range(NODES):
        mine: list[npt.NDArray[np.int64]] = []
        for ticket in range(TICKETS * node, TICKETS * (node + 1)):
            start, stop = blocks.range(ticket, order)
            examples = example_order(job.seed, 0, start, stop, np.zeros(stop - start, np.int64))
            mine += np.split(examples, len(examples) // job.batch)
        batches.append(mine)
    state = tuple(np.zeros_like(w) for _ in job.algorithm.optimiser.state)
    for t, of_nodes in enumerate(zip(*batches, strict=True), 1):
        grads = [gradient(workload, network, w, chosen) for chosen in of_nodes]
        total = grads[0]
        for grad in grads[1:]:
            total = total + grad
        job.algorithm.optimiser.apply(w, total / np.float32(NODES), state, lr_scale=1.0, t=t)
    return w.tobytes()


def gradient(workload: Workload, network: Any, w: Floats, chosen: npt.NDArray[np.int64]) -> Floats:
    workspace = network.workspace(len(chosen), w)
    workspace.x[...] = np.moveaxis(workload.x[chosen].reshape(-1, *network.input_shape), 0, -1)
    workspace.forward()
    workload.job.loss.apply(workspace.scores, workload.y[chosen], workspace.d_scores)
    workspace.backward()
    return workspace.grad.copy()


NETWORKS = {
    "quiet": {},
    "delayed": {"link": LinkConditions(delay_s=0.02)},
    "serving": {"link": LinkConditions(delay_s=0.001), "serving": 2},
}


@pytest.mark.long
@pytest.mark.parametrize("optimiser", [hp.Sgd(0.5), hp.Adam(0.01)], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_a_barrier_is_serial_sgd_on_the_mean_of_all_batches(shards: int, network: str, optimiser: Any) -> None:
    """Whatever the network, and wherever shards are: what is summed, and in which order, follows from numbers."""
    job = dealt(hp.Ssgd(optimiser=optimiser), shards=shards)
    simulation, found = run(job, **NETWORKS[network])
    assert [shard_of(simulation, k).clock for k in range(shards)] == [12] * shards
    assert simulation.shard(shards) is None
    assert found == serial(job)


def test_backups_of_none_are_a_barrier() -> None:
    (_, expected), (_, found) = run(dealt(hp.Ssgd())), run(dealt(hp.BackupSync(backups=0)))
    assert found == expected


# -- no slack is a barrier


def test_without_slack_gradients_are_applied_one_by_one_to_the_same_as_their_mean() -> None:
    """Bit for bit where both are exact: gradients of b in f = ½ (b - y)² with y in halves, at a rate of ½ for the mean
    of 4 and of ⅛ for each. Every step adds at most three bits, and after six b has less than 24."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 4, NODES * TICKETS * 3).astype(np.float32)[:, None] / 2
    changes: dict[str, Any] = {
        "data": hp.arrays(np.zeros((len(y), 1), np.float32), y, targets="values", validation=0.0),
        "model": [hp.Linear(1)], "loss": "squared_error", "batch": 1,
    }  # fmt: skip

    def trained(scheme: Any) -> tuple[int, bytes]:
        job = dealt(scheme, **changes)
        workload = workload_of(job)
        simulation, found = run(job, replace(workload, params=np.zeros_like(workload.params)))
        return shard_of(simulation).clock, found

    slack, barrier = trained(hp.Ssp(s=0, optimiser=hp.Sgd(0.5 / NODES))), trained(hp.Ssgd(optimiser=hp.Sgd(0.5)))
    assert (slack[0], barrier[0]) == (6 * NODES, 6)
    assert slack[1] == barrier[1]
    assert np.count_nonzero(np.frombuffer(slack[1], np.float32)) == 1


# -- rounds of one step are a barrier


@pytest.mark.parametrize("shards", [1, 5])
def test_rounds_of_one_step_that_servers_add_are_synchronous_sgd(shards: int) -> None:
    """Bit for bit at a rate of ⅛, with which a displacement is its gradient but for the exponent."""
    rounds = hp.LocalSgd(steps=1, inner=hp.Sgd(0.125), optimiser=hp.Sgd(1.0))
    (_, expected), (_, found) = (run(dealt(one, shards=shards)) for one in (hp.Ssgd(optimiser=hp.Sgd(0.125)), rounds))
    assert found == expected


# -- a quorum of one is asynchronous SGD


@pytest.mark.long
def test_a_quorum_of_one_is_asynchronous_sgd() -> None:
    """With times that differ. What several nodes do at one moment comes in another order, as a fetch behind a gate does
    not go out with its push."""
    compute = hp.Compute(distribution="exponential", mean_s=0.1)
    found = [run(dealt(scheme), compute=compute) for scheme in (hp.Asgd(), hp.Softsync(n=NODES, staleness_aware=False))]
    states = [shard_of(simulation).state() for simulation, _ in found]
    assert states[0].staleness == states[1].staleness
    assert found[0][1] == found[1][1]


@pytest.mark.long
def test_a_quorum_of_one_at_the_rate_of_its_staleness_is_staleness_aware_sgd() -> None:
    compute = hp.Compute(distribution="exponential", mean_s=0.1)
    found = [run(dealt(scheme), compute=compute)[1] for scheme in (hp.StalenessAware(), hp.Softsync(n=NODES))]
    assert found[0] == found[1]


# -- what is looked at while everybody computes

MEAN_S, FULL = 0.1, 20
"""Mean time of a gradient; how many of them pass before the first look."""


@dataclass(frozen=True)
class Sight:
    """A cluster at one moment."""

    clock: int
    pushes: int
    staleness: int
    """Sum over all pushes."""
    dropped: int
    """As the links of all living nodes have heard it."""
    waited_s: float
    """Replicas have waited so long, all together."""
    ahead: int
    """Between the fastest and the slowest of those that take part: clocks."""


def watch(
    scheme: Any, nodes: int, looks_s: Sequence[float], *, compute: hp.Compute | None = None, **scenario: Any
) -> list[Sight]:
    """Simulate a cluster without gradients, look at it at these times, and give it up at the last one."""
    x, y = np.zeros((8192, 1), np.float32), np.ones((8192, 1), np.float32)
    data = hp.arrays(x, y, x[:1], y[:1], targets="values")
    job = hp.Job(data=data, model=[hp.Linear(1)], loss="squared_error", algorithm=scheme, epochs=10**6, batch=1)
    wanted = {"nodes": nodes, "compute": compute or hp.Compute(mean_s=MEAN_S), "model_only": True,
              "look_every_s": 1e6, "until_s": looks_s[-1]}  # fmt: skip
    simulation, seen = Simulation(job, Scenario(**QUIET | wanted | scenario)), []

    def look() -> None:
        shard = shard_of(simulation)
        lives = [site.life for site in simulation.sites if site.life is not None]
        links = [life.endpoint.stats.link for life in lives]
        clocks = simulation.sites[0].life.endpoint.stats.coordinator.gatekeeper._present.values()
        waited_s = sum(sum(life.replicas.waited_s) for life in lives)
        seen.append(Sight(shard.clock, shard.pushes, shard._staleness, sum(link.buffers.dropped for link in links), waited_s,
                          max(clocks) - min(clocks)))  # fmt: skip

    for at_s in looks_s:
        simulation.loop.call_on(simulation.loop.outside, BEGIN_S + at_s, look)
    with pytest.raises(Stuck, match="has not ended after"):
        simulation.run()
    return seen


# -- laws: staleness of softsync

SPEEDS = tuple(np.linspace(1, 8.5, 16).tolist())
COMPUTES: dict[str, tuple[float, dict[str, Any]]] = {
    "exponential": (200.0, {"compute": hp.Compute(distribution="exponential", mean_s=MEAN_S)}),
    "equal": (100.0, {"join_spread_s": MEAN_S * 15 / 16}),
    "heterogeneous": (40.0, {"compute": hp.Compute(distribution="exponential", mean_s=MEAN_S, speeds=SPEEDS)}),
}
"""What each is, and for how many mean times it is looked at."""


@pytest.mark.long
@pytest.mark.parametrize("kind", COMPUTES)
@pytest.mark.parametrize("c", [2, 16])
def test_mean_staleness_of_softsync_is_the_number_of_others_over_the_size_of_a_step(c: int, kind: str) -> None:
    """(N-1)/c: between its fetch and its next gradient N gradients arrive on average, its own among them, and every
    c-th of them makes a step. That holds where an origin fetches at the moment of its arrival, before another one does:
    so nodes of equal times begin one after the other here. All at one moment, they would arrive before the first has
    fetched, and see the step that all of them make."""
    times, scenario = COMPUTES[kind]
    looks_s = [(FULL + 0.5) * MEAN_S, (FULL + times + 0.5) * MEAN_S]
    first, last = watch(hp.Softsync(n=16 // c), 16, looks_s, **scenario)
    pushes = last.pushes - first.pushes
    assert pushes >= 1600
    assert pushes == c * (last.clock - first.clock)
    assert (last.staleness - first.staleness) / pushes == pytest.approx(15 / c, rel=0.005)


# -- laws: the time of a step with backups


def expected_s(n: int, b: int) -> float:
    """Return the mean time of a step of n of n + b workers whose gradients take exponential times of mean 1.

    H(n+b) - H(b), if all began anew with the step. But the b that a step did not wait for are still at a gradient which
    will be too late, and begin with the current step only after it: as memoryless as all others, they need two.
    """

    @cache
    def left(fresh: int, late: int, arrived: int) -> float:
        if arrived == n:
            return 0.0
        after = fresh * left(fresh - 1, late, arrived + 1) if fresh else 0.0
        after += late * left(fresh + 1, late - 1, arrived) if late else 0.0
        return (1.0 + after) / (fresh + late)

    return left(n, b, 0)


def harmonic(n: int) -> float:
    return sum(1 / k for k in range(1, n + 1))


STEPS = 400


@pytest.mark.long
@pytest.mark.parametrize(("n", "b"), [(8, 0), (6, 2)])
def test_a_step_with_backups_takes_as_long_as_it_should(n: int, b: int) -> None:
    """Within three standard errors. The variance of the slowest of n is Σ 1/k² < 1.65; with backups it is less."""
    expected = expected_s(n, b)
    looks_s = [FULL * MEAN_S, (FULL + STEPS * expected) * MEAN_S]
    compute = hp.Compute(distribution="exponential", mean_s=MEAN_S)
    first, last = watch(hp.BackupSync(backups=b), n + b, looks_s, compute=compute)
    steps = last.clock - first.clock
    found = STEPS * expected / steps
    error = math.sqrt(sum(1 / k**2 for k in range(b + 1, n + b + 1)) / STEPS)
    assert found == pytest.approx(expected, abs=3 * error)
    assert last.pushes - first.pushes == n * steps
    assert (last.dropped > 0) == (b > 0)


# -- slack


@cache
def slackened(s: int) -> tuple[Sight, Sight]:
    first, last = watch(
        hp.Ssp(s=s), 16, [FULL * MEAN_S, (FULL + 100) * MEAN_S],
        compute=hp.Compute(distribution="exponential", mean_s=MEAN_S),
    )  # fmt: skip
    return first, last


@pytest.mark.long
def test_with_more_slack_there_is_more_staleness_and_less_waiting() -> None:
    found = []
    for s in (0, 1, 3, 8):
        first, last = slackened(s)
        pushes = last.pushes - first.pushes
        found.append(((last.staleness - first.staleness) / pushes, (last.waited_s - first.waited_s) / (1600 * MEAN_S), pushes))
        assert max(first.ahead, last.ahead) <= s + 1  # one that waits has its clock already
    staleness, waiting, pushes = zip(*found, strict=True)
    assert list(staleness) == sorted(staleness)
    assert list(waiting) == sorted(waiting, reverse=True)
    assert list(pushes) == sorted(pushes)
    assert staleness[0] == pytest.approx(15 / 2, rel=0.01)  # all in one step, one by one: 0 up to 15
    assert waiting[0] == pytest.approx(1 - 1 / harmonic(16), rel=0.05)


@pytest.mark.long
@pytest.mark.parametrize(("s", "lost"), [(0, 4), (1, 3), (2, 2), (4, 0)])
def test_slack_absorbs_a_transient_straggler_clock_by_clock(s: int, lost: int) -> None:
    """One of eight equal nodes takes five times as long for one gradient: four clocks, of which the others have s before
    they wait. It loses four itself."""
    slow = Slow(nodes=(3,), at_s=2.05, for_s=0.1, times=5.0)
    looks_s = [2.05, 2.65]
    undisturbed, disturbed = (
        [sight.pushes for sight in watch(hp.Ssp(s=s), 8, looks_s, **more)] for more in ({}, {"slow": (slow,)})
    )
    assert undisturbed[0] == disturbed[0]
    assert undisturbed[1] - disturbed[1] == 7 * lost + 4


# -- deaths


@pytest.mark.long
def test_as_many_deaths_as_there_are_backups_never_hold_up_a_step() -> None:
    """Neither before their leases end, nor after."""
    death = Death(at_s=2.05, nodes=(4, 5))
    looks_s = [2.05 + 0.5 * k for k in range(12)]
    found = [sight.clock for sight in watch(hp.BackupSync(backups=2), 6, looks_s, death=(death,))]
    assert set(np.diff(found)) == {5}


@pytest.mark.long
def test_one_more_death_holds_steps_up_until_the_lease_ends_and_then_they_go_on() -> None:
    death = Death(at_s=2.05, nodes=(3, 4, 5))
    looks_s = [2.05, 2.5, 4.5, 6.5, 8.5]
    found = [sight.clock for sight in watch(hp.BackupSync(backups=2), 6, looks_s, death=(death,))]
    assert found[1] - found[0] <= 1
    assert found[2] == found[1]
    assert found[4] - found[3] == 20


@pytest.mark.long
@pytest.mark.parametrize("scheme", [hp.Ssgd(), hp.BackupSync(backups=1), hp.Softsync(n=2), hp.Ssp(s=0), hp.Ssp(s=1)], ids=repr)
def test_nodes_with_more_blocks_than_others_wait_for_nobody_at_the_end(scheme: Any) -> None:
    """Nine blocks of six batches of a second for four nodes: three blocks is the longest that one of them has."""
    n = 9 * 6 * 4
    rng = np.random.default_rng(1)
    data = hp.arrays(rng.random((n, 8), np.float32), rng.integers(0, 3, n), validation=0.0)
    simulation, _ = run(dealt(scheme, data=data))
    assert shard_of(simulation).pushes + dropped(simulation) == 9 * 6
    assert simulation.loop.time() - BEGIN_S < 3 * 6 + 2


@pytest.mark.long
def test_at_the_end_of_the_data_a_step_moves_by_as_much_as_took_part_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same blocks: after two of each of the four nodes one node has a third."""
    shares: list[float] = []
    ran = GatedStep.run

    def run_step(step: GatedStep) -> None:
        if step.pushes[0].node:  # else it is of a rehearsal
            shares.append(step.share)
        ran(step)

    monkeypatch.setattr(GatedStep, "run", run_step)
    n = 9 * 6 * 4
    rng = np.random.default_rng(1)
    data = hp.arrays(rng.random((n, 8), np.float32), rng.integers(0, 3, n), validation=0.0)
    run(dealt(hp.Ssgd(), data=data))
    assert shares == [1.0] * 12 + [0.25] * 6


def dropped(simulation: Simulation) -> int:
    return sum(life.endpoint.stats.link.buffers.dropped for site in simulation.sites for life in site.lives)


# -- what is dropped


@pytest.mark.long
@pytest.mark.parametrize("shards", [1, 5])
@pytest.mark.parametrize("delay_s", [0.0, 0.02])
def test_every_gradient_is_in_every_shard_or_counted_as_dropped(delay_s: float, shards: int) -> None:
    job = dealt(hp.BackupSync(backups=1), shards=shards)
    compute = hp.Compute(distribution="exponential", mean_s=0.1)
    simulation, _ = run(job, compute=compute, link=LinkConditions(delay_s=delay_s))
    late = dropped(simulation)
    assert late > 0
    for number in range(shards):
        shard = shard_of(simulation, number)
        assert (shard.pushes + late, len(shard.pending)) == (NODES * TICKETS * 6, 0)
