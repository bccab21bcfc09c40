"""The laws of asynchrony, which are exact, held against the production code in virtual time.

They are those of a parameter server without delay that applies each push at once, and whose replicas fetch right
behind their push (n_push = n_fetch = 1, one shard). So here messages and disks take no time, all nodes begin together,
and hosts are not shuffled: where compute times are equal, everybody pushes at one moment, and in another order between
hosts a fetch would no more follow the push that it belongs to. (Shuffled, 16 equal nodes have a mean staleness of
12.9.) Whole clusters are looked at from outside while everybody computes, and given up at the last look, so that
nothing here is about how a run ends.

Zhang et al. 2016 (staleness), Mitliagkas et al. 2016 (implicit momentum), and the roots of a delayed recursion.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

import hogpour as hp
from hogpour.core.cluster_state import STALENESS_COUNTS
from hogpour.net.wire.fetch import Fetch
from hogpour.net.wire.push import Push
from hogpour.server.server import ParameterServer
from hogpour.sim.scenario import DiskConditions, LinkConditions, Scenario
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.loop import BEGIN_S, Loop, Stuck

NODES = (8, 16)
MEAN_S = 0.1
"""Of a gradient; a heartbeat every second is then a tenth of what happens."""

FULL = 20
"""Steps of a node after which the first look comes. The first pushes of a run are of its first parameters, and have as
much staleness as there were pushes before them."""


@dataclass(frozen=True)
class Sight:
    """A cluster at one moment."""

    pushes: int
    total: int
    """Sum of the staleness of all pushes."""
    counts: npt.NDArray[np.int64]
    """(STALENESS_COUNTS,): pushes by staleness; the last one: that or more."""
    clocks: list[int]
    """Shard clock of the newest fetch of each node."""
    bias: float


def watch(
    nodes: int,
    looks_s: Sequence[float],
    *,
    compute: hp.Compute,
    lr: float = 0.01,
    model_only: bool = True,
    scheme: type[Any] = hp.Downpour,
) -> list[Sight]:
    """Simulate a cluster on a quadratic of one parameter, and look at it at these times.

    All examples are 0 with the value 1, so that the score is the bias b, whatever the weight is, and the weight's
    gradient is 0. The loss ½ (b - 1)² has the gradient b - 1: a curvature of 1.
    """
    x, y = np.zeros((8192, 1), np.float32), np.ones((8192, 1), np.float32)
    job = hp.Job(
        data=hp.arrays(x, y, x[:1], y[:1], targets="values"),
        model=[hp.Linear(1)],
        loss="squared_error",
        algorithm=scheme(optimiser=hp.Sgd(lr)),
        epochs=10**6,
        batch=1,
    )
    scenario = Scenario(
        nodes=nodes,
        join_spread_s=0.0,
        link=LinkConditions(delay_s=0.0, bandwidth=0.0),
        disk=DiskConditions(delay_s=0.0),
        compute=compute,
        model_only=model_only,
        look_every_s=1e6,
        until_s=looks_s[-1],
    )
    simulation, seen = Simulation(job, scenario), []
    offset = 0 if model_only else simulation.workload.network.spec.tensors[1].offset

    def look() -> None:
        shard = simulation.shard(0)
        clocks = [site.life.endpoint.stats.link._fetches.clocks[0] for site in simulation.sites]
        counts = np.array(shard.state().staleness)
        counts.resize(STALENESS_COUNTS)
        seen.append(Sight(shard.pushes, shard._staleness, counts, clocks, float(shard.params[offset])))

    for at_s in looks_s:
        simulation.loop.call_on(simulation.loop.outside, BEGIN_S + at_s, look)
    with pytest.raises(Stuck, match="has not ended after"):
        simulation.run()
    return seen


# -- staleness

COMPUTES: dict[str, tuple[float, Callable[[int], hp.Compute]]] = {
    "exponential": (300.0, lambda n: hp.Compute(distribution="exponential", mean_s=MEAN_S)),
    "equal": (100.0, lambda n: hp.Compute(mean_s=MEAN_S)),
    "heterogeneous": (
        60.0,
        lambda n: hp.Compute(distribution="exponential", mean_s=MEAN_S, speeds=tuple(np.linspace(1, 8.5, n).tolist())),
    ),
    "equal_but_of_different_speeds": (
        60.0, lambda n: hp.Compute(mean_s=MEAN_S, speeds=tuple(np.linspace(1, 8.5, n).tolist()))
    ),
}  # fmt: skip
"""What each is, and for how many mean times it is looked at: at least 800 pushes of equal nodes, 2,000 of others."""


@cache
def looked_at(nodes: int, kind: str) -> list[Sight]:
    """Look twice: when everybody has pushed, and after a while. Half a mean time later than a push of equal nodes."""
    times, compute = COMPUTES[kind]
    return watch(nodes, [(FULL + 0.5) * MEAN_S, (FULL + times + 0.5) * MEAN_S], compute=compute(nodes))


def between(nodes: int, kind: str) -> tuple[int, int, npt.NDArray[np.int64]]:
    """Return pushes between the two looks, the sum of their staleness, and their counts by staleness."""
    first, last = looked_at(nodes, kind)
    return last.pushes - first.pushes, last.total - first.total, last.counts - first.counts


@pytest.mark.long
@pytest.mark.parametrize("kind", COMPUTES)
@pytest.mark.parametrize("nodes", NODES)
def test_mean_staleness_is_the_number_of_other_nodes_however_fast_each_is(nodes: int, kind: str) -> None:
    """(N-1)/c updates with c = 1. What is missing at the first look, and ahead at the last one, is under way."""
    pushes, total, counts = between(nodes, kind)
    assert counts.sum() == pushes >= 800
    assert total / pushes == pytest.approx(nodes - 1, rel=0.005)


@pytest.mark.long
@pytest.mark.parametrize("kind", COMPUTES)
@pytest.mark.parametrize("nodes", NODES)
def test_staleness_is_conserved_to_the_last_update(nodes: int, kind: str) -> None:
    """Every push is an update that all other nodes have not fetched yet: it is in the staleness of a push of each of
    them, or will be in that of its next one. So the law above is an identity in whole numbers, at any moment."""
    for sight in looked_at(nodes, kind):
        under_way = sum(sight.pushes - clock for clock in sight.clocks)
        assert sight.total + under_way == (nodes - 1) * sight.pushes


@pytest.mark.long
@pytest.mark.parametrize("nodes", NODES)
def test_staleness_of_exponential_times_is_geometric(nodes: int) -> None:
    """P(τ = k) = (1/N)(1 - 1/N)^k: whoever pushes next is anybody, as if a die were thrown."""
    pushes, _, counts = between(nodes, "exponential")
    most = min(STALENESS_COUNTS - 1, 3 * nodes)
    k = np.arange(most + 1)
    expected = (1 - 1 / nodes) ** k / nodes
    expected[-1] = (1 - 1 / nodes) ** most  # that or more
    assert (pushes * expected).min() > 5
    assert stats.chisquare([*counts[:most], counts[most:].sum()], pushes * expected).pvalue > 0.01


@pytest.mark.long
@pytest.mark.parametrize("nodes", NODES)
def test_staleness_of_equal_times_is_the_same_for_every_push(nodes: int) -> None:
    first, last = looked_at(nodes, "equal")
    assert first.counts.tolist()[: nodes - 1] == [1] * (nodes - 1)  # of the first pushes of all nodes
    pushes, _, counts = between(nodes, "equal")
    assert counts[nodes - 1] == pushes == 100 * nodes
    assert last.counts.sum() == last.pushes == 120 * nodes


# -- implicit momentum

LR, LAST, SHARDS = 0.05, 60, 250


@pytest.mark.long
@pytest.mark.parametrize(("nodes", "runs"), [(8, 1_500), (16, 2_500)])
def test_exponential_times_are_momentum_in_expectation(nodes: int, runs: int) -> None:
    """E[w_{t+1} - w_t] = (1 - 1/N) E[w_t - w_{t-1}] - (1/N) η ∇f, on f = ½ w² from w_0 = 1, the first step full.

    A difference has a standard deviation of at most 0.019 with N = 16, and 0.029 with 30: with so many runs the mean has
    half of what it may be off by, at most.
    """
    differences = np.diff(ensemble(nodes, runs), axis=1)
    w, change, expected = 1.0, -LR, []
    for _ in range(LAST + 1):
        expected.append(change)
        w += change
        change = (1 - 1 / nodes) * change - LR / nodes * w
    assert (differences.std(axis=0) / math.sqrt(runs)).max() < 5e-4
    assert np.abs(differences.mean(axis=0) - expected).max() < 1e-3


def ensemble(nodes: int, runs: int) -> npt.NDArray[np.float64]:
    """Return w_t of many runs, each of which is a shard of a server, with replicas of its own.

    Returns:
        (runs, LAST + 2): w_0 up to w_{LAST + 1}.
    """
    rng = np.random.default_rng(0)
    # Together in one heap of timers, 9,000 runs took three times as long.
    return np.concatenate([run_together(nodes, SHARDS, rng) for _ in range(runs // SHARDS)])


def run_together(nodes: int, runs: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return w_t of runs that are the shards of one server."""
    loop, server = Loop(rng), ParameterServer(hp.Sgd(LR))
    push, fetch = server.handlers()[Push], server.handlers()[Fetch]
    seen = np.ones((runs, LAST + 2))
    drawn: list[float] = []
    left = runs

    def draw() -> float:
        if not drawn:
            drawn.extend(rng.exponential(size=4096).tolist())
        return drawn.pop()

    def computed(run: int, replica: int, sequence: int, clock: int, params: memoryview) -> None:
        """A replica has the gradient of the parameters that it fetched, which is these parameters."""
        nonlocal left
        if not server.table.serves(run):
            return
        push(Push(run, 1, replica, sequence, clock, 1, 1.0), params)
        reply: Any = fetch(Fetch(run, 1))
        params, clock = memoryview(bytearray(reply.payload[0])), reply.message.clock
        reply.sent()
        (seen[run, clock],) = struct.unpack("<f", params)
        if clock == LAST + 1:
            left -= 1
            server.table._shards[run].given_up = True
        else:
            loop.call_later(draw(), computed, run, replica, sequence + 1, clock, params)

    begin = memoryview(bytearray(struct.pack("<f", 1.0)))
    for run in range(runs):
        server.table.open(run, np.ones(1, np.float32))
        for replica in range(nodes):
            loop.call_later(draw(), computed, run, replica, 1, 0, begin)
    try:
        loop.run(lambda: not left)
    finally:
        loop.close()
    return seen


