"""Cumulative distributions: of one run with its percentiles, and of a scenario's levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..figures.metrics import headline_metric
from ..figures.statistics import min_samples
from ..summary.levels import Level, Series
from ..summary.summary import RunSummary
from .distributions import COUNTED, Curve
from .figures import PlottedRun, doubt, heading, title_of
from .pen_matplotlib import legend_below, ms, new_figure, time_axis
from .style import LINES, MARKERS, in_style, look

MARKED = ((50.0, "o"), (95.0, "s"), (99.0, "^"))


def cdf_figure(run: PlottedRun, metric: str, repeats: Sequence[Curve] = ()) -> Figure:
    """Return one run's distribution with its percentiles; the metric must have values.

    `repeats` are the same metric's curves of other runs at this level: a thin line each. Of an
    open loop's times it is that from the schedule, and a thin line says what it is from the send.
    """
    summary = run.summary
    head = headline_metric(metric, summary.load)
    curve, words = run.curves[head], title_of(metric, summary.load)
    title = f"{words}: {summary.scenario}, {summary.load.words}"
    with in_style():
        figure, (axes,) = new_figure(heading(title, [summary]))
        for number, other in enumerate(repeats):
            label = None if number else _other_runs(len(repeats))
            _draw_cdf(axes, other, color=look().quiet, linewidth=0.9, label=label)
        label = f"this run, n {curve.n:,}" if repeats else f"n {curve.n:,}"
        _draw_cdf(axes, curve, color=look().series[0], label=label)
        sent = [run.curves[metric]] if head != metric and metric in run.curves else []
        for other in sent:
            style: dict[str, Any] = {"color": look().series[5], "linestyle": "--", "linewidth": 1.4}
            _draw_cdf(axes, other, label="from the send", zorder=1.9, **style)
        _finish_cdf(axes, metric, words, [curve, *sent, *repeats])
        _mark_percentiles(axes, summary, head)
        legend_below(figure, axes, columns=4 if not repeats else 3, note=_thinned(curve))
    return figure


def _thinned(curve: Curve) -> str:
    if curve.values.size == curve.of:
        return ""
    return (
        f"{curve.values.size:,} of {curve.of:,} points are drawn: spread evenly over the ranks and "
        "over the values, both ends among them"
    )


def _other_runs(count: int) -> str:
    return "another run of this level" if count == 1 else f"{count} other runs of this level"


def _draw_cdf(axes: Axes, curve: Curve, **style: Any) -> None:
    # From 0 % at the smallest value, so that the first step is seen.
    axes.step(np.r_[curve.values[0], curve.values], np.r_[0.0, curve.shares], where="post", **style)


def _finish_cdf(axes: Axes, metric: str, words: str, curves: Sequence[Curve]) -> None:
    ends = [float(c.values[place]) for c in curves for place in (0, -1)]
    time_axis(axes, ends)
    scale = ", log scale" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"{words.lower()} (ms{scale})")
    axes.set_ylabel(f"{COUNTED.get(metric, 'requests')} at or below (%)")
    axes.set_ylim(0, 103)
    axes.set_yticks([0, 25, 50, 75, 100])


def _mark_percentiles(axes: Axes, summary: RunSummary, metric: str) -> None:
    for (percentile, marker), colour in zip(MARKED, look().series[1:], strict=False):
        value = summary.percentile(metric, percentile)
        if value is None:
            needs = f"p{percentile:g}  n<{min_samples(percentile)}"
            axes.plot([], [], linestyle="none", label=needs)
            continue
        axes.plot([value, value], [0, percentile], color=colour, linestyle=":", linewidth=1.5)
        axes.plot(
            [value],
            [percentile],
            marker=marker,
            color=colour,
            markeredgecolor=look().paper,
            linestyle="none",
            markersize=11,
            zorder=5,
            label=f"p{percentile:g}  {ms(value)}",
        )


def overlay_figure(series: Series, runs: Sequence[PlottedRun], metric: str) -> Figure:
    """Return the distributions of a scenario's levels, a look a level; one must have values.

    A run without values has no curve, but its failures and its verdict stand in the heading.
    """
    load = series.levels[0].load
    words, head = title_of(metric, load), headline_metric(metric, load)
    title = f"{words}: {series.scenario}, by {'request rate' if load.is_open else 'streams'}"
    curves = {id(r.summary): r.curves[head] for r in runs if head in r.curves}
    with in_style():
        figure, (axes,) = new_figure(heading(title, series.runs))
        drawn = [level for level in series.levels if any(id(r) in curves for r in level.runs)]
        for place, level in enumerate(drawn):
            _draw_level(axes, place, level, [curves[id(r)] for r in level.runs if id(r) in curves])
        _finish_cdf(axes, metric, words, list(curves.values()))
        legend_below(figure, axes, columns=2)
    return figure


def _draw_level(axes: Axes, place: int, level: Level, curves: Sequence[Curve]) -> None:
    style = {
        "color": look().series[place % len(look().series)],
        "linestyle": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markevery": (0.1, 0.2),  # fractions of the picture's diagonal
        "linewidth": 2.2 if len(curves) == 1 else 1.3,
    }
    many = f" in {len(curves)} runs" if len(curves) > 1 else ""
    words = f"{level.load.words}, n {sum(c.n for c in curves):,}{many} {doubt(level)}".strip()
    for number, curve in enumerate(curves):
        _draw_cdf(axes, curve, label=None if number else words, **style)
