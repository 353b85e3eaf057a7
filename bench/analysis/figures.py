"""Cumulative distributions: of one run with its percentiles, and of a scenario's levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .facts import Facts
from .load import Load
from .runs import Run
from .statistics import Values, min_samples
from .style import (
    COLOURS,
    LINES,
    MARKERS,
    Heading,
    in_style,
    legend_below,
    ms,
    new_figure,
    time_axis,
)
from .summary import RunSummary, summarize
from .tables import setup_words
from .verdict_lists import headline

TITLES = {"ttft_ms": "Time to first token", "latency_ms": "Latency"}
MARKED = ((50.0, "o"), (95.0, "s"), (99.0, "^"))
MOST_POINTS = 4000  # several to a pixel: more can't be seen


@dataclass(frozen=True, slots=True)
class PlottedRun:
    """A run's summary, and the sorted values of each metric that is drawn."""

    summary: RunSummary
    values: Mapping[str, Values]


def plotted_run(run: Run) -> PlottedRun:
    """Return what pictures need of a run; its rows may go."""
    facts = Facts(run.frame, run.info)
    return PlottedRun(summarize(run), {m: np.sort(facts.values(m)) for m in TITLES})


def heading(title: str, runs: Sequence[RunSummary]) -> Heading:
    """Return a picture's heading: what was measured, on what, and whether to believe it."""
    requests = sum(r.requests for r in runs)
    count = f"{sum(r.succeeded for r in runs):,} of {requests:,} requests succeeded"
    doubted = [r for r in runs if r.verdict.doubts]
    reasons = ", ".join(sorted({f.code for r in doubted for f in r.verdict.doubts}))
    verdict = f"{headline(runs)} ({reasons})" if doubted else headline(runs)
    if len(runs) == 1:
        verdict = verdict.removeprefix("1 ")
    return Heading(title, f"{setup_words(runs)} · {count}", f"Verdict: {verdict}")


def cdf_figure(run: PlottedRun, metric: str) -> Figure:
    """Return one run's distribution with its percentiles; the metric must have values."""
    summary, values = run.summary, run.values[metric]
    title = f"{TITLES[metric]}: {summary.scenario}, {summary.load.words}"
    with in_style():
        figure, (axes,) = new_figure(heading(title, [summary]))
        _draw_cdf(axes, values, color=COLOURS[0], label=f"n {values.size:,}")
        _finish_cdf(axes, metric, values)
        _mark_percentiles(axes, summary, metric)
        legend_below(figure, axes, columns=4)
    return figure


def _draw_cdf(axes: Axes, values: Values, **look: Any) -> None:
    share = 100 * np.arange(1, values.size + 1) / values.size
    if values.size > MOST_POINTS:
        kept = np.unique(np.linspace(0, values.size - 1, MOST_POINTS).astype(int))
        values, share = values[kept], share[kept]
    # From 0 % at the smallest value, so that the first step is seen.
    axes.step(np.r_[values[0], values], np.r_[0.0, share], where="post", **look)


def _finish_cdf(axes: Axes, metric: str, values: Values) -> None:
    time_axis(axes, [float(values[0]), float(values[-1])])
    scale = ", log scale" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"{TITLES[metric].lower()} (ms{scale})")
    axes.set_ylabel("requests at or below (%)")
    axes.set_ylim(0, 103)
    axes.set_yticks([0, 25, 50, 75, 100])


def _mark_percentiles(axes: Axes, summary: RunSummary, metric: str) -> None:
    for (percentile, marker), colour in zip(MARKED, COLOURS[1:], strict=False):
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
            markeredgecolor="white",
            linestyle="none",
            markersize=11,
            zorder=5,
            label=f"p{percentile:g}  {ms(value)}",
        )


def overlay_figure(runs: Sequence[PlottedRun], metric: str) -> Figure:
    """Return the distributions of a scenario's runs, a look a level; one must have values.

    A run without values has no curve, but its failures and its verdict stand in the heading.
    """
    summaries = [r.summary for r in runs]
    title = f"{TITLES[metric]}: {summaries[0].scenario}, by load"
    drawn = [r for r in runs if r.values[metric].size]
    pooled = np.concatenate([r.values[metric] for r in drawn])
    with in_style():
        figure, (axes,) = new_figure(heading(title, summaries))
        ordered = sorted(drawn, key=lambda r: r.summary.load)
        levels = groupby(ordered, key=lambda r: r.summary.load)
        for place, (level, of_level) in enumerate(levels):
            _draw_level(axes, place, level, metric, list(of_level))
        _finish_cdf(axes, metric, np.sort(pooled))
        legend_below(figure, axes, columns=2)
    return figure


def _draw_level(
    axes: Axes, place: int, level: Load, metric: str, runs: Sequence[PlottedRun]
) -> None:
    look = {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markevery": (0.1, 0.2),  # fractions of the picture's diagonal
        "linewidth": 2.2 if len(runs) == 1 else 1.3,
    }
    for number, run in enumerate(runs):
        label = None if number else _level_words(level, metric, runs)
        _draw_cdf(axes, run.values[metric], label=label, **look)


def _level_words(level: Load, metric: str, runs: Sequence[PlottedRun]) -> str:
    many = f" in {len(runs)} runs" if len(runs) > 1 else ""
    count = sum(r.values[metric].size for r in runs)
    return f"{level.words}, n {count:,}{many} {doubt([r.summary for r in runs])}".strip()


def doubt(runs: Sequence[RunSummary]) -> str:
    """Return the worst verdict of runs; nothing where all are VALID."""
    levels = {r.verdict.level for r in runs}
    return "INVALID" if "INVALID" in levels else "SUSPECT" if "SUSPECT" in levels else ""
