"""A scenario against load: TTFT, TPOT, latency with their objectives, and throughput's knee."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import heading, level_ticks, load_axis_words
from .knee import Knee, find_knee, output_tokens_per_s
from .levels import Series
from .load_points import LoadPoint, load_points
from .metrics import TITLES, headline_metric
from .objectives import Objective
from .sheet import legend_below, level_axis, new_figure, plain_numbers, time_axis
from .statistics import min_samples
from .style import LINES, MARKERS, in_style, look
from .summary import RunSummary

TIMES = ("ttft_ms", "tpot_ms", "latency_ms")
ALWAYS = (50.0, 95.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: what its axis says, and lines of points with their names and looks."""

    label: str
    lines: tuple[tuple[str, Mapping[str, Any], list[LoadPoint]], ...]
    limits: tuple[Objective, ...] = ()
    missing: str = ""  # why a line isn't there
    knee: Knee | None = None


def load_figure(series: Series) -> Figure:
    """Return a scenario's figures over its levels; panels without any value are left out."""
    with in_style():
        panels = [p for p in (*map(_times(series), TIMES), _throughput(series)) if p.lines]
        over = heading(f"Against load: {series.scenario}", series.runs)
        figure, rows = new_figure(over, len(panels))
        for axes, panel in zip(rows, panels, strict=True):
            _draw_panel(axes, panel)
            if knee := panels[-1].knee:  # through all panels: there the others take off
                axes.axvline(knee.load.value, color=look().error, linewidth=1.0, zorder=1)
        level_axis(rows[-1], level_ticks(series.levels))
        rows[-1].set_xlabel(load_axis_words(series.levels[0].load.unit))
        _explain(rows[0], [p for panel in panels for line in panel.lines for p in line[2]])
        legend_below(figure, rows, columns=2)
    return figure


def objectives_of_level(series: Series) -> tuple[Objective, ...]:
    """Return the objectives that any of the runs was held against, each once."""
    found = (run.attainment.outcomes for run in series.runs if run.attainment)
    return tuple(dict.fromkeys(outcome.objective for outcomes in found for outcome in outcomes))


def _times(series: Series) -> Callable[[str], Panel]:
    """Return what makes a panel of a metric: the usual percentiles, and those asked for."""
    asked = [o for o in objectives_of_level(series) if o.metric and o.limit_ms]

    def panel(name: str) -> Panel:
        metric = headline_metric(name, series.levels[0].load)
        limits = tuple(o for o in asked if o.metric == metric)
        wanted = sorted({*ALWAYS, *(round(100 * o.share, 6) for o in limits)})
        points = {q: _percentile_points(series, metric, q) for q in wanted}
        lines = tuple(
            (f"p{q:g}", _line_look(place), points[q]) for place, q in enumerate(wanted) if points[q]
        )
        absent = [q for q in wanted if not points[q]]
        return Panel(f"{TITLES[metric]} (ms)", lines, limits, _missing(absent))

    return panel


