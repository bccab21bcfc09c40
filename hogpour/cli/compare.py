"""``hogpour compare``: one job, once under each of several schemes, one row a scheme.

Who trains is handed in: ``train`` here, a node alone on this machine; or the laboratory's ``run.trials``, of which this
file knows nothing. Examples are read once and every scheme begins with the same parameters; optimiser and schedule are
the job's. What fails is a row that says why, and the next scheme has its turn.
"""

from __future__ import annotations

import json as jsonlib
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

from hogpour.core import registry
from hogpour.core.cluster_state import ClusterProgress, ShardState
from hogpour.core.errors import ConfigError, HogpourError, ResourceError
from hogpour.core.job import Job
from hogpour.core.progress import Notice
from hogpour.machine.prepare import examine
from hogpour.node.node import Node

__all__ = ["LossPoint", "Trial", "check_plot", "compare", "names_in", "pushed", "train", "variant"]

_KEPT = ("inner", "optimiser", "schedule")
"""Keys of ``[algorithm]`` that are the job's under every scheme, said or not: else they would be compared, too."""


@dataclass(frozen=True, slots=True)
class LossPoint:
    """How good the parameters were at one moment."""

    seconds: float
    loss: float | None
    """Mean loss of a test example; where there are none, of the training examples since the point before."""
    accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The job under one scheme. None: not known."""

    outcome: str
    """finished, stopped; diverged, failed, died."""
    error: str = ""
    """Why it failed."""
    examples: int | None = None
    seconds: float | None = None
    """Virtual ones in a simulation."""
    loss: float | None = None
    accuracy: float | None = None
    staleness: float | None = None
    """Mean of a push, in updates."""
    pushes: int | None = None
    """Applied, on all shards together."""
    pushes_repeated: int | None = None
    """Pushes that were not applied because they had been."""
    pushes_amended: int | None = None
    """Late pushes that were amended, in rate or gradient."""
    pushes_dropped: int | None = None
    """Pushes that came too late for their step."""
    wait_s: float | None = None
    """Mean seconds that a push waited at a gate for others."""
    bytes: float | None = None
    """In a simulation those that left all interfaces, else of parameters and gradients that went over the network."""
    points: tuple[LossPoint, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the run ended in order."""
        return self.outcome in ("finished", "stopped")

    @property
    def rate(self) -> float | None:
        """Examples per second."""
        return self.examples / self.seconds if self.examples is not None and self.seconds else None

    @property
    def bytes_per_example(self) -> float | None:
        """What an example costs the network."""
        return self.bytes / self.examples if self.bytes is not None and self.examples else None


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
        _draw(trials, plot, "test loss" if data.test is not None else "training loss", virtual)
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
    scheme = registry.find("scheme", name)
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


async def train(job: Job) -> Trial:
    """Train a job alone on this machine; no model is written. What a person must know goes to standard error.

    Raises:
        HogpourError: the node cannot begin, or could not go on.
    """
    judged: list[LossPoint] = []
    cluster: ClusterProgress | None = None
    learnt: list[LossPoint] = []
    node = Node(job, every_s=0.5)
    node.tell = _tell
    async with node:
        async for progress in node:
            cluster = progress.cluster or cluster
            for notice in progress.notices:
                _tell(notice)
            if progress.new_evaluation and progress.evaluation is not None:
                judged.append(LossPoint(progress.seconds, progress.evaluation.loss, progress.accuracy))
            if progress.loss is not None:
                learnt.append(LossPoint(progress.seconds, progress.loss, None))
        summary = await node.wait()
    counts = pushed(node.shards)
    diverged = summary.outcome == "diverged"  # then its loss is that of the last good model
    if judged and not diverged:  # a snapshot comes a little later than what it tells of; the last one has its time
        judged = [point for point in judged if point.seconds < summary.seconds]
        judged.append(LossPoint(summary.seconds, summary.loss, summary.accuracy))
    return Trial(
        outcome=summary.outcome,
        error=f"at epoch {summary.epoch:.2f} the loss is not finite any more" if diverged else "",
        examples=summary.examples,
        seconds=summary.seconds,
        loss=None if diverged else summary.loss,
        accuracy=None if diverged else summary.accuracy,
        wait_s=cluster.wait_s if cluster is not None else None,
        bytes=(cluster.bytes_per_example or 0.0) * summary.examples if cluster is not None else None,
        points=tuple(judged or learnt),
        **counts,
    )


def pushed(shards: Sequence[ShardState]) -> dict[str, Any]:
    """Return the fields of a trial that say what became of the pushes to all shards; empty: there are none."""
    if not shards:
        return {}
    pushes = sum(shard.pushes for shard in shards)
    return {
        "staleness": sum(shard.mean_staleness * shard.pushes for shard in shards) / pushes if pushes else None,
        "pushes": pushes,
        "pushes_repeated": sum(shard.repeated for shard in shards),
        "pushes_amended": sum(shard.amended for shard in shards),
        "pushes_dropped": sum(shard.dropped for shard in shards),
    }


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


def _tell(notice: Notice) -> None:
    if notice.event in ("compiling", "warning", "replica_died", "replica_restarted"):
        print(f"hogpour: {notice.text}", file=sys.stderr, flush=True)  # noqa: T201


