"""One job under each of several schemes, one row a scheme: which keys of it a scheme takes over, and what is printed.

Who trains is handed in, of ``trial``: a node alone on this machine, or the laboratory. Examples are read once and every
scheme begins with the same parameters; optimiser and schedule are the job's. What fails is a row that says why, and the
next scheme has its turn.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, asdict, fields, replace
from typing import Any

from hogpour.cli.plots import check_plot, plot_trials
from hogpour.cli.tables import Columns, cell, print_json
from hogpour.cli.trial import Trial
from hogpour.core import registry
from hogpour.core.errors import ConfigError, HogpourError
from hogpour.core.job import Job
from hogpour.machine.prepare import examine

__all__ = ["compare", "names_in", "variant"]

_KEPT = ("inner", "optimiser", "schedule")
"""Keys of ``[algorithm]`` that are the job's under every scheme, said or not: else they would be compared, too."""


def compare(
    job: Job,
    schemes: Sequence[str],
    train: Callable[[Job], Trial],
    *,
    said: Iterable[str] | None = None,
    plot: str | None = None,
    json: bool = False,
    virtual: bool = False,
) -> int:
    """Train a job under each scheme, print a row for each, and return the exit code: 1 where one did not end in order.

    Args:
        schemes: names that ``names_in`` has checked.
        train: one run; what it raises is the end of that run only.
        said: keys of the job's ``[algorithm]`` that somebody wrote; None: those that are not as they would be.
        plot: path of a picture, checked before anything is trained.
        json: print JSON lines.
        virtual: seconds are those of a simulation.

    Raises:
        InputError: the job's data or the picture's path cannot be used; nothing was trained.
    """
    if plot:
        check_plot(plot)
    data, _ = examine(job)
    job = replace(job, data=data, save="")
    began, trials = time.perf_counter(), {}
    show = _JsonShow() if json else _TableShow(schemes, virtual)
    chosen = {name: _attempt(variant, job, name, said) for name in schemes}
    left_out = {name: [] if isinstance(found, Trial) else found[1] for name, found in chosen.items()}
    show.begin(left_out)
    for name, found in chosen.items():
        trials[name] = found if isinstance(found, Trial) else _attempt(train, found[0])
        show.trial(name, trials[name], left_out[name])
    failed = sum(not trial.good for trial in trials.values())
    if plot:
        plot_trials(trials, plot, "test loss" if data.test is not None else "training loss", virtual)
    show.finished(len(trials), failed, time.perf_counter() - began, plot or "")
    return 1 if failed else 0


def names_in(text: str) -> list[str]:
    """Return the names of schemes in ``"a,b,c"``.

    Raises:
        ConfigError: one is not known (with the nearest known one) or is there twice, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        known = ", ".join(registry.available("scheme"))
        raise ConfigError(f"--schemes: expected names with commas between them; known: {known}")
    for k, name in enumerate(names):
        try:
            registry.find("scheme", name)
        except ConfigError as error:
            raise ConfigError(f"--schemes: {error}") from None
        if name in names[:k]:
            raise ConfigError(f"--schemes: {name} is named twice, expected each scheme once")
    return names


def variant(job: Job, name: str, said: Iterable[str] | None = None) -> tuple[Job, list[str]]:
    """Return a job under another scheme, and which of its keys that one has no use for.

    What was said in ``[algorithm]`` is said again where the other scheme has a key of that name; what was not has the
    other scheme's own default, which may be another one. So has ``run.replicas`` where it does not run with so many.

    Args:
        said: keys that somebody wrote; None: those that are not as they would be.

    Raises:
        ConfigError: the other scheme needs a key that is not there, or a value is out of its range.
    """
    given = registry.describe(job.algorithm)
    del given["name"]
    scheme: Any = registry.find("scheme", name)
    known = {f.name for f in fields(scheme) if f.init} - scheme.unused
    if said is None:
        said = [f.name for f in fields(job.algorithm) if getattr(job.algorithm, f.name) != _default(f)]
    if ("inner" in given) != ("inner" in known):  # beside an outer rule, the one of gradients is called so
        mine, theirs = ("inner", "optimiser") if "inner" in given else ("optimiser", "inner")
        given[theirs] = given.pop(mine)
    kept = {"inner", "schedule"} if "inner" in known else _KEPT  # an outer rule goes with its scheme
    keys = [key for key in given if key in kept or key in set(said)]
    settings = {key: given[key] for key in keys if key in known}
    left_out = [f"algorithm.{key}" for key in keys if key not in known]
    job = replace(job, algorithm=registry.build("scheme", {"name": name} | settings, "algorithm"))
    try:
        if job.replicas:
            job.algorithm.check_replicas(job.replicas)
    except ValueError:
        job, left_out = replace(job, replicas=0), [*left_out, "run.replicas"]
    return job, left_out


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what some work returns, or the failed trial that it is instead. A bug is shown where it was, too."""
    try:
        return work(*arguments)
    except HogpourError as error:
        return Trial(outcome="failed", error=str(error))
    except Exception as error:  # of a scheme of the user's own, or ours
        traceback.print_exception(error)
        return Trial(outcome="failed", error=f"{type(error).__name__}: {error}")


