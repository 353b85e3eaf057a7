"""A scenario against load: TTFT, TPOT, latency with their objectives, and throughput's knee."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..figures.metrics import TITLES
from ..figures.objectives import Objective
from ..figures.statistics import min_samples
from ..summary.levels import Series
from ..summary.stability import Knee, find_knee, output_tokens_per_s
from .against_load import LoadLine, Times, load_line, times_against_load
from .figures import heading, level_ticks
from .pen_matplotlib import legend_below, level_axis, new_figure, plain_numbers, time_axis
from .style import LINES, MARKERS, in_style, look

ALWAYS = (50.0, 95.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: what its axis says, and lines with their names and looks."""

    label: str
    lines: tuple[tuple[str, Mapping[str, Any], LoadLine], ...]
    limits: tuple[Objective, ...] = ()
    missing: tuple[str, ...] = ()  # why a line has no point at each level
    knee: Knee | None = None


def load_figure(series: Series) -> Figure:
    """Return a scenario's figures over its levels; panels without any value are left out."""
    with in_style():
        times = map(_times_panel, times_against_load(series, ALWAYS))
        panels = [p for p in (*times, _throughput(series)) if p.lines]
        over = heading(f"Against load: {series.scenario}", series.runs)
        figure, rows = new_figure(over, len(panels))
        for axes, panel in zip(rows, panels, strict=True):
            _draw_panel(axes, panel)
            if knee := panels[-1].knee:  # through all panels: there the others take off
                axes.axvline(knee.load.value, color=look().error, linewidth=1.0, zorder=1)
        marks = level_axis(rows[-1], level_ticks(series.levels))
        rows[-1].set_xlabel(series.levels[0].load.axis_words + marks)
        _explain(rows[0], [line for panel in panels for _, _, line in panel.lines])
        missing = dict.fromkeys(word for panel in panels for word in panel.missing)
        legend_below(figure, rows, columns=2, note=". ".join(missing))
    return figure


def _times_panel(times: Times) -> Panel:
    lines = tuple(
        (f"p{q:g}", _line_look(place), line)
        for place, (q, line) in enumerate(times.lines.items())
        if line.points
    )
    most = max(len(line.points) for line in times.lines.values())
    absent = [q for q, line in times.lines.items() if len(line.points) < most]
    words = f"{TITLES[times.metric]} (ms)".replace(" schedule", "\nschedule")
    return Panel(words, lines, times.limits, _missing(absent))


def _line_look(place: int) -> dict[str, Any]:
    colours = look().series
    return {
        "color": colours[place % len(colours)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[place % len(LINES)],
    }


def _missing(absent: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"p{q:g} needs {min_samples(q):,} successes in a run" for q in absent)


def _throughput(series: Series) -> Panel:
    line = load_line(series.levels, output_tokens_per_s)
    style = {**_line_look(2), "linestyle": "-"}
    lines = (("throughput", style, line),) if line.points else ()
    return Panel("output tokens/s", lines, knee=find_knee(series.levels))


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for label, style, line in panel.lines:
        _draw_line(axes, label, style, line)
    values = [value for _, _, line in panel.lines for value in _reach(line)]
    if "(ms)" in panel.label:
        _draw_limits(axes, panel.limits)
        time_axis(axes, [*values, *(o.limit_ms or 0.0 for o in panel.limits)], which="y")
    else:  # saturation shows as a line that goes flat, and only on a linear scale
        axes.set_ylim(0, max(values) * 1.15 or 1)
        axes.yaxis.set_major_formatter(plain_numbers())
    axes.set_ylabel(panel.label + ("\nlog scale" if axes.get_yscale() == "log" else ""))
    if panel.knee:
        _draw_knee(axes, panel.knee, panel.lines[0][2])


def _reach(line: LoadLine) -> Iterator[float]:
    yield from (value for _, value in line.runs)
    for point in line.points:
        yield point.centre
        if point.interval:
            yield from (point.interval.low, point.interval.high)


def _draw_line(axes: Axes, label: str, style: Mapping[str, Any], line: LoadLine) -> None:
    """Draw a line through the levels, a bar an interval, and a hollow dot every repeat."""
    points = line.points
    axes.plot([p.load for p in points], [p.centre for p in points], label=label, zorder=3, **style)
    known = [(p, p.interval) for p in points if p.interval]
    if known:
        down = [max(p.centre - i.low, 0.0) for p, i in known]
        up = [max(i.high - p.centre, 0.0) for p, i in known]
        bars = {"fmt": "none", "ecolor": style["color"], "capsize": 5, "elinewidth": 1.5}
        at = [p.load for p, _ in known]
        axes.errorbar(at, [p.centre for p, _ in known], yerr=[down, up], zorder=2.8, **bars)
    if line.runs:
        axes.plot(*zip(*line.runs, strict=True), **{**style, **_hollow()})


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


def _draw_knee(axes: Axes, knee: Knee, line: LoadLine) -> None:
    at = knee.load.value
    rate = next(p.centre for p in line.points if p.load == at)
    style: dict[str, Any] = {"marker": "o", "markersize": 18, "markerfacecolor": "none"}
    ring: dict[str, Any] = {"markeredgecolor": look().error, "markeredgewidth": 2.0}
    gain = f"{knee.next_load.words}: {100 * knee.gain:+.1f} %"
    label = f"knee: {knee.load.words} ({gain})"
    axes.plot([at], [rate], linestyle="none", label=label, **style, **ring)


def _explain(axes: Axes, lines: Sequence[LoadLine]) -> None:
    """Add to the legend what the bars and the hollow dots are."""
    bar: dict[str, Any] = {
        "color": look().quiet,
        "marker": "|",
        "markersize": 12,
        "linestyle": "none",
    }
    points = [p for line in lines for p in line.points]
    if any(p.over_repeats for p in points):
        axes.plot([], [], label="95 % interval over runs (t on logs)", **bar)
    if any(p.interval and not p.over_repeats for p in points):
        axes.plot([], [], label="95 % interval in a run: optimistic", **bar)
    if any(line.runs for line in lines):
        look_of = {"color": look().quiet, "marker": "o", **_hollow()}
        axes.plot([], [], label="each run (line: their geometric mean)", **look_of)


def drawn_levels(series: Series) -> int:
    """Return how many levels have a success to draw."""
    return int(np.sum([any(r.succeeded for r in level.runs) for level in series.levels]))
