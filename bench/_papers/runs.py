"""What the papers share: MNIST, a small network, simulated workers, and a rate that serial SGD likes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isnan
from pathlib import Path
from typing import Any

__all__ = ["CALIBRATION", "DATA", "FAILS_POINTS", "FEWEST", "MEAN_S", "RULE", "USUAL", "WITHIN_POINTS", "Size", "above",
           "at_epoch", "below", "best", "borne", "error", "error_at", "fails", "judged", "keeps_up", "prepare", "run",
           "u_shaped", "verdict"]  # fmt: skip

DATA = Path(__file__).parents[3] / "shared" / "data" / "mnist"
CALIBRATION = 99
"""The seed that rates and strengths are chosen with; it is never one of those reported."""

CHANCE_ERROR = 90.0
"""Error of a run that ended without a model: what diverged says nothing about ten classes."""

MEAN_S = 0.2
"""Of a gradient."""

BORNE_POINTS = 3.0
"""What a rate that is borne may cost above the best one."""

FAILS_POINTS, WITHIN_POINTS = 5.0, 1.0
"""By so many points an error is worse at least where training failed, and at most where it is as good."""

SHARE, FEWEST = 0.8, 5
RULE = f"in every seed, or in at least {100 * SHARE:g} % of {FEWEST} or more"
"""In how many seeds a criterion must hold for its row to be reproduced: in this share of at least so many."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is trained on. Of this size, the tables take 1 to 9 minutes on one core each; tests take less."""

    examples: int = 4000
    """The first so many of MNIST's 60,000."""
    tests: int = 10_000
    hidden: int = 32
    sigmoids: bool = False
    """Two hidden layers of sigmoids, where it is one of rectifiers else."""

    @property
    def words(self) -> str:
        """What the rows say of it."""
        hidden = f"{self.hidden}-{self.hidden}-10, sigmoids" if self.sigmoids else f"{self.hidden}-10"
        return f"MNIST, first {self.examples:,} of 60,000, 784-{hidden}"

    def layers(self) -> list[Any]:
        """Return those of the network."""
        import hogpour as hp

        if self.sigmoids:
            return [hp.Linear(self.hidden), hp.Sigmoid(), hp.Linear(self.hidden), hp.Sigmoid(), hp.Linear(10)]
        return [hp.Linear(self.hidden), hp.Relu(), hp.Linear(10)]


USUAL = Size()
"""What is reported."""


def run(scheme: Any, *, workers: int, batch: int, epochs: int, seed: int, size: Size, **scenario: Any) -> Any:
    """Simulate one run and return its report: every worker a node of one replica, exponential compute times.

    The network has no limit of bandwidth, so that a push is as late as the others' computing makes it.

    Args:
        scenario: fields that are others.
    """
    return prepare(scheme, workers=workers, batch=batch, epochs=epochs, seed=seed, size=size, **scenario).run()


def prepare(
    scheme: Any, *, workers: int, batch: int, epochs: int, seed: int, size: Size, told: Any = None, **scenario: Any
) -> Any:
    """Return the simulation that ``run`` runs; ``told`` is called with each look at it."""
    import hogpour as hp
    from hogpour.sim.scenario import LinkConditions

    job = hp.Job(
        data=_data(size.examples, size.tests),
        model=size.layers(),
        algorithm=scheme,
        epochs=epochs,
        batch=batch,
        seed=seed,
    )
    usual: dict[str, Any] = {
        "nodes": workers,
        "seed": seed,
        "compute": hp.Compute(distribution="exponential", mean_s=MEAN_S),
        "link": LinkConditions(bandwidth=0),
        "look_every_s": 1e5,
    }
    return hp.Simulation(job, hp.Scenario(**usual | scenario), told=told)


def error(report: Any) -> float:
    """Return the test error in percent, of a report or of a look."""
    accuracy = report.accuracy
    return CHANCE_ERROR if accuracy is None or isnan(accuracy) else 100 * (1 - accuracy)


def at_epoch(epoch: float, report: Any) -> Any:
    """Return the first look at which so many epochs were used up; None: the run ended before."""
    return next((point for point in report.points if point.epoch >= epoch), None)


def error_at(epoch: float, report: Any) -> float:
    """Return the test error in percent when so many epochs were used up, with all workers at work still."""
    point = at_epoch(epoch, report)
    return CHANCE_ERROR if point is None else error(point)


def best(values: Sequence[float], error_of: Callable[[float], float]) -> float:
    """Return the value with the least error; of equal ones the first."""
    return min(values, key=error_of)


def borne(errors: dict[float, float]) -> float:
    """Return the largest rate whose error is not much above the least one."""
    least = min(errors.values())
    return max(rate for rate, found in errors.items() if found <= least + BORNE_POINTS)


def above(value: float, other: float) -> bool:
    """Tell whether a value is above another one."""
    return value > other


def below(value: float, *others: float) -> bool:
    """Tell whether a value is below all others; what is infinite is below none."""
    return value < min(others)


def fails(error: float, other: float) -> bool:
    """Tell whether an error is so much above another one that training has failed."""
    return error >= other + FAILS_POINTS


def keeps_up(error: float, other: float) -> bool:
    """Tell whether an error is as good as another one."""
    return error <= other + WITHIN_POINTS


def u_shaped(values: Sequence[float]) -> bool:
    """Tell whether the least is neither the first nor the last, and less than both."""
    return min(values[1:-1]) < min(values[0], values[-1])


def verdict(holds: Callable[..., bool], *errors: Sequence[float]) -> dict[str, str]:
    """Say in how many of the seeds a criterion holds, and whether these are enough.

    Args:
        holds: the criterion, of one error of each list.
        errors: of each contender, one a seed.
    """
    return judged([holds(*of_seed) for of_seed in zip(*errors, strict=True)])


def judged(outcomes: Sequence[bool]) -> dict[str, str]:
    """Say of how many seeds something is true, and whether these are enough, by ``RULE``. A median decides nothing."""
    agree, seeds = sum(outcomes), len(outcomes)
    enough = agree == seeds or (seeds >= FEWEST and agree >= SHARE * seeds)
    return {"seeds_agree": f"{agree} of {seeds}", "reproduced": "yes" if enough else "no"}


@lru_cache(maxsize=2)
def _data(examples: int, tests: int) -> Any:
    import hogpour as hp

    data = hp.load(DATA / "train-images-idx3-ubyte.gz", DATA / "t10k-images-idx3-ubyte.gz")
    return hp.arrays(data.train.x[:examples], data.train.y[:examples], data.test.x[:tests], data.test.y[:tests])