# -- stability under delay

ROUNDS = 200
"""Pushes of each node that stability is looked at for."""

SETTLED = 20
"""Rounds after which only the slowest mode is left; all others shrink fivefold in a round."""


def bound(tau: int) -> float:
    """Return the η·h below which w_{t+1} = w_t - η·h·w_{t-τ} is stable."""
    return 2 * math.sin(math.pi / (2 * (2 * tau + 1)))


def slowest_mode(tau: int, rate: float) -> complex:
    """Return the largest root of z^{τ+1} - z^τ + η·h = 0, above the real axis."""
    roots = np.roots([1.0, -1.0, *[0.0] * (tau - 1), rate])
    return complex(max(roots[roots.imag > 0], key=abs))


def errors(nodes: int, rate: float, rounds: int, scheme: type[Any] = hp.Downpour) -> npt.NDArray[np.float64]:
    """Return b - 1 after each round of pushes of all nodes, with gradients that are really computed."""
    looks = [(k + 0.5) * MEAN_S for k in range(rounds + 1)]
    seen = watch(nodes, looks, compute=hp.Compute(mean_s=MEAN_S), lr=rate, model_only=False, scheme=scheme)
    assert [sight.pushes for sight in seen] == [k * nodes for k in range(rounds + 1)]
    return np.array([sight.bias for sight in seen]) - 1


