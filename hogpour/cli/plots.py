"""Pictures of simulations and comparisons. They need matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hogpour.core.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from hogpour.cli.trial import Trial
    from hogpour.sim.report import SimulationReport

__all__ = ["check_plot", "plot_simulation", "plot_trials"]


def check_plot(path: str) -> None:
    """Raise an InputError where a picture could not be drawn there; before anything is trained or simulated."""
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


def plot_simulation(report: SimulationReport, path: str, title: str) -> None:
    """Draw accuracy and loss over virtual time, who lived, how late pushes were.

    Raises:
        ResourceError: the file cannot be written.
    """
    figure = _figure(10, 8)
    (upper_left, upper_right), (lower_left, lower_right) = figure.subplots(2, 2)
    unit, scale = _unit(report.seconds)
    times = [point.seconds / scale for point in report.points]
    _line(upper_left, times, [point.accuracy for point in report.points])
    _line(upper_right, times, [point.loss for point in report.points])
    lower_left.step(times, [point.nodes for point in report.points], where="post")
    total = sum(report.staleness) or 1
    late = range(len(report.staleness))
    lower_right.plot(late, [count / total for count in report.staleness], drawstyle="steps-mid")
    for axes, y in ((upper_left, "test accuracy"), (upper_right, "test loss"), (lower_left, "nodes that live")):
        axes.set(xlabel=f"virtual time ({unit})", ylabel=y)
    upper_right.set_yscale("log")
    lower_left.set_ylim(bottom=0)
    lower_right.set(xlabel="staleness (updates)", ylabel="fraction of pushes")
    for axes in (upper_left, upper_right, lower_left, lower_right):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    _save(figure, path)


def plot_trials(trials: Mapping[str, Trial], path: str, what: str, virtual: bool) -> None:
    """Draw loss against time, a curve for each scheme that has one.

    Raises:
        ResourceError: the file cannot be written.
    """
    figure = _figure(9, 6)
    axes = figure.subplots()
    unit, scale = _unit(max((point.seconds for trial in trials.values() for point in trial.points), default=0.0))
    for name, trial in trials.items():
        label = name if trial.good else f"{name} ({trial.outcome})"
        times, losses = [point.seconds / scale for point in trial.points], [point.loss for point in trial.points]
        if any(loss > 0 for loss in _line(axes, times, losses, marker=".", label=label)):
            axes.set_yscale("log")
    axes.set(xlabel=f"{'virtual time' if virtual else 'time'} ({unit})", ylabel=what)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _unit(longest: float) -> tuple[str, float]:
    """Return the unit of a time axis, and how many seconds it is."""
    return ("s", 1.0) if longest < 300 else ("min", 60.0) if longest < 4 * 3600 else ("h", 3600.0)


def _line(axes: Any, times: Iterable[float], values: Iterable[float | None], **style: Any) -> list[float]:
    """Draw the values that are known, and return them."""
    known = [(t, v) for t, v in zip(times, values, strict=True) if v is not None and isfinite(v)]
    axes.plot([t for t, _ in known], [v for _, v in known], **style)
    return [v for _, v in known]


def _save(figure: Any, path: str) -> None:
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ResourceError(f"--plot {path}: cannot be written: {reason}") from error