def _line_look(place: int) -> dict[str, Any]:
    colours = look().series
    return {
        "color": colours[place % len(colours)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[place % len(LINES)],
    }


def _percentile_points(series: Series, metric: str, percentile: float) -> list[LoadPoint]:
    def within(run: RunSummary) -> Any:
        found = run.distributions.get(metric)
        return found.interval(percentile) if found else None

    return load_points(series.levels, lambda run: run.percentile(metric, percentile), within)


def _missing(absent: Sequence[float]) -> str:
    needs = (f"p{q:g} needs {min_samples(q):,} successes in a run" for q in absent)
    return "\n".join(needs)


def _throughput(series: Series) -> Panel:
    points = load_points(series.levels, output_tokens_per_s)
    style = {**_line_look(2), "linestyle": "-"}
    lines = (("throughput", style, points),) if points else ()
    return Panel("output tokens/s", lines, knee=find_knee(series.levels))


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for label, style, points in panel.lines:
        _draw_line(axes, label, style, points)
    values = [v for _, _, points in panel.lines for p in points for v in _reach(p)]
    if "(ms)" in panel.label:
        _draw_limits(axes, panel.limits)
        time_axis(axes, [*values, *(o.limit_ms or 0.0 for o in panel.limits)], which="y")
    else:  # saturation shows as a line that goes flat, and only on a linear scale
        axes.set_ylim(0, max(values) * 1.15 or 1)
        axes.yaxis.set_major_formatter(plain_numbers())
    axes.set_ylabel(panel.label + ("\nlog scale" if axes.get_yscale() == "log" else ""))
    if panel.missing:
        axes.annotate(panel.missing, (0.02, 0.88), xycoords="axes fraction", color=look().quiet)
    if panel.knee:
        _draw_knee(axes, panel.knee, panel.lines[0][2])


def _reach(point: LoadPoint) -> tuple[float, ...]:
    ends = (point.interval.low, point.interval.high) if point.interval else ()
    return (*point.runs, *ends)


def _draw_line(
    axes: Axes, label: str, style: Mapping[str, Any], points: Sequence[LoadPoint]
) -> None:
    """Draw a line through the levels, a bar an interval, and a hollow dot every repeat."""
    axes.plot([p.load for p in points], [p.centre for p in points], label=label, zorder=3, **style)
    known = [(p, p.interval) for p in points if p.interval]
    if known:
        down = [max(p.centre - i.low, 0.0) for p, i in known]
        up = [max(i.high - p.centre, 0.0) for p, i in known]
        bars = {"fmt": "none", "ecolor": style["color"], "capsize": 5, "elinewidth": 1.5}
        at = [p.load for p, _ in known]
        axes.errorbar(at, [p.centre for p, _ in known], yerr=[down, up], zorder=2.8, **bars)
    repeats = [(p.load, value) for p in points if len(p.runs) > 1 for value in p.runs]
    if repeats:
        axes.plot(*zip(*repeats, strict=True), **{**style, **_hollow()})


def _hollow() -> dict[str, Any]:
    return {
        "linestyle": "none",
        "markerfacecolor": look().paper,
        "markersize": 5,
        "markeredgewidth": 1.0,
        "zorder": 3.5,
    }


def _draw_limits(axes: Axes, limits: Sequence[Objective]) -> None:
    for objective in limits:
        limit = objective.limit_ms or 0.0
        axes.axhline(limit, color=look().error, linestyle=(0, (1, 1)), linewidth=1.6, zorder=2)
        axes.annotate(
            f"objective: {objective.words}",
            (0.01, limit),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color=look().error,
            fontsize=10,
        )


def _draw_knee(axes: Axes, knee: Knee, points: Sequence[LoadPoint]) -> None:
    at = knee.load.value
    rate = next(p.centre for p in points if p.load == at)
    style: dict[str, Any] = {"marker": "o", "markersize": 18, "markerfacecolor": "none"}
    ring: dict[str, Any] = {"markeredgecolor": look().error, "markeredgewidth": 2.0}
    gain = f"{knee.next_load.words}: {100 * knee.gain:+.1f} %"
    label = f"knee: {knee.load.words} ({gain})"
    axes.plot([at], [rate], linestyle="none", label=label, **style, **ring)


def _explain(axes: Axes, points: Sequence[LoadPoint]) -> None:
    """Add to the legend what the bars and the hollow dots are."""
    bar: dict[str, Any] = {
        "color": look().quiet,
        "marker": "|",
        "markersize": 12,
        "linestyle": "none",
    }
    if any(p.over_repeats for p in points):
        axes.plot([], [], label="95 % interval over runs (t on logs)", **bar)
    if any(p.interval and not p.over_repeats for p in points):
        axes.plot([], [], label="95 % interval in a run: optimistic", **bar)
    if any(len(p.runs) > 1 for p in points):
        look_of = {"color": look().quiet, "marker": "o", **_hollow()}
        axes.plot([], [], label="each run (line: their geometric mean)", **look_of)


def drawn_levels(series: Series) -> int:
    """Return how many levels have a success to draw."""
    return int(np.sum([any(r.succeeded for r in level.runs) for level in series.levels]))
