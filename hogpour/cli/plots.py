"""A simulation as a picture: accuracy and loss over virtual time, who lived, how late pushes were. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hogpour.core.errors import ConfigError, ResourceError
from hogpour.sim.report import SimulationReport

__all__ = ["check", "plot"]


def check() -> None:
    """Raise ConfigError where matplotlib is not installed; before anything is simulated."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("--plot: needs matplotlib; pip install matplotlib") from None


def plot(reports: Mapping[str, SimulationReport], path: str, title: str = "") -> None:
    """Draw reports into a PNG, each under its name.

    Raises:
        ResourceError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    (upper_left, upper_right), (lower_left, lower_right) = figure.subplots(2, 2)
    longest = max(report.seconds for report in reports.values())
    unit, scale = ("s", 1.0) if longest < 300 else ("min", 60.0) if longest < 4 * 3600 else ("h", 3600.0)
    for name, report in reports.items():
        times = [point.seconds / scale for point in report.points]
        _line(upper_left, times, [point.accuracy for point in report.points], name)
        _line(upper_right, times, [point.loss for point in report.points], name)
        lower_left.step(times, [point.nodes for point in report.points], where="post", label=name)
        total = sum(report.staleness) or 1
        late = range(len(report.staleness))
        lower_right.plot(late, [count / total for count in report.staleness], drawstyle="steps-mid", label=name)
    for axes, y in ((upper_left, "test accuracy"), (upper_right, "test loss"), (lower_left, "nodes that live")):
        axes.set(xlabel=f"virtual time ({unit})", ylabel=y)
    upper_right.set_yscale("log")
    lower_left.set_ylim(bottom=0)
    lower_right.set(xlabel="staleness (updates)", ylabel="fraction of pushes")
    for axes in (upper_left, upper_right, lower_left, lower_right):
        axes.grid(alpha=0.3)
    if len(reports) > 1:
        upper_left.legend()
    if title:
        figure.suptitle(title)
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise ResourceError(f"--plot {path}: cannot be written: {error}") from error


def _line(axes: Any, times: list[float], values: list[float | None], name: str) -> None:
    known = [(t, v) for t, v in zip(times, values, strict=True) if v is not None]
    axes.plot([t for t, _ in known], [v for _, v in known], label=name)
