"""What every scheme for several machines keeps, and every combination of choices that is not refused: alone and without
delay it is plain SGD, with delay, loss and a straggler it learns, and a seed has one trace. In virtual time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import ruler

import hogpour as hp
from hogpour import registry
from hogpour.sim.material import Material, material_of
from hogpour.sim.scenario import Link, Scenario, Slow
from hogpour.sim.simulation import Simulation
from hogpour.sim.witness import Witness


REFUSED = {
    ("local", "adaptive_compensation"),
    ("local", "delay_compensation"),
}
"""Exchanges that push, with corrections that they make no sense with."""

SERIAL: dict[str, dict[str, Any]] = {
    "local": {"optimiser": hp.Sgd(1.0)},
    "local_sgd": {"steps": 1},
    "diloco": {"steps": 1, "inner": hp.Sgd(0.1), "optimiser": hp.Sgd(1.0)},
    "async_diloco": {"steps": 1, "inner": hp.Sgd(0.1), "optimiser": hp.Sgd(1.0)},
}
"""Where one replica without delay is plain SGD, if that is not so as it comes: rounds of one step of SGD, which servers
add as they are. Of schemes, and of exchanges for their combinations."""

SHORT: dict[str, dict[str, Any]] = {
    "local": {"optimiser": hp.Sgd(1.0)},
    "diloco": {"steps": 4, "inner": hp.AdamW(4e-3), "optimiser": hp.Nesterov(0.2, momentum=0.5)},
    "async_diloco": {"steps": 4, "inner": hp.AdamW(8e-3), "optimiser": hp.DelayedNesterov(0.7, momentum=0.5, every=4)},
}
"""Where a scheme learns in so few rounds, if that is not so as it comes."""


def combinations() -> dict[str, Any]:
    """Every scheme by its name, and every exchange with every correction that it may have."""
    found = {name: cls() for name, cls in registry.available("scheme").items()}
    for exchange, kind in registry.available("exchange").items():
        for correction, amends in registry.available("correction").items():
            try:
                found[f"{exchange}+{correction}"] = hp.Custom(exchange=kind(), correction=amends())
            except ValueError:
                assert not kind.federated or (exchange, correction) in REFUSED, f"{exchange} with {correction} is refused"
    return {name: scheme for name, scheme in found.items() if scheme.federated}


SCHEMES = combinations()
every_scheme = pytest.mark.parametrize("name", SCHEMES)


def job_of(name: str, serial: bool, **changes: Any) -> hp.Job:
    wanted = {"model": [hp.Linear(16), hp.Relu(), hp.Linear(10)], "epochs": 2, "batch": 32, "algorithm": SCHEMES[name]}
    if settings := (SERIAL if serial else SHORT).get(name.partition("+")[0]):
        wanted["algorithm"] = replace(SCHEMES[name], **settings)
    return hp.Job(**{"data": hp.load("digits")} | wanted | changes)


@cache
def material(name: str, epochs: int, serial: bool) -> Material:
    return material_of(job_of(name, serial, epochs=epochs))


def simulated(name: str, epochs: int, serial: bool = False, **scenario: Any) -> tuple[Any, np.ndarray]:
    """Report of a run that kept every promise, and the parameters at its end."""
    of_job = material(name, epochs, serial)
    simulation = Simulation(of_job.job, Scenario(**scenario), material=of_job)
    with Witness(simulation.loop) as witness:
        simulation.loop.after = witness.look
        report = simulation.run()
        witness.end(report.outcome == "finished", 0)
    assert witness.violations == []
    return report, simulation.shard(0).params.copy()


@every_scheme
def test_one_replica_without_delay_is_plain_sgd_bit_for_bit(name: str) -> None:
    of_job = material(name, 2, True)
    _, params = simulated(name, 2, True, nodes=1, link=Link(delay_s=0.0, bandwidth=0.0))
    expected = ruler.train(of_job.job, of_job.network, of_job.params.copy(), of_job.x, of_job.y)
    assert params.tobytes() == expected.tobytes()


TROUBLE: dict[str, Any] = {
    "nodes": 4,
    "seed": 3,
    "compute": hp.Compute(distribution="exponential", mean_s=0.05),
    "link": Link(delay_s=0.01, jitter_s=0.005, reset_every_s=2.0),
    "slow": (Slow(nodes=(2,), at_s=1.0, for_s=1e6, times=5.0),),
}


@every_scheme
def test_with_delay_loss_and_a_straggler_it_learns_and_a_seed_has_one_trace(name: str) -> None:
    report, params = simulated(name, 12, **TROUBLE)
    assert report.outcome == "finished"
    assert report.accuracy > 0.9
    again, same = simulated(name, 12, **TROUBLE)
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
    with pytest.raises(ValueError, match="DelayCompensation amends a gradient .* what Local pushes is no gradient"):
        hp.Custom(exchange=hp.Local(), correction=hp.DelayCompensation())
    assert replace(SCHEMES["custom"], exchange=hp.Accrue()).federated
