"""Zheng et al. 2017, DC-ASGD: delay compensation takes back what asynchrony costs.

SGD with M = 1, then SSGD, ASGD, DC-ASGD-c and DC-ASGD-a with M = 4, and ASGD with M = 8, all at one rate. The question
is open only at a rate at which delay costs something and not everything: the largest of ``RATES`` at which the error of
ASGD with M = 4 is 1 to 3 points above that of M = 1 with the calibration seed (where there is none, the nearest to it).
The rate that is best for M = 1, 0.3, was taken before: with M = 4 there was no gap at it, and with M = 8 a took back
94 % of one and c, at a λ₀ of 4, 73 %, each at least half in 2 of 3 seeds.

The paper's λ₀ (0.04 and 2, m = 0.95) are for ResNet-20, whose gradients are of other sizes than a small network's. The
adaptive form, a, divides by that size, the constant form, c, does not; so c has a second row, whose λ₀ is the best of a
short list with the calibration seed. The paper lowers its rate twice; here it is constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from bench._papers.runs import CALIBRATION, Size, above, best, error, run, verdict
from bench.harness import Table

__all__ = ["CLAIM", "SIZE", "measure"]

SIZE = Size(tests=4000)
WORKERS, MORE = 4, 8
BATCH, EPOCHS = 32, 16
RATES = (0.3, 0.35, 0.4, 0.5)
GAP_POINTS = (1.0, 3.0)
"""What delay must cost at a rate, at least and at most."""
STRENGTHS = (0.4, 4.0, 40.0)
"""λ₀ that the second rows of c are chosen from."""
PAPERS = {"c": 0.04, "a": 2.0}
RECOVERED = 0.5

CLAIM = "The error of ASGD grows with the number of workers, and delay compensation recovers at least half the gap."
PAPER = {("sgd", 1): 8.65, ("ssgd", 4): 9.17, ("asgd", 4): 9.27, ("asgd", 8): 10.26,
         ("c", 4): 8.67, ("a", 4): 8.19}  # fmt: skip
"""Error in percent of ResNet-20 on CIFAR-10, table 1; all but 8.65, 9.27 and 8.19 are from memory of it."""


def measure(seeds: Sequence[int], size: Size = SIZE) -> tuple[Table, list[str]]:
    """Run all of them with every seed."""
    import hogpour as hp

    def once(scheme: Any, workers: int, seed: int) -> Any:
        return run(scheme, workers=workers, batch=BATCH, epochs=EPOCHS, seed=seed, size=size)

    def asgd(rate: float) -> Any:
        return hp.Asgd(optimiser=hp.Sgd(rate))

    def compensated(kind: str, strength: float) -> Any:
        return hp.DcAsgd(optimiser=hp.Sgd(rate), adaptive=kind == "a", strength=strength)

    gaps = {rate: error(once(asgd(rate), WORKERS, CALIBRATION)) - error(once(asgd(rate), 1, CALIBRATION))
            for rate in RATES}  # fmt: skip
    rate = costly(gaps)
    chosen = best(STRENGTHS, lambda strength: error(once(compensated("c", strength), WORKERS, CALIBRATION)))
    table = Table(
        "dc_asgd: " + CLAIM,
        ("scheme", "M", "strength", "batch", "data", "epochs", "lr", "seeds", "staleness", "error_%", "gap_recovered_%",
         "paper_error_%", "criterion", "seeds_agree", "reproduced"),
    )  # fmt: skip

    def add(name: str, workers: int, scheme: Any, **row: Any) -> list[float]:
        reports = [once(scheme, workers, seed) for seed in seeds]
        errors = list(map(error, reports))
        if "holds" in row:
            row |= verdict(row.pop("holds"), errors, *row.pop("others"))
        if "strength" in row:
            row["gap_recovered_%"] = share(median(errors), median(late), median(serial))
        table.add(
            scheme=name, M=workers, batch=BATCH, data=size.words, epochs=EPOCHS, lr=rate, seeds=len(seeds),
            staleness=mean(report.mean_staleness or 0.0 for report in reports),
            **{"error_%": median(errors), "paper_error_%": PAPER.get((name.removeprefix("dc_asgd-"), workers))}, **row,
        )  # fmt: skip
        return errors

    serial = add("sgd", 1, asgd(rate))
    one = {"criterion": "error above that of M = 1", "holds": above, "others": [serial]}
    add("ssgd", WORKERS, hp.Ssgd(optimiser=hp.Sgd(rate)), **one)
    late = add("asgd", WORKERS, asgd(rate), **one)
    add("asgd", MORE, asgd(rate), criterion=f"error above that of M = {WORKERS}", holds=above, others=[late])
    for kind, strength in (*PAPERS.items(), ("c", chosen)):
        name = f"dc_asgd-{kind}" + ("" if strength == PAPERS[kind] else f", λ₀ of seed {CALIBRATION}")
        add(name, WORKERS, compensated(kind, strength), strength=strength, holds=recovers, others=[late, serial],
            criterion=f"at least {100 * RECOVERED:g} % of asgd's gap to M = 1")  # fmt: skip
    return table, _notes(table, gaps, rate)


def costly(gaps: dict[float, float]) -> float:
    """Return the largest rate at which delay costs as much as it should; where none does, the nearest to it."""
    least, most = GAP_POINTS
    fitting = [rate for rate, gap in gaps.items() if least <= gap <= most]
    return max(fitting) if fitting else best(tuple(gaps), lambda rate: abs(gaps[rate] - (least + most) / 2))


def recovers(compensated: float, late: float, serial: float) -> bool:
    """Tell whether compensation takes back enough of a gap; of none, it takes back nothing."""
    return late > serial and late - compensated >= RECOVERED * (late - serial)


def share(compensated: float, late: float, serial: float) -> float | None:
    """Return how much of the gap was taken back, in percent; None: there is none."""
    return 100 * (late - compensated) / (late - serial) if late > serial else None


def _notes(table: Table, gaps: dict[float, float], rate: float) -> list[str]:
    found = ", ".join(f"{gap:.1f} at {rate:g}" for rate, gap in gaps.items())
    notes = [
        f"dc_asgd: lr = {rate:g} is chosen with seed {CALIBRATION}, which is not reported, by the points that delay "
        f"costs with M = {WORKERS}: {found}; the second λ₀ of c is the best of {STRENGTHS}",
        "dc_asgd: the paper's errors are those of ResNet-20 on CIFAR-10",
    ]
    missed = [row for row in table.rows if row.get("reproduced") == "no"]
    if any(row["scheme"].startswith("dc_asgd-c") for row in missed):
        notes.append(
            "dc_asgd: why c does not recover half of the gap in enough seeds, we think: its λ₀ g² stands for the "
            "curvature and is not scaled by the size of g, as that of a is, so that no λ₀ fits all parameters and all "
            "of a run; at the paper's it is hardly more than ASGD, and what it recovers is chance, of which a gap of "
            "one to three points has much"
        )
    return notes