def amplitudes(error: npt.NDArray[np.float64], mode: complex) -> npt.NDArray[np.float64]:
    """Return the envelope A|m|^k of an error A|m|^k cos(φ + k·arg m), where m is by how much a mode changes in a
    round."""
    quadrature = (error[1:] - mode.real * error[:-1]) / mode.imag
    return np.hypot(error[:-1], quadrature)


@pytest.mark.long
@pytest.mark.parametrize("times", [0.99, 1.01])
@pytest.mark.parametrize("nodes", NODES)
def test_a_fixed_delay_is_stable_up_to_its_bound_and_no_further(nodes: int, times: float) -> None:
    """Below it the error shrinks, above it grows, at the rate of the largest root: a hundredth from the bound that is
    a factor of e in about 2,000 pushes with τ = 15, in 4,000 with τ = 29."""
    tau = nodes - 1
    rate = times * bound(tau)
    error = errors(nodes, rate, ROUNDS)
    mode = slowest_mode(tau, rate) ** nodes
    envelope = amplitudes(error, mode)[SETTLED:]
    assert (abs(mode) < 1) == (times < 1)
    assert (np.diff(envelope) < 0).all() if times < 1 else (np.diff(envelope) > 0).all()
    growth = math.log(envelope[-1] / envelope[0])
    assert growth == pytest.approx((len(envelope) - 1) * math.log(abs(mode)), rel=1e-4)
    assert abs(growth) > 0.7  # half, or twice as much


