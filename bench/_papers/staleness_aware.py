"""Zhang, Gupta, Lian, Liu 2016, "Staleness-Aware Async-SGD": a fixed rate fails where α/τ does not.

n-softsync with 30 learners and mini-batches of 4, as in the paper's CIFAR-10, for n = 1, 2, 6, 15, 30: a step is the
mean of c = ⌊30/n⌋ gradients. They are measured against hardsync, which is synchronous SGD with the same learners;
beside it is one node with batches of 30 · 4 = 120. The paper has a momentum of 0.9, here it is plain SGD. α₀ is the
rate at which the serial run has the least error with the calibration seed.

Epochs are cut into 8 blocks of examples, so that 15 of them are four blocks for every learner: nobody has much less
work than the others, and staleness is that of 30 learners up to the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from bench._papers.runs import CALIBRATION, Size, best, error, run, verdict
from bench.harness import Table

__all__ = ["CLAIM", "SIZE", "measure"]

LEARNERS, BATCH, EPOCHS = 30, 4, 15
SIZE = Size(examples=1024)
SPLITS = (1, 2, 6, 15, 30)
"""n of n-softsync."""
RATES = (0.03, 0.1, 0.3, 1.0)
FAILS_FROM, FAILS_POINTS, WITHIN_POINTS = 15, 5.0, 1.0

CLAIM = (
    "At a rate that the serial run likes, n-softsync with a fixed rate fails from n = 15 on, and with α₀/τ it ends "
    "within a point of hardsync for every n."
)
PAPER = {"serial": None, "hardsync": "18", "fixed": "90", "aware": "18"}
"""Error in percent on CIFAR-10 after 140 epochs; of a fixed rate for n = 15 and 30."""


def measure(seeds: Sequence[int], size: Size = SIZE) -> tuple[Table, list[str]]:
    """Run all of them with every seed."""
    import hogpour as hp

    def serial(rate: float, seed: int) -> Any:
        scheme = hp.Asgd(optimiser=hp.Sgd(rate))
        return run(scheme, workers=1, batch=LEARNERS * BATCH, epochs=EPOCHS, seed=seed, size=size)

    def parallel(scheme: Any) -> list[Any]:
        return [run(scheme, workers=LEARNERS, batch=BATCH, epochs=EPOCHS, seed=seed, size=size) for seed in seeds]

    rate = best(RATES, lambda rate: error(serial(rate, CALIBRATION)))
    optimiser = hp.Sgd(rate)
    table = Table(
        "staleness_aware: " + CLAIM,
        ("scheme", "n", "nodes", "batch", "data", "epochs", "lr", "seeds", "staleness", "expected_staleness", "error_%",
         "points", "paper_error_%", "criterion", "seeds_agree", "reproduced"),
    )  # fmt: skip

    def add(name: str, nodes: int, reports: list[Any], **row: Any) -> None:
        table.add(
            scheme=name, nodes=nodes, batch=LEARNERS * BATCH // nodes, data=size.words, epochs=EPOCHS, lr=rate,
            seeds=len(seeds), staleness=mean(report.mean_staleness or 0.0 for report in reports),
            **{"error_%": median(map(error, reports))}, **row,
        )  # fmt: skip

    add("serial", 1, [serial(rate, seed) for seed in seeds])
    found = parallel(hp.Ssgd(optimiser=optimiser))
    hardsync = list(map(error, found))
    add("ssgd, hardsync", LEARNERS, found, **{"paper_error_%": PAPER["hardsync"]})
    for n in SPLITS:
        for aware in (False, True):
            found = parallel(hp.Softsync(optimiser=optimiser, n=n, staleness_aware=aware))
            errors = list(map(error, found))
            row: dict[str, Any] = {"n": n, "expected_staleness": (LEARNERS - 1) / (LEARNERS // n)}
            row["points"] = median(errors) - median(hardsync)
            if aware:
                row |= {"paper_error_%": PAPER["aware"]} | verdict(keeps_up, errors, hardsync)
                row["criterion"] = f"at most {WITHIN_POINTS:g} point worse than hardsync"
            elif n >= FAILS_FROM:
                row |= {"paper_error_%": PAPER["fixed"]} | verdict(fails, errors, hardsync)
                row["criterion"] = f"at least {FAILS_POINTS:g} points worse than hardsync"
            add("softsync, α₀/τ" if aware else "softsync, α₀", LEARNERS, found, **row)
    notes = [
        f"staleness_aware: α₀ = {rate:g} has the least serial error of {RATES} with seed {CALIBRATION}, which is not "
        "reported; plain SGD, where the paper has a momentum of 0.9; the paper's errors are CIFAR-10's",
        "staleness_aware: expected is (30 - 1)/c in steps, for any compute times; measured is less by what is under "
        "way at the end, and by learners that run out of work one by one",
    ]
    return table, notes


def fails(fixed: float, hardsync: float) -> bool:
    """Tell whether an error is so much worse that the scheme has failed."""
    return fixed >= hardsync + FAILS_POINTS


def keeps_up(aware: float, hardsync: float) -> bool:
    """Tell whether an error is as good as the synchronous one."""
    return aware <= hardsync + WITHIN_POINTS
