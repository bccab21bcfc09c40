"""Zhang, Gupta, Lian, Liu 2016, "Staleness-Aware Async-SGD": a fixed rate fails where α/τ does not.

n-softsync with 30 learners and mini-batches of 4, as in the paper's CIFAR-10, for n = 1, 2, 6, 15, 30: a step is the
mean of c = ⌊30/n⌋ gradients. They are measured against hardsync, which is synchronous SGD with the same learners;
beside it is one node with batches of 30 · 4 = 120. The paper has a momentum of 0.9, here it is plain SGD. As in the
paper, the rate falls to a tenth at six sevenths of the run or so, once; and learners are about equally fast, so that
staleness keeps near n (P(τ > 2n) < 1e-4 there; with exponential times it would be 13 % at n = 30).

α₀ must be one at which the question is open. A step that is τ late is stable at a curvature h below
αh = 2 sin(π / (4τ + 2)): at 2 for serial SGD, at 0.10 and 0.05 for a fixed rate at τ = 15 and 30, and with α₀/τ at an
α₀h of 1 or more for every τ. So α₀ is a quarter of the largest rate that serial SGD bears with the calibration seed,
which is about α₀h = 0.5.

Errors are of the moment when 15 epochs are used up, and not of the end of the run, which is a little later: learners
who run out of work leave one by one, and ⌊λ/n⌋ of those that are left is fewer and fewer gradients to a step, each at
the full rate. An earlier form of this experiment measured that end (with exponential times, at α₀ = 1, which is the
edge of what serial SGD bears), and α₀/τ failed at every n.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from bench._papers.runs import (
    BORNE_POINTS,
    CALIBRATION,
    FAILS_POINTS,
    MEAN_S,
    WITHIN_POINTS,
    Size,
    borne,
    error_at,
    fails,
    keeps_up,
    run,
    verdict,
)
from bench.harness import Table

__all__ = ["CLAIM", "SIZE", "measure"]

LEARNERS, BATCH = 30, 4
EPOCHS, SPARE, DECAY = 15, 2, 12
"""Epochs that are measured, that learners have work for besides, and after which the rate falls to a tenth."""
SIZE = Size(examples=1024)
SPLITS = (1, 2, 6, 15, 30)
"""n of n-softsync."""
SIGMA, LOOK_S = 0.2, 1.0
"""Of the log-normal compute times; virtual seconds between two looks."""
RATES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
PART = 4
"""Which part of the largest rate that serial SGD bears α₀ is."""
FAILS_FROM = 15

CLAIM = (
    "At a rate well within what the serial run bears, n-softsync with a fixed rate fails from n = 15 on, and with α₀/τ "
    "it ends within a point of hardsync for every n."
)
PAPER = {"hardsync": "18", "fixed": "90", "aware": "18"}
"""Error in percent on CIFAR-10 after 140 epochs; of a fixed rate for n = 15 and 30."""


def measure(seeds: Sequence[int], size: Size = SIZE) -> tuple[Table, list[str]]:
    """Run all of them with every seed."""
    import hogpour as hp

    times = hp.Compute(distribution="log_normal", mean_s=MEAN_S, sigma=SIGMA)
    falls = hp.Step(every=DECAY)

    def once(scheme: Any, workers: int, seed: int) -> Any:
        return run(scheme, workers=workers, batch=LEARNERS * BATCH // workers, epochs=EPOCHS + SPARE, seed=seed,
                   size=size, compute=times, look_every_s=LOOK_S)  # fmt: skip

    def serial(rate: float, seed: int) -> Any:
        return once(hp.Asgd(optimiser=hp.Sgd(rate), schedule=falls), 1, seed)

    def parallel(scheme: Any) -> list[Any]:
        return [once(scheme, LEARNERS, seed) for seed in seeds]

    calibrated = {rate: error_at(EPOCHS, serial(rate, CALIBRATION)) for rate in RATES}
    limit = borne(calibrated)
    rate = limit / PART
    choices = {"optimiser": hp.Sgd(rate), "schedule": falls}
    table = Table(
        "staleness_aware: " + CLAIM,
        ("scheme", "n", "nodes", "batch", "data", "epochs", "lr", "seeds", "staleness", "expected_staleness", "error_%",
         "points", "paper_error_%", "criterion", "seeds_agree", "reproduced"),
    )  # fmt: skip

    def add(name: str, nodes: int, reports: list[Any], **row: Any) -> list[float]:
        errors = [error_at(EPOCHS, report) for report in reports]
        if "holds" in row:
            row |= verdict(row.pop("holds"), errors, hardsync)
        if "n" in row:
            row["points"] = median(errors) - median(hardsync)
        table.add(
            scheme=name, nodes=nodes, batch=LEARNERS * BATCH // nodes, data=size.words, epochs=EPOCHS, lr=rate,
            seeds=len(seeds), staleness=mean(report.mean_staleness or 0.0 for report in reports),
            **{"error_%": median(errors)}, **row,
        )  # fmt: skip
        return errors

    add("serial", 1, [serial(rate, seed) for seed in seeds])
    hardsync = add("ssgd, hardsync", LEARNERS, parallel(hp.Ssgd(**choices)), **{"paper_error_%": PAPER["hardsync"]})
    for n in SPLITS:
        for aware in (False, True):
            row: dict[str, Any] = {"n": n, "expected_staleness": (LEARNERS - 1) / (LEARNERS // n)}
            if aware:
                row |= {"paper_error_%": PAPER["aware"], "holds": keeps_up}
                row["criterion"] = f"at most {WITHIN_POINTS:g} point worse than hardsync"
            elif n >= FAILS_FROM:
                row |= {"paper_error_%": PAPER["fixed"], "holds": fails}
                row["criterion"] = f"at least {FAILS_POINTS:g} points worse than hardsync"
            found = parallel(hp.Softsync(**choices, n=n, staleness_aware=aware))
            add("softsync, α₀/τ" if aware else "softsync, α₀", LEARNERS, found, **row)
    notes = [
        f"staleness_aware: α₀ = {rate:g} is 1/{PART} of {limit:g}, the largest of {RATES} whose serial error is at "
        f"most {BORNE_POINTS:g} points above the least with seed {CALIBRATION}, which is not reported; plain SGD, "
        f"where the paper has a momentum of 0.9; the rate falls to a tenth after {DECAY} epochs; the paper's errors "
        "are CIFAR-10's",
        f"staleness_aware: errors are seen first when {EPOCHS} epochs are used up, by looks every {LOOK_S:g} virtual "
        f"seconds; learners have work for {SPARE} more, since those that leave would make steps of fewer gradients",
        "staleness_aware: expected is (30 - 1)/c in steps, for any compute times; measured is of the whole run, so "
        "less by what is under way at the end, and more by steps of fewer gradients",
    ]
    return table, notes