@pytest.mark.long
@pytest.mark.parametrize("nodes", NODES)
def test_equal_nodes_are_the_delayed_recursion_bit_for_bit(nodes: int) -> None:
    """w_{t+1} = w_t - η (w_{t-τ} - 1) with w_{-1} = w_{-2} = … = w_0, in float32: nothing is lost, and nothing is
    applied in another order, in a whole cluster."""
    rounds, rate = 40, bound(nodes - 1)
    found = errors(nodes, rate, rounds) + 1
    lr, one = np.float32(rate), np.float32(1)
    w = [np.float32(found[0])]
    for t in range(rounds * nodes):
        w.append(w[t] - lr * (w[max(0, t - nodes + 1)] - one))
    assert np.array(w[::nodes], np.float32).tobytes() == found.astype(np.float32).tobytes()


def test_a_rate_divided_by_the_delay_is_below_the_bound_at_every_delay() -> None:
    """η = α0 / τ with α0·h < 1: what staleness-aware SGD does, and why it rescues a run whose α0 fails as it is. A rate
    divided by more would be stable as well, and slower than it need be: the largest α0·h rises to no more than π/2."""
    limits = [bound(tau) / hp.InverseStaleness().scale(tau) for tau in range(1, 1001)]
    assert limits[0] == pytest.approx(1)
    assert all(a < b for a, b in pairwise(limits))
    assert limits[-1] == pytest.approx(math.pi / 2, rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("nodes", NODES)
def test_a_rate_divided_by_the_delay_converges_where_the_rate_itself_diverges(nodes: int) -> None:
    tau, alpha = nodes - 1, 0.99
    error = errors(nodes, alpha, 30, hp.StalenessAware)
    mode = slowest_mode(tau, alpha / tau) ** nodes
    envelope = amplitudes(error, mode)[10:]
    assert math.log(envelope[-1] / envelope[0]) == pytest.approx((len(envelope) - 1) * math.log(abs(mode)), rel=1e-3)
    assert abs(error[-1]) < 1e-3 * abs(error[0])
    assert abs(slowest_mode(tau, alpha)) > 1
    assert np.abs(errors(nodes, alpha, 10)).max() > 100 * abs(error[0])
