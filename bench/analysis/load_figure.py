"""A scenario against load: TTFT, latency and throughput over the levels of load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import doubt, heading
from .statistics import min_samples
from .style import (
    COLOURS,
    GREY,
    in_style,
    legend_below,
    level_axis,
    new_figure,
    plain_numbers,
    time_axis,
)
from .summary import RunSummary


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel: its name, its look, and each run's value."""

    label: str
    look: Mapping[str, Any]
    value: Callable[[RunSummary], float | None]


P50 = {"color": COLOURS[0], "marker": "o", "linestyle": "-"}
P95 = {"color": COLOURS[1], "marker": "s", "linestyle": "--"}
HOLLOW: Mapping[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "zorder": 2.5}
OUTPUT = {"color": COLOURS[2], "marker": "^", "linestyle": "-"}


def _level_label(level: float, runs: Sequence[RunSummary]) -> str:
    """Return the level, and its doubt under it: which point not to trust."""
    return f"{level:g}\n{doubt([r for r in runs if r.load.value == level])}".rstrip()


def _percentiles(metric: str) -> tuple[Series, ...]:
    return (
        Series("p50", P50, lambda s: s.percentile(metric, 50)),
        Series("p95", P95, lambda s: s.percentile(metric, 95)),
    )


def _output(summary: RunSummary) -> float | None:
    return summary.throughput.output_tokens_per_s if summary.throughput else None


PANELS: tuple[tuple[str, tuple[Series, ...]], ...] = (
    ("TTFT (ms)", _percentiles("ttft_ms")),
    ("latency (ms)", _percentiles("latency_ms")),
    ("output tokens/s,\nwhole run", (Series("throughput", OUTPUT, _output),)),
)


def load_figure(runs: Sequence[RunSummary]) -> Figure:
    """Return a scenario's figures over its levels; panels without any value are left out."""
    panels = [p for p in PANELS if any(_points(runs, series) for series in p[1])]
    levels = sorted({r.load.value for r in runs})
    with in_style():
        over = heading(f"Against load: {runs[0].scenario}", runs)
        figure, rows = new_figure(over, len(panels))
        for axes, (label, series) in zip(rows, panels, strict=True):
            _draw_panel(axes, label, series, runs)
        level_axis(rows[-1], {level: _level_label(level, runs) for level in levels})
        rows[-1].set_xlabel("requests/s asked" if runs[0].load.is_open else "concurrent streams")
        _explain_lines(rows, repeated=len(runs) > len(levels))
        legend_below(figure, rows[0], columns=3)
    return figure


def _draw_panel(
    axes: Axes, label: str, series: Sequence[Series], runs: Sequence[RunSummary]
) -> None:
    drawn = [(s, points) for s in series if (points := _points(runs, s))]
    for one, points in drawn:
        _draw_series(axes, one, points)
    values = [value for _, points in drawn for _, value in points]
    if "(ms)" in label:
        time_axis(axes, values, which="y")
    else:  # saturation shows as a line that goes flat, and only on a linear scale
        axes.set_ylim(0, max(values) * 1.1 or 1)
        axes.yaxis.set_major_formatter(plain_numbers())
    axes.set_ylabel(label + ("\nlog scale" if axes.get_yscale() == "log" else ""))
    if len(drawn) < len(series):
        axes.annotate(_missing(), (0.02, 0.9), xycoords="axes fraction", color=GREY)


def _draw_series(axes: Axes, series: Series, points: Sequence[tuple[float, float]]) -> None:
    """Draw every run as a dot and a line through each level's median."""
    levels = sorted({level for level, _ in points})
    medians = [float(np.median([v for at, v in points if at == level])) for level in levels]
    axes.plot(levels, medians, label=series.label, zorder=3, **series.look)
    if len(points) > len(levels):
        at, values = zip(*points, strict=True)
        axes.plot(at, values, **{**series.look, **HOLLOW})


def _points(runs: Sequence[RunSummary], series: Series) -> list[tuple[float, float]]:
    found = ((r.load.value, series.value(r)) for r in runs)
    return [(level, value) for level, value in found if value is not None]


def _missing() -> str:
    """Return why a p95 isn't drawn; a median is there wherever the panel is."""
    return f"p95 needs {min_samples(95)} successes in a run"


def _explain_lines(rows: Sequence[Axes], *, repeated: bool) -> None:
    """Add to the legend what the hollow dots are."""
    if repeated:
        look = {"color": GREY, "marker": "o", **HOLLOW}
        rows[0].plot([], [], label="each run (line: median of a level)", **look)