# -- what is printed --------------------------------------------------------------------------------------------------


class _JsonShow:
    """One JSON object a scheme, and a last one."""

    def begin(self, left_out: dict[str, list[str]]) -> None:
        pass

    def trial(self, name: str, trial: Trial, left_out: list[str]) -> None:
        words = {"event": "scheme", "scheme": name} | asdict(trial) | {"left_out": left_out}
        words |= {"rate": trial.rate, "bytes_per_example": trial.bytes_per_example}
        self._print(words | {"points": [_finite(asdict(point)) for point in trial.points]})

    def finished(self, schemes: int, failed: int, seconds: float, plot: str) -> None:
        words = {"event": "finished", "schemes": schemes, "failed": failed, "seconds": round(seconds, 3)}
        self._print(words | {"plot": plot})

    def _print(self, words: dict[str, Any]) -> None:
        print(jsonlib.dumps(_finite(words), ensure_ascii=False, allow_nan=False), flush=True)  # noqa: T201


class _TableShow:
    """A table that grows by a row when a scheme has ended: what was done is seen whatever happens to the rest.

    Args:
        schemes: all of them; the first column is as wide as the longest name.
        virtual: seconds are those of a simulation.
    """

    def __init__(self, schemes: Sequence[str], virtual: bool) -> None:
        self._first = max(len(name) for name in ("scheme", *schemes))
        seconds = "virtual s" if virtual else "seconds"
        self._columns = (("examples", 13), (seconds, 11), ("examples/s", 12), ("loss", 10), ("accuracy", 10),
                         ("staleness", 11), ("pushes (repeated)", 20), ("amended", 10), ("dropped", 10),
                         ("wait ms", 10), ("bytes/example", 15))  # fmt: skip

    def begin(self, left_out: dict[str, list[str]]) -> None:
        for name, keys in left_out.items():
            if keys:
                self._print(f"{name}: left out, as this scheme has no use for it: {', '.join(keys)}")
        self._print("scheme".ljust(self._first) + "".join(title.rjust(width) for title, width in self._columns))

    def trial(self, name: str, trial: Trial, left_out: list[str]) -> None:
        pushes = "-" if trial.pushes is None else f"{trial.pushes:,}"
        pushes += "" if trial.pushes_repeated is None else f" ({trial.pushes_repeated:,})"
        cells = (
            _cell(trial.examples, ",d"),
            _cell(trial.seconds, ".2f"),
            _cell(trial.rate, ",.0f"),
            _cell(trial.loss, ".4f" if (trial.loss or 0.0) < 1e4 else ".3g"),
            _cell(trial.accuracy, ".4f"),
            _cell(trial.staleness, ".2f"),
            pushes,
            _cell(trial.pushes_amended, ",d"),
            _cell(trial.pushes_dropped, ",d"),
            _cell(None if trial.wait_s is None else 1e3 * trial.wait_s, ",.2f"),
            _cell(trial.bytes_per_example, ",.0f"),
        )
        why = "" if trial.good else f"  {trial.outcome}" + (f": {trial.error.splitlines()[0]}" if trial.error else "")
        row = "".join(" " + cell.rjust(width - 1) for cell, (_, width) in zip(cells, self._columns, strict=True))
        self._print(name.ljust(self._first) + row + why)

    def finished(self, schemes: int, failed: int, seconds: float, plot: str) -> None:
        if plot:
            self._print(f"picture: {plot}")

    def _print(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _finite(words: dict[str, Any]) -> dict[str, Any]:
    """Numbers that are not finite become null: JSON has no NaN."""
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in words.items()}


# -- the picture ------------------------------------------------------------------------------------------------------


def check_plot(path: str) -> None:
    """Raise an InputError where a picture could not be drawn there; before anything is trained."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        raise ConfigError("--plot: needs matplotlib; pip install matplotlib") from None
    place = Path(path)
    if place.suffix[1:].lower() not in FigureCanvasAgg.get_supported_filetypes():
        raise ConfigError(f"--plot {path}: expected a name that ends in .png, or in .pdf, .svg and the like")
    was_there = place.exists()
    try:
        with open(place, "ab"):  # what is there stays as it is
            pass
        if not was_there:
            place.unlink()
    except OSError as error:
        raise ResourceError(f"--plot {path}: cannot be written: {error.strerror}") from error


def _draw(trials: dict[str, Trial], path: str, what: str, virtual: bool) -> None:
    """Draw loss against time, a curve for each scheme that has one.

    Raises:
        ResourceError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    longest = max((point.seconds for trial in trials.values() for point in trial.points), default=0.0)
    unit, scale = ("s", 1.0) if longest < 300 else ("min", 60.0) if longest < 4 * 3600 else ("h", 3600.0)
    for name, trial in trials.items():
        known = [(p.seconds / scale, p.loss) for p in trial.points if p.loss is not None and isfinite(p.loss)]
        label = name if trial.good else f"{name} ({trial.outcome})"
        axes.plot([t for t, _ in known], [loss for _, loss in known], marker=".", label=label)
        if any(loss > 0 for _, loss in known):
            axes.set_yscale("log")
    axes.set(xlabel=f"{'virtual time' if virtual else 'time'} ({unit})", ylabel=what)
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise ResourceError(f"--plot {path}: cannot be written: {error}") from error
