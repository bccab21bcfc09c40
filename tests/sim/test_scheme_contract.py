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
import ruler

import hogpour as hp
from hogpour import registry
from hogpour.sim.material import Material, material_of
from hogpour.sim.scenario import Link, Scenario, Slow
from hogpour.sim.simulation import Simulation
from hogpour.sim.witness import Witness


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
        name: replace(scheme, optimiser=hp.Sgd(0.3)) if scheme.choices().gate.holds else scheme
        for name, scheme in found.items()
    }


SCHEMES = combinations()
every_scheme = pytest.mark.parametrize("name", SCHEMES)


def test_what_is_refused_is_known() -> None:
    """Two exchanges, four gates, four corrections: without those that amend late gradients where none is counted, and
    those that need one gradient where a step is of several."""
    sent = [name for name in SCHEMES if "+" in name]
    assert len(sent) == 2 * (4 + 4 + 1 + 2)


def job_of(name: str, **changes: Any) -> hp.Job:
    wanted = {"model": [hp.Linear(16), hp.Relu(), hp.Linear(10)], "epochs": 2, "batch": 32, "algorithm": SCHEMES[name]}
    return hp.Job(**{"data": hp.load("digits")} | wanted | changes)


@cache
def material(name: str, epochs: int) -> Material:
    return material_of(job_of(name, epochs=epochs))


def simulated(name: str, epochs: int, **scenario: Any) -> tuple[Any, np.ndarray]:
    """Report of a run that kept every promise, and the parameters at its end."""
    of_job = material(name, epochs)
    simulation = Simulation(of_job.job, Scenario(**scenario), material=of_job)
    with Witness(simulation.loop) as witness:
        simulation.loop.after = witness.look
        report = simulation.run()
        witness.end(report.outcome == "finished", 0)
    assert witness.violations == []
    return report, simulation.shard(0).params.copy()


@every_scheme
def test_one_replica_without_delay_is_plain_sgd_bit_for_bit(name: str) -> None:
    of_job = material(name, 2)
    _, params = simulated(name, 2, nodes=1, link=Link(delay_s=0.0, bandwidth=0.0))
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
    assert replace(SCHEMES["custom"], exchange=hp.Accrue()).federated
