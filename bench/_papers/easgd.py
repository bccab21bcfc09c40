"""Zhang, Choromanska, LeCun 2015, EASGD: rounds may be long where workers are tied to a centre elastically.

Downpour, EASGD and EAMSGD with p = 4 workers that communicate every τ steps, for τ = 1, 4, 16, 64 as in the paper;
α = 0.9 / p, and δ = 0.99 for the momentum of EAMSGD. The authors' Downpour is ours with n_push = n_fetch = τ. A network
of one hidden layer on a part of MNIST stands for the paper's CNN on CIFAR-10; batches are of 16 and not of 128, so that
a worker takes about 1000 steps.

Each method has one rate for all τ: that with the least error at τ = 1 with the calibration seed. Since sums of τ
gradients want a lower one, Downpour has second rows at τ = 16 and 64, each at the rate that is best there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from statistics import mean, median
from typing import Any

from bench._papers.runs import (
    CALIBRATION,
    FAILS_POINTS,
    USUAL,
    WITHIN_POINTS,
    Size,
    above,
    below,
    best,
    error,
    fails,
    keeps_up,
    run,
    verdict,
)
from bench.harness import Table

__all__ = ["CLAIM", "measure"]

WORKERS, BATCH, EPOCHS = 4, 16, 16
PERIODS = (1, 4, 16, 64)
"""τ."""
LONG = 16
"""From here on the paper's Downpour is unstable."""
MOVING, MOMENTUM = 0.9, 0.99
"""β and δ."""
RATES = {
    "downpour": (0.01, 0.03, 0.1, 0.3),
    "easgd": (0.03, 0.1, 0.3, 1.0),
    "eamsgd": (0.001, 0.003, 0.01, 0.03),
}
TARGET, LOOK_S = 0.88, 2.0
"""Accuracy that is waited for, and virtual seconds between two looks."""

CLAIM = (
    "Downpour is good for τ = 1 and 4 and fails for 16 and 64, where EASGD ends as well as with τ = 1; EAMSGD is the "
    "fastest and the most accurate, the more so the larger τ."
)
PAPER = {"short": "as good as τ = 1", "long": "unstable", "easgd": "stable", "eamsgd": "fastest"}


def measure(seeds: Sequence[int], size: Size = USUAL) -> tuple[Table, list[str]]:
    """Run all of them with every seed."""

    def rate_at(method: str, tau: int) -> float:
        return best(RATES[method], lambda rate: error(once(method, rate, tau, CALIBRATION, size)))

    rates = {method: rate_at(method, PERIODS[0]) for method in RATES}
    table = Table(
        "easgd: " + CLAIM,
        ("scheme", "tau", "nodes", "batch", "data", "epochs", "lr", "seeds", "staleness", "seconds_to_0.88", "error_%",
         "paper", "criterion", "seeds_agree", "reproduced"),
    )  # fmt: skip
    errors: dict[tuple[str, int], list[float]] = {}
    times: dict[tuple[str, int], list[float]] = {}

    def measured(method: str, rate: float, tau: int) -> tuple[list[float], list[float], dict[str, Any]]:
        reports = [once(method, rate, tau, seed, size) for seed in seeds]
        found, reached = list(map(error, reports)), list(map(seconds_to_target, reports))
        middle = median(reached)
        return found, reached, {
            "tau": tau, "nodes": WORKERS, "batch": BATCH, "data": size.words, "epochs": EPOCHS, "lr": rate,
            "seeds": len(seeds), "staleness": mean(report.mean_staleness or 0.0 for report in reports),
            "seconds_to_0.88": middle if isfinite(middle) else "never", "error_%": median(found),
        }  # fmt: skip

    for method, rate in rates.items():
        for tau in PERIODS:
            errors[method, tau], times[method, tau], row = measured(method, rate, tau)
            found, fresh = errors[method, tau], errors[method, PERIODS[0]]
            if method == "eamsgd":
                others = [times[other, tau] for other in RATES if other != method]
                row |= {"paper": PAPER["eamsgd"], "criterion": "accuracy earlier than with both others at this τ"}
                row |= verdict(below, times[method, tau], *others)
            elif method == "downpour" and tau >= LONG:
                row |= {"paper": PAPER["long"], "criterion": f"at least {FAILS_POINTS:g} points worse than τ = 1"}
                row |= verdict(fails, found, fresh)
            elif tau > PERIODS[0]:
                row["paper"] = PAPER["short" if method == "downpour" else "easgd"]
                row["criterion"] = f"at most {WITHIN_POINTS:g} point worse than τ = 1"
                row |= verdict(keeps_up, found, fresh)
            table.add(scheme=method, **row)
    own = {tau: rate_at("downpour", tau) for tau in PERIODS if tau >= LONG}
    for tau, rate in own.items():
        found, _, row = measured("downpour", rate, tau)
        row |= verdict(above, found, errors["easgd", tau]) | {"criterion": "error above that of easgd at this τ"}
        table.add(scheme="downpour, rate of its τ", **row)
    longest, shortest = (errors["eamsgd", tau] for tau in (PERIODS[-1], PERIODS[0]))
    table.add(
        scheme="eamsgd, all τ", criterion=f"error with τ = {PERIODS[-1]} below that with τ = {PERIODS[0]}",
        **verdict(below, longest, shortest),
    )  # fmt: skip
    table.add(
        scheme="eamsgd, all τ", criterion="least error of all τ below that of both others",
        **verdict(below, *(least(errors, method) for method in ("eamsgd", "easgd", "downpour"))),
    )  # fmt: skip
    return table, _notes(table, rates, own)


