"""When the sweep lets replicas stand still, and what the witness calls a standstill."""

from __future__ import annotations

from contextlib import suppress

from hogpour.algos.schemes.sandblaster import Sandblaster
from hogpour.cluster.leases import EpochLedger
from hogpour.data.blocks import Blocks
from hogpour.sim.checks.ablations import ABLATIONS
from hogpour.sim.checks.stalls import STALL_S, ProgressInvariants, has_stalls
from hogpour.sim.checks.sweep import scenario_of


def test_replicas_stand_still_where_no_ablation_of_another_safeguard_looks() -> None:
    seeds = [seed for seed in range(1200) if has_stalls(seed)]
    found = {seed: scenario_of(seed) for seed in seeds}
    assert all(scenario.replica_pause and job.cluster.stall_s == STALL_S for scenario, job in found.values())
    assert sum(job.algorithm.choices().gate.closes for _, job in found.values()) >= 20
    assert sum(isinstance(job.algorithm, Sandblaster) for _, job in found.values()) >= 10
    others = {"stall", "back", "overdue", "unheard"}  # the last one looks at a seed that has both
    assert not [name for name, one in ABLATIONS.items() if has_stalls(one.seed) != (name in others)]
    assert not any(scenario_of(seed)[0].replica_pause for seed in range(200) if not has_stalls(seed))


def test_a_standstill_is_a_violation_where_something_could_be_done() -> None:
    said: list[str] = []
    state = {"now": 0.0, "applied": 0, "could": True}
    progress = ProgressInvariants(
        said.append, lambda: state["now"], lambda: int(state["applied"]), lambda: bool(state["could"])
    )
    most_s = STALL_S + 10 * STALL_S

    def pass_time(seconds: float) -> None:
        state["now"] += seconds
        progress.look()

    pass_time(most_s)
    state["applied"] = 1
    pass_time(1.0)
    pass_time(most_s)
    assert said == []
    state["could"] = False
    pass_time(1.0)
    assert said == []
    state["could"] = True
    pass_time(most_s + 1.0)
    assert said == ["progress: nothing is applied or done for 23.0 s, and some could compute"]


def test_a_block_that_takes_long_makes_the_time_longer_that_may_pass() -> None:
    now, said = [0.0], list[str]()
    progress = ProgressInvariants(said.append, lambda: now[0], lambda: 0, lambda: True)
    ledger = EpochLedger(Blocks(n=8, batch=2, replicas=1, epochs=1, count=4), 0)
    grant = progress.on_grant(ledger)
    next(grant)
    with suppress(StopIteration):
        grant.send(ledger.grant(2, (), 1))
    now[0] = 10.0
    progress.on_finish(ledger, 2, [0, 3])
    progress.look()
    now[0] = 10.0 + STALL_S + 100.0
    progress.look()
    assert said == []
    now[0] += 0.1
    progress.look()
    assert len(said) == 1
