"""Zheng et al. 2017, DC-ASGD: delay compensation takes back what asynchrony costs.

SGD with M = 1, then SSGD, ASGD, DC-ASGD-c and DC-ASGD-a with M = 4 and 8, all at one rate for each M. The question is
open only at a rate at which delay costs something and not everything: the largest of ``RATES`` at which the error of
ASGD is 1 to 3 points above that of M = 1 with the calibration seed (where there is none, the one that comes nearest).
The rate that is best for M = 1, 0.3, was taken before: with M = 4 there was no gap at it.

The paper's λ₀ (0.04 and 2, m = 0.95) are for ResNet-20, whose gradients are of other sizes than a small network's. The
adaptive form, a, divides by that size, the constant form, c, does not; so c has a second row, whose λ₀ is the best of a
short list at this M with the calibration seed. The paper lowers its rate twice; here it is constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import mean, median
from typing import Any

from bench._papers.runs import CALIBRATION, Size, best, error, run, verdict
from bench.harness import Table

__all__ = ["CLAIM", "SIZE", "measure"]

SIZE = Size(tests=4000)
WORKERS = (4, 8)
BATCH, EPOCHS = 32, 16
RATES = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
GAP_POINTS = (1.0, 3.0)
"""What delay must cost at a rate, at least and at most."""
STRENGTHS = (0.4, 4.0, 40.0)
"""λ₀ that the second rows of c are chosen from."""
PAPERS = {"c": 0.04, "a": 2.0}
RECOVERED = 0.5

CLAIM = "The error of ASGD grows with the number of workers, and delay compensation recovers at least half the gap."
PAPER = {("sgd", 1): 8.65, ("ssgd", 4): 9.17, ("ssgd", 8): 10.10, ("asgd", 4): 9.27, ("asgd", 8): 10.26,
         ("c", 4): 8.67, ("c", 8): 9.27, ("a", 4): 8.19, ("a", 8): 8.57}  # fmt: skip
"""Error in percent of ResNet-20 on CIFAR-10, table 1; all but 8.65, 9.27 and 8.19 are from memory of it."""


def measure(seeds: Sequence[int], size: Size = SIZE) -> tuple[Table, list[str]]:
    """Run all of them with every seed."""
    import hogpour as hp

    def once(scheme: Any, workers: int, seed: int) -> Any:
        return run(scheme, workers=workers, batch=BATCH, epochs=EPOCHS, seed=seed, size=size)

    def asgd(rate: float) -> Any:
        return hp.Asgd(optimiser=hp.Sgd(rate))

    def compensated(kind: str, rate: float, strength: float) -> Any:
        return hp.DcAsgd(optimiser=hp.Sgd(rate), adaptive=kind == "a", strength=strength)

    @cache
    def plain(rate: float, workers: int) -> list[Any]:
        return [once(asgd(rate), workers, seed) for seed in seeds]

    calibrated = {
        workers: {rate: error(once(asgd(rate), workers, CALIBRATION)) for rate in RATES} for workers in (1, *WORKERS)
    }
    rates = {
        workers: costly({rate: calibrated[workers][rate] - calibrated[1][rate] for rate in RATES})
        for workers in WORKERS
    }
    chosen = {
        workers: best(STRENGTHS, lambda strength: error(once(compensated("c", rate, strength), workers, CALIBRATION)))  # noqa: B023 (called at once)
        for workers, rate in rates.items()
    }  # fmt: skip
    table = Table(
        "dc_asgd: " + CLAIM,
        ("scheme", "M", "strength", "batch", "data", "epochs", "lr", "seeds", "staleness", "error_%", "gap_recovered_%",
         "paper_error_%", "criterion", "seeds_agree", "reproduced"),
    )  # fmt: skip

    def add(name: str, rate: float, workers: int, reports: list[Any], **row: Any) -> list[float]:
        errors = list(map(error, reports))
        if "holds" in row:
            row |= verdict(row.pop("holds"), errors, *row.pop("others"))
        table.add(
            scheme=name, M=workers, batch=BATCH, data=size.words, epochs=EPOCHS, lr=rate, seeds=len(seeds),
            staleness=mean(report.mean_staleness or 0.0 for report in reports), **{"error_%": median(errors)}, **row,
        )  # fmt: skip
        return errors

    for workers, rate in rates.items():
        less = [add("sgd", rate, 1, plain(rate, 1), **{"paper_error_%": PAPER["sgd", 1]})]
        serial = less[0]
        for fewer in WORKERS[: WORKERS.index(workers)]:
            less.append(add("asgd", rate, fewer, plain(rate, fewer)))
        add("ssgd", rate, workers, [once(hp.Ssgd(optimiser=hp.Sgd(rate)), workers, seed) for seed in seeds],
            criterion="error above that of M = 1", holds=grows, others=[serial],
            **{"paper_error_%": PAPER["ssgd", workers]})  # fmt: skip
        late = add("asgd", rate, workers, plain(rate, workers),
                   criterion="error above those of fewer workers, and of M = 1", holds=grows, others=less,
                   **{"paper_error_%": PAPER["asgd", workers]})  # fmt: skip
        for kind, strength in (*PAPERS.items(), ("c", chosen[workers])):
            papers = strength == PAPERS[kind]
            found = [once(compensated(kind, rate, strength), workers, seed) for seed in seeds]
            recovered = share(median(map(error, found)), median(late), median(serial))
            add(f"dc_asgd-{kind}" + ("" if papers else f", λ₀ of seed {CALIBRATION}"), rate, workers, found,
                strength=strength, criterion=f"at least {100 * RECOVERED:g} % of asgd's gap to M = 1", holds=recovers,
                others=[late, serial], **{"gap_recovered_%": recovered},
                **({"paper_error_%": PAPER[kind, workers]} if papers else {}))  # fmt: skip
    return table, _notes(table, calibrated, rates)


def costly(gaps: dict[float, float]) -> float:
    """Return the largest rate at which delay costs as much as it should; where none does, the nearest to it."""
    least, most = GAP_POINTS
    fitting = [rate for rate, gap in gaps.items() if least <= gap <= most]
    return max(fitting) if fitting else best(tuple(gaps), lambda rate: abs(gaps[rate] - (least + most) / 2))


def grows(late: float, *fewer: float) -> bool:
    """Tell whether more workers made the error worse."""
    return late > max(fewer)


def recovers(compensated: float, late: float, serial: float) -> bool:
    """Tell whether compensation takes back enough of a gap; of none, it takes back nothing."""
    return late > serial and late - compensated >= RECOVERED * (late - serial)


def share(compensated: float, late: float, serial: float) -> float | None:
    """Return how much of the gap was taken back, in percent; None: there is none."""
    return 100 * (late - compensated) / (late - serial) if late > serial else None


def _notes(table: Table, calibrated: dict[int, dict[float, float]], rates: dict[int, float]) -> list[str]:
    chosen = " and ".join(f"{rate:g} for M = {workers}" for workers, rate in rates.items())
    gaps = "; ".join(
        f"M = {workers} " + ", ".join(f"{calibrated[workers][rate] - calibrated[1][rate]:.1f}" for rate in RATES)
        for workers in WORKERS
    )
    notes = [
        f"dc_asgd: lr = {chosen} of {RATES}, with seed {CALIBRATION}, which is not reported: what delay cost there in "
        f"points, {gaps}; the second λ₀ of c is the best of {STRENGTHS}",
        "dc_asgd: the paper's errors are those of ResNet-20 on CIFAR-10",
    ]
    missed = [row for row in table.rows if row.get("reproduced") == "no"]
    if any(row.get("strength") == PAPERS["c"] for row in missed):
        notes.append(
            f"dc_asgd: why c recovers so little at the paper's λ₀ = {PAPERS['c']:g}, we think: λ₀ g² stands for the "
            "curvature, and is not scaled by the size of g as in a; with gradients as small as ours it corrects hardly "
            "anything"
        )
    return notes
