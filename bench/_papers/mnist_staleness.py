"""Chen et al. 2016, "Revisiting Distributed Synchronous SGD": staleness costs accuracy, and at once it costs all.

The paper makes staleness with a buffer of old gradients. Here it comes about by itself: N nodes with equal compute
times and no delay have a mean staleness of N - 1, so τ = 20 is 21 nodes and τ = 50 is 51. Ramp-up is nodes that join
one after the other over the first three epochs; without it all begin at once. A network of one hidden layer on a part
of MNIST stands for the paper's four-layer CNN on all of it, at a constant rate.

The paper's rate is not known to us. What decides is the start, at a rate near the largest that the full staleness
bears: below it nothing fails, and above it everything does. So each τ has the largest rate of a list at which it ends,
with ramp-up and the calibration seed, at most 3 points above the best of them. At the rates that were best at τ = 0 and
at τ = 50, which were taken before, neither ramp-up nor staleness made a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from bench._papers.runs import BORNE_POINTS, CALIBRATION, FAILS_POINTS, Size, borne, error, fails, run, verdict
from bench.harness import Table

__all__ = ["CLAIM", "SIZE", "measure"]

SIZE = Size(tests=4000)
RATES = {20: (0.04, 0.05, 0.06, 0.07), 50: (0.02, 0.025, 0.03)}
"""For each τ."""
BATCH, EPOCHS, RAMP_EPOCHS = 32, 40, 3
COMPUTE_S = 0.2
MOST_TIMES = 3.0

CLAIM = (
    "The error grows with the staleness but stays in its order of magnitude where staleness is ramped up over the "
    "first epochs; without ramp-up training fails."
)
PAPER = {0: "0.36", 20: "0.47", 50: "0.79"}
"""Error in percent with ramp-up, from memory of the paper; without it, it "diverges"."""


def measure(seeds: Sequence[int], size: Size = SIZE) -> tuple[Table, list[str]]:
    """Run all of them with every seed."""
    table = Table(
        "mnist_staleness: " + CLAIM,
        ("scheme", "ramp_up", "nodes", "batch", "data", "epochs", "lr", "seeds", "staleness", "error_%",
         "paper_error_%", "criterion", "seeds_agree", "reproduced"),
    )  # fmt: skip
    found: list[str] = []
    for tau, rates in RATES.items():
        calibrated = {rate: error(once(rate, tau, True, CALIBRATION, size)) for rate in rates}
        found.append(f"τ = {tau} " + ", ".join(f"{late:.1f} % at {rate:g}" for rate, late in calibrated.items()))
        _add_rows(table, seeds, size, borne(calibrated), tau)
    notes = [
        f"mnist_staleness: rates are the largest that end at most {BORNE_POINTS:g} points above the best with ramp-up "
        f"and seed {CALIBRATION}, which is not reported: {'; '.join(found)}; the paper's errors are those of a "
        "four-layer CNN on the whole of MNIST",
        "mnist_staleness: mean staleness is below τ because nodes join one by one with ramp-up, and run out of work "
        "one by one at the end of every run",
    ]
    return table, notes


def once(rate: float, staleness: int, ramp_up: bool, seed: int, size: Size) -> Any:
    """Run a cluster whose staleness is this when all have joined."""
    import hogpour as hp
    from hogpour.sim.scenario import LinkConditions

    nodes = staleness + 1
    return run(
        hp.Asgd(optimiser=hp.Sgd(rate)),
        workers=nodes,
        batch=BATCH,
        epochs=EPOCHS,
        seed=seed,
        size=size,
        compute=hp.Compute(mean_s=COMPUTE_S),
        link=LinkConditions(delay_s=0.0, bandwidth=0.0),
        join_spread_s=ramp_s(nodes, size.examples) if ramp_up else 0.0,
    )


def ramp_s(nodes: int, examples: int) -> float:
    """Return the seconds in which nodes that join evenly use up the examples of the ramp: half of them compute, on
    average."""
    return RAMP_EPOCHS * examples / BATCH * COMPUTE_S / (nodes / 2) if nodes > 1 else 0.0


def _add_rows(table: Table, seeds: Sequence[int], size: Size, rate: float, most: int) -> None:
    """Add the rows of one rate: no staleness, that which is less than the most, and the most."""

    def add(staleness: int, ramp: bool, **row: Any) -> list[float]:
        reports = [once(rate, staleness, ramp, seed, size) for seed in seeds]
        errors = list(map(error, reports))
        if "holds" in row:
            row |= verdict(row.pop("holds"), errors, *row.pop("others"))
        table.add(
            scheme=f"asgd, τ = {staleness}", nodes=staleness + 1, batch=BATCH, data=size.words, epochs=EPOCHS, lr=rate,
            seeds=len(seeds), staleness=mean(report.mean_staleness or 0.0 for report in reports),
            **{"error_%": median(errors), **row},
        )  # fmt: skip
        return errors

    fresh = ramped = add(0, True, **{"paper_error_%": PAPER[0]})
    for staleness in (tau for tau in RATES if tau <= most):
        ramped = add(
            staleness, True, ramp_up="yes", holds=grows, others=(ramped, fresh), **{"paper_error_%": PAPER[staleness]},
            criterion=f"error above that of less staleness, at most {MOST_TIMES:g} times that of τ = 0",
        )  # fmt: skip
    add(
        most, False, ramp_up="no", holds=fails, others=(ramped,), **{"paper_error_%": "diverges"},
        criterion=f"at least {FAILS_POINTS:g} points worse than with ramp-up",
    )  # fmt: skip


def grows(late: float, less: float, fresh: float) -> bool:
    """Tell whether staleness made the error worse and still let the network learn."""
    return less < late <= MOST_TIMES * fresh
