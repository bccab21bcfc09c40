"""What every scheme for several machines keeps, and every combination of choices that is not refused: alone and without
delay it is plain SGD, with delay, loss and a straggler it learns, and a seed has one trace. In virtual time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from support import reference_sgd

import hogpour as hp
from hogpour.client.fetches import Landings
from hogpour.client.pushes import AccruedPushes
from hogpour.core import registry
from hogpour.core.node_id import display_id
from hogpour.sim.checks.witness import Witness
from hogpour.sim.scenario import Death, LinkConditions, Partition, Pause, ReplicaDeath, Scenario, Slow
from hogpour.sim.simulation import Simulation
from hogpour.sim.world.workload import Workload, workload_of

SERIAL: dict[str, dict[str, Any]] = {
    "local": {"optimiser": hp.Sgd(1.0)},
    "local_sgd": {"steps": 1},
    "diloco": {"steps": 1, "inner": hp.Sgd(0.1), "optimiser": hp.Sgd(1.0)},
    "async_diloco": {"steps": 1, "inner": hp.Sgd(0.1), "optimiser": hp.Sgd(1.0)},
}
"""Where one replica without delay is plain SGD, if that is not so as it comes: rounds of one step of SGD, which servers
add as they are. Of schemes, and of exchanges for their combinations."""

PULLED = {"easgd", "eamsgd", "elastic"}
"""Schemes and exchanges of which one replica without delay is Algorithm 1 or 2 of the elastic papers instead."""

BATCH = {"sandblaster"}
"""Methods of the whole batch, which are serial L-BFGS, bit for bit (``test_sandblaster``)."""

AVERAGED: dict[str, Any] = {"exchange": hp.Local(inner=hp.Sgd(0.3)), "optimiser": hp.Sgd(1.0)}

SHORT: dict[str, dict[str, Any]] = {
    "local": {"optimiser": hp.Sgd(1.0)},
    "local+barrier+plain": AVERAGED,
    "local+quorum+plain": AVERAGED,
    "local+quorum+inverse_staleness": AVERAGED,
    "elastic": {"optimiser": hp.Sgd(0.5)},
    "easgd": {"optimiser": hp.Sgd(0.5), "tau": 4},
    "eamsgd": {"optimiser": hp.Nesterov(0.05, momentum=0.9), "tau": 4},
    "local_sgd": {"inner": hp.Sgd(0.3)},
    "diloco": {"steps": 4, "inner": hp.AdamW(1e-2), "optimiser": hp.Nesterov(0.7, momentum=0.5)},
    "async_diloco": {"steps": 4, "inner": hp.AdamW(8e-3), "optimiser": hp.DelayedNesterov(0.7, momentum=0.5, every=4)},
}
"""Where a scheme learns in so few rounds, if that is not so as it comes."""


def combinations() -> dict[str, Any]:
    """Every scheme by its name, and every exchange with every gate and every correction that it may have. A step of the
    mean of four gradients wants a higher rate."""
    found = {name: cls() for name, cls in registry.available("scheme").items()}
    kinds = (registry.available(kind).items() for kind in ("exchange", "gate", "correction"))
    for (exchange, sends), (gate, counts), (correction, amends) in product(*kinds):
        with suppress(ValueError):
            scheme = hp.Custom(exchange=sends(), gate=counts(), correction=amends())
            found[f"{exchange}+{gate}+{correction}"] = scheme
    found = {name: scheme for name, scheme in found.items() if scheme.federated}
    return {
        name: replace(scheme, optimiser=hp.Sgd(0.3)) if _averages(scheme) else scheme for name, scheme in found.items()
    }


def _averages(scheme: Any) -> bool:
    choices = scheme.choices()
    return choices.gate.holds and not isinstance(choices.exchange, hp.Local)


SCHEMES = combinations()
every_scheme = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if "+" in name else []) for name in SCHEMES]
)
"""Named ones in the default run; other combinations take a minute and a half."""


def test_what_is_refused_is_known() -> None:
    """Four exchanges that push, four gates, four corrections: without those that amend late gradients where none is
    counted, those that need one gradient where a step or a push is of several, and gates for what is pulled."""
    sent = [name for name in SCHEMES if "+" in name]
    assert len(sent) == 2 * (4 + 4 + 1 + 2) + (2 + 2 + 1 + 2) + 1


def _settings(known: dict[str, dict[str, Any]], name: str) -> dict[str, Any] | None:
    return known.get(name, known.get(name.partition("+")[0]))


def job_of(name: str, serial: bool, **changes: Any) -> hp.Job:
    wanted = {"model": [hp.Linear(16), hp.Relu(), hp.Linear(10)], "epochs": 2, "batch": 32, "algorithm": SCHEMES[name]}
    if settings := _settings(SERIAL if serial else SHORT, name):
        wanted["algorithm"] = replace(SCHEMES[name], **settings)
    return hp.Job(**{"data": hp.load("digits")} | wanted | changes)


@cache
def workload(name: str, epochs: int, serial: bool) -> Workload:
    return workload_of(job_of(name, serial, epochs=epochs))


def simulated(name: str, epochs: int, serial: bool = False, **scenario: Any) -> tuple[Any, np.ndarray]:
    """Report of a run that kept every promise, and the parameters at its end."""
    of_job = workload(name, epochs, serial)
    simulation = Simulation(of_job.job, Scenario(**scenario), workload=of_job)
    with Witness(simulation.loop) as witness:
        simulation.loop.after = witness.look
        report = simulation.run()
        witness.end(report.outcome == "finished", 0)
    assert witness.violations == []
    return report, simulation.shard(0).params.copy()


@pytest.mark.parametrize("name", [name for name in SCHEMES if name.partition("+")[0] not in PULLED | BATCH])
def test_one_replica_without_delay_is_plain_sgd_bit_for_bit(name: str) -> None:
    of_job = workload(name, 2, True)
    _, params = simulated(name, 2, True, nodes=1, link=LinkConditions(delay_s=0.0, bandwidth=0.0))
    expected = reference_sgd.train(of_job.job, of_job.network, of_job.params.copy(), of_job.x, of_job.y)
    assert params.tobytes() == expected.tobytes()


@pytest.mark.parametrize("rule", [hp.Sgd(0.1), hp.Nesterov(0.02, momentum=0.9), hp.Momentum(0.02)], ids=str)
@pytest.mark.parametrize("shards", [1, 5])
def test_one_replica_that_is_pulled_without_delay_is_the_papers_algorithm_bit_for_bit(rule: Any, shards: int) -> None:
    """Zhang et al. 2015, Algorithms 1 and 2, with τ = 1: the gradient is that of before the pull."""
    alpha = np.float32(0.25)
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(16), hp.Relu(), hp.Linear(10)], epochs=2, batch=32,
                 algorithm=hp.Custom(exchange=hp.Elastic(0.25, 1), optimiser=rule),
                 cluster=hp.ClusterConfig(shard_bytes=1024 if shards > 1 else 1 << 20))  # fmt: skip
    of_job = workload_of(job)
    simulation = Simulation(of_job.job, Scenario(nodes=1, link=LinkConditions(delay_s=0.0, bandwidth=0.0)), workload=of_job)
    report = simulation.run()
    centre = np.concatenate([simulation.shard(k).params for k in range(shards)])
    expected = of_job.params.copy()

    def pull(w: np.ndarray, state: tuple[np.ndarray, ...]) -> None:
        """Of the paper's x, which is behind the look ahead of Nesterov's momentum."""
        x = w + np.float32(rule.lr * rule.momentum) * state[0] if isinstance(rule, hp.Nesterov) else w
        d = alpha * (x - expected)
        w -= d
        expected[:] += d

    reference_sgd.train(of_job.job, of_job.network, of_job.params.copy(), of_job.x, of_job.y, pull)
    assert (report.outcome, len(report.trace) > 0) == ("finished", True)
    assert centre.tobytes() == expected.tobytes()


TROUBLE: dict[str, Any] = {
    "nodes": 4,
    "seed": 3,
    "compute": hp.Compute(distribution="exponential", mean_s=0.05),
    "link": LinkConditions(delay_s=0.01, jitter_s=0.005, reset_every_s=2.0),
    "slow": (Slow(nodes=(2,), at_s=1.0, for_s=1e6, times=5.0),),
}


@every_scheme
def test_with_delay_loss_and_a_straggler_it_learns(name: str) -> None:
    report, _ = simulated(name, 30 if name in BATCH else 12, **TROUBLE)
    assert report.outcome == "finished"
    assert report.accuracy > 0.9


@every_scheme
def test_with_delay_loss_and_a_straggler_a_seed_has_one_trace(name: str) -> None:
    report, params = simulated(name, 2, **TROUBLE)
    again, same = simulated(name, 2, **TROUBLE)
    assert (report, params.tobytes()) == (again, same.tobytes())


def test_another_seed_is_another_run() -> None:
    report, _ = simulated("dc_asgd", 2, **TROUBLE)
    other, _ = simulated("dc_asgd", 2, **(TROUBLE | {"seed": 4}))
    assert report != other


def test_what_makes_no_sense_together_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="InverseStaleness amends what is pushed to a parameter server, and InPlace"):
        hp.Custom(exchange=hp.InPlace(), correction=hp.InverseStaleness())
    with pytest.raises(ValueError, match="n_push = 4 and n_fetch = 2 these are several, of local steps; set both to 1"):
        hp.Custom(exchange=hp.Accrue(4, 2), correction=hp.DelayCompensation())
    with pytest.raises(ValueError, match=r"DelayCompensation amends a gradient .* what Local pushes is no gradient"):
        hp.Custom(exchange=hp.Local(), correction=hp.DelayCompensation())
    with pytest.raises(ValueError, match="InverseStaleness amends gradients, and what Elastic pushes is what a node has given"):
        hp.Custom(exchange=hp.Elastic(), correction=hp.InverseStaleness())
    assert replace(SCHEMES["custom"], exchange=hp.Accrue()).federated


@cache
def pulled_workload() -> Workload:
    algorithm = hp.Custom(exchange=hp.Elastic(0.25, 2), optimiser=hp.Nesterov(0.02, momentum=0.9))
    cluster = hp.ClusterConfig(shard_bytes=2048, lease_s=1.0, give_up_s=3.0)
    return workload_of(hp.Job(data=hp.load("digits"), model=[hp.Linear(16), hp.Relu(), hp.Linear(10)], epochs=6,
                              batch=32, algorithm=algorithm, cluster=cluster))  # fmt: skip


MISFORTUNES: dict[str, Any] = {
    "death": (Death(at_s=0.8, nodes=(2,), back_s=1.0), Death(at_s=1.4, nodes=(1,), back_s=1.0, kind="leave")),
    "replica_death": (ReplicaDeath(at_s=0.7, node=3, replica=1), ReplicaDeath(at_s=1.1, node=0, replica=0)),
    "partition": (Partition(at_s=1.5, for_s=1.5, nodes=(3,)),),
    "pause": (Pause(at_s=0.5, for_s=1.5, nodes=(1,)),),
}


@pytest.mark.parametrize("seed", range(4))
def test_pulls_keep_what_there_is_through_deaths_resets_and_fences(seed: int) -> None:
    """The witness holds each pull against x + x~ before it, and each acknowledged push against what was applied."""
    of_job = pulled_workload()
    scenario = Scenario(nodes=4, replicas=2, seed=seed, compute=hp.Compute(distribution="exponential", mean_s=0.05),
                        link=LinkConditions(delay_s=0.01, jitter_s=0.005, reset_every_s=1.5), until_s=200.0, **MISFORTUNES)  # fmt: skip
    simulation = Simulation(of_job.job, scenario, workload=of_job)
    with Witness(simulation.loop) as witness:
        simulation.loop.after = witness.look
        report = simulation.run()
        witness.end(report.outcome == "finished", 0)
    assert (report.outcome, report.error, witness.violations) == ("finished", "", [])
    assert report.repeated > 0, "nobody was fenced"
    assert witness.pushes.applied > 100


def test_the_witness_sees_a_pull_that_gives_the_servers_another_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(self: Any, params: Any, fetched: Any, push: Any, velocities: Any, ahead: float) -> None:
        push[:] = -0.25 * (params - fetched)
        params += 0.9 * push

    monkeypatch.setattr(hp.Elastic, "pull", pull)
    of_job = pulled_workload()
    simulation = Simulation(of_job.job, Scenario(nodes=2), workload=of_job)
    with Witness(simulation.loop) as witness:
        simulation.run()
    assert any("a pull has not given the servers what it took" in text for text in witness.violations)


def test_the_witness_sees_a_live_vector_that_is_written_beside_steps_and_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = Landings.complete

    def completed(self: Landings, wishes: list[int]) -> None:
        complete(self, wishes)
        self._fetches._params[0] += 1.0

    monkeypatch.setattr(Landings, "complete", completed)
    of_job = pulled_workload()
    simulation = Simulation(of_job.job, Scenario(nodes=2), workload=of_job)
    with Witness(simulation.loop) as witness:
        simulation.run()
    assert any("holds something else than its steps and pulls have made" in text for text in witness.violations)


@pytest.mark.parametrize("gradient_s", [0.02, 0.2, 0.5, 2.0, 5.0])
def test_a_node_a_quarter_as_fast_takes_a_quarter_of_the_steps_in_a_round(
    gradient_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By production code alone: heartbeats, the coordinator's accounts, the words of the replicas."""
    steps: dict[int, list[int]] = {1: [], 2: []}
    sent = AccruedPushes._push

    def send(path: AccruedPushes, sealed: Any, shard: int) -> Any:
        push = sent(path, sealed, shard)
        steps[int(display_id(push.node))].append(sealed.steps)
        assert push.steps == 1, "to the servers a displacement is one gradient"
        return push

    monkeypatch.setattr(AccruedPushes, "_push", send)
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(10)], epochs=5, batch=32,
                 algorithm=hp.AsyncDiLoCo(steps=8, inner=hp.Sgd(0.05)),
                 cluster=hp.ClusterConfig(stall_s=3600.0))  # fmt: skip  # or the last blocks are done by both
    compute = hp.Compute(distribution="constant", mean_s=gradient_s, speeds=(1.0, 0.25))
    hp.Simulation(job, Scenario(nodes=2, compute=compute, link=LinkConditions(delay_s=0.001))).run()
    fast, slow = steps.values()
    assert set(fast[:-1]) == {8}
    assert slow[0] > 2, "it was slow before anybody could know"
    assert set(slow[4:-3]) == {2}, "but for the last ones, when the other has nothing left to do"