def once(method: str, rate: float, tau: int, seed: int, size: Size, epochs: int = EPOCHS) -> Any:
    """Run one method."""
    import hogpour as hp

    alpha = MOVING / WORKERS
    scheme = {
        "downpour": hp.Downpour(optimiser=hp.Sgd(rate), n_push=tau, n_fetch=tau),
        "easgd": hp.Easgd(optimiser=hp.Sgd(rate), alpha=alpha, tau=tau),
        "eamsgd": hp.Eamsgd(optimiser=hp.Nesterov(rate, MOMENTUM), alpha=alpha, tau=tau),
    }[method]
    return run(scheme, workers=WORKERS, batch=BATCH, epochs=epochs, seed=seed, size=size, look_every_s=LOOK_S)


def seconds_to_target(report: Any) -> float:
    """Return when the accuracy was seen first; infinite: never."""
    found = report.time_to(TARGET)
    return inf if found is None else found


def least(errors: dict[tuple[str, int], list[float]], method: str) -> list[float]:
    """Return the least error of a method over all τ, for each seed."""
    return [min(of_seed) for of_seed in zip(*(errors[method, tau] for tau in PERIODS), strict=True)]


def _notes(table: Table, rates: dict[str, float], own: dict[int, float]) -> list[str]:
    chosen = ", ".join(f"{method} {rate:g} of {RATES[method]}" for method, rate in rates.items())
    notes = [
        f"easgd: rates with the least error at τ = {PERIODS[0]} with seed {CALIBRATION}, which is not reported: "
        f"{chosen}; downpour's own at " + ", ".join(f"τ = {tau}: {rate:g}" for tau, rate in own.items()),
        f"easgd: plain SGD in all but eamsgd; looked at every {LOOK_S:g} virtual seconds; what the paper says of each "
        "is of a CNN on CIFAR-10, with rates and a decay of its own",
    ]
    slow = [row for row in table.rows if row["scheme"] == "eamsgd" and row["reproduced"] == "no"]
    if slow:
        notes.append(
            "easgd: why eamsgd is not the fastest, we think: the others get there within some two hundred steps of a "
            f"worker, and a momentum of {MOMENTUM:g} takes one hundred to come up to speed; the paper's runs are many "
            "times as long; EAMSGD is asked again below with a network that takes longer"
        )
    if any(row["reproduced"] == "no" for row in table.rows if row["scheme"] == "eamsgd, all τ"):
        notes.append(
            f"easgd: why eamsgd is not the most accurate, we think: its rate is the best of τ = {PERIODS[0]}, where "
            "the centre holds workers together that momentum drives apart; and a network of one hidden layer has less "
            "to gain from exploring, which the paper explains its accuracy by"
        )
    return notes
