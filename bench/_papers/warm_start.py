"""Dean et al. 2012, warm start: one replica alone at first takes the peak off the others' beginning.

As in the experiment of Downpour's order, but what is looked at is the beginning itself: the highest test loss in the
first 200 updates with all replicas at work. Without a warm start, each of them begins with gradients of the first
parameters; with one, one replica has trained on 4,000 examples before. Where failures are counted at the end of a run
instead, staleness decides as well, which a warm start does not change.

The question is open only at a rate at which there is a peak: the lowest of ``RATES`` at which the loss gets to twice
that of equal probabilities, 2 ln 10, with the calibration seed and without a warm start.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf, isfinite, isnan, log
from statistics import mean, median
from typing import Any

from bench._papers.downpour_order import ADAGRAD, BATCH, FIXED, FOR_EVER, MEAN_S, OFTEN_SEEN, WARM_EXAMPLES, once
from bench._papers.runs import CALIBRATION, Size, error, verdict
from bench.harness import Table

__all__ = ["CLAIM", "measure"]

REPLICAS = (20, 200)
UPDATES, LOOKS = 200, 40
"""Updates with all replicas at work, and looks at them; they take 200 / N means of a gradient, or a little more."""
LONGER, JOIN_S = 1.15, 1.0
"""How much longer than on average the warm start may take; it is of 63 gradients. Seconds in which all join."""
RATES = (0.03, 0.1, 0.3, 1.0)
HIGH = 2 * log(10)
PART = 0.5

CLAIM = "At a rate at which the loss has a peak in the beginning, a warm start takes at least half of it."


def measure(seeds: Sequence[int], size: Size = OFTEN_SEEN) -> tuple[Table, list[str]]:
    """Run all of them with every seed."""
    table = Table(
        "warm_start: " + CLAIM,
        ("scheme", "replicas", "warm_start", "lr", "batch", "data", "seeds", "staleness", "peak_loss", "error_%",
         "paper", "criterion", "seeds_agree", "reproduced"),
    )  # fmt: skip

    def run(kind: str, replicas: int, rate: float, seed: int, warm: int) -> Any:
        updates_s = UPDATES * MEAN_S / replicas
        stop_s = JOIN_S + LONGER * warm / BATCH * MEAN_S + 2 * updates_s
        return once(kind, replicas, rate, seed, size, warm, FOR_EVER, stop_s=stop_s, look_every_s=updates_s / LOOKS)

    for kind in (FIXED, ADAGRAD):
        for replicas in REPLICAS:
            rate = next((rate for rate in RATES if peak(run(kind, replicas, rate, CALIBRATION, 0)) >= HIGH), RATES[-1])
            peaks: list[list[float]] = []
            for warm in (0, WARM_EXAMPLES):
                reports = [run(kind, replicas, rate, seed, warm) for seed in seeds]
                peaks.append([peak(report, warm) for report in reports])
                middle = median(peaks[-1])
                table.add(
                    scheme=kind, replicas=replicas, warm_start=warm or None, lr=rate, batch=BATCH, data=size.words,
                    seeds=len(seeds), staleness=mean(report.mean_staleness or 0.0 for report in reports),
                    **{"peak_loss": middle if isfinite(middle) else "infinite", "error_%": median(map(error, reports))},
                )  # fmt: skip
            cold, warmed = peaks
            table.rows[-1] |= {"paper": "stability concerns virtually eliminated"} if kind == ADAGRAD else {}
            table.rows[-1] |= {"criterion": f"at most {100 * PART:g} % of the peak without, which is above {HIGH:.2f}"}
            table.rows[-1] |= verdict(lower, warmed, cold)
    notes = [
        f"warm_start: rates are the lowest of {RATES} with a loss of {HIGH:.2f} in the first {UPDATES} updates with "
        f"seed {CALIBRATION}, which is not reported; the loss is that of {size.tests:,} test examples, looked at "
        f"{LOOKS} times while {UPDATES} updates are made"
    ]
    return table, notes


def peak(report: Any, warm: int = 0) -> float:
    """Return the highest loss of the first updates with all replicas at work; infinite where there is none any more."""
    alone = ceil(warm / BATCH)
    losses = [look.loss for look in report.points if alone <= look.pushes <= alone + UPDATES and look.loss is not None]
    return max((inf if isnan(loss) else loss for loss in losses), default=inf)


def lower(warmed: float, cold: float) -> bool:
    """Tell whether there was a peak, and how much of it is left; of none, nothing can be taken."""
    return isfinite(warmed) and cold >= HIGH and warmed <= PART * cold