# -- what is printed --------------------------------------------------------------------------------------------------


class _JsonShow:
    """One JSON object a scheme, and a last one."""

    def begin(self, left_out: dict[str, list[str]]) -> None:
        pass

    def trial(self, name: str, trial: Trial, left_out: list[str]) -> None:
        print_json(event="scheme", scheme=name, **asdict(trial), left_out=left_out, rate=trial.rate,
                   bytes_per_example=trial.bytes_per_example)  # fmt: skip

    def finished(self, schemes: int, failed: int, seconds: float, plot: str) -> None:
        print_json(event="finished", schemes=schemes, failed=failed, seconds=round(seconds, 3), plot=plot)


class _TableShow:
    """A table that grows by a row when a scheme has ended: what was done is seen whatever happens to the rest.

    Args:
        schemes: all of them; the first column is as wide as the longest name.
        virtual: seconds are those of a simulation.
    """

    def __init__(self, schemes: Sequence[str], virtual: bool) -> None:
        self._first = max(len(name) for name in ("scheme", *schemes))
        seconds = "virtual s" if virtual else "seconds"
        self._columns = Columns(("examples", 13), (seconds, 11), ("examples/s", 12), ("loss", 10), ("accuracy", 10),
                                ("staleness", 11), ("pushes (repeated)", 20), ("amended", 10), ("dropped", 10),
                                ("wait ms", 10), ("bytes/example", 15))  # fmt: skip

    def begin(self, left_out: dict[str, list[str]]) -> None:
        for name, keys in left_out.items():
            if keys:
                self._print(f"{name}: left out, as this scheme has no use for it: {', '.join(keys)}")
        self._print("scheme".ljust(self._first) + self._columns.head())

    def trial(self, name: str, trial: Trial, left_out: list[str]) -> None:
        pushes = "-" if trial.pushes is None else f"{trial.pushes:,}"
        pushes += "" if trial.pushes_repeated is None else f" ({trial.pushes_repeated:,})"
        cells = (
            cell(trial.examples, ",d"),
            cell(trial.seconds, ".2f"),
            cell(trial.rate, ",.0f"),
            cell(trial.loss, ".4f" if (trial.loss or 0.0) < 1e4 else ".3g"),
            cell(trial.accuracy, ".4f"),
            cell(trial.staleness, ".2f"),
            pushes,
            cell(trial.pushes_amended, ",d"),
            cell(trial.pushes_dropped, ",d"),
            cell(None if trial.wait_s is None else 1e3 * trial.wait_s, ",.2f"),
            cell(trial.bytes_per_example, ",.0f"),
        )
        why = "" if trial.good else f"  {trial.outcome}" + (f": {trial.error.splitlines()[0]}" if trial.error else "")
        self._print(name.ljust(self._first) + self._columns.row(cells) + why)

    def finished(self, schemes: int, failed: int, seconds: float, plot: str) -> None:
        if plot:
            self._print(f"picture: {plot}")

    def _print(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201
