"""Zhang, Choromanska, LeCun 2015, EAMSGD: with long rounds, momentum gets to an accuracy first.

Downpour, EASGD and EAMSGD with p = 4 workers and long rounds, τ = 16 and 64; α = 0.9 / p and δ = 0.99 as in the paper.
In the network of the other experiment, of one hidden layer of rectifiers, the accuracy is there after some two hundred
steps, before a momentum of 0.99 has come up to speed. This one has two hidden layers of sigmoids, which take several
times as long. Each method has a rate of its own for each τ: that with the least time to the accuracy, with the
calibration seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from statistics import mean, median

from bench._papers.easgd import BATCH, PAPER, TARGET, WORKERS, once, seconds_to_target
from bench._papers.runs import CALIBRATION, Size, below, best, error, verdict
from bench.harness import Table

__all__ = ["CLAIM", "SIZE", "measure"]

SIZE = Size(tests=2000, sigmoids=True)
EPOCHS = 24
PERIODS = (16, 64)
"""τ."""
RATES = {"downpour": (0.03, 0.1, 0.3, 1.0), "easgd": (1.0, 3.0, 10.0), "eamsgd": (0.01, 0.03, 0.1)}
NEVER_S = 1e5
"""Seconds that count where the accuracy was never seen; each percent of error counts one more."""

CLAIM = "With long rounds, EAMSGD gets to an accuracy before EASGD and before Downpour."


def measure(seeds: Sequence[int], size: Size = SIZE) -> tuple[Table, list[str]]:
    """Run all of them with every seed."""
    table = Table(
        "eamsgd: " + CLAIM,
        ("scheme", "tau", "nodes", "batch", "data", "epochs", "lr", "seeds", "staleness", "seconds_to_0.88", "error_%",
         "paper", "criterion", "seeds_agree", "reproduced"),
    )  # fmt: skip
    times: dict[tuple[str, int], list[float]] = {}

    def cost(method: str, rate: float, tau: int) -> float:
        report = once(method, rate, tau, CALIBRATION, size, EPOCHS)
        reached = seconds_to_target(report)
        return reached if isfinite(reached) else NEVER_S + error(report)

    for tau in PERIODS:
        for method, rates in RATES.items():
            rate = best(rates, lambda rate: cost(method, rate, tau))  # noqa: B023 (called at once)
            reports = [once(method, rate, tau, seed, size, EPOCHS) for seed in seeds]
            times[method, tau] = list(map(seconds_to_target, reports))
            middle = median(times[method, tau])
            table.add(
                scheme=method, tau=tau, nodes=WORKERS, batch=BATCH, data=size.words, epochs=EPOCHS, lr=rate,
                seeds=len(seeds), staleness=mean(report.mean_staleness or 0.0 for report in reports),
                **{"seconds_to_0.88": middle if isfinite(middle) else "never", "error_%": median(map(error, reports))},
            )  # fmt: skip
        others = [times[other, tau] for other in RATES if other != "eamsgd"]
        table.rows[-1] |= {"paper": PAPER["eamsgd"], "criterion": "accuracy earlier than with both others at this τ"}
        table.rows[-1] |= verdict(below, times["eamsgd", tau], *others)
    notes = [
        f"eamsgd: rates with the least time to an accuracy of {TARGET:g} with seed {CALIBRATION}, which is not reported"
        ", of " + ", ".join(f"{method} {rates}" for method, rates in RATES.items()),
    ]
    return table, notes
